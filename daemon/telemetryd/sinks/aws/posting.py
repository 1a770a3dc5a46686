"""Signs POSTs to AWS's own endpoints for logs, metrics and traces, and reads their refusals.

Sources: CloudWatch User Guide, "OTLP Endpoints"; CloudWatch Logs User Guide, "Log ingestion through
HTTP endpoints".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.http_client.dates import parse_http_date
from telemetryd.http_client.messages import Answer, Request
from telemetryd.sinks._posting import Place
from telemetryd.sinks.aws.credentials import CredentialSource
from telemetryd.sinks.aws.endpoints import place_of, url_of
from telemetryd.sinks.aws.sigv4 import Signer, hash_body
from telemetryd.sinks.base import SinkContext

_SKEW_SECONDS: Final = 240.0
"""A clock that is further off is corrected. AWS refuses signatures from 300 seconds on."""
_REFUSED: Final = ("credentials_refused", "access_denied", "invalid_request")
_EXPIRED: Final = (b"ExpiredToken", b"security token included in the request is expired")


class AwsEndpoint:
    """One path of a service of AWS, in one region."""

    def __init__(
        self,
        service: str,
        path: str,
        context: SinkContext,
        environ: Mapping[str, str],
        *,
        region: str,
        place: Place | None,
    ) -> None:
        """`place`: a URL of your own instead of the one of AWS."""
        self._service = service
        self._path = path
        self._context = context
        self._aws = place_of(self._service, region, "", environ)
        self._own = place
        self._signer = Signer(self._service, self._aws.region)
        self._credentials = CredentialSource(environ, clock=context.clock, log=context.log)
        self._refreshed = False
        self._ahead = 0.0
        """Seconds to add to the wall clock, by what the service says."""

    def place(self) -> Place:
        """Return where requests go. Raises PermanentSinkError: there is no region, for one."""
        url = url_of(self._aws) if self._own is None or not self._aws.region else None
        if self._own is not None:
            return self._own
        assert url is not None  # noqa: S101 - made above
        return Place(url.scheme, url.host, url.port, f"{url.path}{self._path}")

    def check(self) -> None:
        """Raise SinkError if nothing can be signed: no region, no credentials."""
        self.place()
        self._credentials.check()

    async def sign(self, request: Request) -> Request:
        """Return `request` with the headers that prove who sends it. Raises SinkError."""
        now = self._context.clock.wall() + self._ahead
        credentials = await self._credentials.get(now)
        path, _, query = request.target.partition("?")
        signed = self._signer.sign(
            credentials,
            method=request.method,
            path=path,
            query=query,
            headers=(("host", request.authority), *request.headers),
            body_hash=hash_body(_pieces(request), sum(map(len, request.body))),
            now=now,
        )
        return Request(
            request.method, request.scheme, request.host, request.port, request.target,
            signed[1:], request.body,  # the HTTP client writes the host itself
        )  # fmt: skip

    def on_answer(self, answer: Answer, problem: SinkError | None) -> SinkError | None:
        """Return what an answer means, with what it says of credentials and the clock."""
        if problem is None:
            self._refreshed = False
            return None
        code = problem.code
        is_refused = code in _REFUSED
        if code == "credentials_expired" or (
            is_refused and any(mark in answer.body for mark in _EXPIRED)
        ):
            return self._on_expired(problem)
        has_moved = code != "invalid_request" and self._is_about_time(code, answer)
        return TransientSinkError("clock_skew", problem.detail) if has_moved else problem

    def _on_expired(self, problem: SinkError) -> SinkError:
        """Return what it means that credentials have expired: others are read, once."""
        self._credentials.forget()
        if self._refreshed:
            return PermanentSinkError("credentials_refused", problem.detail, stops_sink=True)
        self._refreshed = True
        return TransientSinkError("credentials_expired", problem.detail)

    def _is_about_time(self, code: str, answer: Answer) -> bool:
        """True if the clock was wrong, which may be why a signature was refused."""
        return code in (*_REFUSED, "clock_skew") and self._set_clock(answer)

    def _set_clock(self, answer: Answer) -> bool:
        """Use the service's clock for signing, if ours is far off. True if it was."""
        date = parse_http_date(answer.headers.get("date", ""))
        wall = self._context.clock.wall()
        if date is None or abs(date - (wall + self._ahead)) < _SKEW_SECONDS:
            return False
        self._ahead = date - wall
        self._context.log.warning(
            "clock_corrected", sink=self._context.name, seconds=round(self._ahead),
            by=self._service,
        )  # fmt: skip
        return True


def _pieces(request: Request) -> Sequence[bytes]:
    return [bytes(piece) for piece in request.body]
