"""Links the executable and the launcher."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from layer import early, elf, musl, profile, shell, start
from layer.cache import HERE, Cache
from layer.machines import Machine
from layer.problem import BuildError
from layer.toolchain import Toolchain

_SOURCES = HERE / "c"
_LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "arm64": "/lib/ld-linux-aarch64.so.1"}
_LIBRARY_PLACES = ("/lib64", "/usr/lib64", "/lib/{triple}", "/usr/lib/{triple}", "/lib", "/usr/lib")
_LAUNCHER = ("launcher", "park", "prepared", "settings", "share", "platform", "text")
_BESIDE_PYTHON = ("main", "park", "share", "platform", "text")
_HEADERS = ("park.h", "platform.h", "prepared.h", "settings.h", "share.h", "text.h")
_SCRIPT = "start.ld"
_WARNINGS = ("-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror")


def launcher(
    cache: Cache, tools: Toolchain, machine: Machine, executable: Path, libc: Path
) -> Path:
    """The static launcher, which knows what to read early of `executable`: a directory.

    `libc` is layer.musl's for the machine.
    """
    places = (place.format(triple=machine.triple) for place in _LIBRARY_PLACES)
    libraries = ",".join(f'"{place}/libc.so.6"' for place in places)
    defines = (f'-DLOADERS="{_LOADERS[machine.name]}"', f"-DLIBRARIES={libraries}")

    def make(work: Path) -> None:
        for name in (*(f"{name}.c" for name in _LAUNCHER), *_HEADERS):
            shutil.copy(_SOURCES / name, work)
        shutil.copy(executable / early.HEADER, work)
        env, log = tools.environment(work), work / "log"
        headers = ("-nostdinc", "-isystem", str(libc / "include"))
        sections = ("-ffunction-sections", "-fdata-sections")
        for name in _LAUNCHER:
            command = [tools.static_cc(machine), "-c", "-Os", "-fno-pie", *_WARNINGS, *defines]
            command += [*headers, *sections, f"{name}.c", "-o", f"{name}.o"]
            shell.run(command, work, env, log)
        for name in ("crt1.o", "libc.a"):
            shutil.copy(libc / name, work)
        linked = ("crt1.o", *(f"{name}.o" for name in _LAUNCHER), "libc.a")
        options = ("-static", "--gc-sections", "-s", "-o", "telemetryd")
        try:
            shell.run([tools.static_ld(), *options, *linked], work, env, log)
        except BuildError as error:
            where = Path(musl.__file__)
            raise BuildError(
                f"{error}\n  a C library's function goes into FILES of {where}"
            ) from None
        for name in linked:
            (work / name).unlink()
        shutil.rmtree(work / ".zig-cache", ignore_errors=True)

    inputs = (tools.identity, Path(__file__), machine, *sorted(_SOURCES.iterdir()))
    inputs += (executable.name, libc.name)
    return cache.stage(f"launcher-{machine.name}", inputs, make)


def executable(
    cache: Cache,
    tools: Toolchain,
    machine: Machine,
    *,
    cpython: Path,
    native: Path,
    extensions: Path,
    frozen: Path,
    reads: Sequence[Sequence[str]],
    counting: bool = False,
) -> Path:
    """The interpreter with everything in it: a directory with `telemetryd` and `early.h`."""

    def make(work: Path) -> None:
        shutil.copytree(cpython / "include", work / "include")
        counts = ("profile",) if counting else ()
        names = (*_BESIDE_PYTHON, *counts)
        ours_in_c = [f"{name}.c" for name in names]
        (work / _SCRIPT).write_text(start.script())
        for name in (*ours_in_c, *_HEADERS):
            shutil.copy(_SOURCES / name, work)
        for name in ("frozen.bin", "frozen.S", "frozen.c"):
            shutil.copy(frozen / name, work)
        env, log, cc = tools.environment(work), work / "log", tools.cc(machine)
        flags = ("-O2", "-fno-pie", "-ffunction-sections", *_WARNINGS)
        profiled = profile.flags(work, counting=counting)
        for name in (*ours_in_c, "frozen.c", "frozen.S"):
            output = f"{Path(name).stem}{'-data' if name.endswith('.S') else ''}.o"
            more = profiled if output.removesuffix(".o") in _BESIDE_PYTHON else ()
            command = [cc, "-c", *flags, *more, "-Iinclude", name, "-o", output]
            shell.run(command, work, env, log)
        objects = [f"{name}.o" for name in (*names, "frozen", "frozen-data")]
        ours = sorted(extensions.glob("*.o"))
        python = Path(shutil.copy(cpython / "lib" / "libpython3.13.a", work))
        # frozen.c stands in for it, and for the modules that it has with all their texts.
        shell.run(["ar", "d", python.name, "frozen.o"], work, env, log)
        others = sorted(p for p in (cpython / "lib").glob("*.a") if p.name != python.name)
        libraries = [*others, *(native / "lib" / f"lib{n}.a" for n in ("ssl", "crypto", "z"))]
        # lib/'s shared objects find CPython's API in the executable.
        link = [
            cc,
            "-no-pie",
            "-Wl,--export-dynamic",
            "-Wl,--gc-sections",
            f"-Wl,-T,{_SCRIPT}",
            *(("-Wl,--wrap=_exit",) if counting else ()),
            "-o",
            "telemetryd",
        ]
        link += [*objects, *map(str, ours), "-Wl,--whole-archive", python.name]
        link += ["-Wl,--no-whole-archive", *map(str, libraries)]
        link += ["-lm", "-ldl", "-lpthread", "-lutil"]
        shell.run(link, work, env, log)
        linked = (work / "telemetryd").read_bytes()
        (work / early.HEADER).write_text(early.header(linked, reads))
        (work / "telemetryd").write_bytes(elf.stripped(linked))
        shutil.rmtree(work / "include")
        shutil.rmtree(work / ".zig-cache", ignore_errors=True)
        for name in ("frozen.bin", python.name, *objects):
            (work / name).unlink()

    stages = (cpython.name, native.name, extensions.name, frozen.name)
    inputs = (tools.identity, Path(__file__), machine, *sorted(_SOURCES.iterdir()), *stages)
    inputs += (Path(early.__file__), Path(elf.__file__), reads)
    inputs += (Path(start.__file__), start.FILE)
    inputs += profile.inputs(counting=counting)
    name = f"executable{'-counting' if counting else ''}-{machine.name}"
    return cache.stage(name, inputs, make)
