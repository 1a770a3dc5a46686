"""Child processes: own group, output by line, exit seen through a pidfd, stopped and continued.

Each process leads its own process group in our session, not its own session. If we are killed while
the group is stopped, the kernel then finds it orphaned and ends it with SIGHUP.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from telemetryd.local.clock import monotonic
from telemetryd.local.lines import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Role = Literal["extension", "runtime"]

_CHUNK = 256 * 1024
_STOP_POLL = 0.0005
_STOP_LIMIT = 5.0


class LaunchError(Exception):
    """A process could not be started; `__cause__` is the `OSError` or `SubprocessError`."""


def _start(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: Path,
    enter: Callable[[Path], None] | None,
) -> subprocess.Popen[bytes]:
    """Start a program, after `enter` (if given) was called with `cwd` in its process."""
    with warnings.catch_warnings():
        # Python warns of forks beside threads. What runs between fork and exec here are a few
        # system calls, which take no lock that a thread could have held.
        warnings.simplefilter("ignore", DeprecationWarning)
        return subprocess.Popen(  # noqa: S603 - starting programs is the purpose
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
            preexec_fn=None if enter is None else lambda: enter(cwd),  # noqa: PLW1509 - see above
        )


class _Stream:
    """One pipe of a process: reads when there is something, unless paused."""

    def __init__(self, pipe: IO[bytes], max_line: int, deliver: Callable[[bytes], None]) -> None:
        self.open = True
        self._pipe = pipe
        self._fd = pipe.fileno()
        self._splitter = LineSplitter(max_line)
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._reading = False
        os.set_blocking(self._fd, False)

    def resume(self) -> None:
        if self.open and not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self.read)

    def pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def read(self) -> bool:
        """Take one chunk; False when there was nothing."""
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        block = self._splitter.feed(data)
        if block:
            self._deliver(block)
        return True

    def drain(self) -> bool:
        """Read until the pipe is empty; False when paused before that."""
        while self.open and self._reading:
            if not self.read():
                return True
        return not self.open

    def take_rest(self) -> None:
        """Read what is in the pipe, paused or not, and close."""
        while self.open and self.read():
            pass
        self.close()

    def close(self) -> None:
        """Stop reading; what was begun without a newline is delivered now."""
        if not self.open:
            return
        self.pause()
        self.open = False
        self._pipe.close()
        rest = self._splitter.finish()
        if rest:
            self._deliver(rest)


class ChildProcess:
    """An extension or a runtime.

    `on_output` gets (process, `stdout` or `stderr`, whole lines); `on_exit` gets the process, when
    it has ended. Raises `LaunchError` when the program cannot be started.
    """

    def __init__(
        self,
        role: Role,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        max_line: int,
        enter: Callable[[Path], None] | None,
        on_output: Callable[[ChildProcess, str, bytes], None],
        on_exit: Callable[[ChildProcess], None],
    ) -> None:
        self.role: Role = role
        self.name = name
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self.at_deadline = False
        """Killed since it had not ended in time."""
        try:
            self._popen = _start(argv, env, cwd, enter)
        except OSError as error:
            raise LaunchError(f"{argv[0]}: {error.strerror or error}") from error
        except subprocess.SubprocessError as error:
            raise LaunchError(f"{argv[0]}: {error}") from error
        self.pid = self._popen.pid
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._note_exit)
        self._streams = [
            _Stream(pipe, max_line, lambda block, label=label: on_output(self, label, block))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            for label, pipe in (("stdout", self._popen.stdout), ("stderr", self._popen.stderr))
            if pipe is not None
        ]
        self.resume_reading()

    @property
    def alive(self) -> bool:
        """True until the process is seen to have ended."""
        return not self._ended.is_set()

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the signal's number, or None while it lives."""
        return self._popen.returncode

    def _note_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Still a zombie here, so the group's number cannot belong to anybody else.
        self.signal(signal.SIGKILL)
        self._popen.wait()
        self._ended.set()
        self._on_exit(self)

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole process group."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def pause_reading(self) -> None:
        """Leave the output in the pipes: the process waits when they are full."""
        for stream in self._streams:
            stream.pause()

    def resume_reading(self) -> None:
        """Read the output again."""
        for stream in self._streams:
            stream.resume()

    def drain(self) -> bool:
        """Take what is in the pipes now; False when reading is paused before all is taken."""
        emptied = [stream.drain() for stream in self._streams]  # every one, whatever the others do
        return all(emptied)

    async def wait(self, limit: float) -> bool:
        """Wait for the end, at most `limit` seconds; False when it lives on."""
        if limit > 0 and self.alive:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), limit)
        return not self.alive

    async def finish(self, limit: float) -> None:
        """Take the rest of the output after the end, then close the pipes.

        A grandchild may hold a pipe open, so the end of the stream is awaited for `limit` seconds
        only.
        """
        deadline = monotonic() + limit
        while any(stream.open for stream in self._streams):
            self.drain()
            if monotonic() >= deadline or not any(stream.open for stream in self._streams):
                break
            await asyncio.sleep(0.002)
        for stream in self._streams:
            stream.take_rest()

    def kill_now(self) -> None:
        """Kill the group, reap, and close, even if the event loop is gone."""
        if self.alive:
            for pid in tree(self.pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self.signal(signal.SIGKILL)
            self._popen.wait()
            self._ended.set()
        for stream in self._streams:
            stream.close()


def tree(pid: int) -> list[int]:
    """Return `pid` and its descendants, as far as they can be read."""
    found = [pid]
    for parent in found:
        try:
            tasks = list(Path(f"/proc/{parent}/task").iterdir())
            for task in tasks:
                found += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # it has just ended
    return found


def stop_all(processes: Sequence[ChildProcess]) -> list[int]:
    """SIGSTOP every process of the environment; returns their numbers."""
    stopped: list[int] = []
    for process in processes:
        if process.alive:
            process.signal(signal.SIGSTOP)
            # Descendants that left the group are stopped one by one.
            for pid in tree(process.pid):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGSTOP)
                    stopped.append(pid)
    return stopped


def continue_all(processes: Sequence[ChildProcess], stopped: Sequence[int]) -> None:
    """SIGCONT what `stop_all` stopped."""
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGCONT)
    for process in processes:
        process.signal(signal.SIGCONT)


class Descendants:
    """Hold on every descendant there is now, to end those that outlive their parents.

    A daemon leaves its parent's group, and its parent when that ends; a pidfd still finds it, and
    never finds another process under the same number.
    """

    def __init__(self) -> None:
        self._held: list[int] = []

    def hold(self, processes: Sequence[ChildProcess]) -> None:
        """Add the descendants of the living among `processes`."""
        for process in processes:
            if process.alive:
                for pid in tree(process.pid)[1:]:
                    with contextlib.suppress(OSError):
                        self._held.append(os.pidfd_open(pid))

    def kill(self) -> None:
        """SIGKILL what is left of them."""
        for pidfd in self._held:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self._held.clear()


async def wait_stopped(pids: Sequence[int]) -> None:
    """Wait until the kernel shows every one of `pids` as stopped, for a few seconds at most."""
    deadline = monotonic() + _STOP_LIMIT
    while monotonic() < deadline and not all(_resting(pid) for pid in pids):  # noqa: ASYNC110 - the kernel has no event for it
        await asyncio.sleep(_STOP_POLL)


def _resting(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True  # ended
    return text.rpartition(")")[2].split()[0] in "TtZX"


def peak_memory_mb(processes: Sequence[ChildProcess]) -> int:
    """Return the sum of the peak resident sizes of all living processes, in MiB, rounded up.

    Peaks need not coincide and shared pages count in each process, so this is an upper bound.
    """
    kilobytes = 0
    for process in processes:
        if not process.alive:
            continue
        for pid in tree(process.pid):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue  # it has just ended
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    kilobytes += int(line.split()[1])
    return -(-kilobytes // 1024)
