"""What is in the zip: sizes, modes, places, the machine and the C library each file needs."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

import pytest

from helpers.layer_kit import CACHE, ROOT, build

sys.path.insert(0, str(ROOT))

from typing import Any

from layer import elf, fetch
from layer.machines import GLIBC, MACHINES
from layer.packages import pinned, version

MB = 1_000_000
C_LIBRARY = {
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
}
LOADERS = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def arch(zipped: Path) -> str:
    return zipped.stem.removeprefix("telemetryd-layer-")


@pytest.fixture(scope="session")
def binaries(zipped: Path) -> dict[str, elf.Elf]:
    """Every ELF file of the zip, by name."""
    with zipfile.ZipFile(zipped) as packed:
        contents = {name: packed.read(name) for name in packed.namelist()}
    return {name: elf.read(data) for name, data in contents.items() if elf.is_elf(data)}


def test_it_is_small(zipped: Path) -> None:
    """12 MB to download, 30 MB on disk, of Lambda's 250 for all layers together."""
    with zipfile.ZipFile(zipped) as packed:
        unpacked = sum(entry.file_size for entry in packed.infolist())
    assert zipped.stat().st_size <= 12 * MB
    assert unpacked <= 30 * MB


def test_only_the_launcher_lies_in_extensions(zipped: Path) -> None:
    """The platform starts every file that lies there."""
    with zipfile.ZipFile(zipped) as packed:
        names = packed.namelist()
    assert [name for name in names if name.startswith("extensions/")] == ["extensions/telemetryd"]
    assert {name.partition("/")[0] for name in names} == {"extensions", "telemetryd"}


def test_modes_let_any_user_run_it(zipped: Path) -> None:
    """Executable are the programs and the wrapper, readable is everything; no date differs."""
    with zipfile.ZipFile(zipped) as packed:
        modes = {entry.filename: entry.external_attr >> 16 for entry in packed.infolist()}
        dates = {entry.date_time for entry in packed.infolist()}
    programs = {"extensions/telemetryd", "telemetryd/telemetryd", "telemetryd/wrap"}
    assert {name for name, mode in modes.items() if mode == 0o100755} == programs
    assert {mode for name, mode in modes.items() if name not in programs} == {0o100644}
    assert dates == {(2000, 1, 1, 0, 0, 0)}


def test_every_binary_is_for_the_machine(zipped: Path, binaries: dict[str, elf.Elf]) -> None:
    """A wheel of the other architecture would be found out only on Lambda."""
    assert len(binaries) > 5
    assert {file.machine for file in binaries.values()} == {MACHINES[arch(zipped)].elf}


def test_no_binary_needs_a_newer_c_library_than_amazon_linux_2_has(
    binaries: dict[str, elf.Elf],
) -> None:
    """By the symbol versions that the loader would look for, in every file."""
    found = {name: file.glibc for name, file in binaries.items() if file.glibc > GLIBC}
    assert found == {}
    assert binaries["telemetryd/telemetryd"].glibc > (2, 2)  # it was read at all


def test_no_binary_needs_a_library_that_a_runtime_may_lack(binaries: dict[str, elf.Elf]) -> None:
    """Nothing but the C library: no OpenSSL, no zlib, no C++."""
    needed = {library for file in binaries.values() for library in file.needed}
    assert needed - C_LIBRARY - LOADERS == set()


def test_the_launcher_needs_nothing_at_all(binaries: dict[str, elf.Elf]) -> None:
    """It has to run where the interpreter does not."""
    launcher = binaries["extensions/telemetryd"]
    assert (launcher.interpreter, launcher.needed, launcher.versions) == ("", (), ())


LINKED_IN = {
    "expat", "hacl-star", "libb2", "libuv", "mimalloc", "mpdecimal", "zig-compiler-rt", "zstd",
}  # fmt: skip
"""What comes within another's source, and is in the executable."""


@pytest.fixture
def bill(zipped: Path) -> dict[str, Any]:
    """The bill of materials beside the zip."""
    found: dict[str, Any] = json.loads(zipped.with_suffix(".cdx.json").read_text())
    return found


def test_the_bill_of_materials_lists_what_is_inside(bill: dict[str, Any]) -> None:
    """CycloneDX: the interpreter, its libraries, every package, and what these bring along."""
    listed = {item["name"]: item["version"] for item in bill["components"]}
    assert listed.keys() == fetch.sources().keys() | LINKED_IN | pinned().keys()
    assert {name: version(name) for name in pinned()}.items() <= listed.items()
    assert all(listed.values())


def test_the_bill_of_materials_has_a_licence_and_a_hash_of_each(bill: dict[str, Any]) -> None:
    """The licence as an SPDX identifier or expression, the hash of the archive it comes from."""
    for item in (bill["metadata"]["component"], *bill["components"]):
        (licence,) = item["licenses"]
        assert licence.get("expression") or licence["license"].get("id"), item
        (digest,) = item["hashes"]
        assert digest["alg"] == "SHA-256", item
        assert re.fullmatch(r"[0-9a-f]{64}", digest["content"]), item
    digests = {item["name"]: item["hashes"][0]["content"] for item in bill["components"]}
    for name, entry in pinned().items():
        assert f"sha256:{digests[name]}" in entry
    for name, source in fetch.sources().items():
        assert digests[name] == source.sha256


def test_the_bill_of_materials_is_of_this_zip(zipped: Path, bill: dict[str, Any]) -> None:
    """By its hash, which a scanner compares."""
    (digest,) = bill["metadata"]["component"]["hashes"]
    assert digest["content"] == hashlib.sha256(zipped.read_bytes()).hexdigest()


def test_the_licence_of_everything_inside_is_in_it(zipped: Path, bill: dict[str, Any]) -> None:
    """Each asks for its text to go along, and some for their notices."""
    with zipfile.ZipFile(zipped) as packed:
        names = {name for name in packed.namelist() if name.startswith("telemetryd/licenses/")}
        texts = {name.rpartition("/")[2]: packed.read(name) for name in names}
    assert all(text.strip() for text in texts.values())
    for item in bill["components"]:
        assert f"{item['name']}.txt" in texts or f"{item['name']}-NOTICE.txt" in texts, item["name"]
    assert {"botocore-NOTICE.txt", "yarl-NOTICE.txt"} <= texts.keys()
    assert b"Stefan Krah" in texts["mpdecimal.txt"]
    assert b"HACL* Contributors" in texts["hacl-star.txt"]
    assert b"Expat" in texts["expat.txt"]


def without(tmp_path: Path, *stages: str) -> Path:
    """A cache in another directory, which lacks these stages and what zig has kept.

    Locks, and stages that another build is making, stay where they are.
    """
    place = tmp_path / "elsewhere"
    (place / "stages").mkdir(parents=True)
    for stage in (CACHE / "stages").iterdir():
        if not stage.name.startswith(".") and stage.name.partition("-")[0] not in stages:
            (place / "stages" / stage.name).symlink_to(stage)
    (place / "archives").symlink_to(CACHE / "archives")
    return place


def test_the_same_input_gives_the_same_bytes(zipped: Path, tmp_path: Path) -> None:
    """In another directory, without what the compiler keeps; what takes minutes is taken over."""
    cache = without(tmp_path, "frozen", "executable", "musl", "launcher", "lib")
    again = build(arch(zipped), tmp_path / "dist", "--cache", str(cache))
    assert again.read_bytes() == zipped.read_bytes()
    made = {stage.name.partition("-")[0] for stage in (cache / "stages").glob("[a-z]*")}
    assert {"musl", "launcher", "executable"} <= made


def test_the_interpreters_of_both_architectures_are_configured_alike(tmp_path: Path) -> None:
    """Nothing is left to what configure makes of this machine, or of a cross compiler."""
    found = []
    for name in MACHINES:
        build(name, tmp_path)
        stages = (CACHE / "stages").glob(f"cpython-{name}-*")
        newest = max(stages, key=lambda stage: stage.stat().st_mtime)
        lines = (newest / "include" / "pyconfig.h").read_text().splitlines()
        found.append({line.split()[1] for line in lines if line.startswith("#define ")})
    assert found[0] ^ found[1] <= {"HAVE_GCC_ASM_FOR_X64", "HAVE_GCC_ASM_FOR_X87"}
