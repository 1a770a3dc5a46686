"""The compiler: clang and lld as PyPI's `ziglang` ships them, with both machines' C libraries.

Called through small scripts, so that the paths of this machine are in no command line (and so in
no result) and configure scripts see an ordinary `cc`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from layer import shell
from layer.cache import HERE, Cache, digest
from layer.machines import MACHINES, Machine
from layer.problem import BuildError

LOCK = HERE.parent / "requirements" / "layer-build.txt"
_CFLAGS = "-fno-sanitize=undefined -g0 -Wno-date-time -ffile-prefix-map=$LAYER_WORK=."
_LINKER = "static-ld"


@dataclass(frozen=True)
class Toolchain:
    """The paths of the tools."""

    directory: Path
    identity: str
    """A name for the compiler: what is compiled depends on nothing else in here."""

    @property
    def python(self) -> Path:
        """The interpreter that has the build's Python packages."""
        return self.directory / "venv" / "bin" / "python"

    def cc(self, machine: Machine) -> str:
        """The C compiler's name for what is linked against glibc."""
        return f"cc-{machine.name}"

    def static_cc(self, machine: Machine) -> str:
        """The compiler for code that is linked statically against layer.musl. It only compiles."""
        return f"static-cc-{machine.name}"

    def static_ld(self) -> str:
        """The linker's name for what is linked statically, of either machine."""
        return _LINKER

    def environment(self, work: Path, **more: str) -> dict[str, str]:
        """The environment in which these names are found; `work` appears in no result."""
        path = f"{self.directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
        zig = {
            "ZIG_GLOBAL_CACHE_DIR": str(self.directory.parents[1] / "zig"),
            "ZIG_LOCAL_CACHE_DIR": str(work / ".zig-cache"),
        }
        return shell.environment(LAYER_WORK=str(work), **zig, **more) | {"PATH": path}


def install(cache: Cache) -> Toolchain:
    """The toolchain in the cache, installed if it is not."""
    inputs = (LOCK, Path(__file__), sys.version, sys.platform)
    compiler = re.search(r"^ziglang==(?:.*\\\n)+.*\n", LOCK.read_text(), re.MULTILINE)
    if compiler is None:
        raise BuildError(f"{LOCK} does not name ziglang")
    identity = digest(compiler.group(), Path(__file__), sys.platform)
    return Toolchain(cache.stage("toolchain", inputs, _install), identity)


def _install(work: Path) -> None:
    try:
        venv.create(work / "venv", with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BuildError(
            f"{sys.executable} -m venv failed ({error}); e.g. apt-get install python3-venv"
        ) from error
    pip = [work / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    command = [*pip, "install", "--require-hashes", "--only-binary", ":all:", "-r", LOCK]
    shell.run(command, work, {**os.environ}, work / "log")
    (found,) = (work / "venv" / "lib").glob("python3*/site-packages/ziglang/zig")
    zig = '"$(dirname "$0")"/../' + str(found.relative_to(work))
    (work / "bin").mkdir()
    scripts = {name: f"exec {zig} {name}" for name in ("ar", "ranlib")}
    scripts[_LINKER] = f"exec {zig} ld.lld"
    for machine in MACHINES.values():
        scripts[f"cc-{machine.name}"] = f"exec {zig} cc -target {machine.glibc_target} {_CFLAGS}"
        static = f"exec {zig} cc -target {machine.musl_target} {_CFLAGS}"
        scripts[f"static-cc-{machine.name}"] = static
    for name, text in scripts.items():
        path = work / "bin" / name
        path.write_text(f'#!/bin/sh\n{text} "$@"\n')
        path.chmod(0o755)
