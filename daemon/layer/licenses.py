"""The licences of what is inside, which most of them ask to be passed on."""

from __future__ import annotations

from pathlib import Path

from layer.cache import HERE
from layer.packages import LINKED, Packages


def texts(packages: Packages, cpython: Path, native: Path, libc: Path) -> dict[str, bytes]:
    """The texts by file name."""
    found = {
        "telemetryd.txt": HERE.parents[1] / "LICENSE",
        "cpython.txt": cpython / "LICENSE",
        "openssl.txt": native / "openssl.LICENSE",
        "musl.txt": libc / "LICENSE",
        "zlib.txt": native / "zlib.LICENSE",
        "libuv.txt": packages.source("uvloop") / "vendor/libuv/LICENSE",
        "zstd.txt": packages.source("zstandard") / "zstd/LICENSE",
    }
    for name in LINKED:
        (first, *_) = sorted(packages.source(name).glob("LICENSE*"))
        found[f"{name}.txt"] = first
    for info in packages.site.glob("*.dist-info"):
        name = info.name.split("-")[0]
        for number, file in enumerate(sorted(info.rglob("LICEN[SC]E*"))):
            if file.is_file():
                found[f"{name}{number or ''}.txt"] = file
    return {name: path.read_bytes() for name, path in sorted(found.items())}
