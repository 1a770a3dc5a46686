"""The first milliseconds of the extension: register, listen, subscribe, next.

The platform starts the function's runtime only after every extension has registered. It ends the
init phase only after every extension has asked for `next`. So this runs on raw sockets, before
asyncio, msgspec or anything else of telemetryd is imported. When `next` is in flight, the rest is
imported. If that, or anything later, fails, `fallback` keeps the function running.

Order and deadlines: Lambda Developer Guide, "Using the Lambda Extensions API to create extensions".
The listener must exist before the subscription, which must precede the first `next`.
"""

from __future__ import annotations

import _socket
import gc
import posix
import sys
import time

from telemetryd.extension import early, http

TYPE_CHECKING = False  # type checkers take it for typing's, which costs time to import
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from telemetryd.log import Level
    from telemetryd.log_events import EventName

REGISTER_FD = "TELEMETRYD_REGISTER_FD"
"""Set by a launcher that has sent the register request: the connected socket's descriptor."""
PARKED = "TELEMETRYD_PARKED"
"""Set by a launcher that has done all that is done here, and has waited until something arrived:

    LISTENER NEXT INVOCATIONS EARLY CONNECTION... IDENTIFIER

LISTENER, NEXT and CONNECTION are descriptors. NEXT is -1 if no `next` is on its way. INVOCATIONS
is how many INVOKE it has answered with another `next`, EARLY how many connections were there when
the subscription was answered. Nothing else was read from any of them (layer/c/park.h).
"""
LARGE_SHARE = "TELEMETRYD_LARGE_SHARE"
"""Set to 1 by a launcher that has measured a large share of a CPU during the init."""
REGISTERED = "TELEMETRYD_REGISTERED"
"""Set by a launcher that has registered, along with `PARKED`: the body of the answer."""
_API_SECONDS = 5.0
_BACKLOG = 16
_RECEIVE_BUFFER = 1024 * 1024


class Refused(Exception):  # noqa: N818 - a state of the API, not of ours
    """The platform refused a call: `status` and the beginning of its answer."""

    def __init__(self, call: str, status: int, body: bytes) -> None:
        super().__init__(f"{call} was answered with {status}: {body[:300].decode('latin-1')}")
        self.status = status
        self.body = body


def say(level: Level, event: EventName, **facts: object) -> None:
    """Write one JSON line to stderr, as telemetryd.log does, with nothing imported."""
    parts = [f'"level":"{level}","event":"{event}","logger":"telemetryd"']
    for name, value in facts.items():
        if isinstance(value, (int, float)):
            parts.append(f'"{name}":{value}')
        else:
            parts.append(f'"{name}":"{_escape(str(value)[:1000])}"')
    line = f'{{"ts":"{timestamp()}",{",".join(parts)}}}\n'
    try:
        posix.write(2, line.encode())
    except OSError:
        return  # stderr is gone: no reader is left


def timestamp() -> str:
    """Return the time as `2026-03-14T10:15:30.123Z`."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{stamp}.{int(now * 1000) % 1000:03d}Z"


def _escape(text: str) -> str:
    """Return `text` as the inside of a JSON string."""
    text = text.encode(errors="replace").decode()  # such as a path that is not UTF-8
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(max(char, " ") for char in text)


class Session:
    """The results of boot, for `run` and, if that fails, for `fallback`."""

    def __init__(self, api: str, name: str) -> None:
        host, _, port = api.rpartition(":")
        self.host = host.strip("[]") or "127.0.0.1"
        self.port = int(port)
        self.api = api
        self.name = name
        self.started = time.monotonic()
        self.settings = early.Early()
        self.identifier = ""
        self.registered = b""
        """The body of the answer to `register`. What it says is read when JSON can be."""
        self.registered_events: tuple[str, ...] = ()
        self.listener: _socket.socket | None = None
        self.early: list[_socket.socket] = []
        """Connections that were made before the subscription was answered: probably Lambda's."""
        self.late: list[_socket.socket] = []
        """Connections that the launcher has accepted after that."""
        self.parked = False
        """The launcher has waited in our place."""
        self.invocations = 0
        """INVOKE events that the launcher has answered with another `next`."""
        self.port_taken = False
        """The port could not be had, and any free one is used instead."""
        self.subscribed = False
        self.tells_ends = True
        """False if the schema has no `platform.runtimeDone`."""
        self.protocol = "tcp"
        """By which Lambda sends telemetry: `tcp` or `http`."""
        self.next_socket: _socket.socket | None = None
        self.next_sent = False
        """A `next` is on its way and its answer has not been read."""
        self.ended = False
        """There is nothing more to ask for: the platform said SHUTDOWN, or is gone."""
        self.ledger: dict[str, Any] | None = None
        """The counts of the daemon when it failed."""
        self.registered_after = 0.0
        self.next_after = 0.0
        self.busy_since = self.started
        """The time when the work after the first `next` began (monotonic). It does not wait."""
        self.busy_cpu = 0.0
        """Processor time used until then, in seconds."""

    def connect(self) -> _socket.socket:
        """Return a new connection to the API. Raises OSError."""
        # The host as bytes: for a string the interpreter would load its IDNA codec, and `re`.
        addresses = _socket.getaddrinfo(self.host.encode(), self.port, 0, _socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(addresses, 1):
            try:
                return _connect(_socket.socket(family, kind, protocol), address)
            except OSError:  # a name may stand for several, such as `localhost` for ::1 as well
                if number == len(addresses):
                    raise
        raise OSError(f"{self.host} has no address")

    def call(self, method: str, path: str, headers: dict[str, str], body: str) -> http.Answer:
        """Return the answer to a call, on its own connection. Raises OSError or ValueError."""
        sock = self.connect()
        try:
            sock.sendall(
                http.request(method, self.api, path, tuple(headers.items()), body.encode())
            )
            return read_answer(sock)
        finally:
            sock.close()

    def next_request(self) -> bytes:
        """Return the bytes of `GET /event/next`."""
        path = "/2020-01-01/extension/event/next"
        return http.request("GET", self.api, path, ((http.IDENTIFIER, self.identifier),))

    def send_next(self) -> None:
        """Ask for the next event, without waiting for the answer. Raises OSError."""
        if self.next_socket is None:
            self.next_socket = self.connect()
        self.next_socket.settimeout(_API_SECONDS)
        self.next_socket.sendall(self.next_request())
        self.next_sent = True
        if not self.next_after:
            self.busy_since = time.monotonic()
            self.busy_cpu = time.process_time()
            self.next_after = self.busy_since - self.started

    def report_init_error(self, error_type: str, error: str) -> None:
        """Fail the environment's init: only for `fail_closed`, only before the first `next`.

        Raises OSError or ValueError.
        """
        headers = {
            http.IDENTIFIER: self.identifier,
            "Lambda-Extension-Function-Error-Type": error_type,
        }
        text = _escape(error[:500])
        body = f'{{"errorType":"{error_type}","errorMessage":"{text}","stackTrace":[]}}'
        self.call("POST", "/2020-01-01/extension/init/error", headers, body)


def _connect(sock: _socket.socket, address: Any) -> _socket.socket:
    try:
        sock.settimeout(_API_SECONDS)
        sock.connect(address)
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


def read_answer(sock: _socket.socket) -> http.Answer:
    """Read one answer from a blocking socket. Raises OSError or ValueError."""
    answer = http.Answer()
    while not answer.feed(sock.recv(65536)):
        pass
    return answer


def extension_name(argv0: str) -> str:
    """Return the name to register under: the base name of the process's file."""
    name = argv0.rpartition("/")[2]
    return "telemetryd" if name in ("", "__main__.py", "-m", "-c") else name


def environment() -> dict[str, str]:
    """Return the content of `os.environ`. Loading `os` takes as long as everything here."""
    encoding = sys.getfilesystemencoding()
    return {
        name.decode(encoding, "surrogateescape"): value.decode(encoding, "surrogateescape")
        for name, value in posix.environ.items()
    }


def register(session: Session, environ: Mapping[str, str]) -> None:
    """Register, without INVOKE where the platform has none. Raises OSError, ValueError, Refused.

    Where our name is refused, as that of a program which a script in /opt/extensions has started,
    it is the script's name that the platform waits for.
    """
    session.settings = early.read(environ)
    events: tuple[str, ...] = ("INVOKE", "SHUTDOWN")
    if (
        session.settings.events == "shutdown"
        or environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "lambda-managed-instances"
    ):
        events = ("SHUTDOWN",)
    own, wanted = session.name, events
    handed_over = environ.get(REGISTER_FD, "")
    answer = None
    if handed_over.isdigit():
        sock = _socket.socket(fileno=int(handed_over))
        sock.settimeout(_API_SECONDS)
        answer = read_answer(sock)
        sock.close()
    while True:
        if answer is None:
            answer = _register_once(session, events)
        if answer.status == 200:  # noqa: PLR2004 - OK
            break
        if b"InvalidEventType" in answer.body and "INVOKE" in events:
            events, answer = ("SHUTDOWN",), None  # Managed Instances
            continue
        name = ""
        if answer.status == 403 and session.name == own:  # noqa: PLR2004 - Forbidden
            from telemetryd.extension.starter import name_of_starter  # noqa: PLC0415 - seldom

            name = name_of_starter(sys.argv[0], own)
        if not name:
            raise Refused("register", answer.status, answer.body)
        say("warning", "name_refused", name=own, used_instead=name)
        session.name, events, answer = name, wanted, None
    session.identifier = answer.headers.get(http.IDENTIFIER, "")
    session.registered = answer.body
    session.registered_events = events
    session.registered_after = time.monotonic() - session.started


def _register_once(session: Session, events: tuple[str, ...]) -> http.Answer:
    headers = {
        "Lambda-Extension-Name": session.name,
        "Lambda-Extension-Accept-Feature": "accountId",
    }
    body = '{"events":[' + ",".join(f'"{event}"' for event in events) + "]}"
    return session.call("POST", "/2020-01-01/extension/register", headers, body)


def resume(session: Session, environ: Mapping[str, str]) -> None:
    """Take over from a launcher that has registered, subscribed and asked for `next`.

    Raises ValueError or OSError for what no launcher has written.
    """
    *numbers, session.identifier = environ[PARKED].split(" ")
    listener, following, session.invocations, count, *connections = map(int, numbers)
    session.registered = environ.get(REGISTERED, "").encode(errors="surrogateescape")
    session.settings = early.read(environ)
    session.registered_events = ("INVOKE", "SHUTDOWN")
    session.parked = session.subscribed = True
    session.listener = _take_handed_over(listener)
    found = [_take_handed_over(fd) for fd in connections]
    session.early, session.late = found[:count], found[count:]
    if following >= 0:
        session.next_socket = _socket.socket(fileno=following)
        session.next_socket.settimeout(_API_SECONDS)
        session.next_sent = True
    session.busy_cpu = time.process_time()
    session.registered_after = session.next_after = time.monotonic() - session.started


def _take_handed_over(fd: int) -> _socket.socket:
    sock = _socket.socket(fileno=fd)
    sock.setblocking(False)
    return sock


def listen(session: Session) -> None:
    """Bind the telemetry port, or any free one if it can't be had. Raises OSError."""
    settings = session.settings
    try:
        session.listener = _bind(settings.host, settings.port)
    except (OSError, ValueError) as error:  # ValueError: what can't be a host name
        session.listener = _bind(early.HOST, 0)
        session.port_taken = True
        say(
            "warning",
            "port_not_available",
            host=settings.host,
            port=settings.port,
            error=error,
            used_instead=f"port {session.listener.getsockname()[1]} of every address",
            fix="set telemetry.host and telemetry.port (0 takes any free port)",
        )


def _bind(host: str, port: int) -> _socket.socket:
    if host == early.HOST:
        try:
            return _bound(host, port)
        except OSError:  # no IPv6 here, or somebody has the port at an IPv6 address only
            host = "0.0.0.0"
    return _bound(host, port)


def _bound(host: str, port: int) -> _socket.socket:
    sock = _socket.socket(_socket.AF_INET6 if ":" in host else _socket.AF_INET, _socket.SOCK_STREAM)
    try:
        if host == early.HOST:  # IPv4 as well, whatever net.ipv6.bindv6only says
            sock.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, _RECEIVE_BUFFER)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def subscribe(session: Session) -> None:
    """Subscribe to telemetry; whatever the answer, the function continues."""
    settings = session.settings
    session.protocol = "http" if settings.protocol == "http" else "tcp"
    if _subscribe(session) == 400 and settings.protocol == "auto":  # noqa: PLR2004 - Bad Request
        session.protocol = "http"
        _subscribe(session)


def _subscribe(session: Session) -> int:
    """Subscribe over `session.protocol`, with an older schema if need be; the last status."""
    assert session.listener is not None  # noqa: S101 - `listen` comes first
    settings = session.settings
    port = session.listener.getsockname()[1]
    destination = f'"protocol":"TCP","port":{port}'
    if session.protocol == "http":
        destination = f'"protocol":"HTTP","URI":"http://sandbox.localdomain:{port}/"'
    status = 0
    path = "/2020-08-15/logs"
    versions: tuple[str, ...] = early.LOGS_VERSIONS
    if settings.api == "telemetry":
        path, known = "/2022-07-01/telemetry", early.SCHEMA_VERSIONS
        versions = known[known.index(settings.schema_version) :][:2]
    for version in versions:
        try:
            answer = session.call(
                "PUT",
                path,
                {http.IDENTIFIER: session.identifier},
                '{"schemaVersion":"' + version + '",'
                '"types":[' + ",".join(f'"{kind}"' for kind in settings.types) + "],"
                f'"buffering":{{"maxItems":{settings.max_items},"maxBytes":{settings.max_bytes},'
                f'"timeoutMs":{settings.timeout_ms}}},'
                f'"destination":{{{destination}}}}}',
            )
        except (OSError, ValueError) as error:
            say("error", "subscription_failed", error=error)
            return 0
        status = answer.status
        if status == 200:  # noqa: PLR2004 - OK
            session.subscribed = True
            session.tells_ends = version != early.LOGS_VERSIONS[-1]
            _take_early(session)
            break
        level: Level = "warning" if answer.status == 202 else "error"  # noqa: PLR2004 - not supported here
        say(
            level,
            "subscription_refused",
            status=answer.status,
            schema_version=version,
            protocol=session.protocol,
            answer=answer.body[:300].decode("latin-1"),
            consequence="no telemetry arrives; the function is not affected",
        )
        if status != 400:  # noqa: PLR2004 - Bad Request: an older schema may pass
            break
    return status


def _take_early(session: Session) -> None:
    """Accept who has connected by now."""
    assert session.listener is not None  # noqa: S101 - `listen` comes first
    while len(session.early) < _BACKLOG:
        try:
            fd, _ = session.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001 - the raw module's own name
        except OSError:  # no other connection, most often
            return
        sock = _socket.socket(fileno=fd)
        sock.setblocking(False)
        session.early.append(sock)


def main(run: Callable[[Session], int], fall_back: Callable[[Session, BaseException], int]) -> int:
    """Run the extension from its first millisecond; the exit status.

    `run` is everything after `next`, `fall_back` what serves the function if that fails. The
    caller loads both only when they are called.
    """
    gc.disable()  # what is imported stays; `run` enables it once everything is up
    environ = environment()
    api, name = environ["AWS_LAMBDA_RUNTIME_API"], extension_name(sys.argv[0])
    try:
        session = Session(api, name)
        if parked := PARKED in environ:
            resume(session, environ)
        else:
            register(session, environ)
    except (OSError, ValueError, Refused) as error:
        fix = "the name must be that of the file in /opt/extensions: give a wrapper the same name"
        facts = {"fix": fix} if getattr(error, "status", 0) == 403 else {}  # noqa: PLR2004 - Forbidden
        say("error", "register_failed", name=name, api=api, error=error, **facts)
        return 1
    try:
        # A large share may end with the init: what can be done until then is cheaper than later.
        holds = session.settings.next == "auto" and environ.get(LARGE_SHARE) == "1"
        if not parked:
            listen(session)
            subscribe(session)
        if not (session.next_sent or holds or session.settings.next == "ready"):
            session.send_next()
        return run(session)
    except BaseException as error:  # noqa: BLE001 - a native module's panic is no Exception
        if session.settings.fail_closed and not session.next_after and _report(session, error):
            return 1
        return fall_back(session, error)


def _report(session: Session, error: BaseException) -> bool:
    """Report the error as `fail_closed` asks for; False if even that can't be done."""
    say("error", "start_failed", error=repr(error), consequence="fail_closed: init fails")
    try:
        session.report_init_error("Extension.StartFailed", repr(error))
    except (OSError, ValueError) as gone:
        say("error", "init_error_not_reported", error=gone)
        return False
    return True
