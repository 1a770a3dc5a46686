"""Stands in for `ssl`, so that OpenSSL is not loaded: uvloop takes its names for its own TLS.

Code that has an SSLContext has loaded the real module, and uvloop then has the real names.
"""

from typing import Any

import _become


class _Nothing(Exception):  # noqa: N818 - stands for several classes
    """There is nothing of it."""


def _create_default_context(*arguments: Any, **named: Any) -> Any:
    return _become.attribute(globals(), "create_default_context")(*arguments, **named)


_FOR_UVLOOP = {
    "SSL_ERROR_WANT_READ": 2,
    "SSL_ERROR_WANT_WRITE": 3,
    "SSL_ERROR_SYSCALL": 5,
    "create_default_context": _create_default_context,
    "SSLContext": _Nothing,
    "MemoryBIO": _Nothing,
    "SSLError": _Nothing,
    "SSLWantReadError": _Nothing,
    "SSLSyscallError": _Nothing,
    "SSLZeroReturnError": _Nothing,
    "CertificateError": _Nothing,
}


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)
