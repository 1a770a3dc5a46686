"""The server of the Extensions API by itself: every order of calls, every refusal, every answer."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import telemetryd
from telemetryd.local.api.server import (
    ACCEPTED,
    EXIT_ERROR,
    INIT_ERROR,
    MAX_EXTENSIONS,
    NEXT,
    REGISTER,
    SUBSCRIBED,
    TELEMETRY,
    Extension,
    ExtensionsServer,
    Function,
    Outcome,
    Polling,
    Refused,
    RefusedCall,
    Registered,
    Reported,
    Subscribing,
    refuse_all,
)
from telemetryd.local.api.wire import Answer, Request

FUNCTION = Function("orders", "7", "app.handler", "000011112222")
BOTH = ("INVOKE", "SHUTDOWN")
INVOKE = {"eventType": "INVOKE", "requestId": "r", "deadlineMs": 1}
SHUTDOWN = {"eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": 2}
JSON = {"Content-Type": "application/json"}
STATE = "Extension.InvalidExtensionState"


class Platform:
    """A server whose ids count up, and calls of it as extensions make them."""

    def __init__(self, external: Sequence[str] | None = ("ext",), *, managed: bool = False) -> None:
        numbers = itertools.count(1)
        self.server = ExtensionsServer(
            FUNCTION, lambda: f"00000000-0000-4000-8000-{next(numbers):012}",
            external=external, managed=managed,
        )  # fmt: skip

    def call(self, method: str, path: str, body: bytes = b"", **headers: str | None) -> Outcome:
        """Hand over a call; the keywords are headers, less what all begin with."""
        given = {f"lambda-extension-{k.replace('_', '-')}": v for k, v in headers.items() if v}
        return self.server.receive(Request(method, path, given, body))

    def register(self, name: str = "ext", events: Sequence[str] = BOTH, **more: str) -> Outcome:
        """Call `register`."""
        body = json.dumps({"events": events}).encode()
        return self.call("POST", REGISTER, body, name=name, **more)

    def registered(self, name: str = "ext", events: Sequence[str] = BOTH) -> Extension:
        """Return what has registered."""
        outcome = self.register(name, events)
        assert isinstance(outcome, Registered), outcome
        return outcome.extension

    def next(self, extension: Extension) -> Outcome:
        """Call `next`."""
        return self.call("GET", NEXT, identifier=extension.identifier)

    def report(
        self, path: str, extension: Extension, error_type: str = "Extension.Bad", body: bytes = b""
    ) -> Outcome:
        """Call `init/error` or `exit/error`."""
        return self.call(
            "POST", path, body, identifier=extension.identifier, function_error_type=error_type
        )


def refusal(outcome: Outcome) -> tuple[int, str]:
    """Status and type of a refusal; its body has the type and the message, and is JSON."""
    assert isinstance(outcome, RefusedCall), outcome
    body = json.loads(outcome.answer.body)
    assert body == {
        "errorMessage": str(outcome.refusal).encode("utf-8", "replace").decode(),
        "errorType": outcome.refusal.error_type,
    }
    assert body["errorMessage"]
    assert dict(outcome.answer.headers) == JSON
    assert outcome.answer.status == outcome.refusal.status
    return outcome.answer.status, body["errorType"]


def content(answer: Answer | None) -> tuple[int, Any, Mapping[str, str]]:
    """Status, decoded body and headers of an answer."""
    assert answer is not None
    return answer.status, json.loads(answer.body), dict(answer.headers)


# -- register ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("feature", "is_told"),
    [
        ({}, False),
        ({"accept_feature": "accountId"}, True),
        ({"accept_feature": "other, accountId ,"}, True),
        ({"accept_feature": "accountid"}, False),
    ],
)
def test_registration_tells_about_the_function(feature: dict[str, str], is_told: bool) -> None:
    """The account only where the feature was asked for; the identifier is a header."""
    outcome = Platform().register(**feature)
    assert isinstance(outcome, Registered)
    body = {"functionName": "orders", "functionVersion": "7", "handler": "app.handler"}
    account = {"accountId": "000011112222"} if is_told else {}
    identity = {"Lambda-Extension-Identifier": "00000000-0000-4000-8000-000000000001"}
    assert content(outcome.answer) == (200, body | account, JSON | identity)
    extension = outcome.extension
    assert (extension.name, extension.events, extension.internal) == ("ext", BOTH, False)
    assert extension.identifier == identity["Lambda-Extension-Identifier"]
    assert (extension.state, extension.is_registered, extension.at_rest) == (
        "Registered", True, False,
    )  # fmt: skip


def test_an_account_that_is_not_known_is_told_to_none() -> None:
    """The member is absent."""
    server = ExtensionsServer(FUNCTION._replace(account_id=None), lambda: "1")
    headers = {"lambda-extension-name": "e", "lambda-extension-accept-feature": "accountId"}
    outcome = server.receive(Request("POST", REGISTER, headers, b"{}"))
    assert "accountId" not in content(outcome.answer)[1]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"no JSON", b"\xff", b'{"events":null}', b'{"events":"INVOKE"}',
        b'{"events":[1]}', b'{"configurationKeys":[null]}', b'{"configurationKeys":["a"]}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_body_of_another_form_is_refused(body: bytes) -> None:
    """403, not 400."""
    platform = Platform()
    assert refusal(platform.call("POST", REGISTER, body, name="ext")) == (
        403, "InvalidRequestFormat",
    )  # fmt: skip
    assert platform.server.extensions["ext"].state == "Started"


@pytest.mark.parametrize("body", [b"{}", b'{"events":[],"configurationKeys":[],"other":1}'])
def test_an_extension_may_want_no_events(body: bytes) -> None:
    """The list may be absent or empty; other members are not looked at."""
    platform = Platform()
    assert isinstance(platform.call("POST", REGISTER, body, name="ext"), Registered)
    assert platform.server.extensions["ext"].events == ()


@pytest.mark.parametrize(
    ("name", "events", "managed", "error_type"),
    [
        ("", BOTH, False, "Extension.InvalidExtensionName"),
        ("ext", ["INVOKE", "RESTORE"], False, "Extension.InvalidEventType"),
        ("ext", ["\ud800"], False, "Extension.InvalidEventType"),
        ("ext", ["INVOKE"], True, "Extension.InvalidEventType"),
        ("inside", ["SHUTDOWN"], False, "Extension.InvalidEventType"),
        ("inside", ["SHUTDOWN"], True, "Extension.InvalidEventType"),
        ("inside", ["INVOKE"], True, "Extension.InvalidEventType"),
    ],
)
def test_names_and_events_that_are_refused(
    name: str, events: Sequence[str], managed: bool, error_type: str
) -> None:
    """SHUTDOWN is for external extensions; on managed instances there is nothing else."""
    platform = Platform(managed=managed)
    assert refusal(platform.register(name, events)) == (403, error_type)
    assert list(platform.server.extensions) == ["ext"]


def test_managed_instances_have_shutdown() -> None:
    """Alone, or no event at all, for an internal extension as well."""
    platform = Platform(managed=True)
    assert platform.registered(events=["SHUTDOWN"]).events == ("SHUTDOWN",)
    assert platform.registered("inside", []).events == ()


@pytest.mark.parametrize("name", ["ext", "inside"])
def test_one_registers_once(name: str) -> None:
    """The identifier of the first time goes on being good."""
    platform = Platform()
    extension = platform.registered(name, ["INVOKE"])
    assert refusal(platform.register(name, ["INVOKE"])) == (403, STATE)
    assert isinstance(platform.next(extension), Polling)
    assert refusal(platform.register(name, ["INVOKE"])) == (403, STATE)


def test_internal_extensions_may_come_until_the_runtime_asks() -> None:
    """External ones may come later."""
    platform = Platform()
    assert platform.registered("early", ["INVOKE"]).internal
    platform.server.close_registration()
    assert refusal(platform.register("late", ["INVOKE"])) == (403, "Extension.RegistrationClosed")
    assert not platform.registered("ext").internal


@pytest.mark.parametrize("external", [("ext",), None])
def test_there_are_ten_at_most(external: Sequence[str] | None) -> None:
    """Internal and external together, those that have not registered included."""
    platform = Platform(external)
    for number in range(MAX_EXTENSIONS - len(external or ())):
        platform.registered(f"e{number}", ["INVOKE"])
    assert refusal(platform.register("more", ["INVOKE"])) == (403, "Extension.TooManyExtensions")
    assert len(platform.server.extensions) == MAX_EXTENSIONS


def test_each_name_may_be_an_external_extensions() -> None:
    """For platforms that start whatever they are given."""
    platform = Platform(None)
    assert not platform.registered("anything", BOTH).internal
    platform.server.close_registration()
    assert not platform.registered("later", BOTH).internal


# -- who calls --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", NEXT), ("POST", INIT_ERROR), ("POST", EXIT_ERROR), ("PUT", TELEMETRY)],
)
@pytest.mark.parametrize(
    ("identifier", "error_type"),
    [
        (None, "Extension.MissingExtensionIdentifier"),
        ("not-a-uuid", "Extension.InvalidExtensionIdentifier"),
        ("00000000-0000-4000-8000-00000000ffff", "Extension.UnknownExtensionIdentifier"),
    ],
)
def test_the_identifier_is_looked_at_first(
    method: str, path: str, identifier: str | None, error_type: str
) -> None:
    """By every call but `register`."""
    platform = Platform()
    extension = platform.registered()
    outcome = platform.call(method, path, identifier=identifier)
    assert refusal(outcome) == (403, error_type)
    assert extension.state == "Registered"
    assert content(refuse_all(Request(method, path, {}, b"")))[1]["errorType"] == (
        "Extension.MissingExtensionIdentifier"
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", REGISTER), ("POST", NEXT), ("GET", INIT_ERROR), ("POST", TELEMETRY), ("GET", "/"),
     ("PUT", f"{TELEMETRY}/")],
)  # fmt: skip
def test_other_calls_are_not_found(method: str, path: str) -> None:
    """Another method is another call."""
    assert refusal(Platform().call(method, path)) == (404, "NotFound")


@pytest.mark.parametrize(
    ("path", "headers", "body", "status", "error_type"),
    [
        (REGISTER, {}, b"", 500, "InternalServerError"),
        (NEXT, {}, b"x", 403, "InvalidRequestFormat"),
        (NEXT, {"lambda-extension-identifier": "x"}, b"", 403,
         "Extension.InvalidExtensionIdentifier"),
        (TELEMETRY, {"lambda-extension-identifier": "00000000-0000-4000-8000-000000000001"}, b"",
         403, "Extension.UnknownExtensionIdentifier"),
    ],
)  # fmt: skip
def test_between_two_environments_all_is_refused(
    path: str, headers: Mapping[str, str], body: bytes, status: int, error_type: str
) -> None:
    """An identifier of the one before is not known."""
    answer = content(refuse_all(Request("any", path, headers, body)))
    assert (answer[0], answer[1]["errorType"]) == (status, error_type)


# -- next -------------------------------------------------------------------------------------


def test_next_waits_for_an_event() -> None:
    """Held until one is sent; answered once; the state says where it is."""
    platform = Platform()
    extension = platform.registered()
    outcome = platform.next(extension)
    assert outcome == Polling(None, extension)
    assert platform.server.take(extension) is None
    assert (extension.state, extension.at_rest) == ("Ready", True)
    extension.send(INVOKE)
    assert (extension.state, extension.at_rest) == ("Ready", False)
    identity = {"Lambda-Extension-Event-Identifier": "00000000-0000-4000-8000-000000000002"}
    assert content(platform.server.take(extension)) == (200, INVOKE, JSON | identity)
    assert (extension.state, extension.at_rest) == ("Running", False)
    assert platform.server.take(extension) is None


def test_events_wait_for_next_in_their_order() -> None:
    """Sent before it was asked for: each is taken by one call."""
    platform = Platform()
    extension = platform.registered()
    for number in range(3):
        extension.send(INVOKE | {"deadlineMs": number})
    assert platform.server.take(extension) is None
    for number in range(3):
        platform.next(extension)
        assert not extension.at_rest
        assert content(platform.server.take(extension))[1]["deadlineMs"] == number
    platform.next(extension)
    assert extension.at_rest


def test_shutdown_has_another_form() -> None:
    """Plain text by its type, without an identifier; another `next` may follow it."""
    platform = Platform()
    extension = platform.registered()
    platform.next(extension)
    before = extension.shutdown_sent
    extension.send(SHUTDOWN)
    assert (before, extension.shutdown_sent) == (False, True)
    plain = {"Content-Type": "text/plain; charset=utf-8"}
    assert content(platform.server.take(extension)) == (200, SHUTDOWN, plain)
    assert isinstance(platform.next(extension), Polling)
    assert extension.at_rest


def test_an_event_is_sent_as_it_is_and_without_spaces() -> None:
    """UTF-8, not escaped."""
    platform = Platform()
    extension = platform.registered()
    platform.next(extension)
    extension.send({"eventType": "INVOKE", "tracing": {"value": "ü"}})
    answer = platform.server.take(extension)
    assert answer is not None
    assert answer.body == '{"eventType":"INVOKE","tracing":{"value":"ü"}}'.encode()


def test_one_next_at_a_time() -> None:
    """The second is refused, the first goes on waiting."""
    platform = Platform()
    extension = platform.registered()
    platform.next(extension)
    assert refusal(platform.next(extension)) == (403, STATE)
    extension.send(INVOKE)
    assert platform.server.take(extension) is not None


def test_next_may_be_asked_for_again_when_its_connection_is_gone() -> None:
    """The event that came in between is not lost."""
    platform = Platform()
    extension = platform.registered()
    platform.next(extension)
    extension.hang_up()
    extension.send(INVOKE)
    assert platform.server.take(extension) is None
    assert isinstance(platform.next(extension), Polling)
    assert content(platform.server.take(extension))[1] == INVOKE


def test_next_has_no_body() -> None:
    """Refused before anything else is looked at."""
    platform = Platform()
    extension = platform.registered()
    outcome = platform.call("GET", NEXT, b"{}", identifier=extension.identifier)
    assert refusal(outcome) == (403, "InvalidRequestFormat")
    assert extension.state == "Registered"


def test_extensions_do_not_share_what_waits() -> None:
    """Each has its identifier and its events."""
    platform = Platform(("a", "b"))
    a, b = platform.registered("a"), platform.registered("b")
    platform.next(a)
    platform.next(b)
    b.send(INVOKE)
    assert platform.server.take(a) is None
    assert platform.server.take(b) is not None
    assert (a.state, b.state) == ("Ready", "Running")


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "state"), [(INIT_ERROR, "InitError"), (EXIT_ERROR, "ExitError")])
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Extension.ConfigInvalid", "Extension.ConfigInvalid"),
        ("ConfigInvalid", None),
        ("Extension.lower", None),
        ("Extension.A1", None),
        ("Extension.Ab\n", None),
    ],
)
def test_an_error_is_reported(path: str, state: str, given: str, kept: str | None) -> None:
    """202; a type of another form is replaced; nothing but the same report may follow."""
    platform = Platform()
    extension = platform.registered()
    outcome = platform.report(path, extension, given, b'{"errorMessage":"\xff"}')
    error_type = kept or f"Extension.{state}"
    message = '{"errorMessage":"\ufffd"}'
    assert outcome == Reported(ACCEPTED, extension, error_type, message)
    assert content(ACCEPTED) == (202, {"status": "OK"}, JSON)
    assert (extension.state, extension.error_type) == (state, error_type)
    again = platform.report(path, extension, "Extension.Other")
    assert again == Reported(ACCEPTED, extension, "Extension.Other", f"{state} reported")
    assert extension.error_type == error_type
    other = EXIT_ERROR if path == INIT_ERROR else INIT_ERROR
    for refused in (platform.next(extension), platform.report(other, extension)):
        assert refusal(refused) == (403, STATE)
    assert extension.is_registered
    assert not extension.may_poll


def test_an_error_has_a_type() -> None:
    """Without the header nothing is reported."""
    platform = Platform()
    extension = platform.registered()
    for path in (INIT_ERROR, EXIT_ERROR):
        assert refusal(platform.report(path, extension, "")) == (403, "Extension.MissingHeader")
    assert extension.state == "Registered"


def test_an_init_error_comes_before_the_first_next() -> None:
    """An exit error at any time."""
    platform = Platform(("a", "b"))
    ready, running = platform.registered("a"), platform.registered("b")
    platform.next(ready)
    platform.next(running)
    running.send(INVOKE)
    platform.server.take(running)
    for extension in (ready, running):
        assert refusal(platform.report(INIT_ERROR, extension)) == (403, STATE)
        assert isinstance(platform.report(EXIT_ERROR, extension), Reported)


def test_an_error_stays_when_the_held_next_is_answered() -> None:
    """Reported over another connection while `next` was held."""
    platform = Platform()
    extension = platform.registered()
    platform.next(extension)
    platform.report(EXIT_ERROR, extension)
    extension.send(SHUTDOWN)
    assert platform.server.take(extension) is not None
    assert extension.state == "ExitError"


# -- telemetry and processes ------------------------------------------------------------------


def test_a_subscription_is_left_to_the_platform() -> None:
    """Once it is known who wants it; with the answer to give."""
    platform = Platform()
    extension = platform.registered()
    outcome = platform.call("PUT", TELEMETRY, b"{}", identifier=extension.identifier)
    assert outcome == Subscribing(SUBSCRIBED, extension)
    assert content(SUBSCRIBED) == (200, "OK", {"Content-Type": "text/plain; charset=utf-8"})


def test_a_process_that_can_not_be_started() -> None:
    """It has not registered, and can't."""
    platform = Platform()
    extension = platform.server.extensions["ext"]
    extension.fail_launch("PermissionDenied")
    assert (extension.state, extension.error_type) == ("LaunchError", "PermissionDenied")
    assert not extension.is_registered
    assert refusal(platform.register()) == (403, STATE)
    assert list(platform.server.extensions) == ["ext"]


def test_a_process_that_registered_was_started() -> None:
    """A launch can't fail after that."""
    extension = Platform().registered()
    with pytest.raises(Refused, match="from Registered to LaunchError"):
        extension.fail_launch("PermissionDenied")


@pytest.mark.parametrize(("clean", "state"), [(True, "Exited"), (False, "ShutdownFailed")])
def test_the_end_of_a_process(clean: bool, state: str) -> None:
    """Nothing follows it."""
    platform = Platform()
    extension = platform.registered()
    before = extension.may_poll
    extension.end(clean=clean)
    assert (extension.state, before, extension.may_poll) == (state, True, False)
    assert refusal(platform.next(extension)) == (403, STATE)
    assert refusal(platform.report(EXIT_ERROR, extension)) == (403, STATE)


CALLS: dict[str, Callable[[Platform, Extension], Outcome]] = {
    "register": lambda platform, _: platform.register(),
    "next": lambda platform, extension: platform.next(extension),
    "init/error": lambda platform, extension: platform.report(INIT_ERROR, extension),
    "exit/error": lambda platform, extension: platform.report(EXIT_ERROR, extension),
}
ALLOWED: dict[str, set[str]] = {
    "Registered": {"next", "init/error", "exit/error"},
    "Ready": {"exit/error"},  # its `next` is held
    "Running": {"next", "exit/error"},
    "InitError": {"init/error"},
    "ExitError": {"exit/error"},
    "Exited": set(),
    "ShutdownFailed": set(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", ALLOWED)
def test_every_call_in_every_state(state: str, call: str) -> None:
    """What is refused changes nothing."""
    platform = Platform()
    extension = platform.registered()
    if state in ("Ready", "Running"):
        platform.next(extension)
    if state == "Running":
        extension.send(INVOKE)
        platform.server.take(extension)
    if state.endswith("Error"):
        platform.report(INIT_ERROR if state == "InitError" else EXIT_ERROR, extension)
    if state in ("Exited", "ShutdownFailed"):
        extension.end(clean=state == "Exited")
    assert extension.state == state
    before = dict(vars(extension))
    outcome = CALLS[call](platform, extension)
    if call in ALLOWED[state]:
        assert not isinstance(outcome, RefusedCall)
    else:
        assert refusal(outcome) == (403, STATE)
        assert vars(extension) == before


def test_it_loads_the_standard_library_only() -> None:
    """Without any package that is installed: nothing of the local Lambda beside it is loaded."""
    code = (
        f"import sys; sys.path.append({str(Path(telemetryd.__file__).parents[1])!r})\n"
        "before = set(sys.modules)\n"
        "import telemetryd.local.api.server, telemetryd.local.api.wire\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    )
    found = set(done.stdout.split())
    assert {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names} == {
        "telemetryd",
        "telemetryd.local",
        "telemetryd.local.api",
        "telemetryd.local.api.server",
        "telemetryd.local.api.wire",
    }
    assert found.isdisjoint({"socket", "asyncio", "threading", "select"})
