"""uvloop with its libuv, msgspec, zstandard and our scanner, compiled to be linked in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from layer import profile, shell
from layer.cache import HERE, Cache
from layer.machines import Machine
from layer.packages import LINKED, Packages, pinned
from layer.toolchain import Toolchain

_SCAN = HERE.parent / "proto" / "scan"
_SCAN_FILES = ("telemetryd_scan.c", "arrays.h", "kernels.h", "rows.h")
_CFLAGS = (
    "-O2", "-fno-pie", "-fomit-frame-pointer", "-fno-strict-aliasing", "-fvisibility=hidden",
    "-ffunction-sections", "-fdata-sections", "-DNDEBUG", "-w",
)  # fmt: skip
_UVLOOP = HERE / "c" / "uvloop.c"
_LIBUV = (
    "fs-poll", "idna", "inet", "random", "strscpy", "strtok", "thread-common", "threadpool",
    "timer", "uv-common", "uv-data-getter-setters", "version", "unix/async", "unix/core", "unix/dl",
    "unix/fs", "unix/getaddrinfo", "unix/getnameinfo", "unix/linux", "unix/loop",
    "unix/loop-watcher", "unix/pipe", "unix/poll", "unix/process", "unix/procfs-exepath",
    "unix/proctitle", "unix/random-devurandom", "unix/random-getrandom", "unix/random-sysctl-linux",
    "unix/signal", "unix/stream", "unix/tcp", "unix/thread", "unix/tty", "unix/udp",
)  # fmt: skip
# Single-file zstd, its symbols hidden, as zstandard's own setup_zstd.py has it.
_ZSTD = (
    "-DZSTD_SINGLE_FILE",
    "-DZSTDLIB_VISIBLE=",
    "-DZDICTLIB_VISIBLE=",
    "-DZSTDERRORLIB_VISIBLE=",
)


def build(
    cache: Cache,
    tools: Toolchain,
    machine: Machine,
    packages: Packages,
    cpython: Path,
    *,
    counting: bool = False,
) -> Path:
    """A directory of object files."""

    def make(work: Path) -> None:
        env = tools.environment(work)
        commands = list(_commands(tools.cc(machine), packages, work))
        with ThreadPoolExecutor(int(shell.jobs()[2:])) as pool:
            logs = [work / f"{number}.log" for number in range(len(commands))]
            count = len(commands)
            list(pool.map(shell.run, commands, [work] * count, [env] * count, logs))
        for name in (*LINKED, ".zig-cache"):
            shutil.rmtree(work / name, ignore_errors=True)
        for log in logs:
            log.unlink()
        for name in _SCAN_FILES:
            (work / name).unlink()
        shutil.rmtree(work / "include")
        (work / _UVLOOP.name).unlink()

    def _commands(cc: str, packages: Packages, work: Path) -> Iterator[list[object]]:
        # Copied, so that every path in a command, and in a result, is a relative one.
        shutil.copytree(cpython / "include", work / "include")
        for name in LINKED:
            shutil.copytree(packages.source(name), work / name)
        for name in _SCAN_FILES:
            shutil.copy(_SCAN / name, work)
        shutil.copy(_UVLOOP, work)
        python = ("-Iinclude", "-Iinclude/internal")
        profiled = profile.flags(work, counting=counting)
        libuv = "uvloop/vendor/libuv"
        system = ("-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-D_LARGEFILE_SOURCE")
        for name in _LIBUV:
            yield [
                *(cc, "-c", *_CFLAGS, *profiled, *system, f"-I{libuv}/include", f"-I{libuv}/src"),
                *(f"{libuv}/src/{name}.c", "-o", f"uv-{name.replace('/', '-')}.o"),
            ]
        yield [
            # CPython, linked beside it, has a function of the same name.
            *(cc, "-c", *_CFLAGS, *profiled, "-D_Py_RestoreSignals=uvloop_RestoreSignals", *python),
            *(f"-I{libuv}/include", "-Iuvloop/uvloop", "-Iuvloop", "-I."),
            *("uvloop.c", "-o", "uvloop-loop.o"),
        ]
        yield [
            *(cc, "-c", *_CFLAGS, *profiled, *python, "-Imsgspec/src/msgspec"),
            *("msgspec/src/msgspec/_core.c", "-o", "msgspec-core.o"),
        ]
        yield [
            *(cc, "-c", *_CFLAGS, *profiled, *python),
            *("telemetryd_scan.c", "-o", "telemetryd-scan.o"),
        ]
        yield [
            *(cc, "-c", *_CFLAGS, *_ZSTD, *python, "-Izstandard/c-ext", "-Izstandard/zstd"),
            *("zstandard/c-ext/backend_c.c", "-o", "zstandard-backend.o"),
        ]

    entries = pinned()
    pins = [entries[name] for name in LINKED]
    own = (_SCAN / name for name in _SCAN_FILES)
    inputs = (tools.identity, Path(__file__), machine, *pins, *own, cpython.name, _UVLOOP)
    inputs += profile.inputs(counting=counting)
    name = f"extensions{'-counting' if counting else ''}-{machine.name}"
    return cache.stage(name, inputs, make)
