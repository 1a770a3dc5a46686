"""Judges HTTP requests: an answer for each, and lines or what was rejected. No I/O.

In Lambda the platform sends a refused body again and again, or drops it. So there every request
that was read is answered 200, and what is no record is rejected and counted (`lenient`). Elsewhere
a sender is told what is wrong, and nothing of that request is taken.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

import msgspec

from telemetryd.core.stats import HttpOutcome
from telemetryd_proto.framing import Framed, LineFramer, RejectReason
from telemetryd_proto.http_requests import Request, Skipped
from telemetryd_proto.record_bodies import RecordLines, to_lines

_STEP: Final = 256 * 1024
_PROBLEMS: Final = {
    "cut_off": "the array of records is not closed",
    "not_records": "the body is neither an array of JSON records nor lines of JSON objects",
    "garbage": "something follows the array of records",
}


class Verdict(msgspec.Struct, frozen=True):
    """The answer to a request, and its lines."""

    status: int
    outcome: HttpOutcome
    parts: tuple[Framed, ...] = ()
    problem: str = ""
    """The reason for the sender, "" if nothing is wrong."""


class _Refusal(Exception):  # noqa: N818 - becomes a verdict
    def __init__(
        self, status: int, outcome: HttpOutcome, problem: str, reason: RejectReason, size: int
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.outcome: HttpOutcome = outcome
        self.reason: RejectReason = reason
        self.size = size
        """Bytes that are rejected where nothing can be refused."""


class Intake:
    """Judges the requests of all connections.

    `lenient`: a request is never refused. `token`: what a sender must know, "" for nothing.
    """

    def __init__(
        self, *, lenient: bool, token: str, max_body_bytes: int, max_line_bytes: int
    ) -> None:
        self.lenient = lenient
        self.max_body_bytes = max_body_bytes
        self._token = token.encode()
        self._max_line_bytes = max_line_bytes

    def refuse(self, request: Request) -> Verdict | None:
        """Return why the sender may not send this at all; None if it may."""
        if self.lenient:
            return None
        if self._token and not _knows(request.headers.get("authorization", ""), self._token):
            return Verdict(
                401, "unauthorized", problem="the Authorization header must be: Bearer <token>"
            )
        if request.method not in ("POST", "PUT"):
            return Verdict(405, "unsupported", problem="records are sent by POST or PUT")
        return None

    def judge(self, request: Request | Skipped, framer: LineFramer, now: float) -> Verdict:
        """Return what becomes of a request; `framer` is that of its connection."""
        try:
            if isinstance(request, Skipped):
                raise _refuse_skipped(request, self.max_body_bytes)
            body = self._unpack(request)
            found = to_lines(body)
            if found.problem and not self.lenient:
                hint = _hint(body) or _PROBLEMS[found.problem]
                return Verdict(400, "malformed", problem=hint)
        except _Refusal as refusal:
            if not self.lenient:
                return Verdict(refusal.status, refusal.outcome, problem=str(refusal))
            head = request.head if isinstance(request, Skipped) else bytes(request.body[:_STEP])
            part = framer.reject(refusal.reason, refusal.size, head)
            return Verdict(200, refusal.outcome, (part,), str(refusal))
        parts = self._frame(found, framer, now)
        if found.problem:
            parts.append(framer.reject("malformed_body", len(found.rest), found.rest))
            return Verdict(200, "malformed", tuple(parts), _PROBLEMS[found.problem])
        return Verdict(200, "accepted", tuple(parts))

    def _frame(self, found: RecordLines, framer: LineFramer, now: float) -> list[Framed]:
        data = found.data
        if not data:
            return []
        if found.lines is None or self._has_longer_line(data):
            return framer.feed(data, len(data), now)
        return [framer.hand_out(data, found.lines, now)]

    def _has_longer_line(self, data: bytes) -> bool:
        most = self._max_line_bytes
        return len(data) > most and max(map(len, BytesIO(data))) > most + 1

    def _unpack(self, request: Request) -> bytes | bytearray:
        """Return the body as it was before it was compressed. Raises _Refusal."""
        coding = request.headers.get("content-encoding", "").strip().lower()
        if coding in ("", "identity"):
            return request.body
        if coding not in ("gzip", "x-gzip", "zstd"):
            raise _Refusal(
                415,
                "unsupported",
                "Content-Encoding must be gzip, zstd or identity",
                "malformed_body",
                len(request.body),
            )
        return _decompress(bytes(request.body), self.max_body_bytes)


def _refuse_skipped(request: Skipped, most: int) -> _Refusal:
    if request.reason == "too_long":
        problem = f"a body may have at most {most} bytes (telemetry.max_body_bytes)"
        return _Refusal(413, "too_large", problem, "too_long", request.size)
    problem = "too many requests are being sent at once (telemetry.tail_budget_bytes)"
    return _Refusal(503, "busy", problem, "tail_budget", request.size)


def _decompress(body: bytes, most: int) -> bytearray:
    from telemetryd import unpack  # noqa: PLC0415 - seldom

    out = bytearray()
    if not unpack.is_packed(body[:4].ljust(4, b"\0")):
        raise _Refusal(400, "malformed", "the body is not compressed", "malformed_body", len(body))
    try:
        source = unpack.Unpacked(BytesIO(body).read)
        while piece := source.read(_STEP):
            out += piece
            if len(out) > most:
                problem = f"the body has more than {most} bytes (telemetry.max_body_bytes)"
                raise _Refusal(413, "too_large", problem, "too_long", len(body))
    except OSError as error:
        problem = f"the body can't be decompressed: {error.strerror or error}"
        raise _Refusal(400, "malformed", problem, "malformed_body", len(body)) from error
    return out


def _hint(body: bytes | bytearray) -> str:
    """Return what an unannounced compression is called, "" if it is none."""
    if body[:2] == b"\x1f\x8b":
        return "the body is gzip: say so with Content-Encoding: gzip"
    if body[:4] == b"\x28\xb5\x2f\xfd":
        return "the body is zstd: say so with Content-Encoding: zstd"
    return ""


def _knows(header: str, token: bytes) -> bool:
    """True if the header has the token; how long this takes does not tell how much is right."""
    from hmac import compare_digest  # noqa: PLC0415 - only with a token

    scheme, _, value = header.partition(" ")
    return scheme.lower() == "bearer" and compare_digest(value.strip().encode(), token)
