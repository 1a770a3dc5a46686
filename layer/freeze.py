"""telemetryd, its linked packages and the standard library's modules as one table to link in."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from layer import shell
from layer.cache import HERE, Cache, digest
from layer.cpython import STANDARD_LIBRARY
from layer.packages import Packages

PROJECT = HERE.parent
# The import system, under the names by which the interpreter loads it before it can import.
_BOOTSTRAP = {
    "importlib._bootstrap": "_frozen_importlib",
    "importlib._bootstrap_external": "_frozen_importlib_external",
}
# What runs before `next`; the blob begins with it.
_EARLY = (
    *_BOOTSTRAP, "encodings", "codecs", "encodings.aliases", "encodings.utf_8", "io", "abc",
    "telemetryd", "telemetryd.__main__", "telemetryd.extension", "telemetryd.extension.boot",
    "telemetryd.extension.early", "telemetryd.extension.http",
)  # fmt: skip
# What it loads afterwards is what these import at once, and so on; it follows in the blob.
_START = (
    "telemetryd.extension.run", "telemetryd.config.values", "telemetryd.sinks.emf.sink",
    "telemetryd.sinks.stdout", "telemetryd.sinks.file.sink", "concurrent.futures.thread", "numbers",
    "tomllib",
)  # fmt: skip
# Imported for type checkers, on another system, or where something is configured.
_NOT_AT_START = (
    "ntpath", "telemetryd.delivery.dead_letter", "telemetryd.log_events", "telemetryd.spool",
)  # fmt: skip


def contents() -> dict[str, Any]:
    """contents.toml."""
    return tomllib.loads((HERE / "contents.toml").read_text())


def ours() -> str:
    """A name for the state of telemetryd's own code."""
    files = sorted([*PROJECT.glob("daemon/telemetryd/**/*.py"), *PROJECT.glob("proto/**/*.py")])
    return digest(*(part for file in files for part in (str(file.relative_to(PROJECT)), file)))


def build(cache: Cache, packages: Packages, python: Path) -> Path:
    """A directory with `frozen.bin`, `frozen.S`, `frozen.c`; `python` is layer.cpython's here."""
    listed = contents()

    def make(work: Path) -> None:
        sources = {
            "uvloop": packages.source("uvloop"),
            "msgspec": packages.source("msgspec") / "src",
            "zstandard": packages.source("zstandard"),
        }
        own = (PROJECT / "daemon", PROJECT / "proto")
        plan = {
            **listed["frozen"],
            "bootstrap": list(_BOOTSTRAP),
            "early": _EARLY,
            "start": _START,
            "not_at_start": _NOT_AT_START,
            "first": [*_EARLY, *_START],
            "lib_leave_out": listed["lib"]["leave_out"],
            "site": str(packages.site),
            "facade_directory": str(HERE / "facades"),
            "standard_library": str(python / STANDARD_LIBRARY),
            "path": [
                str(p) for p in (*own, *sources.values(), packages.site, python / STANDARD_LIBRARY)
            ],
        }
        (work / "plan.json").write_text(json.dumps(plan))
        command: list[object] = [
            python / "bin" / "python",
            "-S",
            "-s",
            "-P",
            HERE / "freeze_worker.py",
        ]
        env = shell.environment(
            PYTHONHASHSEED="0", PYTHONDONTWRITEBYTECODE="1", PYTHONNODEBUGRANGES="1"
        )
        shell.run([*command, work / "plan.json", work], work, env, work / "log")
        _write_table(work)

    worker = HERE / "freeze_worker.py"
    facades = sorted((HERE / "facades").rglob("*.py"))
    inputs = (
        Path(__file__),
        worker,
        *facades,
        HERE / "contents.toml",
        ours(),
        packages.directory.name,
    )
    return cache.stage("frozen", (*inputs, python.name), make)


def _write_table(work: Path) -> None:
    written = json.loads((work / "frozen.json").read_text())
    _, later, rest = written["parts"]
    (work / "frozen.S").write_text(
        "    .section .rodata\n    .balign 4096\n    .global telemetryd_frozen_code, "
        "telemetryd_frozen_later, telemetryd_frozen_rest, telemetryd_frozen_end\n"
        f'telemetryd_frozen_code:\n    .incbin "frozen.bin", 0, {later}\n'
        f'telemetryd_frozen_later:\n    .incbin "frozen.bin", {later}, {rest - later}\n'
        f'telemetryd_frozen_rest:\n    .incbin "frozen.bin", {rest}\n'
        "telemetryd_frozen_end:\n"
        '    .section .note.GNU-stack,"",%progbits\n'
    )
    bootstrap: list[str] = []
    others: list[str] = []
    for name, start, size, is_package in written["modules"]:
        table = bootstrap if name in _BOOTSTRAP else others
        place = f"telemetryd_frozen_code + {start}, {size}"
        table.append(f'    {{"{_BOOTSTRAP.get(name, name)}", {place}, {int(is_package)}}},\n')
    aliases = [f'    {{"{loaded}", "{name}"}},\n' for name, loaded in _BOOTSTRAP.items()]
    (work / "frozen.c").write_text(
        "#define Py_BUILD_CORE\n#include <Python.h>\n"
        "#include <internal/pycore_import.h>\n"
        "extern const unsigned char telemetryd_frozen_code[];\n"
        f"{_defined('_frozen', 'bootstrap', bootstrap)}"
        f"{_defined('_frozen', 'others', others)}"
        f"{_defined('_frozen', 'none', [])}"
        f"{_defined('_module_alias', 'aliases', aliases)}"
        "const struct _frozen *_PyImport_FrozenBootstrap = bootstrap;\n"
        "const struct _frozen *_PyImport_FrozenStdlib = none;\n"
        "const struct _frozen *_PyImport_FrozenTest = none;\n"
        "const struct _module_alias *_PyImport_FrozenAliases = aliases;\n"
        "const struct _frozen *PyImport_FrozenModules = others;\n"
    )


def _defined(kind: str, name: str, lines: list[str]) -> str:
    """A table in C, ended by an empty line."""
    return f"static const struct {kind} {name}[] = {{\n{''.join(lines)}    {{0}},\n}};\n"
