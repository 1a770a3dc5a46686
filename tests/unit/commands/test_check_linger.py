"""What `telemetryd check --lambda` says about a longer `linger_ms`."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

from telemetryd.commands.check import check
from telemetryd.commands.lingering import SUGGESTED_MS, full_load_batches, most_batches
from telemetryd.core.linger import Linger

KINESIS = {"TYPE": "kinesis", "STREAM": "telemetry", "REGION": "eu-west-1"}
HTTP = {"TYPE": "http", "URL": "https://collector.example.com/v1"}
OTLP = {"TYPE": "otlp", "ENDPOINT": "https://collector.example.com"}
LOGS = {"TYPE": "emf", "DELIVERY": "logs", "REGION": "eu-west-1"}


def said(sink: dict[str, Any], mode: Any = "lambda", **others: object) -> list[str]:
    """The texts about `linger_ms` of a sink `a`."""
    environ = {f"TELEMETRYD_SINKS__A__{key}": str(value) for key, value in sink.items()}
    environ |= {
        key if key.startswith("AWS_") else f"TELEMETRYD_{key}": str(value)
        for key, value in others.items()
    }
    out, err = io.StringIO(), io.StringIO()
    assert check(environ, out, err, mode=mode, default_paths=()) == 0, err.getvalue()
    return re.findall(r"^# sinks\.a: ((?:with )?linger_ms .*)$", out.getvalue(), re.MULTILINE)


def test_what_a_longer_wait_saves_and_what_it_risks() -> None:
    saves, risks = said(KINESIS)
    assert saves.startswith("linger_ms = 100: while a function runs, its environment sends up to")
    assert " up to 40 records a second." in saves
    assert "With 5000 it sends up to 1.6 (0.2 under full load), and one more for each" in saves
    assert "an eighth, 12.5 ms" in saves
    assert "up to 5 s later" in risks
    assert "at most 4 MiB of them wait in memory" in risks
    assert "If a busy environment freezes, they wait until its next invocation" in risks
    assert "At the end of a rare invocation a flush ends the wait." in risks
    assert "If it is killed (out of memory, a crash), lines that wait are lost." in risks


@pytest.mark.parametrize(
    ("sink", "what"),
    [
        (KINESIS | {"PACKING": "single"}, "PutRecords calls"),
        (KINESIS | {"PARTITION_KEY": "request_id"}, "PutRecords calls"),
        (HTTP, "requests"),
        (OTLP, "requests"),
        (LOGS, "PutLogEvents calls"),
    ],
)
def test_it_is_counted_in_what_the_destination_gets(sink: dict[str, str], what: str) -> None:
    assert f" {what} a second." in said(sink)[0]


@pytest.mark.parametrize("sink", [{"TYPE": "file", "PATH": "out"}, {"TYPE": "emf"}])
def test_where_a_batch_costs_nothing_there_is_nothing_to_say(sink: dict[str, str]) -> None:
    assert said(sink | {"LINGER_MS": 1000}) == []


def test_listen_is_never_frozen() -> None:
    assert said(KINESIS, mode="listen") == []


@pytest.mark.parametrize(
    ("strategy", "fate"),
    [
        ("invocation", "A flush ends the wait at the end of each invocation, before a freeze."),
        ("continuous", "If the environment freezes, they wait until its next invocation"),
        ("interval", "If the environment freezes, they wait until its next invocation"),
    ],
)
def test_the_strategy_decides_what_waits_through_a_freeze(strategy: str, fate: str) -> None:
    _, risks = said(KINESIS, FLUSH__STRATEGY=strategy)
    assert f" in memory. {fate}" in risks


@pytest.mark.parametrize(
    ("others", "suggested"),
    [
        ({"FLUSH__MAX_AGE_MS": 2000}, 2000),
        ({"FLUSH__STRATEGY": "interval", "FLUSH__INTERVAL_MS": 1000}, 1000),
        ({"FLUSH__STRATEGY": "interval", "FLUSH__INTERVAL_MS": 60_000}, SUGGESTED_MS),
    ],
)
def test_no_wait_is_longer_than_until_the_next_flush(
    others: dict[str, object], suggested: int
) -> None:
    assert f"With {suggested} it sends" in said(KINESIS, **others)[0]


def test_a_long_wait_is_described_as_it_is() -> None:
    rate, risks = said(KINESIS | {"LINGER_MS": 20_000})
    assert rate == (
        "linger_ms = 20000: an environment sends up to 0.4 (0.05 under full load) records a second."
    )
    assert risks.startswith("with linger_ms = 20000 lines arrive up to 10 s later")  # max_age_ms


def test_what_waits_is_bounded_by_the_function_memory() -> None:
    assert "at most 4 MiB" in said(KINESIS, AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128)[1]
    assert "at most 1.5 MiB" in said(KINESIS, MEMORY__MAX_BYTES=3 * 512 * 1024)[1]
    assert "at most 65536 bytes" in said(KINESIS | {"BATCH_MAX_BYTES": 65_536})[1]


def steady_batches(linger_ms: int, gap_ms: int) -> float:
    """Batches a second, once the wait has settled, if a block comes every `gap_ms`."""
    wait, began = Linger(linger_ms / 1000), [0]
    while len(began) < 100:
        blocks = 1 + int(wait.seconds * 1000 // gap_ms)  # those that come while the first waits
        wait.on_batch(blocks, filled=0.0)
        began.append(began[-1] + blocks * gap_ms)
    return 49 * 1000 / (began[99] - began[50])


@pytest.mark.parametrize("linger_ms", [0, 100, 200, 1000, 5000])
@pytest.mark.parametrize("gap_ms", [25, 26, 42, 63, 126, 300, 626, 2000])
def test_no_traffic_makes_more_batches_than_that(linger_ms: int, gap_ms: int) -> None:
    assert steady_batches(linger_ms, gap_ms) <= most_batches(linger_ms, 25)


@pytest.mark.parametrize("linger_ms", [1000, 5000])
def test_under_full_load_a_batch_waits_for_all_of_it(linger_ms: int) -> None:
    found = steady_batches(linger_ms, 25)
    assert 0.95 * full_load_batches(linger_ms, 25) <= found <= full_load_batches(linger_ms, 25)
