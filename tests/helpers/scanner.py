"""The compiled scanner: built with this machine's C compiler where there is one, or else skipped.

`Plain` is what it is held to: what each function says, written down without regard to speed.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from telemetryd_proto import scan

SOURCE: Final = Path(__file__).parents[2] / "proto" / "scan" / "telemetryd_scan.c"
_INCLUDE: Final = Path(sysconfig.get_path("include"))
KINDS: Final = ("as it is", "without AVX2", "without SSE2")
"""What the module is compiled as; the second leaves the vectors that every processor has, the third
the bits that other processors than x86-64 make of them."""
OPTIONS: Final = dict(zip(KINDS, ((), ("-DNARROW",), ("-DNARROW", "-U__SSE2__")), strict=True))
_WARNINGS: Final = ("-Wall", "-Wextra", "-Wconversion", "-Wno-unused-parameter", "-Werror")
_directory = tempfile.TemporaryDirectory(prefix="telemetryd-scan-")


class Plain:
    """The functions of the compiled module, in Python."""

    API = 4
    KIND = "plain"

    @staticmethod
    def count_lines(data: bytes, /) -> int:
        r"""Count newlines; 0 if a line begins with \n or \r."""
        return 0 if re.search(rb"(?:\A|\n)[\r\n]", data) else data.count(b"\n")

    @staticmethod
    def find_lines(data: bytes, marks: tuple[bytes, ...], /) -> list[tuple[int, int]]:
        """Look at one line after the other."""
        return [
            (at, at + len(line))
            for at, line in _lines_of(data)
            if line[0] in b"{ \t\r\v\f"
            and (len(line) > 1 and (line[-2] <= 0x20 or line[-2] == 0x7D))
            and any(mark in line for mark in marks)
        ]

    @staticmethod
    def find_events(
        data: bytes, marks: tuple[bytes, ...], names: tuple[bytes, ...], /
    ) -> tuple[list[bytes], list[int], int]:
        """Look at one line after the other."""
        typed = re.compile(rb'"type"[ \t\r]*:[ \t\r]*(?:%s)' % b"|".join(map(re.escape, names)))
        found = [
            (at, line)
            for at, line in _lines_of(data)
            if typed.search(line) and any(mark in line for mark in marks)
        ]
        closed = [(at, line) for at, line in found if line.rstrip().endswith(b"}")]
        cut = len(found) - len(closed)
        return [line for _, line in closed], [at for at, _ in closed], cut

    @staticmethod
    def split_array(body: bytes | bytearray, at: int, /) -> tuple[bytes, int] | None:
        """Look at one byte after the other."""
        records, start, depth, is_string, is_escaped = [], at, 1, False, False
        for here in range(at, len(body)):
            byte = body[here : here + 1]
            if is_string:
                is_string = is_escaped or byte != b'"'
                is_escaped = byte == b"\\" and not is_escaped
            elif byte == b"\\":
                return None
            elif byte == b'"':
                is_string = True
            elif byte in (b"[", b"{"):
                depth += 1
            elif byte in (b"]", b"}") or (byte == b"," and depth == 1):
                depth -= byte != b","
                if depth == 0 or byte == b",":
                    records.append(bytes(body[start:here]).strip())
                    start = here + 1
                if depth == 0:
                    if byte == b"}" or body[start:].strip():
                        return None
                    lines = [re.sub(rb"\r?\n", lambda m: b" " * len(m[0]), r) for r in records if r]
                    return b"".join(line + b"\n" for line in lines), len(lines)
        return None

    @staticmethod
    def add_rows(*arguments: Any) -> int:
        """Leave all lines to Python."""
        at: int = arguments[2]
        return at


def _lines_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its start; the last one may have no newline."""
    for found in re.finditer(rb"[^\n]*\n|[^\n]+\Z", data):
        yield found.start(), found[0]


def _compiler() -> str:
    """The C compiler. Skips the test if there is none, or nothing to compile against."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc): the compiled scanner is not tested here")
    if not (_INCLUDE / "Python.h").is_file():
        pytest.skip(f"no Python.h in {_INCLUDE}: the compiled scanner is not tested here")
    return compiler


def build(target: Path, *options: str) -> Path:
    """Compile the module with `options` to `target`, which may not warn. Skips without compiler."""
    link = ("-undefined", "dynamic_lookup") if sys.platform == "darwin" else ()
    command = [_compiler(), "-shared", "-fPIC", *_WARNINGS, f"-I{_INCLUDE}", *link, *options]
    done = subprocess.run(
        [*command, "-o", target, SOURCE], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target


@cache
def _built(kind: str) -> scan.Scanner:
    place = Path(_directory.name, str(KINDS.index(kind)))
    place.mkdir()
    file = build(place / "telemetryd_scan.so", "-O2", *OPTIONS[kind])
    spec = importlib.util.spec_from_file_location("telemetryd_scan", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scanner: scan.Scanner = module
    return scanner


def compiled(kind: str = KINDS[0]) -> scan.Scanner:
    """The compiled scanner. Skips the test where it can't be compiled."""
    _compiler()
    return _built(kind)


def widest_vectors() -> str:
    """Return the `KIND` that the scanner should have on this processor. Skips without /proc."""
    cpu = Path("/proc/cpuinfo")
    if not cpu.is_file():
        pytest.skip("no /proc/cpuinfo: the vectors of this processor are unknown")
    return "avx2" if re.search(r"(?m)^flags\s*:.*\bavx2\b", cpu.read_text()) else "baseline"


@contextmanager
def using(scanner: scan.Scanner | None) -> Iterator[None]:
    """Have telemetryd use `scanner`; None for its Python."""
    before, scan.compiled = scan.compiled, scanner
    try:
        yield
    finally:
        scan.compiled = before


@pytest.fixture(params=("Python", "compiled"), scope="module", autouse=True)
def each_scanner(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run each test of the module that imports this with Python and with the compiled scanner."""
    with using(None if request.param == "Python" else compiled()):
        yield
