"""Runs in the interpreter that is being packaged: finds the modules to freeze and compiles them.

Usage: python freeze_worker.py PLAN OUTPUT. PLAN is JSON: where to look, what to start from, what to
leave out. OUTPUT gets `frozen.bin` (the bytecode, one module after the other, in the order in which
a start reads them) and `frozen.json` (where each lies, and where each part begins).
"""

from __future__ import annotations

import ast
import importlib.util
import json
import marshal
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from modulefinder import AddPackagePath, ModuleFinder
from pathlib import Path
from types import CodeType
from typing import Any

_ALIGNMENT = 16


def is_one_of(name: str, patterns: list[str]) -> bool:
    """True if `name` is one of `patterns` or a module in one."""
    return any(fnmatch(name, p) or fnmatch(name, f"{p}.*") for p in patterns)


def modules_in(package: Path, root: Path) -> list[str]:
    """The dotted names of all modules in a package's directory, or of one file."""
    files = sorted(package.rglob("*.py")) if package.is_dir() else [package]
    names = [".".join(file.relative_to(root).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names if "-" not in name]


def find(plan: dict[str, Any]) -> dict[str, str]:
    """The file of each module to freeze, by name."""
    finder = ModuleFinder(path=plan["path"], excludes=plan["never"])
    for name in (*plan["first"], *plan["also"], *roots(plan)):
        finder.import_hook(name)
    found = {}
    for name, module in finder.modules.items():
        file = module.__file__  # type: ignore[attr-defined]  # of modulefinder's own class
        if file is None or name == "__main__":
            continue
        is_standard = file.startswith(plan["standard_library"])
        is_ours = name.partition(".")[0] in plan["packages"]
        if is_standard or (is_ours and not is_one_of(name, plan["leave_out"])):
            found[name] = file
    return found


class AtStart(ModuleFinder):
    """Finds what is imported at once: not what a function imports when it is called."""

    def scan_code(self, code: CodeType, module: Any) -> None:
        """As ModuleFinder does, without the code objects in `code`."""
        consts = tuple(None if isinstance(c, CodeType) else c for c in code.co_consts)
        super().scan_code(code.replace(co_consts=consts), module)


def loaded_at_start(plan: dict[str, Any]) -> Iterator[str]:
    """The modules that are loaded until everything is up, in the order of import."""
    found = facades(plan)
    within = [name for name in found if name.partition(".")[0] not in found]
    for name, file in found.items():
        if file.name == "__init__.py":  # its other modules are the real ones
            AddPackagePath(name, str(Path(plan["standard_library"], name)))
    path = [plan["facade_directory"], *plan["path"]]
    finder = AtStart(path=path, excludes=[*plan["never"], *plan["not_at_start"], *within])
    for name in plan["start"]:
        finder.import_hook(name)
    yield from finder.modules
    yield from within


def roots(plan: dict[str, Any]) -> Iterator[str]:
    """Every module of the packages to freeze, and of those in lib/, which import from them."""
    for root in map(Path, plan["path"]):
        for top in sorted(root.iterdir()):
            is_ours = top.stem in plan["packages"]
            if top.suffix not in ("", ".py") or not (is_ours or str(root) == plan["site"]):
                continue
            left_out = plan["leave_out"] if is_ours else plan["lib_leave_out"]
            for name in modules_in(top, root):
                if not is_one_of(name, left_out) and not name.endswith(".__main__"):
                    yield name


def facades(plan: dict[str, Any]) -> dict[str, Path]:
    """The file of each module in facades/, by name."""
    directory = Path(plan["facade_directory"])
    names = modules_in(directory, directory)
    files = sorted(directory.rglob("*.py"))
    return {name: file for name, file in zip(names, files, strict=True) if name != "__init__"}


def with_facades(plan: dict[str, Any], found: dict[str, str]) -> dict[str, str]:
    """`found`, with facades in place of the modules that have one, which become `_full_NAME`."""
    files = {name: str(file) for name, file in facades(plan).items()}
    real = {f"_full_{n.replace('.', '_')}": found[n] for n in files if n in found}
    return found | files | real


def in_parts(plan: dict[str, Any], found: dict[str, str]) -> list[list[str]]:
    """The names in `found`: what is loaded until `next`, then until everything is up, the rest."""
    early = plan["early"]
    start = [name for name in loaded_at_start(plan) if name in found and name not in early]
    taken = {*early, *start}
    return [early, start, [name for name in found if name not in taken]]


def shortened(file: str, plan: dict[str, Any]) -> str:
    """`file` as it is shown in a traceback: relative to where it was found."""
    roots = [*plan["path"], plan["facade_directory"]]
    root = next(p for p in sorted(roots, key=len, reverse=True) if file.startswith(f"{p}/"))
    return str(Path(file).relative_to(root))


def main(plan: dict[str, Any], output: Path) -> None:
    """Write both files."""
    built_in = sys.builtin_module_names
    found = {n: f for n, f in with_facades(plan, find(plan)).items() if n not in built_in}
    blob, table, starts = bytearray(), [], []
    for part in in_parts(plan, found):
        blob += b"\0" * (-len(blob) % _ALIGNMENT)
        starts.append(len(blob))
        for name in part:
            blob += b"\0" * (-len(blob) % _ALIGNMENT)
            data = compiled(plan, name, found[name])
            is_package = found[name].endswith("__init__.py")
            table.append((name, len(blob), len(data), is_package))
            blob += data
    (output / "frozen.bin").write_bytes(blob)
    (output / "frozen.json").write_text(json.dumps({"modules": table, "parts": starts}))


def compiled(plan: dict[str, Any], name: str, file: str) -> bytes:
    """The bytecode of one module."""
    # The interpreter leaves its import system out of tracebacks, which it knows by these names.
    shown = f"<frozen {name}>" if name in plan["bootstrap"] else "<frozen>/" + shortened(file, plan)
    optimize = 1 if name.partition(".")[0] in plan["keeps_docstrings"] else 2
    source = importlib.util.decode_source(Path(file).read_bytes())
    tree, flags = without_future(ast.parse(source, shown))
    return marshal.dumps(
        compile(tree, shown, "exec", flags=flags, dont_inherit=True, optimize=optimize)
    )


def without_future(tree: ast.Module) -> tuple[ast.Module, int]:
    """`tree` without its imports from `__future__`, and the flags that have their effect.

    At run time they would only load that module. `annotations` alone still has an effect.
    """
    flags, kept = 0, []
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            if any(alias.name == "annotations" for alias in statement.names):
                flags = annotations.compiler_flag
        else:
            kept.append(statement)
    tree.body = kept
    return tree, flags


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
