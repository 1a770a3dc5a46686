"""A client of AWS's JSON services without an SDK: our signer on our HTTP client.

It costs a fraction of what loading aiobotocore costs, which short lives on small functions can't
pay. What each answer means is the same as through aiobotocore; a test compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from telemetryd import __version__
from telemetryd.errors import PermanentSinkError, SinkError, TransientSinkError
from telemetryd.http_client.client import HttpClient
from telemetryd.http_client.dates import parse_http_date
from telemetryd.http_client.messages import Answer, HttpError, HttpOptions, Request
from telemetryd.sinks._authorities import layer_authorities
from telemetryd.sinks._unanswered import UNANSWERED
from telemetryd.sinks.aws.codes import meaning
from telemetryd.sinks.aws.credentials import CredentialSource
from telemetryd.sinks.aws.endpoints import place_of, url_of
from telemetryd.sinks.aws.sigv4 import Signer, hash_body
from telemetryd.sinks.base import SinkContext

PIECE_BYTES: Final = 64 * 1024
"""A body is sent in pieces of about this size, so that it is in memory only once."""
IDLE_SECONDS: Final = 5.0
"""After so long without a request its connection is not trusted any more: an environment may have
been frozen since, and the server, or a NAT between, may have hung up unheard."""
SKEW_SECONDS: Final = 240.0
"""A clock that is further off is corrected. AWS refuses signatures from 300 seconds on."""
LIMIT_SECONDS: Final = 600.0
"""Of one request; the longest `write_timeout_ms`. The delivery worker's limits are shorter."""

_TARGETS: Final = {"kinesis": "Kinesis_20131202", "logs": "Logs_20140328"}
_TYPE: Final = "application/x-amz-json-1.1"
_USER_AGENT: Final = f"telemetryd/{__version__}"
_REFUSED: Final = 300
_SERVER_ERROR: Final = 500


class LeanClient:
    """A client of one service, for one loop. Made again by `open` after a `close`."""

    def __init__(
        self,
        service: str,
        context: SinkContext,
        *,
        region: str,
        endpoint_url: str,
        connect_seconds: float,
        read_seconds: float,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._service = service
        self._name = context.name
        self._log = context.log
        self._clock = context.clock
        self._environ = environ
        self._options = HttpOptions(
            environment=environ,
            connect_seconds=connect_seconds,
            send_seconds=read_seconds,
            read_seconds=read_seconds,
            idle_seconds=IDLE_SECONDS,
            max_connections=1,
            ca_directory=layer_authorities(),
        )
        self._place: Final = place_of(service, region, endpoint_url, environ)
        self._signer = Signer(service, self._place.region)
        self._credentials = CredentialSource(environ, clock=context.clock, log=context.log)
        self._http: HttpClient | None = None
        self._refreshed = False
        self._ahead = 0.0
        """Seconds to add to the wall clock, by what the service says."""

    @property
    def endpoint(self) -> str:
        """The URL requests go to, unless an account has its own."""
        return str(url_of(self._place))

    @property
    def awaits_answer(self) -> bool:
        """True if a request is fully sent, and only its answer is missing."""
        return self._http is not None and self._http.awaits_answer

    async def open(self) -> None:
        """Check what requests need; sends nothing. Raises SinkError."""
        url_of(self._place)
        self._credentials.check()
        if self._http is None:
            self._http = HttpClient(self._clock, self._log, options=self._options)

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one request, such as `call("put_records", Records=...)`. Return the parsed answer.

        Raises SinkError. Credentials that are refused as expired are read again, once: that raises
        TransientSinkError, and PermanentSinkError when the new ones are refused as well.
        """
        await self.open()
        assert self._http is not None  # noqa: S101 - `open` made it
        name = "".join(word.capitalize() for word in operation.split("_"))
        request = await self._request(name, parameters)
        try:
            answer = await self._http.send(request, limit=LIMIT_SECONDS)
        except HttpError as error:
            raise _without_answer(error, self.endpoint) from error
        if answer.status < _REFUSED:
            found = _decode(answer.body)
            self._refreshed = False
            return found
        raise self._refusal(name, answer)

    async def close(self) -> None:
        """Close the connections. May be called twice; `open` and `call` make it usable again."""
        http, self._http = self._http, None
        if http is not None:
            await http.close()

    async def _request(self, name: str, parameters: dict[str, Any]) -> Request:
        now = self._clock.wall() + self._ahead
        credentials = await self._credentials.get(now)
        url = url_of(
            self._place,
            stream_arn=parameters.get("StreamARN", ""),
            account=credentials.account_id,
        )
        body = encode(parameters)
        path = f"{url.path}/"
        headers = self._signer.sign(
            credentials,
            method="POST",
            path=path,
            headers=(
                ("host", url.authority),
                ("content-type", _TYPE),
                ("x-amz-target", f"{_TARGETS[self._service]}.{name}"),
            ),
            body_hash=hash_body(body, sum(map(len, body))),
            now=now,
        )
        headers[0] = ("user-agent", _USER_AGENT)  # the HTTP client writes the host itself
        return Request("POST", url.scheme, url.host, url.port, path, headers, body)

    def _refusal(self, name: str, answer: Answer) -> SinkError:
        """Return what an answer with an error means, and draw the conclusions."""
        problem = _meaning(name, answer)
        if problem.code == "credentials_expired":
            self._credentials.forget()
            if self._refreshed:
                return PermanentSinkError("credentials_refused", problem.detail, stops_sink=True)
            self._refreshed = True
        elif problem.code in ("clock_skew", "credentials_refused") and self._set_clock(answer):
            return TransientSinkError("clock_skew", problem.detail)
        return problem

    def _set_clock(self, answer: Answer) -> bool:
        """Use the service's clock for signing, if ours is far off. True if it was."""
        date = parse_http_date(answer.headers.get("date", ""))
        wall = self._clock.wall()
        if date is None or abs(date - (wall + self._ahead)) < SKEW_SECONDS:
            return False
        self._ahead = date - wall
        self._log.warning(
            "clock_corrected", sink=self._name, seconds=round(self._ahead), by=self._service
        )
        return True


def encode(parameters: Mapping[str, Any]) -> list[bytes]:
    """Return `parameters` as JSON, in pieces; bytes become base64."""
    encoder = msgspec.json.Encoder()
    pieces: list[bytes] = []
    waiting = bytearray(b"{")

    def add(data: bytes) -> None:
        if len(waiting) + len(data) > PIECE_BYTES:
            pieces.append(bytes(waiting))
            waiting.clear()
        if len(data) > PIECE_BYTES:
            pieces.append(data)  # as it is: no second copy of it
        else:
            waiting.extend(data)

    for number, (key, value) in enumerate(parameters.items()):
        waiting += b"," * (number > 0) + encoder.encode(key) + b":"
        if isinstance(value, list):
            waiting += b"["
            for index, member in enumerate(value):
                waiting += b"," * (index > 0)
                add(encoder.encode(member))
            waiting += b"]"
        else:
            add(encoder.encode(value))
    return [*filter(None, pieces), bytes(waiting) + b"}"]


def _decode(body: bytes) -> dict[str, Any]:
    """Return an answer without an error."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any]) if body else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise TransientSinkError("garbled_answer", str(error)) from error


def _meaning(operation: str, answer: Answer) -> SinkError:
    """Return what an answer with an error says, as botocore reads it."""
    found = _error_of(answer)
    code = found.get("__type", str(answer.status)) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not isinstance(code, str | None):
        return TransientSinkError("garbled_answer", f"{answer.status} without a code of an error")
    code = (code or "").partition(":")[0].rpartition("#")[2]
    message = found.get("message", found.get("Message", ""))
    text = f"An error occurred ({code}) when calling the {operation} operation: {message}"
    return meaning(code, answer.status, text, answer.headers.get("retry-after", ""))


def _error_of(answer: Answer) -> Any:
    """Return the JSON of an answer with an error; None where it is neither JSON nor text."""
    if answer.status >= _SERVER_ERROR and _is_page(answer.body):
        return {}
    try:
        text = answer.body.decode()
        return msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        return {"message": text}
    except (UnicodeDecodeError, RecursionError):
        return None


def _is_page(body: bytes) -> bool:
    """True if the answer is of something on the way, such as a load balancer."""
    text = body.strip()
    return not text or text.startswith(b"<html>")


def _without_answer(error: HttpError, endpoint: str) -> SinkError:
    """Return what it means that there is no answer."""
    text = f"{error.detail or error.reason} ({endpoint})"
    if error.reason in UNANSWERED:
        return TransientSinkError(UNANSWERED[error.reason], text)
    if error.reason == "tls_certificate":
        text = f"{text}; a CA bundle can be named in AWS_CA_BUNDLE"
        return PermanentSinkError("tls_certificate", text, stops_sink=True)
    return PermanentSinkError("aws_configuration", text, stops_sink=True)
