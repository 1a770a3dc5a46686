"""One attempt to deliver a batch: its lines go in requests until the fate of each is known.

A server that refuses a request because of some of its lines gets it again in parts, so that the
neighbours of these lines are delivered. The number of refusals is bounded.
"""

from __future__ import annotations

import abc
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from telemetryd.errors import PermanentSinkError, SinkError
from telemetryd.sinks._entries import Entry, Run, Tally, Verdict, halve, isolate
from telemetryd.sinks._posting import TOO_LARGE
from telemetryd.sinks.base import Batch

MAX_REFUSALS: Final = 64
"""Refused requests in one attempt that are sent again in parts."""
LEAST_ROOM: Final = 16 * 1024
"""Bytes of a body below which no smaller size is tried for all that follows, so that a server that
finds everything too large gets a bounded number of requests."""
_SEARCH_SHARE: Final = 0.5
"""The part of an attempt's time after which lines are no longer searched for. What is refused then
waits for the next attempt, and the time left is for its neighbours."""

Post: TypeAlias = Callable[[Sequence[bytes], int, str], Awaitable[Verdict]]
"""Sends a body, which holds some lines and has a key. Raises SinkError."""


class Bodies(abc.ABC):
    """Makes bodies of at most `max_bytes`, or of what the server has turned out to accept."""

    def __init__(
        self, max_bytes: int, *, surplus: int, separator: int = 0, max_lines: int = 0
    ) -> None:
        """`surplus`: most bytes of a body besides its fragments, and `separator` between two.

        `max_lines`: most lines of a body; 0: any number.
        """
        self.max_bytes = max_bytes
        self.room = max_bytes
        self._surplus = surplus
        self._separator = separator
        self._max_lines = max_lines

    @abc.abstractmethod
    def encode(self, batch: Batch, entry: Entry) -> bytes:
        """Return the fragment for the lines of `entry`."""

    @abc.abstractmethod
    def join(self, fragments: Sequence[bytes]) -> Sequence[bytes]:
        """Return a body, in pieces."""

    def fit(self, batch: Batch, run: Run) -> tuple[int, int]:
        """Return how many entries of `run` fit in one body, at least one, and its bytes."""
        size, end, lines = self._surplus, 0, 0
        for entry in run:
            if entry.fragment is None:
                entry.fragment = self.encode(batch, entry)
            adds = len(entry.fragment) + (self._separator if end else 0)
            lines += entry.lines
            if end and (size + adds > self.room or 0 < self._max_lines < lines):
                break
            size, end = size + adds, end + 1
        return end, size

    def make(self, run: Run) -> Sequence[bytes]:
        """Return the body of `run`, in pieces. `fit` has seen it."""
        return self.join([entry.fragment or b"" for entry in run])


class Attempt:
    """Delivers `batch` by `post` before `deadline` (loop time). `tally` has what failed."""

    def __init__(
        self, batch: Batch, bodies: Bodies, post: Post, *, now: Callable[[], float], deadline: float
    ) -> None:
        self._batch = batch
        self._bodies = bodies
        self._post = post
        self._now = now
        self._search_until = now() + (deadline - now()) * _SEARCH_SHARE
        self._todo: list[Run] = []
        """Runs to be sent, the next one last."""
        self._is_settled = False
        """True if the fate of at least one line is known."""
        self._refusals = 0
        self.tally: Final = Tally(batch)
        self.refused: Final[list[PermanentSinkError]] = []
        """The reasons for lines that are lost with their request."""
        self.details: Final[list[str]] = []
        """The same for people, also of lines that were refused alone."""
        self.requests = 0

    async def send(self, run: Run) -> None:
        """Send all of `run`. Raises SinkError if it failed before any line met its fate."""
        self._todo = [run] if run else []
        while self._todo:
            run = self._take()
            if not run:
                continue
            self.requests += 1
            try:
                verdict = await self._post(
                    self._bodies.make(run), sum(entry.lines for entry in run), self._key_of(run)
                )
            except SinkError as error:
                if not self._is_settled:
                    raise
                # Earlier requests were answered. The rest is written again, and if there is still
                # something wrong, raises again.
                self._give_up(run, error.code)
                return
            if verdict.refusal is not None:
                self._on_refusal(run, verdict, verdict.refusal)
            else:
                self._is_settled = True
                if verdict.faults:
                    self.details.append(verdict.detail)
                    self.tally.fail_lines(run, verdict.faults)

    def _take(self) -> Run:
        """Return the next lines that fit in a body; nothing if they fit in none."""
        run = self._todo.pop()
        end, size = self._bodies.fit(self._batch, run)
        if end < len(run):
            self._todo.append(run[end:])
        run = run[:end]
        if size <= self._bodies.room or not (parts := halve(run)):
            if size <= self._bodies.max_bytes:
                return run
            self.tally.fail(run, TOO_LARGE, retryable=False)
            return []
        self._send_parts(parts)
        return []

    def _on_refusal(self, run: Run, verdict: Verdict, refusal: PermanentSinkError) -> None:
        size = self._bodies.fit(self._batch, run)[1]
        if refusal.code == TOO_LARGE and size > LEAST_ROOM and sum(e.lines for e in run) > 1:
            self._bodies.room = max(size // 2, LEAST_ROOM)
            self._todo.append(run)
            return
        parts = isolate(run, verdict.suspects) or halve(run)
        if parts and self._now() > self._search_until:
            self.tally.fail(run, refusal.code, retryable=True)
            return
        self._refusals += 1
        if not (self._refusals <= MAX_REFUSALS and self._send_parts(parts)):
            self._is_settled = True
            self.refused.append(refusal)
            self.details.append(refusal.detail)
            self.tally.fail(run, refusal.code, retryable=False)

    def _send_parts(self, parts: Sequence[Run]) -> bool:
        """Send `parts` next; False if there are none."""
        self._todo += reversed(parts)
        return bool(parts)

    def _give_up(self, run: Run, code: str) -> None:
        """Leave `run` and all that is not sent to the next attempt."""
        for each in (run, *reversed(self._todo)):
            self.tally.fail(each, code, retryable=True)
        self._todo = []

    def _key_of(self, run: Run) -> str:
        """Return a text that is the same whenever the same lines of the batch are sent."""
        batch = self._batch
        names = " ".join(f"{batch.key(each.index)}:{each.first}+{each.lines}" for each in run)
        return f"{batch.batch_id}-{zlib.crc32(names.encode()):08x}"
