"""The parts of musl that the launcher is linked with, and their headers.

The compiler brings a musl of its own. But it builds all of that, some 1,300 files, and keeps one
open for each. Many hosts let a process open 1,024, and so does the build of an image.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from layer import fetch, shell
from layer.cache import Cache
from layer.fetch import Source
from layer.machines import Machine
from layer.toolchain import Toolchain

# What the launcher calls, and what that calls, by the linker's own trace. The linker names a
# function that is missing here; most lie in the file of their name.
FILES = {
    "ctype": "tolower",
    "env": "__environ __init_tls __libc_start_main getenv putenv unsetenv",
    "errno": "__errno_location strerror",
    "exit": "_Exit exit",
    "fcntl": "fcntl open",
    "internal": "defsysinfo intscan libc procfdname shgetc syscall_ret vdso",
    "linux": "readahead signalfd",
    "locale": "__lctrans",
    "malloc": "free lite_malloc realloc",
    "malloc/mallocng": "free malloc realloc",
    "mman": "mmap mprotect mremap munmap",
    "network": (
        "accept accept4 bind connect getsockname getsockopt htons inet_pton listen ntohs recv"
        " recvfrom send sendto setsockopt socket"
    ),
    "process": "execv execve",
    "select": "poll",
    "signal": "sigaddset sigemptyset sigprocmask",
    "stat": "fstat fstatat",
    "stdio": "__lockfile __stdio_exit __toread __uflow ofl",
    "stdlib": "strtol",
    "string": (
        "bcmp memchr memcmp memcpy memmem memmove memrchr memset strcasecmp strcat strchr strchrnul"
        " strcmp strcpy strcspn stpcpy strlen strncasecmp strncmp strrchr strspn strstr"
    ),
    "thread": "__lock __set_thread_area __syscall_cp default_attr pthread_sigmask",
    "time": (
        "__map_file __month_to_secs __secs_to_tm __tz __year_to_secs clock_gettime"
        " clock_nanosleep gmtime_r"
    ),
    "unistd": "access close read readlink write",
}


def build(cache: Cache, tools: Toolchain, machine: Machine, source: Source) -> Path:
    """A directory with `libc.a`, `crt1.o`, `include/` and musl's licence."""
    shell.require("make", "sed", "sh")

    def make(work: Path) -> None:
        tree = fetch.unpack(fetch.archive(source, cache), work / "tree")
        log = work / "log"
        compiler = {"CC": tools.static_cc(machine), "AR": "ar", "RANLIB": "ranlib"}
        env = tools.environment(work, **compiler, CFLAGS="-Os -fno-pie")
        options = ("--disable-shared", "--prefix=/usr", f"--target={machine.musl_target}")
        shell.run(["sh", "./configure", *options], tree, env, log)
        results = ("lib/libc.a", "lib/crt1.o")
        shell.run(["make", shell.jobs(), *_chosen(machine), *results], tree, env, log)
        install = ["make", f"DESTDIR={work / 'root'}", "install-headers"]
        shell.run(install, tree, env, log)
        (work / "root" / "usr" / "include").rename(work / "include")
        for result in results:
            shutil.copy(tree / result, work)
        shutil.copy(tree / "COPYRIGHT", work / "LICENSE")
        for name in ("tree", "root", ".zig-cache"):
            shutil.rmtree(work / name, ignore_errors=True)

    inputs = (tools.identity, Path(__file__), machine, source)
    return cache.stage(f"musl-{machine.name}", inputs, make)


def _chosen(machine: Machine) -> tuple[str, str]:
    """The variables of musl's Makefile that hold what to compile, here these files alone."""
    files = [(f"src/{place}", name) for place, names in FILES.items() for name in names.split()]
    general = [f"./{place}/{name}.c" for place, name in files]
    special = [f"./{place}/{machine.cpu}/{name}.[csS]" for place, name in files]
    return (
        f"BASE_GLOBS={' '.join([*general, './crt/crt1.c'])}",
        f"ARCH_GLOBS={' '.join(special)}",
    )
