"""zlib and OpenSSL as static libraries, without the parts that telemetryd does not need."""

from __future__ import annotations

import shutil
from pathlib import Path

from layer import fetch, shell
from layer.cache import Cache
from layer.fetch import Source
from layer.machines import Machine
from layer.toolchain import Toolchain

_OPTIMISE = ("-O2", "-fno-pie", "-ffunction-sections", "-fdata-sections")
# TLS 1.2 and 1.3 as a client, hashes, X.509: what AWS's endpoints and botocore ask for. Engines,
# modules and configuration files are out, so that nothing of the function's environment is loaded.
_OPENSSL = (
    "no-shared", "no-tests", "no-apps", "no-docs", "no-engine", "no-legacy", "no-dso", "no-module",
    "no-autoload-config", "no-comp", "no-ssl3", "no-dtls", "no-srp", "no-psk", "no-sm2", "no-sm3",
    "no-sm4", "no-camellia", "no-seed", "no-idea", "no-bf", "no-cast", "no-rc2", "no-rc4", "no-rc5",
    "no-md4", "no-mdc2", "no-whirlpool", "no-rmd160", "no-aria", "no-gost", "no-cms", "no-cmp",
    "no-ts", "no-ct", "no-ocsp", "no-quic", "no-uplink", "no-async", "no-dsa", "no-ec2m", "no-sctp",
    "no-srtp", "no-http", "no-ssl-trace", "no-ui-console",
)  # fmt: skip


def build(cache: Cache, tools: Toolchain, machine: Machine, listed: dict[str, Source]) -> Path:
    """A prefix with `lib/*.a` and `include/` of both."""
    shell.require("make", "perl", "sh")
    zlib, openssl = listed["zlib"], listed["openssl"]

    def make(work: Path) -> None:
        env = tools.environment(
            work, CC=tools.cc(machine), AR="ar", RANLIB="ranlib", CFLAGS=" ".join(_OPTIMISE)
        )
        _zlib(fetch.unpack(fetch.archive(zlib, cache), work / "zlib"), work, env)
        _openssl(fetch.unpack(fetch.archive(openssl, cache), work / "openssl"), work, env, machine)
        for name in ("zlib", "openssl", ".zig-cache"):
            shutil.rmtree(work / name, ignore_errors=True)

    inputs = (tools.identity, Path(__file__), machine, zlib, openssl)
    return cache.stage(f"native-{machine.name}", inputs, make)


def _zlib(source: Path, prefix: Path, env: dict[str, str]) -> None:
    log = prefix / "zlib.log"
    shell.run(["sh", "./configure", "--static", f"--prefix={prefix}"], source, env, log)
    shell.run(["make", shell.jobs(), "libz.a"], source, env, log)
    for name in ("lib", "include"):
        (prefix / name).mkdir(exist_ok=True)
    shutil.copy(source / "libz.a", prefix / "lib")
    for header in ("zlib.h", "zconf.h"):
        shutil.copy(source / header, prefix / "include")
    shutil.copy(source / "LICENSE", prefix / "zlib.LICENSE")


def _openssl(source: Path, prefix: Path, env: dict[str, str], machine: Machine) -> None:
    log = prefix / "openssl.log"
    places = ("--prefix=/opt/telemetryd", "--openssldir=/etc/ssl", "--libdir=lib")
    configure = ("perl", "./Configure", machine.openssl, *places, *_OPENSSL, *_OPTIMISE)
    shell.run(configure, source, env, log)
    shell.run(["make", shell.jobs(), "build_libs"], source, env, log)
    for library in ("libssl.a", "libcrypto.a"):
        shutil.copy(source / library, prefix / "lib")
    shutil.copytree(source / "include" / "openssl", prefix / "include" / "openssl")
    shutil.copy(source / "LICENSE.txt", prefix / "openssl.LICENSE")
