"""A connection that speaks HTTP/1.1: requests in, answers out, in order.

A request that finds the queue of a sink full waits for room, at most `HELD_SECONDS`, and nothing
is read behind it. After that, Lambda's is taken all the same and answered: what does not fit is
dropped as `queue_full`. Any other sender is asked to send it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias

from telemetryd.core.stats import DaemonStats, HttpOutcome
from telemetryd.ingest.http_intake import Intake, Verdict
from telemetryd.ingest.listener import Connection, TelemetryListener
from telemetryd.log import DaemonLog
from telemetryd_proto.framing import Framed, LineFramer, TailBudget
from telemetryd_proto.http_requests import Expecting, Request, RequestReader, Skipped, Unreadable

HELD_SECONDS: Final = 1.0
"""Seconds that an answer waits for room in the queue of a sink with `overflow = "block"`."""
SETTLE_SECONDS: Final = 30.0
"""Seconds that an answer outside Lambda waits for lines to be delivered, or on disk."""
WHOLE_SECONDS: Final = 60.0
"""Seconds for a request to arrive outside Lambda."""
_RETRY_SECONDS: Final = 1
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_OK_LAST: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_REASONS: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}
_HEADERS: Final = {
    401: "WWW-Authenticate: Bearer\r\n",
    405: "Allow: POST, PUT\r\n",
    503: f"Retry-After: {_RETRY_SECONDS}\r\n",
}


Complaint = Literal["http_unreadable", "http_refused", "http_malformed", "http_not_settled"]
Settle: TypeAlias = Callable[[float, float], Awaitable[bool]]
"""Waits until lines read up to a monotonic second are delivered or on disk, for some seconds."""


class HttpConnection(Connection):
    """One connection. `intake` judges its requests."""

    _reader: RequestReader
    _framer: LineFramer

    def __init__(
        self,
        listener: TelemetryListener,
        intake: Intake,
        stats: DaemonStats,
        log: DaemonLog,
        settle: Settle | None = None,
    ) -> None:
        """Store the parts. `settle`: what an answer waits for, beyond the queues."""
        super().__init__(listener)
        self._intake = intake
        self._stats = stats
        self._log = log
        self._now = 0.0
        self._waiting: Request | Skipped | None = None
        """A request for whose lines a queue has no room."""
        self._limit: asyncio.TimerHandle | None = None
        """Of what waits, or of what has not arrived whole."""
        self._settle = settle
        self._settling: asyncio.Task[None] | None = None
        """The wait of an answer for its lines."""
        self._is_stuck = False
        """The peer does not read its answers."""
        self._has_complained = False
        """A problem of this connection was logged as a warning; those after it are details."""

    # -- what the listener calls ---------------------------------------------------------------

    @property
    def is_unfinished(self) -> bool:
        """True if a request is not whole, or waits."""
        waits = self._waiting is not None or self._settling is not None
        return waits or not self._reader.is_between

    def begin(self, budget: TailBudget) -> None:
        """Read requests, whose bodies are taken out of `budget`."""
        self.charge(budget)
        self._framer = LineFramer(
            TailBudget(0),  # whole lines only
            max_line_bytes=self.listener.max_line_bytes,
            source=self.source,
            keep_bytes=self.listener.keep_bytes,
        )

    def charge(self, budget: TailBudget) -> None:
        """Take what is unfinished out of `budget` from now on."""
        if hasattr(self, "_reader"):
            self._reader.use(budget)
            return
        self._reader = RequestReader(
            budget,
            max_body_bytes=self._intake.max_body_bytes,
            keep_bytes=self.listener.keep_bytes,
        )

    def take(self, buffer: bytearray, size: int, now: float) -> bool:
        """Answer the requests that `buffer[:size]` completes; True if there was one."""
        self._now = now
        with memoryview(buffer) as view, view[:size] as data:
            self._reader.feed(data)
        return self._serve()

    def end(self) -> list[Framed]:
        """Take what Lambda's last request has; nothing of one that got no answer elsewhere."""
        self._stop_timer()
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        waiting, self._waiting = self._waiting, None
        parts: tuple[Framed, ...] = ()
        if waiting is not None and self._intake.lenient:
            parts = self._intake.judge(waiting, self._framer, self._now).parts
            self.listener.receive(sum([part.size for part in parts]), [])
        if not self._reader.is_between or (waiting is not None and not self._intake.lenient):
            self._count("cut_off")
            self._log.info("http_request_cut_off", unfinished_bytes=self._reader.unfinished_bytes)
        self._reader.close()
        return list(parts)

    def hold(self, held: bool) -> None:
        """Look for room for what waits. Requests are read on: each must get an answer."""
        if not held and self._waiting is not None:
            # not at once: this is called while the queues are being emptied
            asyncio.get_running_loop().call_soon(self._try_again)

    def pause_writing(self) -> None:
        """Answer nothing more: the peer does not read its answers."""
        self._is_stuck = True
        self._rest()

    def resume_writing(self) -> None:
        """Answer again."""
        self._is_stuck = False
        asyncio.get_running_loop().call_soon(self._go_on_serving)

    # -- requests ------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Answer what was read; True if a request was completed."""
        served = False
        while not (self._busy or self.is_closing):
            event = self._reader.next_event()
            if event is None:
                break
            if isinstance(event, Expecting):
                self._on_expecting(event)
            elif isinstance(event, Unreadable):
                self._count("unreadable")
                self._complain("http_unreadable", event.status, event.problem)
                self._answer_problem(event.status, event.problem, is_last=True)
            else:
                served = True
                self._on_request(event)
        self._limit_reading()
        return served

    def _on_expecting(self, event: Expecting) -> None:
        most = self._intake.max_body_bytes
        if self._intake.lenient or event.size is None or event.size <= most:
            self.write(_CONTINUE)
            return
        self._count("too_large")
        problem = f"a body may have at most {most} bytes (telemetry.max_body_bytes)"
        self._answer_problem(413, problem, is_last=True)

    def _on_request(self, request: Request | Skipped) -> None:
        whole = request.request if isinstance(request, Skipped) else request
        refused = self._intake.refuse(whole)
        if refused is not None:
            self._conclude(refused, whole)
        elif not self.listener.is_held:
            self._conclude(self._intake.judge(request, self._framer, self._now), whole)
        else:
            self._waiting = request
            self._rest()
            loop = asyncio.get_running_loop()
            self._stop_timer()
            self._limit = loop.call_later(HELD_SECONDS, self._end_waiting)

    def _try_again(self) -> None:
        if not self.listener.is_held:
            self._end_waiting()

    def _end_waiting(self) -> None:
        """Finish the waiting request: there is room, or the time is up."""
        self._stop_timer()
        request, self._waiting = self._waiting, None
        if request is None:
            return
        whole = request.request if isinstance(request, Skipped) else request
        if self.listener.is_held and not self._intake.lenient:
            problem = "the queue of a sink is full; send this again"
            self._conclude(Verdict(503, "busy", problem=problem), whole)
        else:
            self._conclude(self._intake.judge(request, self._framer, self._now), whole)
        self._go_on_serving()

    def _go_on_serving(self) -> None:
        self._rest()
        self._serve()

    def _rest(self) -> None:
        """Read no further while something waits to be answered, or answers wait to be read."""
        waits = self._waiting is not None or self._settling is not None
        self._busy = self._is_stuck or waits
        self._update()

    def _conclude(self, verdict: Verdict, request: Request) -> None:
        self._count(verdict.outcome)
        if verdict.problem:
            is_refused = verdict.status != 200  # noqa: PLR2004 - OK
            self._complain(
                "http_refused" if is_refused else "http_malformed", verdict.status, verdict.problem
            )
        if verdict.parts:
            parts = list(verdict.parts)
            self.listener.receive_last(sum([part.size for part in parts]), parts)
        if verdict.status == 200 and verdict.parts and self._settle is not None:  # noqa: PLR2004 - OK
            self._settling = asyncio.create_task(self._answer_settled(self._settle, request))
            self._rest()
        elif verdict.status == 200:  # noqa: PLR2004 - OK
            self._answer_ok(request)
        else:
            self._answer_problem(
                verdict.status,
                verdict.problem,
                is_last=request.is_last,
                has_body=request.method != "HEAD",
            )

    async def _answer_settled(self, settle: Settle, request: Request) -> None:
        """Answer when the lines are safe. Where they are not in time, Lambda gets its 200."""
        seconds = HELD_SECONDS if self._intake.lenient else SETTLE_SECONDS
        is_settled = await settle(self._now, seconds)
        self._settling = None
        problem = f"the lines were not delivered, or on disk, after {seconds:.0f} seconds"
        if not is_settled:
            self._complain("http_not_settled", 200 if self._intake.lenient else 503, problem)
        if is_settled or self._intake.lenient:
            self._answer_ok(request)
        else:
            self._answer_problem(503, f"{problem}; send them again", is_last=request.is_last)
        self._go_on_serving()

    def _answer_ok(self, request: Request) -> None:
        self.write(_OK_LAST if request.is_last else _OK)
        if request.is_last:
            self.close()

    def _answer_problem(
        self, status: int, problem: str, *, is_last: bool, has_body: bool = True
    ) -> None:
        quoted = problem.replace("\\", "/").replace('"', "'")
        text = f'{{"error":"{quoted}"}}\n'
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\n{_HEADERS.get(status, '')}"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        )
        close = "Connection: close\r\n" if is_last else ""
        self.write(f"{head}{close}\r\n{text if has_body else ''}".encode())
        if is_last:
            self.close()

    def _complain(self, event: Complaint, status: int, problem: str) -> None:
        log = self._log.debug if self._has_complained else self._log.warning
        self._has_complained = True
        log(event, status=status, problem=problem, source=self.source)

    # -- bounds --------------------------------------------------------------------------------

    def _limit_reading(self) -> None:
        """Begin or end the time in which a request has to be whole."""
        if self._intake.lenient or self._busy:
            return
        if self.is_closing or self._reader.is_between:
            self._stop_timer()
        elif self._limit is None:
            self._limit = asyncio.get_running_loop().call_later(WHOLE_SECONDS, self._on_slow)

    def _on_slow(self) -> None:
        self._limit = None
        problem = f"the request was not whole after {WHOLE_SECONDS:.0f} seconds"
        self._answer_problem(408, problem, is_last=True)

    def _stop_timer(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _count(self, outcome: HttpOutcome) -> None:
        self._stats.http_requests[outcome] = self._stats.http_requests.get(outcome, 0) + 1
