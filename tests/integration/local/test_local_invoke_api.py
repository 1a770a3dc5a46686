"""The Invoke API of the local Lambda, as callers of the real one know it, and web pages do not."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from extensions.local_kit import make, write_handler
from telemetryd.local import LocalConfig, LocalLambda
from telemetryd.local.frontend import LIMITS, Frontend

Answer = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""
Request = tuple[bytes, dict[str, str]] | tuple[bytes, dict[str, str], str]
"""Body, headers and, if it is another, the function's name."""


def call(config: LocalConfig, *requests: Request) -> tuple[list[Answer], LocalLambda]:
    """Make requests, each (body, headers) or (body, headers, name): the answers, the record."""

    async def scenario() -> tuple[list[Answer], LocalLambda]:
        answers: list[Answer] = []
        async with LocalLambda(config) as env:
            frontend = Frontend(env)
            await frontend.start(0)
            try:
                async with aiohttp.ClientSession() as session:
                    for body, headers, *name in requests:
                        url = frontend.url.replace("/function/", f"/{(name or ['function'])[0]}/")
                        async with session.post(
                            url, data=io.BytesIO(body), headers=headers
                        ) as answer:
                            text = await answer.read()
                            answers.append((answer.status, answer.headers, text))
            finally:
                await frontend.close()
            return answers, env

    return asyncio.run(scenario())


def error(answer: Answer) -> tuple[int, str, str]:
    """Status, type and message of a service error."""
    status, headers, body = answer
    document = json.loads(body)
    assert document["Type"] == "User"
    return status, headers["x-amzn-ErrorType"], document["message"]


def tail(answer: Answer) -> str:
    """The log in an answer."""
    return base64.b64decode(answer[1]["X-Amz-Log-Result"]).decode()


def test_the_log_tail_has_what_the_invocation_printed_and_its_report(tmp_path: Path) -> None:
    """START, the lines of function and extension, END and REPORT; each invocation its own."""
    config, _ = make(tmp_path, {"print": True}, memory_mb=256)
    asked = {"X-Amz-Log-Type": "Tail"}
    answers, env = call(
        config,
        (b'{"print": 2, "text": "first"}', asked),
        (b'{"print": 1, "text": "second"}', asked),
        (b"{}", {}),
        (b"{}", asked | {"X-Amz-Invocation-Type": "Event"}),
    )
    assert [status for status, _, _ in answers] == [200, 200, 200, 202]
    assert all("X-Amz-Log-Result" not in headers for _, headers, _ in answers[2:])
    for answer, text, count in zip(answers[:2], ("first", "second"), (2, 1), strict=True):
        request_id = answer[1]["X-Amzn-RequestId"]
        lines = tail(answer).split("\n")
        assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
        assert lines[-3] == f"END RequestId: {request_id}"
        assert set(lines[1:-3]) - {"listener: invocation 1", "listener: invocation 2"} == {
            f"{text} i={number}" for number in range(count)
        }
        report = next(
            event.record
            for event in env.events
            if event.type == "platform.report" and event.record["requestId"] == request_id
        )
        words = lines[-2].split("\t")
        assert words[:3] == [
            f"REPORT RequestId: {request_id}",
            f"Duration: {report['metrics']['durationMs']:.2f} ms",
            f"Billed Duration: {report['metrics']['billedDurationMs']} ms",
        ]
        assert "Memory Size: 256 MB" in words
        assert any(word.startswith("Init Duration: ") for word in words) == (text == "first")


def test_the_log_tail_is_the_last_four_kilobytes(tmp_path: Path) -> None:
    """However much was printed."""
    config, _ = make(tmp_path)
    (answer,), _ = call(config, (b'{"print": 1000}', {"X-Amz-Log-Type": "Tail"}))
    log = base64.b64decode(answer[1]["X-Amz-Log-Result"])
    assert len(log) == 4096
    assert b"START" not in log
    assert b"order accepted i=999\nEND RequestId: " in log


def test_the_log_tail_of_a_failure_says_what_it_was(tmp_path: Path) -> None:
    """A timeout and a crash."""
    code = """
import os, time
def handler(event, context):
    print("begun", flush=True)
    if event["how"] == "exit":
        os._exit(3)
    time.sleep(60)
"""
    handler = write_handler(tmp_path, code)
    asked = {"X-Amz-Log-Type": "Tail"}
    (crash,), _ = call(make(tmp_path, **handler)[0], (b'{"how": "exit"}', asked))
    config, _ = make(tmp_path, **handler | {"timeout": 3.0})
    (late,), _ = call(config, (b'{"how": "sleep"}', asked))
    assert "\nbegun\n" in tail(crash)
    assert "\tStatus: error\tError Type: Runtime.ExitError\t" in tail(crash)
    assert "\nbegun\n" in tail(late)
    assert "\tStatus: timeout\t" in tail(late)


def test_in_json_format_the_log_tail_is_json(tmp_path: Path) -> None:
    """Start and report as the platform writes them there."""
    config, _ = make(tmp_path, log_format="json")
    (answer,), _ = call(config, (b'{"log": "json"}', {"X-Amz-Log-Type": "Tail"}))
    lines = tail(answer).splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert (first["type"], last["type"]) == ("platform.start", "platform.report")
    assert last["record"]["requestId"] == answer[1]["X-Amzn-RequestId"]
    assert any("order 7741 accepted" in line for line in lines[1:-1])


@pytest.mark.parametrize("kind", ["RequestResponse", "Event"])
@pytest.mark.parametrize("over", [1, 1_000_000])
def test_a_payload_above_the_limit_is_refused_as_the_service_does(
    tmp_path: Path, kind: str, over: int
) -> None:
    """413 with a JSON body, and the type where SDKs look for it; one at the limit is taken."""
    config, _ = make(tmp_path)
    limit = LIMITS[kind]
    largest = b'{"pad":"' + b"x" * (limit - 10) + b'"}'
    headers = {"X-Amz-Invocation-Type": kind}
    (good, bad), env = call(config, (largest, headers), (largest + b" " * over, headers))
    assert good[0] == (200 if kind == "RequestResponse" else 202)
    status, error_type, message = error(bad)
    assert (status, error_type) == (413, "RequestEntityTooLargeException")
    assert f"smaller than {limit} bytes" in message
    assert len([event for event in env.events if event.type == "platform.start"]) == 1


@pytest.mark.parametrize(
    ("body", "headers", "name", "expected"),
    [
        (b"{", {}, "function", (400, "InvalidRequestContentException")),
        (b'"\xff"', {}, "function", (400, "InvalidRequestContentException")),
        (b"text", {}, "function", (400, "InvalidRequestContentException")),
        (b"{}", {"X-Amz-Client-Context": "!"}, "function", (400, "InvalidRequestContentException")),
        (b"{}", {"X-Amz-Invocation-Type": "Later"}, "function", (400, "InvalidParameterValue")),
        (b"{}", {"X-Amz-Log-Type": "Everything"}, "function", (400, "InvalidParameterValue")),
        (b"{}", {"X-Amz-Log-Type": "tail"}, "function", (400, "InvalidParameterValue")),
        (b"{}", {}, "another", (404, "ResourceNotFoundException")),
    ],
)
def test_what_the_service_refuses_is_refused_in_its_form(
    tmp_path: Path, body: bytes, headers: dict[str, str], name: str, expected: tuple[int, str]
) -> None:
    """And invokes nothing."""
    config, _ = make(tmp_path)
    (answer,), env = call(config, (body, headers, name))
    status, error_type, message = error(answer)
    assert (status, error_type[: len(expected[1])]) == expected
    assert message
    assert not [event for event in env.events if event.type == "platform.start"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "example.com"},
        {"Host": "rebound.example.com:9000"},
        {"Host": "192.0.2.1:9000"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "["},
    ],
)
def test_web_pages_are_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    """By the site they come from, and by the name that they made lead here."""
    config, _ = make(tmp_path)
    (answer,), env = call(config, (b"{}", {"Content-Type": "text/plain"} | headers))
    assert error(answer)[:2] == (403, "AccessDeniedException")
    assert not [event for event in env.events if event.type == "platform.start"]


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:9000", "127.1.2.3:80"])
def test_programs_on_this_machine_are_not(tmp_path: Path, host: str) -> None:
    """Whatever they call it, also through a tunnel."""
    config, _ = make(tmp_path)
    ((status, _, _),), _ = call(config, (b"{}", {"Host": host}))
    assert status == 200


def test_web_pages_do_not_reach_the_platform_either(tmp_path: Path) -> None:
    """Its port answers to extensions and runtimes."""
    config, _ = make(tmp_path)

    async def scenario() -> list[tuple[int, str]]:
        async with LocalLambda(config) as env, aiohttp.ClientSession() as session:
            url = f"http://{env.address}/2020-01-01/extension/event/next"
            found = []
            for headers in (
                {"Origin": "https://example.com"},
                {"Host": "example.com"},
                dict[str, str](),
            ):
                async with session.get(url, headers=headers) as answer:
                    found.append((answer.status, (await answer.json())["errorType"]))
            return found

    refused = (403, "AccessDeniedException")
    known = (403, "Extension.MissingExtensionIdentifier")
    assert asyncio.run(scenario()) == [refused, refused, known]
