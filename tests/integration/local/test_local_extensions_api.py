"""The Extensions API of the local Lambda refuses what Lambda refuses, in Lambda's words."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp

from extensions.local_kit import Record, make
from telemetryd.local import InvokeResult, LocalLambda

PREFIX = "/2020-01-01/extension"


def identify(record: Record, error_type: str) -> dict[str, str]:
    """The headers with which to speak as the test extension, and report an error."""
    answer = next(entry for entry in record.all("api") if entry["path"].endswith("/register"))
    return {
        "Lambda-Extension-Identifier": answer["headers"]["Lambda-Extension-Identifier"],
        "Lambda-Extension-Function-Error-Type": error_type,
    }


def test_calls_in_the_wrong_phase_or_form_are_refused(tmp_path: Path) -> None:
    """Every refusal is a 403 with its error type; the environment is none the worse."""
    config, record = make(tmp_path, {"probe": True})

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            return await env.invoke({})

    assert asyncio.run(scenario()).status == "success"
    answers = [(status, body["errorType"]) for status, body in record.calls("") if status >= 400]
    assert answers == [
        (403, "Extension.MissingExtensionIdentifier"),
        (403, "Extension.InvalidExtensionIdentifier"),
        (403, "Extension.UnknownExtensionIdentifier"),
        (403, "Extension.UnknownExtensionIdentifier"),
        (403, "Extension.InvalidExtensionName"),
        (403, "InvalidRequestFormat"),
        (403, "Extension.InvalidEventType"),
        (403, "Extension.InvalidEventType"),
        (403, "Extension.InvalidExtensionState"),
        (403, "Extension.MissingHeader"),
    ]


def test_registration_tells_about_the_function(tmp_path: Path) -> None:
    """With the account number, since the feature was asked for."""
    config, record = make(tmp_path, function_name="orders", account_id="000011112222")

    async def scenario() -> None:
        async with LocalLambda(config):
            pass

    asyncio.run(scenario())
    assert record.calls("/register") == [
        (
            200,
            {
                "functionName": "orders",
                "functionVersion": "$LATEST",
                "handler": "app.handler",
                "accountId": "000011112222",
            },
        )
    ]


def test_internal_extensions_register_before_the_first_next_only(tmp_path: Path) -> None:
    """An unknown name is an internal extension; once the runtime runs, registration is closed."""
    config, _ = make(tmp_path)

    async def scenario() -> tuple[tuple[int, Any], int, int]:
        async with LocalLambda(config) as env, aiohttp.ClientSession() as session:
            url = f"http://{env.address}{PREFIX}"
            headers = {"Lambda-Extension-Name": "inside"}
            async with session.post(
                f"{url}/register", json={"events": ["INVOKE"]}, headers=headers
            ) as answer:
                closed = answer.status, (await answer.json())["errorType"]
            async with session.get(f"http://{env.address}/elsewhere") as answer:
                unknown = answer.status
            async with session.put(f"http://{env.address}/2022-07-01/telemetry/") as answer:
                slash = answer.status
            return closed, unknown, slash

    closed, unknown, slash = asyncio.run(scenario())
    assert closed == (403, "Extension.RegistrationClosed")
    assert (unknown, slash) == (404, 404)


def test_a_second_poll_and_a_late_init_error_are_refused(tmp_path: Path) -> None:
    """One `next` at a time; `init/error` only before the first."""
    config, record = make(tmp_path, freeze=False)

    async def scenario() -> tuple[list[tuple[int, str]], InvokeResult]:
        async with LocalLambda(config) as env, aiohttp.ClientSession() as session:
            await env.invoke({})
            identity = identify(record, "Extension.Late")
            found = []
            for method, path in (("GET", "/event/next"), ("POST", "/init/error")):
                url = f"http://{env.address}{PREFIX}{path}"
                async with session.request(method, url, headers=identity) as reply:
                    found.append((reply.status, (await reply.json())["errorType"]))
            return found, await env.invoke({})

    found, after = asyncio.run(scenario())
    assert found == [(403, "Extension.InvalidExtensionState")] * 2
    assert after.status == "success"


def test_exit_error_ends_the_environment(tmp_path: Path) -> None:
    """The type of an exit error is what the caller and the reset see."""
    config, record = make(tmp_path, freeze=False)

    async def scenario() -> tuple[int, InvokeResult, InvokeResult]:
        async with LocalLambda(config) as env, aiohttp.ClientSession() as session:
            await env.invoke({})
            identity = identify(record, "not of the documented form")
            url = f"http://{env.address}{PREFIX}/exit/error"
            async with session.post(url, headers=identity) as reply:
                status = reply.status
            return status, await env.invoke({}), await env.invoke({})

    status, failed, again = asyncio.run(scenario())
    assert status == 202
    assert failed.error_type == "Extension.ExitError"
    assert again.status == "success"
