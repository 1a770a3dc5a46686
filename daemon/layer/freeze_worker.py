"""Runs in the interpreter that is being packaged: finds the modules to freeze and compiles them.

Usage: python freeze_worker.py PLAN OUTPUT. PLAN is JSON: where to look, what to start from, what to
leave out. OUTPUT gets `frozen.bin` (the bytecode, one module after the other) and `frozen.json`.
"""

from __future__ import annotations

import _imp
import importlib.util
import json
import marshal
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

_ALIGNMENT = 16


def is_one_of(name: str, patterns: list[str]) -> bool:
    """Whether `name` is one of `patterns` or a module in one."""
    return any(fnmatch(name, p) or fnmatch(name, f"{p}.*") for p in patterns)


def modules_in(package: Path, root: Path) -> list[str]:
    """The dotted names of all modules in a package's directory, or of one file."""
    files = sorted(package.rglob("*.py")) if package.is_dir() else [package]
    names = [".".join(file.relative_to(root).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names if "-" not in name]


def find(plan: dict[str, Any]) -> dict[str, str]:
    """The file of each module to freeze, by name: the early ones, then the order of import."""
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
    return {name: found.pop(name) for name in plan["early"]} | found


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


def with_facades(plan: dict[str, Any], found: dict[str, str]) -> Iterator[tuple[str, str]]:
    """`found`, with a facade before each module that has one, which becomes `_full_NAME`."""
    for name, file in found.items():
        if name in plan["facades"]:
            yield name, str(Path(plan["facade_directory"], f"{name}.py"))
            yield f"_full_{name}", file
        else:
            yield name, file


def shortened(file: str, plan: dict[str, Any]) -> str:
    """`file` as it is shown in a traceback: relative to where it was found."""
    roots = [*plan["path"], plan["facade_directory"]]
    root = next(p for p in sorted(roots, key=len, reverse=True) if file.startswith(f"{p}/"))
    return str(Path(file).relative_to(root))


def main(plan: dict[str, Any], output: Path) -> None:
    """Write both files."""
    names = _imp._frozen_module_names()  # type: ignore[attr-defined]  # noqa: SLF001 - no public one
    built_in = {*names, "zipimport"}
    blob, table = bytearray(), []
    for name, file in with_facades(plan, find(plan)):
        if name in built_in or name in sys.builtin_module_names:
            continue
        shown = "<frozen>/" + shortened(file, plan)
        optimize = 1 if name.partition(".")[0] in plan["keeps_docstrings"] else 2
        source = importlib.util.decode_source(Path(file).read_bytes())
        code = compile(source, shown, "exec", dont_inherit=True, optimize=optimize)
        blob += b"\0" * (-len(blob) % _ALIGNMENT)
        data = marshal.dumps(code)
        table.append((name, len(blob), len(data), file.endswith("__init__.py")))
        blob += data
    (output / "frozen.bin").write_bytes(blob)
    (output / "frozen.json").write_text(json.dumps(table))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
