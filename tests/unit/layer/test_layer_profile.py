"""The profile that the layer is compiled by, and how its counts are read out of a process."""

from __future__ import annotations

import hashlib
import lzma
import re
import struct
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from layer import profile, start, train

DATA, COUNTERS, NAMES = 0x40_0000, 0x50_0000, 0x60_0000
"""Where the sections lie in the process."""


def key(name: bytes) -> int:
    """What stands for a function's name."""
    return int.from_bytes(hashlib.md5(name, usedforsecurity=False).digest()[:8], "little")


def dumped(functions: dict[bytes, list[int]], *, packed: bool) -> bytes:
    """What layer/c/profile.c writes of functions whose shape is the length of their name."""
    records, counters = b"", b""
    for name, counts in functions.items():
        distance = COUNTERS + len(counters) - (DATA + len(records))
        records += struct.pack(
            "<QQqqQQIHHHxxI", key(name), len(name), distance, 0, 0, 0, len(counts), 0, 0, 0, 0
        )
        counters += struct.pack(f"<{len(counts)}Q", *counts)
    names = b""
    for name in functions:
        piece = zlib.compress(name) if packed else b""
        # lengths in LEB128, of two bytes where one would not do
        sizes = [bytes([n & 0x7F | 0x80, n >> 7]) for n in (len(name), len(piece))]
        names += b"".join(sizes) + (piece or name) + b"\0"
    places = [(DATA, records), (COUNTERS, counters), (NAMES, names)]
    header = b"".join(struct.pack("<QQ", at, at + len(data)) for at, data in places)
    return header + records + counters + names


@pytest.mark.parametrize("packed", [False, True])
def test_what_several_processes_counted_is_added_up(tmp_path: Path, packed: bool) -> None:
    """By function; one that never ran is left out, so that it is not treated as cold."""
    first = {b"main": [1, 0, 7], b"a.c;never": [0, 0], b"b.c;" + b"long" * 50: [3]}
    second = {b"main": [2, 5, 0], b"a.c;never": [0, 0]}
    files = [tmp_path / "1", tmp_path / "2"]
    for file, functions in zip(files, (first, second), strict=True):
        file.write_bytes(dumped(functions, packed=packed))
    long = "b.c;" + "long" * 50
    wanted = [":ir", long, "204", "1", "3", "", "main", "4", "3", "3", "5", "7", "", ""]
    assert train.text(files) == "\n".join(wanted)


def test_what_a_start_ran_is_named_as_the_linker_knows_it(tmp_path: Path) -> None:
    """A function of one file without the file; one of several processes once."""
    files = [tmp_path / "1", tmp_path / "2"]
    files[0].write_bytes(dumped({b"main": [1], b"a.c;step": [0, 2], b"never": [0]}, packed=True))
    files[1].write_bytes(dumped({b"main": [1], b"b.c;step": [4]}, packed=True))
    assert train.names(files) == "main\nstep\n"


def test_the_linker_puts_what_a_start_runs_into_one_section() -> None:
    """Whatever the compiler has called the section of a function."""
    before, _, rest = start.script().partition("*(")
    patterns, _, after = rest.partition(")")
    assert before.split() == ["SECTIONS", "{", start.SECTION, ":", "{"]
    assert after.endswith("\n} } INSERT BEFORE .text;\n")
    wanted = start.FILE.read_text().split()
    assert "main" in wanted
    assert "_PyEval_EvalFrameDefault" in wanted
    for name in wanted:
        assert re.fullmatch(r"\w+", name)  # no pattern, no word of the script's language
    kinds = (".text", ".text.hot", ".text.unlikely")
    assert set(patterns.split()) == {f"{kind}.{name}" for kind in kinds for name in wanted}


def test_the_profile_is_one_of_llvm_and_small() -> None:
    """In the order of bytes of both architectures."""
    assert profile.FILE.stat().st_size < 2_000_000
    assert lzma.decompress(profile.FILE.read_bytes())[:8] == b"\xfflprofi\x81"


def test_the_compiler_is_told_where_it_is(tmp_path: Path) -> None:
    """By a name that is the same wherever the layer is built; to count, it needs none."""
    (option,) = (o for o in profile.flags(tmp_path, counting=False) if "profile-use" in o)
    assert (tmp_path / option.partition("=")[2]).stat().st_size > 1000
    assert profile.flags(tmp_path, counting=True) == profile.COUNTING
