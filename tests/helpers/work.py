"""Count the work that code does on some input: what it costs, without a clock.

Work is three numbers: the Python statements that run in our own files (a loop shows here), the
bytes that searches, slices and copies touch, and those that decoders are given (work in C shows
here). All three must grow as the input does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from types import FrameType, ModuleType
from typing import Any

import pytest

_OURS = ("/telemetryd/", "/telemetryd_proto/")


class Work:
    """What was counted."""

    def __init__(self) -> None:
        self.statements = 0
        self.touched = 0
        self.decodes = 0
        self.decoded = 0


class CountedBytes(bytes):
    """Bytes that count what searches, slices and copies of them touch."""

    work: Work

    def _like(self, data: bytes) -> CountedBytes:
        counted = CountedBytes(data)
        counted.work = self.work
        return counted

    def _span(self, args: tuple[Any, ...]) -> range:
        start, end, _ = slice(*(*args[1:], None, None)[:2]).indices(len(self))
        return range(start, max(start, end))

    def find(self, *args: Any) -> int:
        """As of bytes, counted."""
        span, found = self._span(args), super().find(*args)
        self.work.touched += len(span) if found < 0 else found - span.start + len(args[0])
        return found

    def rfind(self, *args: Any) -> int:
        """As of bytes, counted."""
        span, found = self._span(args), super().rfind(*args)
        self.work.touched += len(span) if found < 0 else span.stop - found
        return found

    def index(self, *args: Any) -> int:
        """As of bytes, counted."""
        span, found = self._span(args), super().index(*args)
        self.work.touched += found - span.start + 1
        return found

    def count(self, *args: Any) -> int:
        """As of bytes, counted."""
        self.work.touched += len(self._span(args))
        return super().count(*args)

    def replace(self, *args: Any) -> bytes:
        """As of bytes, counted."""
        self.work.touched += len(self)
        return self._like(super().replace(*args))

    def split(self, *args: Any, **kwargs: Any) -> list[bytes]:
        """As of bytes, counted."""
        self.work.touched += len(self)
        return [self._like(part) for part in super().split(*args, **kwargs)]

    def __contains__(self, item: Any) -> bool:
        return self.find(item) >= 0

    def __getitem__(self, at: Any) -> Any:
        part = super().__getitem__(at)
        if isinstance(part, int):
            self.work.touched += 1
            return part
        self.work.touched += len(part)
        return self._like(part)


def _counted_decoder(decode: Callable[..., Any], work: Work) -> Callable[..., Any]:
    def counted(data: Any) -> Any:
        work.decodes += 1
        work.decoded += len(bytes(data))
        return decode(data)

    return counted


class _CountedFile(BytesIO):
    work: Work

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data)
        self.work.touched += len(data)


@contextmanager
def counting(*modules: ModuleType, decoders: Sequence[str] = ()) -> Iterator[Work]:
    """Count the work done inside; in `modules`, attributes named in `decoders` are decoders."""
    work = Work()

    def on_line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            work.statements += 1
        return on_line

    def on_call(frame: FrameType, event: str, _: Any) -> Any:
        return on_line if any(path in frame.f_code.co_filename for path in _OURS) else None

    before = sys.gettrace()
    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            for name in decoders:
                if hasattr(module, name):
                    patch.setattr(module, name, _counted_decoder(getattr(module, name), work))
            if hasattr(module, "BytesIO"):
                patch.setattr(module, "BytesIO", type("Counted", (_CountedFile,), {"work": work}))
        sys.settrace(on_call)
        try:
            yield work
        finally:
            sys.settrace(before)


def counted(data: bytes, work: Work) -> CountedBytes:
    """`data`, whose reading counts as `work`."""
    wrapped = CountedBytes(data)
    wrapped.work = work
    return wrapped
