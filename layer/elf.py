"""Reads 64-bit little-endian ELF files: what the loader reads of them, and where symbols lie."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_SYMTAB, _NOBITS = 2, 8
_NEEDED, _STRTAB, _VERNEED, _VERNEEDNUM = 1, 5, 0x6FFFFFFE, 0x6FFFFFFF


@dataclass(frozen=True)
class Elf:
    """The requirements of a file on its system."""

    machine: int
    """`e_machine`: 62 is x86-64, 183 is AArch64."""
    interpreter: str
    """The loader's path; empty in a shared object or a static program."""
    needed: tuple[str, ...]
    """The shared libraries it names."""
    versions: tuple[tuple[str, str], ...]
    """Library and symbol version, such as `("libc.so.6", "GLIBC_2.17")`."""

    @property
    def glibc(self) -> tuple[int, ...]:
        """The newest glibc it has a symbol of; `(0,)` if none."""
        numbers = [v.removeprefix("GLIBC_") for _, v in self.versions if v.startswith("GLIBC_")]
        return max((tuple(map(int, n.split("."))) for n in numbers), default=(0,))


def is_elf(data: bytes) -> bool:
    """True if `data` begins like an ELF file."""
    return data[:4] == b"\x7fELF"


def read(data: bytes) -> Elf:
    """Read an ELF file. Raises ValueError for one of another class or byte order."""
    if not is_elf(data) or data[4:6] != b"\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    dynamic: list[tuple[int, int]] = []
    interpreter = ""
    for kind, at, _, size in _segments(data):
        if kind == _INTERPRETER:
            interpreter = _text(data, at)
        elif kind == _DYNAMIC:
            dynamic = [struct.unpack_from("<QQ", data, at + i) for i in range(0, size, 16)]
    tags = dict(reversed(dynamic))
    strings = _offset(data, tags[_STRTAB]) if _STRTAB in tags else 0
    needed = tuple(_text(data, strings + value) for tag, value in dynamic if tag == _NEEDED)
    versions = tuple(_versions(data, tags, strings)) if _VERNEED in tags else ()
    (machine,) = struct.unpack_from("<H", data, 18)
    return Elf(machine, interpreter, needed, versions)


def _versions(data: bytes, tags: dict[int, int], strings: int) -> Iterator[tuple[str, str]]:
    """Each library with each of the symbol versions that are needed of it."""
    at = _offset(data, tags[_VERNEED])
    for _ in range(tags[_VERNEEDNUM]):
        _, count, file, first, following = struct.unpack_from("<HHIII", data, at)
        entry = at + first
        for _ in range(count):
            _, _, _, name, next_entry = struct.unpack_from("<IHHII", data, entry)
            yield _text(data, strings + file), _text(data, strings + name)
            entry += next_entry
        at += following


def places(data: bytes) -> dict[str, list[tuple[int, int]]]:
    """File offset and size of each section and each symbol, by name; before `stripped`."""
    sections = _sections(data)
    (names,) = struct.unpack_from("<H", data, 62)  # e_shstrndx
    found: dict[str, list[tuple[int, int]]] = {}
    for name, kind, _, at, size, _ in sections:
        if kind != _NOBITS:
            found.setdefault(_text(data, sections[names][3] + name), []).append((at, size))
    for _, kind, _, at, size, link in sections:
        if kind != _SYMTAB:
            continue
        for entry in range(at, at + size, 24):
            name, _, _, section, value, length = struct.unpack_from("<IBBHQQ", data, entry)
            if 0 < section < len(sections) and sections[section][1] != _NOBITS:
                _, _, address, start, _, _ = sections[section]
                place = start + value - address, length
                found.setdefault(_text(data, sections[link][3] + name), []).append(place)
    return found


def _sections(data: bytes) -> list[tuple[int, int, int, int, int, int]]:
    """Name's offset, type, address, file offset, size and link of each section."""
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    found = []
    for number in range(count):
        name, kind, _, address, at, length, link = struct.unpack_from(
            "<IIQQQQI", data, start + number * size
        )
        found.append((name, kind, address, at, length, link))
    return found


def _offset(data: bytes, address: int) -> int:
    """Return the offset in the file of the data that is loaded at `address`."""
    for kind, at, start, size in _segments(data):
        if kind == _LOAD and start <= address < start + size:
            return at + address - start
    raise ValueError(f"address {address:#x} is in no segment")


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def stripped(data: bytes) -> bytes:
    """`data` without what no segment loads: symbols, debug information, the section table."""
    end = max(at + size for _, at, _, size in _segments(data))
    head = bytearray(data[:end])
    struct.pack_into("<Q", head, 40, 0)  # e_shoff
    struct.pack_into("<HH", head, 60, 0, 0)  # e_shnum, e_shstrndx
    return bytes(head)


def _segments(data: bytes) -> list[tuple[int, int, int, int]]:
    """Type, file offset, address and file size of each program header."""
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    found = []
    for number in range(count):
        kind, _, at, address, _, file_size, _, _ = struct.unpack_from(
            "<IIQQQQQQ", data, start + number * size
        )
        found.append((kind, at, address, file_size))
    return found
