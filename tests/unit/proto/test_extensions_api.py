"""Extensions API: requests as the platform expects them, answers as it is known to send them."""

import json

import pytest
from msgspec import json as wire

from telemetryd_proto import extensions_api as api
from telemetryd_proto.errors import MalformedAnswer
from telemetryd_proto.records import TraceContext

INVALID_JSON = (
    b'{"errorType": "ValidationError", "errorMessage": "schema validation error: '
    b'jsonschema: \'/schemaVersion\' does not validate: value must be "2025-01-29""}'
)


def test_paths_and_headers_are_the_documented_ones() -> None:
    assert api.REGISTER_PATH == "/2020-01-01/extension/register"
    assert api.NEXT_PATH == "/2020-01-01/extension/event/next"
    assert api.INIT_ERROR_PATH == "/2020-01-01/extension/init/error"
    assert api.EXIT_ERROR_PATH == "/2020-01-01/extension/exit/error"
    assert api.NAME_HEADER == "Lambda-Extension-Name"
    assert api.IDENTIFIER_HEADER == "Lambda-Extension-Identifier"
    assert api.EVENT_IDENTIFIER_HEADER == "Lambda-Extension-Event-Identifier"
    assert api.FUNCTION_ERROR_TYPE_HEADER == "Lambda-Extension-Function-Error-Type"
    assert api.ACCEPT_FEATURE_HEADER == "Lambda-Extension-Accept-Feature"


@pytest.mark.parametrize(
    ("events", "body"),
    [
        ((api.LifecycleEvent.INVOKE, api.LifecycleEvent.SHUTDOWN), ["INVOKE", "SHUTDOWN"]),
        (("SHUTDOWN",), ["SHUTDOWN"]),
        ((), []),
    ],
)
def test_register_request(events: tuple[str, ...], body: list[str]) -> None:
    request = api.RegisterRequest(events=events)
    assert json.loads(wire.encode(request)) == {"events": body}
    assert wire.decode(wire.encode(request), type=api.RegisterRequest) == request


def test_register_response() -> None:
    body = (
        b'{"functionName":"orders","functionVersion":"$LATEST",'
        b'"handler":"app.handler","accountId":"111122223333","new":1}'
    )
    assert api.decode_register(body) == api.RegisterResponse(
        function_name="orders",
        function_version="$LATEST",
        handler="app.handler",
        account_id="111122223333",
    )


@pytest.mark.parametrize("body", [b"{}", b'{"handler":null,"accountId":null}'])
def test_register_response_may_lack_anything(body: bytes) -> None:
    assert api.decode_register(body) == api.RegisterResponse()


def test_an_absent_account_is_not_sent() -> None:
    response = api.RegisterResponse(function_name="f", function_version="1", handler="")
    assert json.loads(wire.encode(response)) == {
        "functionName": "f",
        "functionVersion": "1",
        "handler": "",
    }


def test_invoke() -> None:
    body = (
        b'{"eventType":"INVOKE","deadlineMs":1778136075784,"requestId":"r",'
        b'"invokedFunctionArn":"arn:aws:lambda:us-east-2:111122223333:function:f:live",'
        b'"tracing":{"type":"X-Amzn-Trace-Id","value":"Root=1-2-3"}}'
    )
    event = api.decode_next(body)
    assert event == api.NextEvent(
        event_type="INVOKE",
        deadline_ms=1778136075784,
        request_id="r",
        invoked_function_arn="arn:aws:lambda:us-east-2:111122223333:function:f:live",
        tracing=TraceContext(type="X-Amzn-Trace-Id", value="Root=1-2-3"),
    )
    assert event.event_type == api.LifecycleEvent.INVOKE


def test_invoke_without_trace_as_the_emulator_sends_it() -> None:
    event = api.decode_next(b'{"eventType":"INVOKE","deadlineMs":1.778e12,"requestId":"r"}')
    assert event.tracing is None
    assert event.deadline_ms == 1778000000000


def test_shutdown() -> None:
    event = api.decode_next(
        b'{"eventType":"SHUTDOWN","deadlineMs":1778136075784,"shutdownReason":"spindown"}'
    )
    assert event.event_type == api.LifecycleEvent.SHUTDOWN
    assert event.shutdown_reason == "spindown"
    assert event.cause == api.ShutdownReason.SPINDOWN


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("spindown", "spindown"),
        ("SPINDOWN", "spindown"),
        ("SandboxTerminated", "spindown"),
        ("timeout", "timeout"),
        ("Timeout", "timeout"),
        ("FAILURE", "failure"),
        ("ReserveFail", "failure"),
        ("ReleaseFail", "failure"),
        ("meteorite", "other"),
        (None, "other"),
    ],
)
def test_shutdown_reasons_become_a_closed_set(reason: str | None, cause: str) -> None:
    assert api.NextEvent(event_type="SHUTDOWN", shutdown_reason=reason).cause == cause


def test_an_event_type_of_tomorrow_is_kept() -> None:
    assert api.decode_next(b'{"eventType":"HIBERNATE"}') == api.NextEvent(event_type="HIBERNATE")


def test_an_event_that_is_sent_has_no_empty_members() -> None:
    event = api.NextEvent(event_type="SHUTDOWN", deadline_ms=5, shutdown_reason="timeout")
    assert json.loads(wire.encode(event)) == {
        "eventType": "SHUTDOWN",
        "deadlineMs": 5,
        "shutdownReason": "timeout",
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"page not found", "not_json"),
        (b"404 page not found", "mismatch"),  # begins with a number, which is JSON
        (b"{", "not_json"),
        (b"[]", "mismatch"),
        (b"{}", "mismatch"),
        (b'{"eventType":"INVOKE","deadlineMs":"soon"}', "mismatch"),
        (b'{"eventType":"\xff"}', "not_utf8"),
        (b'{"eventType":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "mismatch"),
        (b'{"eventType":"INVOKE","x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "too_deep"),
    ],
)
def test_an_answer_that_is_none_has_a_code(body: bytes, code: str) -> None:
    with pytest.raises(MalformedAnswer, match="answer to next") as caught:
        api.decode_next(body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [
        ("1778136075784", 1778136075784),
        ('"1778136075784"', 1778136075784),
        ("1778136075784.25", 1778136075784),
        ("1.778e12", 1778000000000),
        ("-1", -1),
        ("1" + "0" * 18, 10**18),
        *(
            (odd, None)
            for odd in ("null", "true", "NaN", "-Infinity", "1e999", '"soon"', "[]", "{}")
        ),
    ],
)
def test_leniently_read_a_deadline_is_a_whole_number_or_none(
    deadline: str, expected: int | None
) -> None:
    body = f'{{"deadlineMs":{deadline},"eventType":"INVOKE","requestId":"r"}}'.encode()
    event = api.decode_next(body, lenient=True)
    assert event == api.NextEvent(event_type="INVOKE", request_id="r", deadline_ms=expected)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"eventType":5}', b"<html>", b"\xff"])
def test_leniently_read_an_answer_still_needs_its_type(body: bytes) -> None:
    with pytest.raises(MalformedAnswer, match="answer to next"):
        api.decode_next(body, lenient=True)


def test_a_malformed_answer_to_register_says_so() -> None:
    with pytest.raises(MalformedAnswer, match="answer to register"):
        api.decode_register(b"OK")


def test_error_report() -> None:
    report = api.ErrorReport(error_message="no sink", error_type="Extension.ConfigInvalid")
    assert json.loads(wire.encode(report)) == {
        "errorMessage": "no sink",
        "errorType": "Extension.ConfigInvalid",
        "stackTrace": [],
    }
    assert json.loads(wire.encode(api.StatusResponse())) == {"status": "OK"}
    refusal = api.ErrorResponse(error_type=api.ExtensionError.INVALID_NAME, error_message="Empty")
    assert json.loads(wire.encode(refusal)) == {
        "errorType": "Extension.InvalidExtensionName",
        "errorMessage": "Empty",
    }


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("Extension.ConfigInvalid", True),
        ("Extension.configInvalid", False),
        ("ConfigInvalid", False),
        ("Extension.Config2", False),
    ],
)
def test_the_form_of_a_function_error_type(value: str, accepted: bool) -> None:
    assert bool(api.FUNCTION_ERROR_TYPE.fullmatch(value)) is accepted


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"errorMessage":"x","errorType":"Extension.InvalidEventType"}', None),
        (b'{"cause":{"errorType":"Inner"},"errorType":"Extension.InvalidEventType"}', None),
        (INVALID_JSON, "ValidationError"),
        (b'{"errorType":"A.B","errorMessage":"\xff"', "A.B"),
        (b"404 page not found", ""),
        (b"", ""),
        (b'"OK"', ""),
        (b'{"errorType":7}', ""),
        (b'{"errorType":"<script>"}', ""),
        (b'{"errorType":"' + b"x" * 129 + b'"}', ""),
    ],
)
def test_error_type_of_any_body(body: bytes, found: str | None) -> None:
    assert api.error_type(body) == ("Extension.InvalidEventType" if found is None else found)


def test_the_emulators_refusal_is_indeed_not_json() -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(INVALID_JSON)


def test_error_types_are_compared_by_their_last_part() -> None:
    assert api.same_error("ValidationError", "Telemetry.ValidationError")
    assert api.same_error("Logs.ValidationError", "Telemetry.ValidationError")
    assert api.same_error("Extension.InvalidEventType", api.ExtensionError.INVALID_EVENT_TYPE)
    assert not api.same_error("NotAValidationError", "ValidationError")
    assert not api.same_error("", "ValidationError")
