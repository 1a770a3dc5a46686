"""CPython as a static library for a machine, and as a program for the one that builds."""

from __future__ import annotations

import shutil
from pathlib import Path

from layer import fetch, profile, shell
from layer.cache import Cache
from layer.fetch import Source
from layer.machines import Machine, this_machine
from layer.toolchain import Toolchain

STANDARD_LIBRARY = "lib/python3.13"
"""The path where an interpreter in `bin/` looks for it."""
# `-fno-pie`: the executable is linked at a fixed address, which spares some 10,000 relocations.
# `-fomit-frame-pointer`: this compiler keeps one otherwise, in every function.
# `-ffunction-sections`: so that the linker can put what a start runs into one place.
_CFLAGS = (
    "-O3 -fno-pie -fomit-frame-pointer -ffunction-sections -fno-semantic-interposition -fwrapv"
)
# Modules with no use here, or none without a library that is not linked.
_ABSENT = (
    "_ctypes", "_curses", "_curses_panel", "_dbm", "_gdbm", "_lsprof", "_lzma", "_bz2", "_sqlite3",
    "_tkinter", "_uuid", "nis", "readline", "syslog", "xxlimited", "xxlimited_35", "xxsubtype",
    "_ctypes_test", "_testbuffer", "_testcapi", "_testclinic", "_testclinic_limited",
    "_testexternalinspection", "_testimportmultiple", "_testinternalcapi", "_testlimitedcapi",
    "_testmultiphase", "_testsinglephase", "_xxtestfuzz", "_codecs_cn", "_codecs_hk",
    "_codecs_iso2022", "_codecs_jp", "_codecs_kr", "_codecs_tw", "_multibytecodec", "_interpreters",
    "_interpchannels", "_interpqueues", "_multiprocessing", "_posixshmem", "_zoneinfo",
)  # fmt: skip
# What configure finds out by running a program it has compiled, or by looking at this machine.
# Where it can't it assumes the worst (for arm64, no computed gotos), and what it finds may depend
# on how nice the build is; these are true of every Lambda machine.
_FOUND = (
    "ac_cv_aligned_required=no", "ac_cv_broken_mbstowcs=no", "ac_cv_broken_nice=no",
    "ac_cv_broken_poll=no", "ac_cv_broken_sem_getvalue=no", "ac_cv_buggy_getaddrinfo=no",
    "ac_cv_computed_gotos=yes", "ac_cv_file__dev_ptc=no", "ac_cv_file__dev_ptmx=yes",
    "ac_cv_posix_semaphores_enabled=yes", "ac_cv_pthread_system_supported=yes",
    "ac_cv_rshift_extends_sign=yes", "ac_cv_working_tzset=yes",
)  # fmt: skip


def build(
    cache: Cache,
    tools: Toolchain,
    machine: Machine,
    native: dict[str, Path],
    source: Source,
    *,
    counting: bool = False,
) -> Path:
    """A directory with `lib/*.a`, `include/`, the standard library, and where it runs `bin/python`.

    `native` holds the prefix of `layer.native` for each machine that is built. `counting`: the
    library that layer.train needs, without `bin/python`.
    """
    here = this_machine()
    builder = build(cache, tools, here, native, source) if machine != here else None

    def make(work: Path) -> None:
        tree = fetch.unpack(fetch.archive(source, cache), work / "tree")
        log = work / "log"
        prefix = native[machine.name]
        env = tools.environment(
            work,
            CC=tools.cc(machine),
            AR="ar",
            RANLIB="ranlib",
            READELF="true",
            CFLAGS=_CFLAGS,
            CPPFLAGS=f"-I{prefix}/include",
            LDFLAGS=f"-L{prefix}/lib -no-pie",
            LINKFORSHARED=" ",
            MODULE_BUILDTYPE="static",
        )
        shell.run(["sh", "./configure", *_options(machine, prefix, builder)], tree, env, log)
        runs_here = builder is None and not counting
        targets = ["libpython3.13.a", "python"] if runs_here else ["libpython3.13.a"]
        env["CFLAGS_NODIST"] = " ".join(profile.flags(tree, counting=counting))
        shell.run(["make", shell.jobs(), *targets], tree, env, log)
        _collect(tree, work, runs_here=runs_here)
        shutil.rmtree(work / "tree")
        shutil.rmtree(work / ".zig-cache", ignore_errors=True)

    inputs: tuple[object, ...] = (tools.identity, Path(__file__), machine, source)
    inputs += (native[machine.name].name, builder and builder.name)
    inputs += profile.inputs(counting=counting)
    name = f"cpython{'-counting' if counting else ''}-{machine.name}"
    return cache.stage(name, inputs, make)


def _options(machine: Machine, prefix: Path, builder: Path | None) -> list[str]:
    options = [
        "-q",
        "--prefix=/opt/telemetryd",
        "--disable-shared",
        "--disable-test-modules",
        "--without-ensurepip",
        "--without-doc-strings",
        "--without-readline",
        f"--with-openssl={prefix}",
        "--with-ssl-default-suites=openssl",
        *(f"py_cv_module_{name}=n/a" for name in _ABSENT),
        *_FOUND,
    ]
    if builder is not None:
        cross = f"--host={machine.triple}", f"--build={this_machine().triple}"
        options += [*cross, f"--with-build-python={builder / 'bin' / 'python'}"]
    return options


def _collect(tree: Path, place: Path, *, runs_here: bool) -> None:
    """Keep what later stages need of the tree."""
    (place / "lib").mkdir()
    libraries = (
        "libpython3.13.a",
        "Modules/_decimal/libmpdec/libmpdec.a",
        "Modules/expat/libexpat.a",
        "Modules/_hacl/libHacl_Hash_SHA2.a",
    )
    for library in libraries:
        if (tree / library).exists():
            shutil.copy(tree / library, place / "lib")
    shutil.copytree(tree / "Include", place / "include")
    shutil.copy(tree / "pyconfig.h", place / "include")
    shutil.copy(tree / "LICENSE", place / "LICENSE")
    (place / STANDARD_LIBRARY / "lib-dynload").mkdir(parents=True)  # looked for at its start
    shutil.copytree(tree / "Lib", place / STANDARD_LIBRARY, ignore=_unused, dirs_exist_ok=True)
    if runs_here:
        (place / "bin").mkdir()
        shutil.copy(tree / "python", place / "bin" / "python")


def _unused(_: str, names: list[str]) -> set[str]:
    kept_out = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "__pycache__"}
    return kept_out & set(names)
