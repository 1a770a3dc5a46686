"""The layer's launcher alone, compiled by this machine's compiler; this Python is its interpreter.

So its part of the start is tested without a build of the layer, and with the compiler's sanitizers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import pytest

SOURCES: Final = Path(__file__).parents[2] / "layer" / "c"
_FILES: Final = (
    "launcher.c",
    "park.c",
    "prepared.c",
    "settings.c",
    "share.c",
    "platform.c",
    "text.c",
)
_EARLY: Final = (
    "static const struct {\n    unsigned offset, length;\n} early_reads[] = {{0, 4096}};\n"
)
_FLAGS: Final = (
    "-g",
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Werror",
    "-fno-omit-frame-pointer",
)
_SANITIZERS: Final = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_INTERPRETER: Final = "from telemetryd.__main__ import main\nmain()\n"


@cache
def compiler() -> str:
    """The C compiler, "" if there is none."""
    return shutil.which("cc") or ""


def install(directory: Path, interpreter: str = "", *, defines: Sequence[str] = ()) -> Path:
    """The launcher under `directory`, as a layer has it; skips without a compiler.

    `interpreter` is the text of a program; by default this Python with telemetryd. `defines` are
    macros for the compiler.
    """
    if not compiler() or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler (cc)")
    for name in ("extensions", "telemetryd", "source"):
        (directory / name).mkdir(parents=True)
    (directory / "source" / "early.h").write_text(_EARLY)
    launcher = directory / "extensions" / "telemetryd"
    present = f'"{sys.executable}"'  # what it looks for is there, and says nothing of an old glibc
    command = [compiler(), *_FLAGS, *_sanitizers(directory), f"-I{directory / 'source'}"]
    command += [f"-DLOADERS={present}", '-DLIBRARIES="/nonexistent"', "-o", str(launcher)]
    command += [f"-D{define}" for define in defines]
    command += [str(SOURCES / name) for name in _FILES]
    subprocess.run(command, check=True)
    program = directory / "telemetryd" / "telemetryd"
    program.write_text(interpreter or f"#!{sys.executable}\n{_INTERPRETER}")
    program.chmod(0o755)
    return launcher


def _sanitizers(directory: Path) -> tuple[str, ...]:
    """The sanitizers, if the compiler has them."""
    source = directory / "source" / "nothing.c"
    source.write_text("int main(void)\n{\n    return 0;\n}\n")
    command = [compiler(), *_SANITIZERS, str(source), "-o", str(source.with_suffix(""))]
    has_them = subprocess.run(command, check=False, capture_output=True).returncode == 0
    return _SANITIZERS if has_them else ()
