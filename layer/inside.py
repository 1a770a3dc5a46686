"""Everything that is in the layer: name, version, licence, text of the licence, hash.

Besides the archives of sources.toml and the packages of requirements/layer.txt these are the
libraries that come within one of them and are linked in: CPython's copies of expat, mpdecimal,
HACL*, BLAKE2 and mimalloc, uvloop's libuv, zstandard's zstd, and the compiler's own runtime.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from layer import fetch, toolchain
from layer.cache import Cache
from layer.fetch import Source
from layer.packages import Packages, pinned, version
from layer.problem import BuildError
from layer.toolchain import Toolchain

_FOR_CPYTHON = "Misc/sbom.spdx.json"
"""CPython's own list of what it has taken in, with versions and the hashes of the archives."""
_IN_CPYTHON = {
    "expat": ("MIT", "Modules/expat/COPYING"),
    "mpdecimal": ("BSD-2-Clause", "Modules/_decimal/libmpdec/mpdecimal.h"),
    "hacl-star": ("MIT", "Modules/_hacl/Hacl_Hash_SHA2.h"),
    "libb2": ("CC0-1.0", "Modules/_blake2/impl/blake2.h"),
}
"""Licence, and the file that holds its text: whole, or as its first comment."""
_MIMALLOC = "Include/internal/mimalloc/mimalloc.h"
_IN_PACKAGES = {
    "libuv": ("uvloop", "MIT", "vendor/libuv/LICENSE", "vendor/libuv/include/uv/version.h"),
    "zstd": ("zstandard", "BSD-3-Clause", "zstd/LICENSE", "zstd/zstd.h"),
}
"""The package, the licence, its text, and the header with the version."""
_LICENCE_FILES = re.compile(r"(LICEN[SC]E|COPYING|NOTICE)", re.IGNORECASE)
_WORDS = {
    "Apache 2.0": "Apache-2.0",
    "Dual License": "Apache-2.0 OR BSD-3-Clause",  # python-dateutil, by its LICENSE
    "MIT License": "MIT OR Apache-2.0",  # uvloop, by its classifiers and both its files
}
"""Licences that packages name in words of their own, as SPDX expressions."""


@dataclass(frozen=True)
class Part:
    """One thing that is in the layer."""

    name: str
    version: str
    purl: str
    licence: str
    """An SPDX expression."""
    sha256: str
    """Of the archive it comes from; where it has none, of the file that `within` is about."""
    within: str = ""
    """The part that brings it along; empty for one that was fetched by itself."""
    texts: dict[str, bytes] = field(default_factory=dict)
    """Licence and notice files, by the name they have in the layer."""


def parts(
    cache: Cache,
    tools: Toolchain,
    sources: dict[str, Source],
    found: Packages,
    licences: dict[str, Path],
) -> list[Part]:
    """List everything by name. `licences`: the licence files of the archives. Raises BuildError."""
    listed = [
        *_archives(sources, licences),
        *_of_cpython(fetch.archive(sources["cpython"], cache), sources["cpython"]),
        *_in_packages(found),
        *_packages(found),
        _compiler_runtime(tools),
    ]
    return sorted(listed, key=lambda part: part.name)


def _archives(sources: dict[str, Source], licences: dict[str, Path]) -> Iterator[Part]:
    for source in sources.values():
        yield Part(
            source.name,
            source.version,
            f"pkg:generic/{source.name}@{source.version}",
            source.license,
            source.sha256,
            texts={f"{source.name}.txt": licences[source.name].read_bytes()},
        )


def _of_cpython(archive: Path, source: Source) -> Iterator[Part]:
    listed = {p["name"]: p for p in json.loads(fetch.member(archive, _FOR_CPYTHON))["packages"]}
    for name, (licence, file) in _IN_CPYTHON.items():
        if name not in listed:
            raise BuildError(f"{archive}: {_FOR_CPYTHON} does not list {name} any more")
        (digest,) = (c for c in listed[name]["checksums"] if c["algorithm"] == "SHA256")
        number = listed[name]["versionInfo"]
        yield Part(
            name,
            number,
            f"pkg:generic/{name}@{number}",
            licence,
            digest["checksumValue"],
            "cpython",
            {f"{name}.txt": _notice(fetch.member(archive, file)).encode()},
        )
    header = fetch.member(archive, _MIMALLOC)
    number = ".".join(_search(r"define MI_MALLOC_VERSION (\d+)", header))  # 212 is 2.1.2
    text = _notice(header).encode()
    purl = f"pkg:generic/mimalloc@{number}"
    yield Part("mimalloc", number, purl, "MIT", source.sha256, "cpython", {"mimalloc.txt": text})


def _in_packages(found: Packages) -> Iterator[Part]:
    for name, (owner, licence, text, header) in _IN_PACKAGES.items():
        source = found.source(owner)
        numbers = re.findall(
            rf"define\s+{'UV' if name == 'libuv' else 'ZSTD'}_VERSION_"
            r"(?:MAJOR|MINOR|PATCH|RELEASE)\s+(\d+)",
            (source / header).read_text(errors="replace"),
        )
        number = ".".join(numbers)
        yield Part(
            name,
            number,
            f"pkg:generic/{name}@{number}",
            licence,
            found.sha256(owner),
            owner,
            {f"{name}.txt": (source / text).read_bytes()},
        )


def _packages(found: Packages) -> Iterator[Part]:
    for name in pinned():
        number = version(name)
        about = found.metadata(name)
        said = about.get("License-Expression") or about.get("License") or ""
        if not said:
            raise BuildError(f"{name} {number} names no licence: see {__file__}")
        yield Part(
            name,
            number,
            f"pkg:pypi/{name}@{number}",
            _WORDS.get(said, said),
            found.sha256(name),
            texts=_texts(name, found),
        )


def _texts(name: str, found: Packages) -> dict[str, bytes]:
    """Licence and notice files of a package: `name.txt`, `name1.txt`, `name-NOTICE.txt`."""
    texts: dict[str, bytes] = {}
    for file in found.files(name):
        if file.is_file() and _LICENCE_FILES.match(file.name):
            kind = "-NOTICE" if file.name.upper().startswith("NOTICE") else ""
            number = sum(key.startswith(f"{name}{kind}") for key in texts) or ""
            texts[f"{name}{kind}{number}.txt"] = file.read_bytes()
    if not texts:
        raise BuildError(f"{name} has no licence file: see {__file__}")
    return texts


def _compiler_runtime(tools: Toolchain) -> Part:
    """Return the compiler's runtime, which is linked into every program: arithmetic and memory."""
    (directory,) = (tools.directory / "venv" / "lib").glob("python3*/site-packages/ziglang")
    number = _search(r"(?m)^ziglang==(\S+)", toolchain.LOCK.read_text())
    digest = hashlib.sha256((directory / "lib" / "compiler_rt.zig").read_bytes()).hexdigest()
    return Part(
        "zig-compiler-rt",
        number,
        f"pkg:pypi/ziglang@{number}",
        "MIT",
        digest,
        "ziglang",
        {"zig-compiler-rt.txt": (directory / "LICENSE").read_bytes()},
    )


def _notice(text: str) -> str:
    """A licence file as it is; of a C header its first comment."""
    if not text.lstrip().startswith("/*"):
        return text
    return text.lstrip()[2:].partition("*/")[0].strip("-\n ") + "\n"


def _search(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise BuildError(f"no {pattern!r} where it used to be: see {__file__}")
    return found.group(1)
