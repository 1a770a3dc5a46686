"""Shows on stderr the progress of a long task: a bar on a terminal, a line now and then else."""

from __future__ import annotations

from typing import Final, TextIO

from telemetryd.clock import SYSTEM, Clock

_WIDTH: Final = 30
_BAR_SECONDS: Final = 0.1
_LINE_SECONDS: Final = 10.0
_MIB: Final = 1 << 20


class Progress:
    """Prints the progress, of `total` bytes if that is known. Times are monotonic seconds."""

    def __init__(self, out: TextIO, total: int | None, *, clock: Clock = SYSTEM) -> None:
        self._out = out
        self._total = total
        self._monotonic = clock.monotonic
        self._is_terminal = out.isatty()
        self._begun = self._shown_at = clock.monotonic()
        self._first: int | None = None

    def show(self, done: int, lines: int) -> None:
        """Show the number of settled bytes, and of delivered lines."""
        if self._first is None:
            self._first = done
        now = self._monotonic()
        wait = _BAR_SECONDS if self._is_terminal else _LINE_SECONDS
        if now - self._shown_at >= wait:
            self._shown_at = now
            self._print(done, lines, now)

    def finish(self, done: int, lines: int) -> None:
        """Show the last state, and leave the line."""
        self._print(done, lines, self._monotonic())
        if self._is_terminal:
            self._out.write("\n")
            self._out.flush()

    def _print(self, done: int, lines: int, now: float) -> None:
        rate = (done - (self._first or 0)) / max(now - self._begun, 1e-9)
        share = min(done / self._total, 1.0) if self._total else 1.0
        text = f"{done / _MIB:.1f} MiB, {lines:,} lines"
        if self._total is not None:
            text = (
                f"{share:4.0%}  {done / _MIB:.1f} of {self._total / _MIB:.1f} MiB, {lines:,} lines"
            )
        if now - self._begun >= 1:
            text += f", {rate / _MIB:.1f} MiB/s"
        if self._is_terminal and self._total is not None:
            filled = round(share * _WIDTH)
            bar = "#" * filled + "." * (_WIDTH - filled)
            self._out.write(f"\r[{bar}] {text}\x1b[K")
        elif self._is_terminal:
            self._out.write(f"\r{text}\x1b[K")
        else:
            self._out.write(f"{text}\n")
        self._out.flush()
