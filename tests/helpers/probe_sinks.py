"""Sinks that misbehave, as a third-party package registers them; copied next to its metadata.

See `helpers.lifecycle.third_party`. Each appends what it delivers to `path`.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from telemetryd.core.direct import SLOW_SECONDS
from telemetryd.errors import PermanentSinkError, TransientSinkError
from telemetryd.sinks.base import (
    DELIVERED,
    Batch,
    Failure,
    Sink,
    SinkConfig,
    SinkContext,
    WriteResult,
)


class ProbeConfig(SinkConfig, frozen=True, kw_only=True):
    """Where to, and the file that opens the gate."""

    path: str
    gate: str = ""


class Gate(Sink):
    """Delivers only while the file `gate` exists; waits for it inside a write."""

    Config = ProbeConfig

    def __init__(self, config: Any, context: SinkContext) -> None:
        super().__init__(config, context)
        self.path = Path(config.path)
        self.gate = Path(config.gate)

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Wait, then append."""
        while not self.gate.exists():  # noqa: ASYNC110 - opened by another process
            await asyncio.sleep(0.005)
        with self.path.open("ab") as file:
            file.writelines(item.payload for item in batch.items)
        return DELIVERED


class Hasty(Gate):
    """Appends at once; takes its time as soon as the gate is open."""

    def write_direct(self, data: bytes) -> bool:
        """Append, and stop everything for a moment if the gate is open."""
        with self.path.open("ab") as file:
            file.write(data)
        if self.gate.exists():
            time.sleep(2 * SLOW_SECONDS)
        return True

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Append."""
        with self.path.open("ab") as file:
            file.writelines(item.payload for item in batch.items)
        return DELIVERED


class Stubborn(Gate):
    """Can't be interrupted: a write that waits continues waiting, whatever is asked of it."""

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Wait and append, cancelled or not."""
        while True:
            try:
                return await super().write(batch, attempt=attempt, deadline=deadline)
            except asyncio.CancelledError:
                continue

    async def close(self) -> None:
        """Wait as well."""
        while not self.gate.exists():
            try:
                await asyncio.sleep(0.005)
            except asyncio.CancelledError:
                continue


class BrokenPack(Gate):
    """Has a bug before any write."""

    def pack(self, blocks: Any) -> Any:
        """Raise."""
        raise KeyError("no such column")


class BrokenMaker(Gate):
    """Has a bug in its constructor."""

    def __init__(self, config: Any, context: SinkContext) -> None:
        raise AttributeError("half finished")


class Parent(Gate):
    """Has a child write down which signals it was given blocked."""

    def __init__(self, config: Any, context: SinkContext) -> None:
        super().__init__(config, context)
        child = ("grep", "SigBlk", "/proc/self/status")
        done = subprocess.run(child, check=True, capture_output=True, text=True)
        self.path.write_text(done.stdout.split()[1])


class Flaky(Gate):
    """Refuses, for now, while the gate is closed."""

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Append, or say that it is down."""
        if not self.gate.exists():
            raise TransientSinkError("down")
        return await super().write(batch, attempt=attempt, deadline=deadline)


class Slow(Gate):
    """Takes a hundredth of what a busy function prints: some 30,000 bytes in a second."""

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Append, in its own time."""
        await asyncio.sleep(sum(item.size for item in batch.items) / 30_000)
        return await super().write(batch, attempt=attempt, deadline=deadline)


_RAISED: dict[str, Callable[[], BaseException]] = {
    "is_down": lambda: TransientSinkError("down"),
    "asks_to_wait": lambda: TransientSinkError("throttled", retry_after=3600.0),
    "refuses": lambda: PermanentSinkError("denied", stops_sink=True),
    "dislikes_each": lambda: PermanentSinkError("invalid"),
    "breaks": lambda: KeyError("bug"),
    "cancels_itself": asyncio.CancelledError,
}


class Moody(Gate):
    """Behaves as its name says, all its life."""

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Do so."""
        mood = self.context.name
        if mood in _RAISED:
            error = _RAISED[mood]()
            raise error
        if mood == "hangs":
            await asyncio.Event().wait()
        if mood == "crawls":
            await asyncio.sleep(sum(item.size for item in batch.items) / 1_000_000)
        if mood == "talks_nonsense":
            return None  # type: ignore[return-value]
        half = range(0, len(batch.items), 2) if mood.endswith("_half") else ()
        retryable = mood == "puts_off_half"
        return WriteResult(tuple(Failure(i, "invalid", retryable) for i in half))


class TalkerConfig(ProbeConfig, frozen=True, kw_only=True):
    """With a secret."""

    token: str


class Talker(Sink):
    """Quotes its secret wherever a sink can say something, and delivers nothing."""

    Config = TalkerConfig

    def __init__(self, config: Any, context: SinkContext) -> None:
        super().__init__(config, context)
        self._token = config.token
        self._is_first = True

    async def open(self) -> None:
        """Fail in words, the first time."""
        if not self._is_first:
            return
        self._is_first = False
        raise TransientSinkError("not_open", f"the server does not know {self._token}")

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Say it in every other way."""
        import gc
        import logging
        import threading

        self.context.log.warning("tried", sink=self.context.name, said=[f"<{self._token}>"])
        self.context.log.info("tried", sink=self.context.name, detail=f"with {self._token}")
        logging.getLogger("talker").error("refused: %s", self._token)
        thread = threading.Thread(target=self._fail, name="talker")
        thread.start()
        thread.join()
        asyncio.get_running_loop().call_soon(self._fail)
        _FailsAtItsEnd(self._fail)
        gc.collect()
        if attempt == 1:
            raise TransientSinkError("refused", f"this is wrong: {self._token}")
        if attempt == 2:
            self._fail()
        raise PermanentSinkError("refused", f"this is wrong: {self._token}")

    def _fail(self) -> None:
        raise RuntimeError(f"no one caught {self._token}")


class _FailsAtItsEnd:
    def __init__(self, fail: Callable[[], None]) -> None:
        self._fail = fail

    def __del__(self) -> None:
        self._fail()
