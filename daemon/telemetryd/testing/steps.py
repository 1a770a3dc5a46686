"""Scripted failures, laid over a sink's `write`: the destination knows nothing of them."""

# ruff: noqa: S101 - assertions are what this is for
from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks.base import DELIVERED, Batch, Failure, Sink, WriteResult

Step: TypeAlias = Callable[[Batch], Awaitable[Sequence[Failure]]]
"""The outcome of one attempt: the items that it refuses, or the error that it raises."""


async def fail_transiently(_batch: Batch) -> Sequence[Failure]:
    """Fail the attempt; another may succeed."""
    raise TransientSinkError("try_again")


async def fail_for_good(_batch: Batch) -> Sequence[Failure]:
    """Refuse these lines for good."""
    raise PermanentSinkError("refused")


async def hang(_batch: Batch) -> Sequence[Failure]:
    """Never answer."""
    await asyncio.Event().wait()
    return ()


def refuse(*indices: int, retryable: bool) -> Step:
    """Refuse the items at `indices`, and write the others."""

    async def step(_batch: Batch) -> Sequence[Failure]:
        return [Failure(index, "refused", retryable) for index in indices]

    return step


def refuse_mixed(again: int, never: int) -> Step:
    """Refuse one item for now and one for good, and write the others."""

    async def step(_batch: Batch) -> Sequence[Failure]:
        return [Failure(again, "busy", retryable=True), Failure(never, "bad", retryable=False)]

    return step


async def _lose_answer(_batch: Batch) -> Sequence[Failure]:
    raise AnswerLostError


def lose_answer() -> Step:
    """Write all items, and lose the response."""
    return _lose_answer


class AnswerLostError(Exception):
    """Raised by `lose_answer`, and handled by `script_writes`."""


def script_writes(base: type[Sink], script: Sequence[Step], attempts: list[Batch]) -> type[Sink]:
    """Return a `base` whose first writes follow `script`. Items that a step accepts are written.

    `attempts` is filled with the batch of every attempt.
    """
    steps = list(script)

    class Scripted(base):  # type: ignore[misc, valid-type]  # the base is a parameter
        last_error = ""

        async def open(self) -> None:
            with self._remembering():
                await super().open()

        write_direct = Sink.write_direct  # every attempt follows the script

        async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
            attempts.append(batch)
            result: WriteResult
            if not steps:
                with self._remembering():
                    result = await super().write(batch, attempt=attempt, deadline=deadline)
                return result
            try:
                failures = await steps.pop(0)(batch)
            except AnswerLostError:
                await super().write(batch, attempt=attempt, deadline=deadline)
                raise TransientSinkError("answer_lost") from None
            refused = {failure.index for failure in failures}
            rest = [index for index in range(len(batch.items)) if index not in refused]
            if rest:
                accepted = batch.part(rest)
                result = await super().write(accepted, attempt=attempt, deadline=deadline)
                assert result == DELIVERED, f"the destination refused lines by itself: {result}"
            return WriteResult(tuple(failures))

        @contextmanager
        def _remembering(self) -> Iterator[None]:
            """Keep the frames of an error, which the worker releases, to show why a sink fails."""
            try:
                yield
            except Exception:
                self.last_error = traceback.format_exc()
                raise

    return Scripted


def last_error(sink: Sink) -> str:
    """Return the traceback of what a sink of `script_writes` raised last."""
    return str(getattr(sink, "last_error", ""))
