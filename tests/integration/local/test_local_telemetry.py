"""The local Lambda's Telemetry API: what is subscribed to arrives, once, in order, counted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from extensions.local_kit import NAME, make, wait_for, write_handler
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda
from telemetryd.local.subscriber import SubscriptionStats

ALL = {"types": ["platform", "function", "extension"]}


def run(config: LocalConfig, *events: object) -> tuple[list[InvokeResult], LocalLambda]:
    """Invoke with each event; returns the results and the ended environment."""

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            return [await env.invoke(event) for event in events], env

    return asyncio.run(scenario())


def balanced(env: LocalLambda) -> SubscriptionStats:
    """Every account adds up; returns the last one."""
    for account in env.stats:
        assert account.offered == account.sent + account.dropped + account.undelivered
    return env.stats[-1]


@pytest.mark.parametrize("protocol", ["TCP", "HTTP"])
def test_a_hundred_thousand_lines_arrive_once_and_in_order(tmp_path: Path, protocol: str) -> None:
    """A burst as fast as the function can print: the pipe waits for the consumer, nothing drops."""
    config, record = make(tmp_path, {"protocol": protocol}, timeout=50)
    (result,), env = run(config, {"print": 100_000})
    assert result.lines == 100_000
    account = balanced(env)
    assert (account.dropped, account.undelivered) == (0, 0)
    lines = record.records("function")[1:]
    assert lines == [f"order accepted i={number}\n" for number in range(100_000)]
    assert env.lines.total("function", stream="stdout") == 100_001


def test_json_log_format_gives_objects_and_leaves_text_alone(tmp_path: Path) -> None:
    """What is a JSON object comes as one; a plain print stays a string."""
    config, record = make(tmp_path, log_format="json")
    run(config, {"log": "json"})
    loaded, printed, first, second = record.records("function")
    assert (loaded, printed) == ("example handler: loaded\n", "order accepted i=0\n")
    assert (first["level"], first["message"]) == ("INFO", "order 7741 accepted")
    assert second["message"]["stock"] == {"sku": "A-1", "left": 2}


def test_first_schema_has_strings_only_and_fewer_members(tmp_path: Path) -> None:
    """2022-07-01: records are strings in JSON format too; what came later is left out."""
    config, record = make(tmp_path, {"schema": "2022-07-01"}, log_format="json")
    run(config, {"log": "json"})
    assert all(isinstance(item, str) for item in record.records("function"))
    assert "functionName" not in record.records("platform.initStart")[0]
    assert "status" not in record.records("platform.initReport")[0]
    assert "functionArn" not in record.records("platform.start")[0]


def test_awkward_output_is_delivered_as_it_is(tmp_path: Path) -> None:
    """Long, empty, unfinished and invalid lines, CR and U+0085: cut at newlines only."""
    code = """
import os, sys
def handler(event, context):
    out = sys.stdout.buffer
    out.write(b"x" * 300_000 + b"\\n\\n")
    out.write("a\\r\\u0085b\\u2028c\\n".encode())
    out.write(b"bad \\xff\\xfe end\\n")
    out.write(b"half a euro: \\xe2\\x82\\n")
    out.write(b"no newline, but a pause")
    out.flush()
    os.write(1, b" and its end\\n")
    os.write(2, b"to stderr\\n")
    os.write(1, b"unfinished at the end")
"""
    config, record = make(tmp_path, {}, **write_handler(tmp_path, code))
    _, env = run(config, {})
    records = record.records("function")
    assert sorted(records) == sorted(
        [
            "x" * 300_000 + "\n",
            "\n",
            "a\r\u0085b\u2028c\n",
            "bad \ufffd\ufffd end\n",
            "half a euro: \ufffd\ufffd\n",
            "no newline, but a pause and its end\n",
            "to stderr\n",
            "unfinished at the end",
        ]
    )
    assert env.lines.total("function", stream="stderr") == 1


def test_newlines_can_be_stripped_as_the_emulator_does(tmp_path: Path) -> None:
    """An option: records without the newline that the service keeps."""
    config, record = make(tmp_path, keep_newline=False)
    run(config, {})
    assert record.records("function") == ["example handler: loaded", "order accepted i=0"]


def test_extension_output_comes_back_as_extension_records(tmp_path: Path) -> None:
    """Sent to subscribers of `extension`, and counted apart from the function's."""
    config, record = make(tmp_path, {**ALL, "print": True})
    _, env = run(config, {}, {})
    assert record.records("extension") == [f"{NAME}: invocation {n}\n" for n in (1, 2)]
    assert env.lines.total("extension", name=NAME) == 2


def test_only_subscribed_types_arrive(tmp_path: Path) -> None:
    """A subscription to `function` sees no platform events."""
    config, record = make(tmp_path, {"types": ["function"]})
    run(config, {})
    assert set(record.types()) == {"function"}


def test_batches_are_cut_at_max_items(tmp_path: Path) -> None:
    """1,000 lines make a batch; with a long timer nothing else would send them."""
    buffering = {"maxItems": 1000, "maxBytes": 1_048_576, "timeoutMs": 30_000}
    config, record = make(
        tmp_path, {"types": ["function"], "buffering": buffering}, flush_at_shutdown=False
    )
    _, env = run(config, {"print": 2_500})
    account = balanced(env)
    assert (account.batches, account.sent, account.undelivered) == (2, 2_000, 501)
    assert len(record.records("function")) == 2_000


def test_batches_are_cut_at_max_bytes(tmp_path: Path) -> None:
    """A batch exceeds `maxBytes` by less than one event."""
    buffering = {"maxItems": 10_000, "maxBytes": 262_144, "timeoutMs": 30_000}
    config, record = make(
        tmp_path, {"types": ["function"], "buffering": buffering}, flush_at_shutdown=False
    )
    _, env = run(config, {"print": 600, "text": "y" * 1000})
    account = balanced(env)
    assert account.batches == 2
    event_size = len(json.dumps(record.telemetry()[-1], separators=(",", ":"))) + 1
    for_one_batch = account.sent_bytes / account.batches
    assert 262_144 <= for_one_batch < 262_144 + event_size


def test_what_is_buffered_can_be_sent_before_shutdown(tmp_path: Path) -> None:
    """With a long timer nothing else would send it."""
    buffering = {"maxItems": 1000, "maxBytes": 262_144, "timeoutMs": 30_000}
    config, record = make(tmp_path, {"buffering": buffering}, flush_at_shutdown=True)
    _, env = run(config, {})
    assert balanced(env).undelivered == 0
    assert record.records("platform.report")


def test_so_can_what_is_made_during_a_shutdown(tmp_path: Path) -> None:
    """The report of a timeout comes after SHUTDOWN was sent, and no one waits for a timer then."""
    buffering = {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 30_000}
    config, record = make(tmp_path, {"buffering": buffering}, report_after_reset="during")

    async def scenario() -> InvokeResult:
        async with LocalLambda(config) as env:
            return await env.invoke({"sleep": 60}, timeout=0.3)

    late = asyncio.run(scenario())
    assert [report["requestId"] for report in record.records("platform.report")] == [
        late.request_id
    ]


def test_a_consumer_that_reads_nothing_loses_whole_batches_and_is_told(tmp_path: Path) -> None:
    """The function continues; when the consumer reads again, `logsDropped` counts the loss."""
    mode = {"stuck": 2}
    config, record = make(
        tmp_path, mode, stall_timeout=0.5, tcp_send_buffer=4096, freeze=False, timeout=50
    )

    async def scenario() -> tuple[InvokeResult, LocalLambda]:
        async with LocalLambda(config) as env:
            burst = await env.invoke({"print": 40_000, "text": "z" * 200})
            await env.invoke({})
            await asyncio.to_thread(wait_for, lambda: record.records("platform.logsDropped"))
            return burst, env

    burst, env = asyncio.run(scenario())
    assert (burst.status, burst.lines) == ("success", 40_000)
    account = balanced(env)
    assert account.stalls >= 1
    assert account.dropped > 0
    told = record.records("platform.logsDropped")
    assert sum(item["droppedRecords"] for item in told) == account.dropped == account.announced
    assert sum(item["droppedBytes"] for item in told) == account.dropped_bytes
    assert "slower than the logs production rate" in told[0]["reason"]
    assert len(record.telemetry()) == account.sent


def test_a_consumer_that_never_reads_delays_nothing_for_ever(tmp_path: Path) -> None:
    """Function, freeze and shutdown work; what it lost is in the account."""
    config, _ = make(
        tmp_path,
        {"stuck": 0, "hold": 0},
        stall_timeout=0.5,
        tcp_send_buffer=4096,
        flush_at_shutdown=False,
        timeout=50,
    )
    results, env = run(config, {"print": 40_000, "text": "z" * 200}, {})
    assert [item.status for item in results] == ["success", "success"]
    account = balanced(env)
    assert account.dropped > 0
    assert account.announced == 0
    assert env.exits[-1].returncode == 0


def test_late_subscription_is_closed_and_its_connection_silent(tmp_path: Path) -> None:
    """403 after init; the listener sees a connection that carries nothing until the end."""
    config, record = make(tmp_path, {"late": True})
    run(config, {}, {})
    assert record.calls("/telemetry") == [
        (
            403,
            {
                "errorType": "Telemetry.SubscriptionClosed",
                "errorMessage": "Telemetry API subscription is closed",
            },
        )
    ]
    assert [entry["open"] for entry in record.all("connection")] == [True]
    assert record.telemetry() == []


def test_repeated_subscription_is_recognised(tmp_path: Path) -> None:
    """The same request again is 200 `AlreadySubscribed`, a different one 500; the first stays."""
    config, record = make(tmp_path, {"twice": True})
    run(config, {})
    assert [status for status, _ in record.calls("/telemetry")] == [200, 200, 500]
    assert record.calls("/telemetry")[1][1] == "AlreadySubscribed"
    states = [item["state"] for item in record.records("platform.telemetrySubscription")]
    assert states == ["Subscribed", "Already subscribed"]
    assert record.records("platform.report")


def test_the_connection_may_come_after_the_subscription(tmp_path: Path) -> None:
    """With the first batch; everything arrives all the same."""
    config, record = make(tmp_path, connect_late=True)
    (result,), env = run(config, {})
    assert [item["requestId"] for item in record.records("platform.report")] == [result.request_id]
    assert record.types()[0] == "platform.initStart"
    account = balanced(env)
    assert (account.sent, account.dropped, account.undelivered) == (account.offered, 0, 0)


def test_then_a_port_without_a_listener_is_noticed_later(tmp_path: Path) -> None:
    """The subscription is good, its batches are dropped, and a warning says why."""
    config, record = make(tmp_path, {"deaf": True}, connect_late=True)
    _, env = run(config, {})
    assert record.calls("/telemetry") == [(200, "OK")]
    account = balanced(env)
    assert (account.sent, account.dropped) == (0, account.offered)
    (warning,) = env.warnings
    assert "nothing listens on port" in warning


def test_a_port_without_a_listener_is_refused(tmp_path: Path) -> None:
    """While the subscription is answered, where the connection is made then."""
    config, record = make(tmp_path, {"deaf": True})
    _, env = run(config, {})
    ((status, body),) = record.calls("/telemetry")
    assert (status, body["errorType"]) == (400, "ValidationError")
    assert len(env.warnings) == 1


def test_an_extension_may_subscribe_to_two_ports(tmp_path: Path) -> None:
    """As OpenTelemetry's collector does: both are served, each with its own types and account."""
    config, record = make(tmp_path, {"types": ["platform"], "second": ["function"]})
    (result,), env = run(config, {"print": 3})
    assert [status for status, _ in record.calls("/telemetry")] == [200, 200]
    ports: dict[int, set[str]] = {}
    for entry in record.all("telemetry"):
        ports.setdefault(entry["port"], set()).add(entry["event"]["type"].partition(".")[0])
    assert sorted(ports.values(), key=sorted) == [{"function"}, {"platform"}]
    assert len(record.records("platform.report")) == 1
    assert len(record.records("function")) == result.lines + 1
    assert len(env.stats) == 2
    balanced(env)


def test_telemetry_may_be_unsupported(tmp_path: Path) -> None:
    """202 and no connection, as in AWS's emulator for on-demand functions."""
    config, record = make(tmp_path, telemetry="unsupported")
    run(config, {})
    ((status, body),) = record.calls("/telemetry")
    assert (status, body["errorType"]) == (202, "Telemetry.NotSupported")
    assert record.all("connection") == []


def test_error_bodies_need_not_be_json(tmp_path: Path) -> None:
    """An option: the emulator's broken bodies."""
    config, record = make(tmp_path, {"schema": "2019-01-01"}, plain_text_errors=True)
    run(config, {})
    ((status, body),) = record.calls("/telemetry")
    assert status == 400
    assert isinstance(body, str)
