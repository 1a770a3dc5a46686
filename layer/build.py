"""`python3 layer/build.py --arch x86_64`: makes dist/telemetryd-layer-x86_64.zip.

Needs Python 3.11 with venv, make and perl, and the network once; compilers and all else it gets
itself. The first build takes some six minutes on two cores, later ones seconds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script it is not yet part of a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from layer import (
    bundle,
    cpython,
    extensions,
    fetch,
    freeze,
    inside,
    lib,
    licenses,
    link,
    musl,
    native,
    packages,
    prepared,
    sbom,
    toolchain,
)
from layer.cache import Cache, default_directory
from layer.machines import MACHINES, Machine, this_machine
from layer.problem import BuildError


def main() -> int:
    """Build; the exit status."""
    options = _parser().parse_args()
    try:
        machine = MACHINES[options.arch] if options.arch else this_machine()
        zipped = build(Cache(options.cache), machine, options.out, options.config)
    except BuildError as error:
        print(f"layer: {error}", file=sys.stderr)
        return 1
    print(f"{zipped} ({zipped.stat().st_size / 1e6:.1f} MB)")
    return 0


def build(
    cache: Cache,
    machine: Machine,
    out: Path,
    config: Path | None = None,
    *,
    counting: bool = False,
) -> Path:
    """Build every stage that is not cached; the zip, with its bill of materials beside it.

    `config` is a configuration file to put into it. `counting`: with the interpreter that
    layer.train needs.
    """
    settings = prepared.read(config) if config else b""
    tools = toolchain.install(cache)
    sources = fetch.sources()
    here = this_machine()
    natives = {m.name: native.build(cache, tools, m, sources) for m in (here, machine)}
    host = cpython.build(cache, tools, here, natives, sources["cpython"])
    target = cpython.build(cache, tools, machine, natives, sources["cpython"], counting=counting)
    found = packages.download(cache, tools, machine)
    objects = extensions.build(cache, tools, machine, found, target, counting=counting)
    frozen = freeze.build(cache, found, host)
    contents = freeze.contents()
    executable = link.executable(
        cache,
        tools,
        machine,
        cpython=target,
        native=natives[machine.name],
        extensions=objects,
        frozen=frozen,
        reads=contents["early"]["until_next"] + contents["early"]["until_up"],
        counting=counting,
    )
    libc = musl.build(cache, tools, machine, sources["musl"])
    launcher = link.launcher(cache, tools, machine, executable, libc)
    library = lib.build(cache, machine, found, host, contents["lib"])
    texts = {
        "cpython": target / "LICENSE",
        "musl": libc / "LICENSE",
        "openssl": natives[machine.name] / "openssl.LICENSE",
        "zlib": natives[machine.name] / "zlib.LICENSE",
    }
    parts = inside.parts(cache, tools, sources, found, texts)
    zipped = out / f"telemetryd-layer-{machine.name}.zip"
    content = bundle.files(launcher, executable, library, licenses.texts(parts), settings)
    bundle.write(zipped, content, host)
    sbom.write(tools, zipped, parts)
    return zipped


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Build telemetryd's self-contained Lambda layer.",
        epilog="The default cache is $TELEMETRYD_LAYER_CACHE, or else ~/.cache/telemetryd-layer.",
    )
    parser.add_argument(
        "--arch", choices=sorted(MACHINES), help="architecture (default: this machine's)"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", default=default_directory(), help="keep stages here"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="put this configuration file into it (needs telemetryd in this Python)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("dist"),
        help="write the zip here (default: dist)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
