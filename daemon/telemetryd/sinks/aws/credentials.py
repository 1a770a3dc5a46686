"""Credentials from the environment, or from the endpoint that a container has for them.

Lambda gives a function's role in variables; with SnapStart, and in ECS and EKS (Pod Identity), an
endpoint on the machine hands out credentials that expire. Both as botocore reads them. What it
reads besides, such as profiles, needs the full client (see `aws.client`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from telemetryd.clock import Clock
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.http_client.client import HttpClient
from telemetryd.http_client.messages import HttpError, HttpOptions, Request
from telemetryd.log import DaemonLog
from telemetryd.sinks.aws.endpoints import Url, parse_url
from telemetryd.sinks.aws.sigv4 import Credentials

RELATIVE_URI: Final = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
FULL_URI: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"

_TOKEN: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN"  # noqa: S105 - a variable's name
_TOKEN_FILE: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 - a variable's name
_ECS: Final = "http://169.254.170.2"
_HOSTS: Final = ("169.254.170.2", "169.254.170.23", "fd00:ec2::23", "localhost", "::1")
"""That may be asked without TLS, besides 127.0.0.0/8: ECS, EKS in IPv4 and IPv6, the machine."""
_LIMIT_SECONDS: Final = 2.0
_RENEW_SECONDS: Final = 15 * 60.0
"""So long before they expire others are asked for, and the present ones used if there are none."""
_PAUSE_SECONDS: Final = 60.0
"""Between attempts to renew what is still valid."""
_MOST_BYTES: Final = 64 * 1024
_OK: Final = 200


def has_credentials(environ: Mapping[str, str]) -> bool:
    """True if the environment holds credentials, or says where to ask for them."""
    return any(environ.get(name) for name in ("AWS_ACCESS_KEY_ID", RELATIVE_URI, FULL_URI))


class CredentialSource:
    """Gives credentials that are valid now. `environ` is read at each use."""

    def __init__(self, environ: Mapping[str, str], *, clock: Clock, log: DaemonLog) -> None:
        self._environ = environ
        self._clock = clock
        self._log = log
        self._kept: Credentials | None = None
        self._retry_at = 0.0

    def check(self) -> None:
        """Raise PermanentSinkError if there are none and no place to ask for some."""
        if not has_credentials(self._environ):
            raise PermanentSinkError(
                "no_credentials", "no AWS credentials found; give the function a role",
                stops_sink=True,
            )  # fmt: skip
        if self._environ.get("AWS_ACCESS_KEY_ID"):
            _from_environment(self._environ)

    async def get(self, now: float) -> Credentials:
        """Return credentials for a request at `now`, seconds since the Unix epoch.

        Raises SinkError: there are none, or the endpoint of the container does not give any.
        """
        self.check()
        if self._environ.get("AWS_ACCESS_KEY_ID"):
            return _from_environment(self._environ)
        kept = self._kept
        if kept is not None and (kept.expires_at - now > _RENEW_SECONDS or now < self._retry_at):
            return kept
        try:
            self._kept = await self._ask()
        except TransientSinkError as error:
            if kept is None or kept.expires_at <= now:
                raise
            self._retry_at = min(now + _PAUSE_SECONDS, kept.expires_at)
            self._log.warning("credentials_not_renewed", error=str(error))
            return kept
        self._retry_at = 0.0
        return self._kept

    def forget(self) -> None:
        """Ask again the next time: a service has refused what is kept."""
        self._kept, self._retry_at = None, 0.0

    async def _ask(self) -> Credentials:
        url = _container_url(self._environ)
        headers = [("accept", "application/json")]
        if token := _container_token(self._environ):
            headers.append(("authorization", token))
        options = HttpOptions(  # no environment: what is on the machine is behind no proxy
            connect_seconds=_LIMIT_SECONDS,
            read_seconds=_LIMIT_SECONDS,
            max_connections=1,
            max_body_bytes=_MOST_BYTES,
        )
        client = HttpClient(self._clock, self._log, options=options)
        request = Request("GET", url.scheme, url.host, url.port, url.path or "/", headers)
        try:
            answer = await client.send(request, limit=_LIMIT_SECONDS)
        except HttpError as error:
            raise _unavailable(f"{error.reason} ({url.authority})") from error
        finally:
            await client.close()
        if answer.status != _OK:
            raise _unavailable(f"{url.authority} answered {answer.status}")
        return _from_answer(answer.body, url)


def _from_environment(environ: Mapping[str, str]) -> Credentials:
    secret = environ.get("AWS_SECRET_ACCESS_KEY", "")
    if not secret:
        raise PermanentSinkError(
            "no_credentials", "AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not",
            stops_sink=True,
        )  # fmt: skip
    return Credentials(
        access_key=environ.get("AWS_ACCESS_KEY_ID", ""),
        secret_key=secret,
        token=environ.get("AWS_SECURITY_TOKEN") or environ.get("AWS_SESSION_TOKEN") or "",
        account_id=environ.get("AWS_ACCOUNT_ID", ""),
    )


def _container_url(environ: Mapping[str, str]) -> Url:
    """Return where to ask. Raises PermanentSinkError: no request with a token may go there."""
    relative = environ.get(RELATIVE_URI)
    text = f"{_ECS}{relative}" if relative else environ.get(FULL_URI, "")
    name = RELATIVE_URI if relative else FULL_URI
    url = parse_url(text)
    if url is None or (relative and not relative.startswith("/")):
        raise _refuse(f"{name} is no http or https URL")
    is_near = url.host in _HOSTS or _is_loopback(url.host)
    if url.scheme != "https" and not is_near:
        raise _refuse(f"{name} must be https, or name one of {', '.join(_HOSTS)}")
    return url


def _is_loopback(host: str) -> bool:
    parts = host.split(".")
    return len(parts) == 4 and parts[0] == "127" and all(part.isdecimal() for part in parts)  # noqa: PLR2004 - IPv4


def _container_token(environ: Mapping[str, str]) -> str:
    """Return what the endpoint knows us by; the file may have another each time."""
    path = environ.get(_TOKEN_FILE)
    if path:
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib takes 2 ms
                token = file.read(_MOST_BYTES).decode("ascii")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not ASCII"
            raise _unavailable(f"the file in {_TOKEN_FILE}: {reason}") from error
    else:
        token = environ.get(_TOKEN, "")
    if "\r" in token or "\n" in token:
        raise _refuse(f"the token of {_TOKEN_FILE if path else _TOKEN} has more than one line")
    return token


class _Handed(msgspec.Struct, frozen=True, rename="pascal"):
    """The answer of a container's endpoint (Amazon ECS Developer Guide, "Task IAM role")."""

    access_key_id: str
    secret_access_key: str
    token: str
    expiration: str
    account_id: str | None = None


def _from_answer(body: bytes, url: Url) -> Credentials:
    try:
        found = msgspec.json.decode(body, type=_Handed)
        expires_at = _seconds(found.expiration)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # not chained: the text of the error could hold a part of the answer
        raise _unavailable(f"what {url.authority} answered holds no credentials") from None
    return Credentials(
        access_key=found.access_key_id,
        secret_key=found.secret_access_key,
        token=found.token,
        account_id=found.account_id or "",
        expires_at=expires_at,
    )


def _seconds(stamp: str) -> float:
    """Return the time that `stamp` is (RFC 3339), in seconds since the Unix epoch."""
    from datetime import UTC, datetime  # noqa: PLC0415 - only where there is a container

    found = msgspec.convert(stamp, datetime)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _unavailable(text: str) -> SinkError:
    return TransientSinkError("credentials_unavailable", text)


def _refuse(text: str) -> SinkError:
    return PermanentSinkError("aws_configuration", text, stops_sink=True)
