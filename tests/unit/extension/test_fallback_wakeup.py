"""The loop of last resort is woken by a signal that comes before it waits."""

from __future__ import annotations

import errno
import os
import posix
import select
import signal
from collections.abc import Iterator

import pytest

from telemetryd.extension import fallback


@pytest.fixture
def loop() -> Iterator[fallback._Loop]:
    """One without a session: only what it polls."""
    subject = object.__new__(fallback._Loop)
    subject._poll = select.poll()
    earlier = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield subject
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGUSR1, earlier)


def test_a_signal_makes_the_poll_end_at_once(loop: fallback._Loop) -> None:
    woken = loop._wake_on_signals()
    os.kill(os.getpid(), signal.SIGUSR1)
    assert loop._poll.poll(0) == [(woken, select.POLLIN)]


def test_without_a_descriptor_it_polls_all_the_same(
    loop: fallback._Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(posix, "pipe", fail)
    assert loop._wake_on_signals() == -1
    assert loop._poll.poll(0) == []
