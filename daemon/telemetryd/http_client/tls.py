"""TLS from bytes to bytes, over any carrier. `ssl` is loaded with the first use.

The loop's own TLS is not used. It would load OpenSSL with the loop and copy more, and it can't be
put into a proxy's tunnel on every loop.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from telemetryd.http_client.messages import HttpError, HttpOptions

if TYPE_CHECKING:
    import ssl

_VARIABLES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_USUAL: Final = (
    "/etc/pki/tls/certs/ca-bundle.crt",  # Amazon Linux, Fedora
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
    "/etc/ssl/cert.pem",
)
"""Paths of the authorities if OpenSSL was built for other paths, as in the layer."""
_READ_BYTES: Final = 64 * 1024
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21, 27})
"""OpenSSL's codes for a certificate whose authority is unknown or not trusted (x509_vfy.h)."""
_ABOUT_OURS: Final = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_UNKNOWN_CA",
    }
)  # fmt: skip
"""Alerts by which a server refuses the client's certificate, or that there is none."""


def make_context(options: HttpOptions) -> ssl.SSLContext:
    """Return a context for all connections. Raises HttpError, `tls_configuration`."""
    import ssl  # noqa: PLC0415 - OpenSSL is not loaded before something must be sent

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if options.client_certificate:
        _load_own(context, options)
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    path, source = find_authorities(options)
    try:
        if not path:
            context.set_default_verify_paths()
        elif os.path.isdir(path):  # noqa: PTH112 - pathlib takes 2 ms
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        raise HttpError(
            "tls_configuration",
            f"{source}: can't read certificate authorities from {path}: {_why(error)}",
        ) from error
    return context


def _load_own(context: ssl.SSLContext, options: HttpOptions) -> None:
    certificate, key = options.client_certificate, options.client_key
    try:
        # without a password OpenSSL would ask for one at the terminal
        context.load_cert_chain(certificate, key or None, password="")
    except (OSError, ValueError) as error:
        raise HttpError(
            "tls_configuration",
            f"client_certificate: can't use {certificate}{' with ' + key if key else ''}: "
            f"{_why(error)}",
        ) from error


def _why(error: OSError | ValueError) -> str:
    """Return what kept OpenSSL from a file, in a few words. An SSLError is an OSError."""
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or "unusable"


def find_authorities(options: HttpOptions) -> tuple[str, str]:
    """Return the file or directory of certificate authorities, and what names it.

    Two empty texts: where OpenSSL looks by itself.
    """
    if options.ca_bundle:
        return options.ca_bundle, "certificate"  # the name of the setting
    for variable in _VARIABLES:
        if path := options.environment.get(variable, ""):
            return path, variable
    if options.ca_directory:
        return options.ca_directory, "ca_directory"
    return _usual_authorities(), "certificate authorities"


def _usual_authorities() -> str:
    import ssl  # noqa: PLC0415 - as above

    paths = ssl.get_default_verify_paths()
    with contextlib.suppress(OSError):
        if paths.cafile or (paths.capath and os.listdir(paths.capath)):  # noqa: PTH208 - as above
            return ""
    return next((path for path in _USUAL if os.path.exists(path)), "")  # noqa: PTH110 - as above


class Tls:
    """The client's side of one TLS connection, as a function of bytes.

    `is_ready`: the handshake is done. `is_over`: the other side has said that it sends no more.
    """

    __slots__ = ("_again", "_errors", "_host", "_in", "_object", "_out", "is_over", "is_ready")

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        import ssl  # noqa: PLC0415 - `make_context` has loaded it

        self._host = host
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        # a name as bytes spares the tables of international names
        try:
            self._object = context.wrap_bio(
                self._in, self._out, server_hostname=host.encode("ascii")
            )
        except ValueError as error:  # such as a name that begins with a dot
            raise HttpError("invalid_request", f"{host} is no name of a host") from error
        self._again = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
        self._errors = ssl.SSLError
        self.is_ready = False
        self.is_over = False

    def advance(self) -> None:
        """Make the next step of the handshake. Raises HttpError; `take` what is to be sent."""
        try:
            self._object.do_handshake()
        except self._again:
            return
        except self._errors as error:
            raise self._problem(error) from error
        self.is_ready = True

    def feed(self, data: bytes) -> bytes:
        """Decrypt received `data`. During the handshake, make its next step.

        Raises HttpError. There may be something to be sent afterwards.
        """
        self._in.write(data)
        if not self.is_ready:
            self.advance()
        parts = []
        while self.is_ready and not self.is_over:
            try:
                part = self._object.read(_READ_BYTES)
            except self._again:
                break
            except self._errors as error:
                raise self._problem(error) from error
            if part:
                parts.append(part)
            else:
                self.is_over = True  # close_notify
        return b"".join(parts)

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """Return `data` encrypted. Raises HttpError."""
        try:
            self._object.write(data)
        except self._errors as error:
            raise self._problem(error) from error
        return self._out.read()

    def take(self) -> bytes:
        """Return what is to be sent beyond data: handshake, alerts, new keys."""
        return self._out.read()

    def end(self) -> bytes:
        """Return what tells the other side that no more follows."""
        with contextlib.suppress(self._errors):  # it wants to read an answer, which no one awaits
            self._object.unwrap()
        return self._out.read()

    def _problem(self, error: ssl.SSLError) -> HttpError:
        message = getattr(error, "verify_message", None)
        if message is not None:  # of an SSLCertVerificationError
            is_unknown = getattr(error, "verify_code", 0) in _UNKNOWN_AUTHORITY
            hint = "; AWS_CA_BUNDLE can name the file of its authority" if is_unknown else ""
            return HttpError(
                "tls_certificate",
                f"the certificate of {self._host} does not verify: {message.rstrip('.')}{hint}",
            )
        why = error.reason or error.strerror or type(error).__name__
        if why in _ABOUT_OURS:
            why += "; the server may want another client certificate, or one at all"
        return HttpError("tls_error", f"TLS with {self._host}: {why}")
