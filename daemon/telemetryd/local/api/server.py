"""The server of the Extensions API, version 2020-01-01, without I/O.

A platform passes each request to it and acts upon the result: a response, a `next` that waits, a
reported error, or a subscription to make. The server knows no socket, no clock and no loop. Its
maker supplies the ids. Only the server knows what is registered, and what each extension may do
next.

Source of the rules: "Using the Lambda Extensions API" and AWS's Runtime Interface Emulator.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn

from telemetryd.local.api.wire import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from telemetryd.local.api.wire import Request

PREFIX: Final = "/2020-01-01/extension"
REGISTER: Final = f"{PREFIX}/register"
NEXT: Final = f"{PREFIX}/event/next"
INIT_ERROR: Final = f"{PREFIX}/init/error"
EXIT_ERROR: Final = f"{PREFIX}/exit/error"
TELEMETRY: Final = "/2022-07-01/telemetry"
LOGS: Final = "/2020-08-15/logs"
"""The Telemetry API's predecessor; its call has the same form."""

MAX_EXTENSIONS: Final = 10
"""Extensions of one function, internal and external together (Lambda quotas)."""

EVENT_TYPES: Final = ("INVOKE", "SHUTDOWN")
State = Literal[
    "Started",
    "Registered",
    "Ready",
    "Running",
    "InitError",
    "ExitError",
    "LaunchError",
    "Exited",
    "ShutdownFailed",
]
"""The states of the telemetry event `platform.extension`."""
ErrorState = Literal["InitError", "ExitError"]

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    "Started": frozenset({"Registered", "LaunchError"}),
    "Registered": frozenset({"Ready", "InitError", "ExitError"}),
    "Ready": frozenset({"Ready", "Running", "ExitError"}),
    "Running": frozenset({"Ready", "ExitError"}),
    "InitError": frozenset({"InitError"}),
    "ExitError": frozenset({"ExitError"}),
}
"""The states that calls and events may lead to. The process may end in any state."""

_ERROR_TYPE = re.compile(r"Extension\.[A-Z][a-zA-Z]+")
_JSON = ("Content-Type", "application/json")
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def json_answer(body: object, status: int = 200, *headers: tuple[str, str]) -> Answer:
    """Return an answer whose body is JSON."""
    return Answer(status, _encode(body).encode("utf-8", "replace"), (_JSON, *headers))


ACCEPTED: Final = json_answer({"status": "OK"}, 202)
"""The answer to a report of an error."""
SUBSCRIBED: Final = json_answer("OK")._replace(headers=(_TEXT,))
"""The answer to a subscription; its type is as observed."""


class Refused(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The call is answered with an error."""

    def __init__(self, error_type: str, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type

    def answer(self) -> Answer:
        """Return `{"errorMessage", "errorType"}` with the status."""
        return json_answer({"errorMessage": str(self), "errorType": self.error_type}, self.status)


class Function(NamedTuple):
    """The facts of the function in the response to a registration."""

    name: str
    version: str
    handler: str
    account_id: str | None = None
    """Told to those who accept the feature; None: to none."""


class Extension:
    """One extension: its state, and the events that wait for it."""

    def __init__(self, name: str, *, internal: bool) -> None:
        self.name = name
        self.internal = internal
        """Inside the runtime, without a process of its own."""
        self.identifier = ""
        """Empty until it has registered."""
        self.state: State = "Started"
        self.events: tuple[str, ...] = ()
        """Events that it registered for."""
        self.error_type: str | None = None
        self.shutdown_sent = False
        self._polls = False
        self._queue: deque[Mapping[str, Any]] = deque()

    @property
    def is_registered(self) -> bool:
        """True if the extension has registered, even if it has ended since."""
        return self.state not in ("Started", "LaunchError")

    @property
    def at_rest(self) -> bool:
        """True if it has asked for the next event and has received all earlier ones."""
        return self.state == "Ready" and not self._queue

    @property
    def may_poll(self) -> bool:
        """True if it may ask for `next`: it has registered and has not ended."""
        return "Ready" in TRANSITIONS.get(self.state, ())

    # -- what it calls: each raises `Refused` where its state does not allow it -----------------

    def register(self, identifier: str, events: tuple[str, ...]) -> None:
        """Take its registration."""
        self._move("Registered", f" for extension {self.name}")
        self.identifier = identifier
        self.events = events

    def begin_poll(self) -> None:
        """Take a call of `next`, one at a time."""
        if self._polls:
            raise self._refuse("Ready")
        self._move("Ready")
        self._polls = True

    def report_error(self, state: ErrorState, error_type: str) -> None:
        """Take an init error, or an exit error. Of repeated ones the first type stays."""
        again = self.state == state
        self._move(state)
        if not again:
            self.error_type = error_type

    def _move(self, state: State, whose: str = "") -> None:
        if state not in TRANSITIONS.get(self.state, ()):
            raise self._refuse(state, whose)
        self.state = state

    def _refuse(self, state: State, whose: str = "") -> Refused:
        return Refused(
            "Extension.InvalidExtensionState",
            f"State transition from {self.state} to {state} failed{whose}",
        )

    # -- what the platform does ---------------------------------------------------------------

    def send(self, event: Mapping[str, Any]) -> None:
        """Queue an event for its `next`."""
        self._queue.append(event)
        if event["eventType"] == "SHUTDOWN":
            self.shutdown_sent = True

    def take(self) -> Mapping[str, Any] | None:
        """Return the event that answers the held call of `next`; None if there is none yet."""
        if not (self._polls and self._queue):
            return None
        self._polls = False
        if self.state == "Ready":  # an error may have been reported since
            self._move("Running")
        return self._queue.popleft()

    def hang_up(self) -> None:
        """End the held call of `next`: its connection is gone. Events wait for another call."""
        self._polls = False

    def fail_launch(self, error_type: str) -> None:
        """Note that its process could not be started."""
        self._move("LaunchError")
        self.error_type = error_type

    def end(self, *, clean: bool) -> None:
        """Note the end of its process in a shutdown: by itself with status 0, or not so."""
        self.state = "Exited" if clean else "ShutdownFailed"


class Registered(NamedTuple):
    """An extension has registered."""

    answer: Answer
    extension: Extension


class Polling(NamedTuple):
    """An extension asks for its next event: `ExtensionsServer.take` has the answer, or will."""

    answer: None
    extension: Extension


class Reported(NamedTuple):
    """An extension reported an error, which ends the environment."""

    answer: Answer
    extension: Extension
    error_type: str
    message: str


class Subscribing(NamedTuple):
    """An extension wants telemetry. The platform may put its own answer in place of this one."""

    answer: Answer
    extension: Extension


class RefusedCall(NamedTuple):
    """The call changes nothing."""

    answer: Answer
    refusal: Refused


Outcome = Registered | Polling | Reported | Subscribing | RefusedCall


class ExtensionsServer:
    """The registrations of one generation of processes.

    `external` names the extensions that the platform starts; any other name is an internal
    extension's. None: each name is an external extension's. `new_id` makes identifiers, which
    must be UUIDs.
    """

    def __init__(
        self,
        function: Function,
        new_id: Callable[[], str],
        *,
        external: Collection[str] | None = None,
        managed: bool = False,
    ) -> None:
        self.extensions: dict[str, Extension] = {
            name: Extension(name, internal=False) for name in external or ()
        }
        """The extensions by name, in order of arrival."""
        self._function = function
        self._new_id = new_id
        self._any_is_external = external is None
        self._managed = managed
        self._closed = False
        self._calls: Mapping[tuple[str, str], Callable[[Request], Outcome]] = {
            ("POST", REGISTER): self._register,
            ("GET", NEXT): self._next,
            ("POST", INIT_ERROR): lambda request: self._report(request, "InitError"),
            ("POST", EXIT_ERROR): lambda request: self._report(request, "ExitError"),
            ("PUT", TELEMETRY): self._subscribe,
            ("PUT", LOGS): self._subscribe,
        }

    # -- what extensions call ---------------------------------------------------------------

    def receive(self, request: Request) -> Outcome:
        """Take one call. What may not be now is refused and changes nothing."""
        call = self._calls.get((request.method, request.path), _refuse_path)
        try:
            return call(request)
        except Refused as refused:
            return RefusedCall(refused.answer(), refused)

    def _identify(self, headers: Mapping[str, str]) -> Extension:
        """Return the extension whose identifier the headers carry. Raises `Refused`."""
        identifier = _read_identifier(headers)
        for extension in self.extensions.values():
            if extension.identifier == identifier:
                return extension
        raise _refuse_unknown()

    def _register(self, request: Request) -> Registered:
        name = request.headers.get("lambda-extension-name", "")
        if not name:
            raise Refused("Extension.InvalidExtensionName", "Empty extension name")
        events = _parse_events(request.body)
        extension = self.extensions.get(name)
        external = self._any_is_external or (extension is not None and not extension.internal)
        _check_events(events, external=external, managed=self._managed)
        if extension is None:
            extension = self._admit(name, internal=not external)
        extension.register(self._new_id(), tuple(events))
        self.extensions[name] = extension
        answer = {
            "functionName": self._function.name,
            "functionVersion": self._function.version,
            "handler": self._function.handler,
        }
        features = request.headers.get("lambda-extension-accept-feature", "")
        accepted = "accountId" in (feature.strip() for feature in features.split(","))
        if accepted and self._function.account_id is not None:
            answer["accountId"] = self._function.account_id
        identity = ("Lambda-Extension-Identifier", extension.identifier)
        return Registered(json_answer(answer, 200, identity), extension)

    def _admit(self, name: str, *, internal: bool) -> Extension:
        """Return an extension of a name that is new, if there may be another."""
        if internal and self._closed:
            raise Refused("Extension.RegistrationClosed", "Extension registration closed already")
        if len(self.extensions) >= MAX_EXTENSIONS:
            raise Refused(
                "Extension.TooManyExtensions", f"Extension limit ({MAX_EXTENSIONS}) reached"
            )
        return Extension(name, internal=internal)

    def _next(self, request: Request) -> Polling:
        _check_no_body(request)
        extension = self._identify(request.headers)
        extension.begin_poll()
        return Polling(None, extension)

    def _report(self, request: Request, state: ErrorState) -> Reported:
        extension = self._identify(request.headers)
        error_type = request.headers.get("lambda-extension-function-error-type")
        if not error_type:
            raise Refused(
                "Extension.MissingHeader", "Lambda-Extension-Function-Error-Type not found"
            )
        if _ERROR_TYPE.fullmatch(error_type) is None:
            error_type = f"Extension.{state}"
        extension.report_error(state, error_type)
        message = request.body.decode("utf-8", "replace") or f"{state} reported"
        return Reported(ACCEPTED, extension, error_type, message)

    def _subscribe(self, request: Request) -> Subscribing:
        return Subscribing(SUBSCRIBED, self._identify(request.headers))

    # -- what the platform does -------------------------------------------------------------

    def take(self, extension: Extension) -> Answer | None:
        """Return the answer to the call of `next` that is held; None if there is none yet."""
        event = extension.take()
        if event is None:
            return None
        if event["eventType"] == "SHUTDOWN":
            # As observed: neither a JSON content type nor an event identifier.
            return json_answer(event)._replace(headers=(_TEXT,))
        return json_answer(event, 200, ("Lambda-Extension-Event-Identifier", self._new_id()))

    def close_registration(self) -> None:
        """Refuse further internal extensions, because the runtime has asked for an invocation."""
        self._closed = True


def refuse_all(request: Request) -> Answer:
    """Return the answer between two environments: nothing is registered, and nothing can be."""
    if request.path == REGISTER:
        return Refused("InternalServerError", "no environment is running", 500).answer()
    try:
        if request.path == NEXT:
            _check_no_body(request)
        _read_identifier(request.headers)
    except Refused as refused:
        return refused.answer()
    return _refuse_unknown().answer()


def _refuse_path(request: Request) -> NoReturn:
    raise Refused("NotFound", f"{request.method} {request.path}: no such call", 404)


def _refuse_unknown() -> Refused:
    return Refused("Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier")


def _check_no_body(request: Request) -> None:
    if request.body:
        raise Refused("InvalidRequestFormat", "event/next takes no request body")


def _read_identifier(headers: Mapping[str, str]) -> str:
    """Return the identifier that a call carries. Raises `Refused`."""
    value = headers.get("lambda-extension-identifier")
    if not value:
        raise Refused(
            "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"
        )
    try:
        uuid.UUID(value)
    except ValueError:
        raise Refused(
            "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"
        ) from None
    return value


def _parse_events(body: bytes) -> list[str]:
    """Return the events of a body of `register`. Raises `Refused`."""
    try:
        wanted = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise Refused("InvalidRequestFormat", f"invalid request body: {error}") from None
    if not isinstance(wanted, dict):
        raise Refused("InvalidRequestFormat", "invalid request body: expected an object")
    lists = {key: wanted.get(key, []) for key in ("events", "configurationKeys")}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise Refused(
                "InvalidRequestFormat", f"invalid request body: {key}: expected a list of strings"
            )
    if lists["configurationKeys"]:
        raise Refused("InvalidRequestFormat", "configurationKeys is not supported")
    events: list[str] = lists["events"]
    return events


def _check_events(events: list[str], *, external: bool, managed: bool) -> None:
    """Raise `Refused` for an event that this extension can't have."""
    for event in events:
        if event not in EVENT_TYPES:
            raise Refused("Extension.InvalidEventType", f"{event}: ErrorInvalidEventType")
        if managed and (event == "INVOKE" or not external):
            raise Refused("Extension.InvalidEventType", f"{event}: ErrorInvalidEventType")
        if event == "SHUTDOWN" and not external:
            raise Refused(
                "Extension.InvalidEventType", "SHUTDOWN: not allowed for internal extensions"
            )
