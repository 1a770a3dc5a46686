r"""Newline framing, sans-IO: bytes of a connection in, blocks of whole lines out.

Rules:

1. A line ends at the byte `\n` and nowhere else (U+0085 and U+2028 are legal inside JSON strings);
   a `\r` before it is part of the line.
2. A read becomes at most one copy: everything up to its last newline is one `Block`, the rest is
   the connection's tail and opens the next block. Each byte is looked at a fixed number of times,
   however the stream is cut.
3. Blank lines (nothing, or a lone `\r`) are rejected as `empty`, those of a read in one sum; the
   lines around them stay one block, so that a blank line costs no more than another. A line over
   `max_line_bytes` is rejected as `too_long` and skipped up to its newline; one that finds no room
   in the budget which all tails share, as `tail_budget`; one that the connection's end cuts off, as
   `truncated`. Neighbours of a rejected line are untouched.
4. Every byte fed ends in exactly one `Block` or one `Rejected`, in stream order, at offsets without
   gap or overlap; only that the blank lines of a read count as if they came last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import compress, filterfalse, repeat
from operator import length_hint
from typing import Final, Literal, TypeAlias

import msgspec

from telemetryd_proto import scan

DEFAULT_MAX_LINE_BYTES: Final = 4 * 1024 * 1024
"""A 256-KiB log line can pass 1 MiB once escaped; four times that leaves room."""

RejectReason: TypeAlias = Literal["empty", "too_long", "tail_budget", "truncated", "malformed_body"]
REJECT_REASONS: Final[tuple[RejectReason, ...]] = (
    "empty", "too_long", "tail_budget", "truncated", "malformed_body"
)  # fmt: skip
"""`malformed_body` is of HTTP alone: what is no record (`record_bodies`)."""


class Block(msgspec.Struct, frozen=True, gc=False):
    """Whole lines of one connection, in order: what queues hold and sinks get. Never empty."""

    data: bytes
    """The lines, each ended by its newline."""
    lines: int
    source: int = 0
    """Number of the connection the lines came from."""
    offset: int = 0
    """Position of the first byte in the stream of its connection, blank lines counted behind."""
    received_at: float = 0.0
    """Monotonic seconds at which the last byte was read."""
    added: int = 0
    """Bytes of `data` that were not received: members added to the lines since. Negative where more
    was masked than added."""

    @property
    def size(self) -> int:
        """Bytes received for these lines, newlines included: what ledgers count."""
        return len(self.data) - self.added

    @classmethod
    def of(cls, data: bytes, *, received_at: float = 0.0) -> Block:
        """Return a block of the whole lines in `data`, which come from no connection."""
        return cls(data, data.count(b"\n"), received_at=received_at)

    @staticmethod
    def join(blocks: Sequence[Block]) -> Block:
        """Return a block of all lines of `blocks`, one at least, at the place of the first."""
        if len(blocks) == 1:
            return blocks[0]
        return blocks[0].with_lines(
            b"".join([block.data for block in blocks]),
            sum([block.lines for block in blocks]),
            sum([block.added for block in blocks]),
        )

    def with_lines(self, data: bytes, lines: int, added: int = 0) -> Block:
        """Return a block of other lines at this place: what is left of these, or became of them.

        `added` of its bytes were not received.
        """
        return Block(data, lines, self.source, self.offset, self.received_at, added)

    def select(self, lines: Sequence[bytes]) -> Block | None:
        """Return a block of `lines`, some of this one's in order; None without any."""
        if not lines:
            return None
        if len(lines) == self.lines:
            return self
        data = b"".join(lines)
        return self.with_lines(data, len(lines), len(data) - self.size_of(len(data)))

    def size_of(self, length: int) -> int:
        """Return how many bytes were received for `length` bytes of `data`.

        In which lines bytes were added is not known: they are shared out by size.
        """
        return length - self.added * length // len(self.data) if self.added else length

    def slice(self, start: int, end: int, lines: int = 0) -> Block:
        """Return a block of the lines from byte `start` to byte `end`, where lines begin.

        `lines`: how many these are, if that is known. Which bytes were added is not known: they are
        shared out by size, so that slices that follow each other add up to the whole.
        """
        size = len(self.data)
        if end - start == size:
            return self
        data = self.data[start:end]
        lines = lines or (_count_lines(data) if data else 0) or data.count(b"\n")
        before = self.added * start // size
        added = self.added * end // size - before
        return Block(
            data, lines, self.source, self.offset + start - before, self.received_at, added
        )

    def fit(self, start: int, room: int) -> int:
        """Return where the lines end that begin at byte `start` and fit in `room` bytes.

        That is `start` if not even one fits.
        """
        data = self.data
        if len(data) - start <= room:
            return len(data)
        end = data.rfind(b"\n", start, start + room) + 1 if room > 0 else 0
        return end or start

    def end_of_line(self, start: int) -> int:
        """Return where the line ends that begins at byte `start`."""
        return self.data.find(b"\n", start) + 1

    def cut(self, max_bytes: int) -> Iterator[Block]:
        """Yield the lines in blocks of at most `max_bytes`; a longer line is a block of its own."""
        at, size, lines = 0, len(self.data), self.lines
        while at < size:
            end = self.fit(at, max_bytes)
            if end == at:
                end = self.end_of_line(at)
            piece = self.slice(at, end, lines if end == size else 0)
            yield piece
            at, lines = end, lines - piece.lines

    def split(self) -> Iterator[Block]:
        """Yield each line as a block."""
        size, source, received_at = len(self.data), self.source, self.received_at
        at = before = 0
        for line in BytesIO(self.data).readlines():
            end = at + len(line)
            added = self.added * end // size - before
            yield Block(line, 1, source, self.offset + at - before, received_at, added)
            at, before = end, before + added


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Lines that framing refused; bytes include newlines."""

    reason: RejectReason
    lines: int
    size: int
    source: int
    offset: int
    head: bytes = b""
    """The first bytes of the line, as many as the framer was told to keep."""


Framed: TypeAlias = Block | Rejected


class TailBudget:
    """Bytes that the unfinished lines of some connections may hold together.

    `within`: another budget, out of which all of this one is taken.
    """

    __slots__ = ("_within", "limit", "used")

    def __init__(self, limit: int, *, within: TailBudget | None = None) -> None:
        self.limit: int = limit
        self.used: int = 0
        self._within = within

    def take(self, size: int) -> bool:
        """Reserve `size` bytes; False, and nothing reserved, when they don't fit."""
        if self.used + size > self.limit:
            return False
        if self._within is not None and not self._within.take(size):
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """Return `size` bytes."""
        self.used -= size
        if self._within is not None:
            self._within.give(size)


class _Skip:
    """A line being discarded up to its newline."""

    __slots__ = ("head", "reason", "size")

    def __init__(self, reason: RejectReason, head: bytes, size: int) -> None:
        self.reason = reason
        self.head = head
        self.size = size


_BLANK: Final = frozenset((b"\n", b"\r\n"))


def _count_lines(data: bytes) -> int:
    """Return the number of lines in `data`; 0 if one of them may be blank.

    Without `scan.compiled` it is BytesIO that finds newlines: with memchr, in a third of the time
    that `data.count` needs (`python -m bench.framing`). And `min`, which sees every line, tells
    blank ones apart: they come before all that begin with a printable character. No line outlives
    the next one, so all are made in the same few bytes of memory; a list of them costs half as much
    again. `compress` takes a value of `untaken` for each line, so what is left there tells how many
    lines there were.
    """
    if scan.compiled is not None:
        return scan.compiled.count_lines(data)
    untaken = repeat(True, len(data))
    least = min(compress(BytesIO(data), untaken))
    return 0 if least <= b"\r\n" else len(data) - length_hint(untaken)


def _without_blank_lines(data: bytes) -> bytes:
    """Return `data` without its blank lines: one pass in C, and no line outlives the next one."""
    rest = BytesIO()
    rest.writelines(filterfalse(_BLANK.__contains__, BytesIO(data)))
    return rest.getvalue()


def _has_line_over(data: bytes, limit: int) -> bool:
    """True if a line of `data` has more than `limit` bytes before its newline."""
    return len(data) > limit and max(map(len, BytesIO(data))) > limit + 1


class LineFramer:
    """Frames the stream of one connection.

    `source` numbers the connection, `budget` is shared between framers, `keep_bytes` is how much of
    a refused line `Rejected.head` carries (0 when no dead letters are kept).
    """

    __slots__ = ("_budget", "_keep", "_max", "_offset", "_skip", "_source", "_tail")

    def __init__(
        self,
        budget: TailBudget,
        *,
        max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
        source: int = 0,
        keep_bytes: int = 0,
    ) -> None:
        self._budget = budget
        self._max = max_line_bytes
        self._source = source
        self._keep = keep_bytes
        self._offset = 0  # of the first byte not yet handed out: the tail's, the skipped line's
        self._tail = bytearray()
        self._skip: _Skip | None = None

    @property
    def unfinished_bytes(self) -> int:
        """Bytes fed and not yet handed out."""
        return self._skip.size if self._skip else len(self._tail)

    def use(self, budget: TailBudget) -> None:
        """Take what is unfinished out of `budget` from now on, unless it does not fit there."""
        if budget.take(len(self._tail)):
            self._budget.give(len(self._tail))
            self._budget = budget

    def feed(self, buffer: bytes | bytearray, size: int, now: float = 0.0) -> list[Framed]:
        """Frame `buffer[:size]`, the next bytes of the stream, read at `now`.

        The buffer may be reused as soon as this returns.
        """
        out: list[Framed] = []
        end = buffer.rfind(b"\n", 0, size) + 1
        with memoryview(buffer) as view:
            if end:
                start = self._end_skip(buffer, out) if self._skip else 0
                if start < end:
                    self._whole_lines(view[start:end], now, out)
            if end < size:
                self._hold(view[end:size])
        return out

    def hand_out(self, data: bytes, lines: int, now: float) -> Block:
        """Return `lines` whole lines, none blank or overlong, that came in between two reads."""
        block = Block(data, lines, self._source, self._offset, now)
        self._offset += len(data)
        return block

    def reject(self, reason: RejectReason, size: int, head: bytes) -> Rejected:
        """Return `size` bytes of the stream as rejected; they count as one line."""
        out: list[Framed] = []
        self._reject(reason, 1, size, head[: self._keep], out)
        (rejected,) = out
        assert isinstance(rejected, Rejected)  # noqa: S101 - of the line above
        return rejected

    def eof(self) -> list[Framed]:
        """End the stream: reject the unfinished line. The framer can be dropped after this."""
        out: list[Framed] = []
        if self._skip:
            self._reject(self._skip.reason, 1, self._skip.size, self._skip.head, out)
            self._skip = None
        elif self._tail:
            head = bytes(self._tail[: self._keep])
            self._reject("truncated", 1, len(self._tail), head, out)
            self._free_tail()
        return out

    def _end_skip(self, buffer: bytes | bytearray, out: list[Framed]) -> int:
        """Reject the skipped line, whose newline is in `buffer`. Return the start of the next."""
        assert self._skip is not None  # noqa: S101 - the caller's condition
        start = buffer.find(b"\n") + 1
        skip, self._skip = self._skip, None
        head = skip.head + bytes(buffer[: min(start, max(0, self._keep - len(skip.head)))])
        self._reject(skip.reason, 1, skip.size + start, head, out)
        return start

    def _whole_lines(self, lines: memoryview, now: float, out: list[Framed]) -> None:
        """Hand out tail and `lines`; only a line beyond `max_line_bytes` makes this slow."""
        if not self._tail:
            data = bytes(lines)
        else:
            # bounded by the tail's limit plus one read, so joined before it is judged
            data = b"".join((self._tail, lines))
            self._free_tail()
        if _has_line_over(data, self._max):
            self._around_overlong(data, now, out)
        else:
            self._hand_out(data, now, out)

    def _around_overlong(self, data: bytes, now: float, out: list[Framed]) -> None:
        """Reject the overlong lines of `data` and hand out what is between them."""
        start = at = 0
        for line in BytesIO(data):
            end = at + len(line)
            if len(line) - 1 > self._max:
                if start < at:
                    self._hand_out(data[start:at], now, out)
                self._reject("too_long", 1, len(line), line[: self._keep], out)
                start = end
            at = end
        if start < at:
            self._hand_out(data[start:at], now, out)

    def _hand_out(self, data: bytes, now: float, out: list[Framed]) -> None:
        """Hand out lines none of which is overlong."""
        if count := _count_lines(data):
            out.append(Block(data, count, self._source, self._offset, now))
            self._offset += len(data)
            return
        rest, lines = _without_blank_lines(data), data.count(b"\n")
        if rest:
            count = rest.count(b"\n")
            out.append(Block(rest, count, self._source, self._offset, now))
            self._offset += len(rest)
            lines -= count
        if blank := len(data) - len(rest):
            self._reject("empty", lines, blank, b"", out)

    def _reject(
        self, reason: RejectReason, lines: int, size: int, head: bytes, out: list[Framed]
    ) -> None:
        out.append(Rejected(reason, lines, size, self._source, self._offset, head))
        self._offset += size

    def _hold(self, piece: memoryview) -> None:
        """Keep the start of an unfinished line, or begin to skip it when it may not be kept."""
        size = len(piece)
        if self._skip:
            missing = self._keep - len(self._skip.head)
            if missing > 0:
                self._skip.head += bytes(piece[:missing])
            self._skip.size += size
            return
        held = len(self._tail)
        if held + size > self._max:
            reason: RejectReason = "too_long"
        elif not self._budget.take(size):
            reason = "tail_budget"
        else:
            self._tail += piece
            return
        head = bytes(self._tail[: self._keep])
        head += bytes(piece[: self._keep - len(head)])
        self._skip = _Skip(reason, head, held + size)
        self._free_tail()

    def _free_tail(self) -> None:
        self._budget.give(len(self._tail))
        self._tail = bytearray()  # not clear(): a long line's memory is given back
