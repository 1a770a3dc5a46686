"""The rest of the extension after a failure: it reads, counts, discards and polls `next`.

To the platform, an extension that exits is a crash, and one that stops reading its telemetry can
stall it. So the function is served to the end, and the ledger says what was lost.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the stubs know only `signal`
import _socket
import gc
import posix
import select
import time

from telemetryd.core import lifecycle
from telemetryd.extension import ENDING_SIGNALS, boot, http, release_signals

TYPE_CHECKING = False  # type checkers take it for typing's, which costs time to import
if TYPE_CHECKING:
    from telemetryd_proto.http_requests import RequestReader

_QUIET_MARGIN_MS = 25
_SHUTDOWN_SECONDS = 2.0
_MARGIN_SECONDS = 0.15
_READ_SHARE = 0.7
_MAX_VALUE_BYTES = 64
_BUFFER = bytearray(256 * 1024)
_MAX_BODY_BYTES = 8 * 1024 * 1024
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _Stopped(Exception):  # noqa: N818 - a wish, not an error
    """A signal that asks for the end; its name."""


def run(session: boot.Session, error: BaseException) -> int:
    """Serve the life cycle until SHUTDOWN. Return the exit status."""
    for problem in session.settings.problems:
        boot.say("error", "configuration_invalid", problem=problem)
    boot.say(
        "error",
        "degraded",
        error=repr(error),
        consequence="telemetry is read, counted and discarded; the function is not affected",
    )
    gc.enable()
    loop = _Loop(session)
    try:
        if not session.ended:
            loop.serve()
    except _Stopped as stopped:
        boot.say("info", "stopping", signal=stopped)
    except (OSError, boot.Refused, ValueError) as gone:
        boot.say("error", "platform_gone", error=repr(gone))
    loop.shut_down()
    return 0


class _Loop:
    """A poll loop over the listener, its connections and the pending `next`."""

    def __init__(self, session: boot.Session) -> None:
        self._session = session
        self._poll = select.poll()
        self._connections: dict[int, _socket.socket] = {}
        self._tails: dict[int, int] = {}
        self._readers: dict[int, RequestReader] = {}
        """By HTTP: what reads the requests of each connection."""
        self._framed = [0, 0]
        self._empty = [0, 0]
        self._truncated = [0, 0]
        self._too_long = [0, 0]
        self._malformed = [0, 0]
        self._deadline = 0.0
        self._busy = False
        """True while no signal may interrupt: read bytes must be counted, or the end has begun."""
        self._signal = ""
        self._woken = self._wake_on_signals()
        if session.listener is not None:
            session.listener.setblocking(False)
            self._poll.register(session.listener, select.POLLIN)
        for connection in (*session.early, *session.late):
            self._add(connection)

    def _wake_on_signals(self) -> int:
        """Return what a signal makes readable: one that comes just before `poll` must end it too.

        Returns -1 where there is no descriptor left: then the next event of any kind does.
        """
        try:
            woken, waker = posix.pipe()
        except OSError:
            return -1
        for fd in (woken, waker):
            posix.set_blocking(fd, False)
        _signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._poll.register(woken, select.POLLIN)
        return woken

    def serve(self) -> None:
        """Poll until the platform sends SHUTDOWN. Raises an error if the platform is gone."""
        for number in ENDING_SIGNALS:
            _signal.signal(number, self._on_signal)
        release_signals()
        machine = lifecycle.Machine(lifecycle.DEGRADED)
        commands = machine.step(lifecycle.BUG_OWING)
        while lifecycle.LEAVE not in commands:
            try:
                answer = self._next()
            except ValueError:
                commands = machine.on_malformed()
                if lifecycle.LEAVE in commands:
                    raise
                continue
            if answer.status != 200:  # noqa: PLR2004 - OK
                raise boot.Refused("next", answer.status, answer.body)
            is_shutdown = _member(answer.body, b"eventType") == b'"SHUTDOWN"'
            if is_shutdown:
                self._deadline = _deadline(answer.body)
            # Whatever else it is, nothing is awaited.
            commands = machine.step(lifecycle.SHUTDOWN if is_shutdown else lifecycle.OTHER)

    def shut_down(self) -> None:
        """Read until nothing comes any more, or most of the time is used up; the ledger."""
        self._busy = True
        left = (self._deadline or time.time() + _SHUTDOWN_SECONDS) - _MARGIN_SECONDS - time.time()
        until = time.monotonic() + left * _READ_SHARE
        quiet = self._session.settings.timeout_ms + _QUIET_MARGIN_MS
        while (rest := until - time.monotonic()) > 0:
            patience = min(quiet, max(int(rest * 1000), 1))
            # The time may be up before what came has been looked at.
            if self._step(-1, patience) is None and self._step(-1, 0) is None:
                break
        self._print_ledger()

    def _on_signal(self, number: int, _frame: object) -> None:
        """Cancel the wait. Lines that were read are counted first."""
        self._signal = self._signal or ENDING_SIGNALS[number]
        if not self._busy:
            self._stop()

    def _stop(self) -> None:
        self._busy = True
        raise _Stopped(self._signal)

    def _next(self) -> http.Answer:
        """Return the next event. Telemetry is read in that time. Raises OSError or ValueError."""
        session = self._session
        for last_try in (False, True):
            try:
                if not session.next_sent:
                    session.send_next()
                return self._answer()
            except ConnectionError:
                # An idle connection may have died while frozen: ask once more, on a new one.
                self._drop()
                if last_try:
                    raise
            except ValueError:
                self._drop()
                raise
        raise AssertionError

    def _answer(self) -> http.Answer:
        session = self._session
        sock = session.next_socket
        assert sock is not None  # noqa: S101 - send_next has made it
        self._poll.register(sock, select.POLLIN)
        try:
            while not self._step(sock.fileno(), None):
                pass
        finally:
            self._poll.unregister(sock)
        sock.settimeout(None)
        answer = boot.read_answer(sock)
        session.next_sent = False
        if not answer.keeps_alive:
            self._drop()
        return answer

    def _drop(self) -> None:
        session = self._session
        if session.next_socket is not None:
            session.next_socket.close()
        session.next_socket = None
        session.next_sent = False

    def _step(self, awaited: int, timeout_ms: int | None) -> bool | None:
        """Handle what is ready: True when `awaited` is, None when nothing came in time."""
        ready = self._poll.poll(timeout_ms)
        if not ready:
            return None
        was_busy, self._busy = self._busy, True
        for fd, _ in ready:
            if self._session.listener is not None and fd == self._session.listener.fileno():
                self._accept()
            elif fd in self._connections:
                self._read(fd)
            elif fd == self._woken:
                posix.read(fd, _MAX_VALUE_BYTES)
        self._busy = was_busy
        if self._signal and not was_busy:
            self._stop()
        return any(fd == awaited for fd, _ in ready)

    def _accept(self) -> None:
        listener = self._session.listener
        assert listener is not None  # noqa: S101 - only it makes this event
        try:
            fd, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - the raw module's own name
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:  # such as no descriptor left: what is connected is still read
            self._poll.unregister(listener)
            boot.say("error", "accept_failed", error=error)
            return
        self._add(_socket.socket(fileno=fd))

    def _add(self, connection: _socket.socket) -> None:
        connection.setblocking(False)
        self._connections[connection.fileno()] = connection
        self._poll.register(connection, select.POLLIN)

    def _read(self, fd: int) -> None:
        try:
            size = self._connections[fd].recv_into(_BUFFER)
        except BlockingIOError:
            return
        except OSError:  # reset: an end like any other
            size = 0
        if self._session.protocol == "http":
            self._serve_http(fd, bytes(_BUFFER[:size]))
        else:
            self._count(fd, bytes(_BUFFER[:size]))
        if size == 0:
            self._close(fd)

    def _close(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._connections.pop(fd).close()
        self._readers.pop(fd, None)

    def _serve_http(self, fd: int, data: bytes) -> None:
        """Count the records of requests, and answer each: Lambda sends again what is not answered.

        A peer that does not read its answers is not waited for.
        """
        from telemetryd_proto import framing, http_requests  # noqa: PLC0415 - by HTTP only

        if fd not in self._readers:
            self._readers[fd] = http_requests.RequestReader(
                framing.TailBudget(_MAX_BODY_BYTES), max_body_bytes=_MAX_BODY_BYTES
            )
        reader = self._readers[fd]
        reader.feed(data)
        answer = b""
        while (event := reader.next_event()) is not None:
            if isinstance(event, http_requests.Request):
                self._count_records(event.body)
            elif isinstance(event, http_requests.Skipped):
                _add(self._too_long, event.size)
            elif isinstance(event, http_requests.Unreadable):
                self._close(fd)
                return
            is_interim = isinstance(event, http_requests.Expecting)
            answer += _CONTINUE if is_interim else _OK
        try:
            self._connections[fd].send(answer)
        except OSError as error:
            boot.say("warning", "write_failed", error=error)

    def _count_records(self, body: bytes | bytearray) -> None:
        from telemetryd_proto.record_bodies import to_lines  # noqa: PLC0415 - by HTTP only

        found = to_lines(body)
        for line in found.data.split(b"\n")[:-1]:
            blank = line in (b"", b"\r")
            _add(self._empty if blank else self._framed, len(line) + 1)
        if found.problem:
            _add(self._malformed, len(found.rest))

    def _count(self, fd: int, data: bytes) -> None:
        """Count whole lines and blank ones; at the end of the stream, what it cut off."""
        *lines, rest = data.split(b"\n")
        tail = self._tails.pop(fd, 0)
        for line in lines:
            size = tail + len(line) + 1
            blank = size == 1 or (size == 2 and line == b"\r")  # noqa: PLR2004 - CR and LF
            _add(self._empty if blank else self._framed, size)
            tail = 0
        if data:
            self._tails[fd] = tail + len(rest)
        elif tail:
            _add(self._truncated, tail)

    def _print_ledger(self) -> None:
        """Print the ledger: the daemon's counts before it failed, and these."""
        import json  # noqa: PLC0415 - at the very end, where no caller waits for it

        for tail in self._tails.values():
            if tail:
                _add(self._truncated, tail)
        ledger = self._session.ledger or {"sinks": {}, "balanced": True}
        rejected = ledger.setdefault("rejected", {})
        for place, count in (
            (ledger.setdefault("received", {}), self._framed),
            (ledger["received"], self._empty),
            (ledger["received"], self._truncated),
            (ledger["received"], self._too_long),
            (ledger["received"], self._malformed),
            (ledger.setdefault("framed", {}), self._framed),
            (ledger.setdefault("unrouted", {}), self._framed),
            (rejected.setdefault("empty", {}), self._empty),
            (rejected.setdefault("truncated", {}), self._truncated),
            (rejected.setdefault("too_long", {}), self._too_long),
            (rejected.setdefault("malformed_body", {}), self._malformed),
            (ledger.setdefault("upstream_dropped", {}), [0, 0]),
        ):
            place["lines"] = place.get("lines", 0) + count[0]
            place["bytes"] = place.get("bytes", 0) + count[1]
        framed = [ledger["framed"], *rejected.values()]
        for unit in ("lines", "bytes"):
            if ledger["received"][unit] != sum(leaf[unit] for leaf in framed):
                ledger["balanced"] = False
        line = {"event": "ledger", **ledger, "degraded": True, "ts": boot.timestamp()}
        text = json.dumps({**line, "logger": "telemetryd"}, separators=(",", ":")) + "\n"
        try:
            posix.write(2, text.encode())
        except OSError:
            return  # stderr is gone: no reader is left


def _add(count: list[int], size: int) -> None:
    count[0] += 1
    count[1] += size


def _deadline(body: bytes) -> float:
    """Return `deadlineMs` of a SHUTDOWN event in epoch seconds; 0 without a plausible one."""
    try:
        deadline = float(_member(body, b"deadlineMs").strip(b'"')) / 1000
    except ValueError:
        return 0.0
    # so no time that is not a number
    return deadline if abs(deadline - time.time()) < lifecycle.LONGEST_SECONDS else 0.0


def _member(body: bytes, name: bytes) -> bytes:
    """Return the value of the first member of this name: a number, or a string without a comma."""
    name = b'"' + name + b'"'
    at = body.find(name)
    while at >= 0:
        at += len(name)
        value = body[at : at + _MAX_VALUE_BYTES].lstrip()
        if value.startswith(b":"):
            return value[1:].split(b",")[0].split(b"}")[0].strip()
        at = body.find(name, at)
    return b""
