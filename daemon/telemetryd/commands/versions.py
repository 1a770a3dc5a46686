"""The names and versions of telemetryd's parts, for bug reports and security updates.

The Lambda layer contains its own interpreter and libraries. A security fix of one of them needs a
new layer, and this lists what a layer contains.
"""

from __future__ import annotations

import platform
import ssl
import zlib
from importlib import metadata

import telemetryd
from telemetryd_proto import scan

_DIRECT = (
    *("aiobotocore", "aiohttp", "botocore", "msgspec", "prometheus-client", "uvloop", "zstandard"),
)


def interpreter() -> str:
    """Return the interpreter's name and version, such as `CPython 3.13.15`."""
    return f"{platform.python_implementation()} {platform.python_version()}"


def is_layer() -> bool:
    """True if this is the self-contained executable of the layer, its modules frozen."""
    return getattr(telemetryd.__spec__, "origin", None) == "frozen"


def scanner() -> str:
    """Return the scanner of lines: `compiled (avx2)`, `compiled (baseline)` or `Python`."""
    return f"compiled ({scan.compiled.KIND})" if scan.compiled is not None else "Python"


def libraries() -> dict[str, str]:
    """Return versions of the libraries in use, and of all in the layer, sorted by name."""
    found = {
        "OpenSSL": ssl.OPENSSL_VERSION.removeprefix("OpenSSL ").split()[0],
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        **_list_vendored(),
    }
    if is_layer():
        found |= {d.metadata["Name"]: d.version for d in metadata.distributions()}
    else:
        found |= {name: version for name in _DIRECT if (version := _find_installed(name))}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _find_installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _list_vendored() -> dict[str, str]:
    """Return the libraries that uvloop and zstandard were built with."""
    from uvloop import loop  # noqa: PLC0415 - none of them for `telemetryd --help`

    number: int = loop.libuv_get_version()  # type: ignore[attr-defined]  # not in its stubs
    found = {"libuv": f"{number >> 16}.{number >> 8 & 255}.{number & 255}"}
    try:
        import zstandard  # noqa: PLC0415 - optional
    except ImportError:
        return found
    return found | {"zstd": ".".join(map(str, zstandard.ZSTD_VERSION))}
