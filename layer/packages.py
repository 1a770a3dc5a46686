"""The Python packages of requirements/layer.txt, as wheels for a machine or as sources."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

from layer import fetch, shell
from layer.cache import HERE, Cache
from layer.machines import GLIBC, Machine
from layer.problem import BuildError
from layer.toolchain import Toolchain

LOCK = HERE.parent / "requirements" / "layer.txt"
LINKED = ("uvloop", "msgspec", "zstandard")
"""Compiled from source and linked into the executable."""
DIGESTS = "sha256.json"
_PYTHON = "3.13"
# Wheels are tagged for newer C libraries than their files need; what they need is checked at the
# end of the build, file by file.
_NEWEST_TAG = 28


@dataclass(frozen=True)
class Packages:
    """The packages that were downloaded and unpacked."""

    directory: Path

    @property
    def site(self) -> Path:
        """The wheels, unpacked over each other."""
        return self.directory / "site"

    def sha256(self, name: str) -> str:
        """Of the distribution that was downloaded."""
        digests: dict[str, str] = json.loads((self.directory / DIGESTS).read_text())
        return digests[name]

    def metadata(self, name: str) -> Message:
        """Return the metadata of a distribution. Raises BuildError."""
        place = self._about(name)
        file = place / ("METADATA" if place.suffix == ".dist-info" else "PKG-INFO")
        return HeaderParser().parsestr(file.read_text(errors="replace"))

    def files(self, name: str) -> list[Path]:
        """Return files that may be a licence or a notice of a distribution. Raises BuildError."""
        place = self._about(name)
        return sorted(place.rglob("*") if place.suffix == ".dist-info" else place.glob("*"))

    def _about(self, name: str) -> Path:
        """Its dist-info, or its unpacked source."""
        for place in (*self.site.glob("*.dist-info"), *(self.directory / "sources").iterdir()):
            if _normalise(place.name.removesuffix(".dist-info").rpartition("-")[0]) == name:
                return place
        raise BuildError(f"{name} is not among what was downloaded")

    def source(self, name: str) -> Path:
        """The unpacked source distribution of `name`."""
        (found,) = (self.directory / "sources").glob(f"{name}-*")
        return found


def pinned() -> dict[str, str]:
    """The lock file's entries, by package: what pip reads, hashes and all."""
    entries = re.finditer(r"^([\w.-]+)==(?:.*\\\n)+.*\n", LOCK.read_text(), re.MULTILINE)
    return {entry.group(1): entry.group() for entry in entries}


def version(name: str) -> str:
    """The version of `name` in the lock file."""
    return pinned()[name].split("==")[1].split()[0]


def download(cache: Cache, tools: Toolchain, machine: Machine) -> Packages:
    """The packages, downloaded unless the cache has them."""

    def make(work: Path) -> None:
        entries = pinned()
        pip = [tools.python, "-m", "pip", "--disable-pip-version-check", "download"]
        options = ("--quiet", "--no-deps", "--require-hashes")
        _write(work / "sources.txt", entries, LINKED)
        _write(work / "wheels.txt", entries, entries.keys() - LINKED)
        env, log = dict(os.environ), work / "log"
        as_sources = ("--no-binary", ":all:", "--no-build-isolation")
        command = [*pip, *options, *as_sources, "-d", "sdists", "-r", "sources.txt"]
        shell.run(command, work, env, log)
        as_wheels = ["--only-binary", ":all:", "--implementation", "cp"]
        as_wheels += [
            "--python-version",
            _PYTHON,
            "--abi",
            "cp313",
            "--abi",
            "abi3",
            "--abi",
            "none",
        ]
        for minor in (*range(5, _NEWEST_TAG + 1), "manylinux2014"):
            tag = minor if isinstance(minor, str) else f"manylinux_{GLIBC[0]}_{minor}"
            as_wheels += ["--platform", f"{tag}_{machine.wheel}"]
        command = [*pip, *options, *as_wheels, "-d", "wheels", "-r", "wheels.txt"]
        shell.run(command, work, env, log)
        _unpack(work)

    name = f"packages-{machine.name}"
    entries = sorted(pinned().values())
    return Packages(cache.stage(name, (Path(__file__), machine, *entries), make))


def _write(path: Path, entries: dict[str, str], names: Collection[str]) -> None:
    """A requirements file of `names`; markers are of the layer's interpreter, not of pip's."""
    wanted = [re.sub(r" ;[^\\]*", " ", text) for name, text in entries.items() if name in names]
    path.write_text("".join(wanted))


def _normalise(name: str) -> str:
    """A project's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _unpack(work: Path) -> None:
    files = sorted([*(work / "wheels").iterdir(), *(work / "sdists").iterdir()])
    digests = {
        _normalise(file.name.split("-")[0]): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
    (work / DIGESTS).write_text(json.dumps(digests))
    for wheel in sorted((work / "wheels").iterdir()):
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(work / "site")
    for sdist in sorted((work / "sdists").iterdir()):
        fetch.extract(sdist, work / "sources", "data")
    for name in ("wheels", "sdists"):
        shutil.rmtree(work / name)
