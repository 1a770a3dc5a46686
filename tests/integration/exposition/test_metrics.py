"""Every metric of docs/metrics.md moves when its fact happens, in a real process.

Each scenario says which families it must move; a last test adds them up.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from helpers.apart import PLATFORM, Flood, apart, dial_from
from helpers.daemon import Daemon, Settings, file_sink, finish, leaf, leaf_of, sink
from helpers.lifecycle import third_party, with_hook
from helpers.lines import event, events, logs_dropped, pieces
from helpers.otlp_signals import SignalServer
from helpers.ports import own_address, reserved
from helpers.scrape import Scrape, ask, connect, get, received, until
from helpers.scripted_platform import NEXT, TELEMETRY, ScriptedPlatform, line
from helpers.scripted_platform import file_sink as lambda_file_sink
from telemetryd import __version__
from telemetryd.exposition.catalogue import FAMILIES, PROCESS
from telemetryd.exposition.guide import render
from telemetryd.exposition.server import MAX_CONNECTIONS

T = TypeVar("T", bound=Callable[..., None])

ON: Settings = {"METRICS__LISTEN": "127.0.0.1:0"}
DATA = events(500)
MOVED: set[str] = set()


def moves(*families: str) -> Callable[[T], T]:
    """What a scenario shows to move."""
    MOVED.update(families)

    def same(test: T) -> T:
        return test

    return same


def port_of(daemon: Daemon) -> int:
    """Where its metrics are."""
    port: int = daemon.wait_for("metrics_served")["port"]
    return port


# -- the facts --------------------------------------------------------------------------------


@moves("build_info", "start_seconds", "peak_rss_bytes", "memory_budget_bytes", "loop_lag_seconds")
def test_the_process(tmp_path: Path) -> None:
    """What is so from the start; and a timer that fires."""
    keys: Settings = ON | {"MEMORY__MAX_BYTES": 33_554_432}
    with Daemon(tmp_path, **keys, **file_sink(tmp_path / "archive")) as daemon:
        scrape = until(port_of(daemon), lambda s: s("loop_lag_seconds_count") > 0)
    assert scrape("build_info", version=__version__) == 1
    assert 0 < scrape("start_seconds", stage="up") < 20
    assert 1e6 < scrape("peak_rss_bytes") < 1e9
    assert scrape("memory_budget_bytes") == 33_554_432
    present = {name for name, _ in scrape.samples}
    assert present >= PROCESS.keys()


@moves(
    "connections", "connections_accepted", "received_bytes", "received_lines", "rejected_lines",
    "rejected_bytes", "offered_lines", "enqueued_lines", "delivered_lines", "delivered_bytes",
    "batch_lines", "batch_bytes", "delivery_latency_seconds", "write_duration_seconds",
    "queue_peak_bytes", "queue_capacity_bytes", "queue_mark_bytes",
)  # fmt: skip
def test_lines_that_are_delivered(tmp_path: Path) -> None:
    """Good lines and bad ones, all in the numbers; what has not happened is 0, and there."""
    bad = b"x" * 2000 + b"\n" + b"\n"
    keys: Settings = ON | {"TELEMETRY__MAX_LINE_BYTES": 1024}
    keys |= file_sink(tmp_path / "archive", queue_max_bytes=1 << 20)
    with Daemon(tmp_path, **keys) as daemon:
        port = port_of(daemon)
        before = Scrape(port)
        connection = daemon.connect()
        connection.sendall(DATA + bad)
        daemon.wait_for_file(tmp_path / "archive", len(DATA))
        after = until(port, lambda s: s("delivered_lines_total", sink="archive") == 500)
        finish(connection)
        closed = until(port, lambda s: s("connections") == 0)
    assert before("connections") == 0
    assert after("connections") == 1
    assert closed("connections_accepted_total") > before("connections_accepted_total")
    for name in ("delivered", "offered", "enqueued"):
        assert before(f"{name}_lines_total", sink="archive") == 0
        assert after(f"{name}_lines_total", sink="archive") == 500
    assert after("delivered_bytes_total", sink="archive") == len(DATA)
    assert after("received_bytes_total") == len(DATA + bad)
    assert after("received_lines_total") == 502
    for reason, size in (("too_long", 2001), ("empty", 1)):
        assert before("rejected_lines_total", reason=reason) == 0
        assert after("rejected_lines_total", reason=reason) == 1
        assert after("rejected_bytes_total", reason=reason) == size
    assert after("delivery_latency_seconds_count", sink="archive") == 500
    assert after("batch_lines_sum", sink="archive") == 500
    assert after("batch_bytes_sum", sink="archive") == len(DATA)
    writes = after("write_duration_seconds_count", sink="archive", outcome="ok")
    assert writes == after("batch_lines_count", sink="archive") > 0
    assert after("queue_peak_bytes", sink="archive") > len(DATA) // 2
    capacity = after("queue_capacity_bytes", sink="archive")
    assert capacity == 1 << 20
    assert after("queue_mark_bytes", sink="archive", mark="pause") == capacity
    assert after("queue_mark_bytes", sink="archive", mark="resume") == capacity // 4
    for reason in ("queue_full", "too_large", "shutdown", "bug"):
        assert after("dropped_lines_total", sink="archive", reason=reason) == 0


@moves("linger_seconds")
def test_the_linger_grows_with_the_load(tmp_path: Path) -> None:
    """From an eighth of what is configured, with batches that are full."""
    keys: Settings = ON | file_sink(tmp_path / "archive", linger_ms=80, batch_max_bytes=1024)
    with Daemon(tmp_path, **keys) as daemon:
        port = port_of(daemon)
        before = Scrape(port)
        daemon.send(DATA)
        until(port, lambda s: s("linger_seconds", sink="archive") > 0.01)
    assert before("linger_seconds", sink="archive") == 0.01


@moves("connections_refused")
def test_connections_beyond_the_limit(tmp_path: Path) -> None:
    """A refused connection is counted, and only that one."""
    keys: Settings = ON | {"TELEMETRY__MAX_CONNECTIONS": 1}
    with Daemon(tmp_path, **keys, **file_sink(tmp_path / "archive")) as daemon:
        port = port_of(daemon)
        first = daemon.connect()
        first.sendall(DATA)
        until(port, lambda s: s("connections") == 1)
        assert daemon.connect().recv(1) == b""
        scrape = Scrape(port)
        finish(first)
    assert scrape("connections_refused_total") == 1
    assert scrape("connections_accepted_total") == 1


@moves("filtered_lines", "unrouted_lines", "upstream_dropped_lines", "upstream_dropped_bytes",
       "malformed_events")  # fmt: skip
def test_lines_nobody_wants_and_lines_that_never_came(tmp_path: Path) -> None:
    """Filters keep back all but platform events; the platform reports its own losses."""
    keys: Settings = ON | file_sink(tmp_path / "archive", types="platform.start")
    data = DATA + logs_dropped(7, 700) + logs_dropped(1 << 60, 1)
    with Daemon(tmp_path, **keys) as daemon:
        port = port_of(daemon)
        daemon.send(data)
        scrape = Scrape(port)
    assert scrape("filtered_lines_total", sink="archive") == 502
    assert scrape("unrouted_lines_total") == 502
    assert scrape("upstream_dropped_lines_total") == 7
    assert scrape("upstream_dropped_bytes_total") == 700
    assert scrape("malformed_events_total") == 1


@moves("direct_writes", "slow_writes")
def test_writes_at_once(tmp_path: Path) -> None:
    """Lines that come alone, for a file, and for a sink that is slow as soon as a file is there."""
    slow = tmp_path / "slow"
    package = third_party(tmp_path / "package", "Hasty", path=tmp_path / "out", gate=slow)
    keys: Settings = ON | file_sink(tmp_path / "archive")
    with Daemon(tmp_path, foreign=package, **keys) as daemon:
        port = port_of(daemon)
        connection = daemon.connect()
        number = iter(range(10_000))

        def send_until(family: str, name: str) -> None:
            while not Scrape(port)(family, sink=name):
                connection.sendall(event(next(number)))

        send_until("direct_writes_total", "archive")
        send_until("direct_writes_total", "probe")
        slow.touch()
        send_until("slow_writes_total", "probe")
        finish(connection)
        figures = daemon.stop().ledger["figures"]["sinks"]
    assert figures["archive"]["direct_writes"] >= 1
    assert figures["probe"]["direct_writes"] >= figures["probe"]["slow_writes"] >= 1


@moves("unjudged_lines")
def test_lines_that_can_not_be_judged(tmp_path: Path) -> None:
    keys: Settings = ON | file_sink(tmp_path / "archive", min_level="error")
    with Daemon(tmp_path, **keys) as daemon:
        port = port_of(daemon)
        daemon.send(b"no JSON\n" + DATA)
        scrape = Scrape(port)
    assert scrape("unjudged_lines_total", sink="archive") == 1


@moves("queue_bytes", "queue_oldest_seconds", "pending_lines", "writes_in_flight", "read_paused",
       "read_pauses", "read_paused_seconds")  # fmt: skip
def test_a_sink_that_does_not_keep_up(tmp_path: Path) -> None:
    """Standard output that no one reads: the queue fills, reading stops, and continues later."""
    keys: Settings = ON | sink(
        "out", type="stdout", queue_max_bytes=65_536, write_timeout_ms=600_000
    )
    sent = events(8000)
    with Daemon(tmp_path, stdout_pipe=True, **keys) as daemon:
        port = port_of(daemon)
        connection = daemon.connect()
        sender = threading.Thread(target=connection.sendall, args=(sent,))
        sender.start()
        full = until(port, lambda s: s("read_paused") and s("writes_in_flight", sink="out"))
        older = until(port, lambda s: s("queue_oldest_seconds", sink="out") > 0.01)
        daemon.read_stdout()
        sender.join()
        finish(connection)
        empty = until(port, lambda s: s("delivered_lines_total", sink="out") == 8000)
        outcome = daemon.stop()
    assert full("queue_bytes", sink="out") > 65_536 // 2
    assert full("pending_lines", sink="out") > 0
    assert full("writes_in_flight", sink="out") == 1
    assert full("read_pauses_total", sink="out") >= 1
    assert older("read_paused_seconds_total") > 0
    for gauge in ("queue_bytes", "queue_oldest_seconds", "pending_lines", "writes_in_flight"):
        assert empty(gauge, sink="out") == 0, gauge
    assert empty("read_paused") == 0
    figures = outcome.ledger["figures"]
    assert figures["pauses"] >= 1
    assert figures["paused_ms"] > 0
    assert figures["sinks"]["out"]["queue_peak_bytes"] > 65_536 // 2


@moves("retries", "sink_errors", "sink_up", "dropped_lines", "dropped_bytes")
def test_a_destination_that_is_down(tmp_path: Path) -> None:
    """Retried until the circuit opens, then `sink_up` is 0 and lines are lost under its code."""
    (tmp_path / "file").touch()
    keys: Settings = ON | file_sink(tmp_path / "file" / "archive", retry_max_elapsed_ms=60_000)
    with Daemon(tmp_path, FLUSH__SHUTDOWN_MS=200, **keys) as daemon:
        port = port_of(daemon)
        until(port, lambda s: s("sink_up", sink="archive"))
        assert get(port, "/healthz")[0] == 200
        daemon.send(DATA)
        daemon.wait_for("circuit_opened")
        scrape = until(port, lambda s: s("sink_up", sink="archive") == 0)
        # when the circuit is due for its next attempt the sink counts as up, for a moment
        answers = (get(port, "/healthz") for _ in range(50))
        status, headers, body = next(answer for answer in answers if answer[0] != 200)
        outcome = daemon.stop()
    assert scrape("retries_total", sink="archive") >= 4
    assert scrape("sink_errors_total", sink="archive", kind="transient", code="io_error") >= 5
    assert scrape("write_duration_seconds_count", sink="archive", outcome="transient") >= 5
    assert headers["Content-Type"] == "application/json"
    answer = json.loads(body)
    assert (status, answer["status"]) == (503, "unavailable")
    assert answer["sinks"] == {"archive": "down"}
    assert "archive" in answer["problems"][0]
    assert outcome.ledger["figures"]["sinks"]["archive"]["errors"]["transient.io_error"] >= 5


def test_lost_lines_are_there_by_their_reason(tmp_path: Path) -> None:
    """A code of the destination's becomes a label when it first costs a line."""
    (tmp_path / "file").touch()
    keys: Settings = ON | file_sink(tmp_path / "file" / "archive", retry_max_elapsed_ms=0)
    with Daemon(tmp_path, **keys) as daemon:
        port = port_of(daemon)
        before = Scrape(port)
        daemon.send(DATA)
        after = until(port, lambda s: len(s.of("dropped_lines")) > len(before.of("dropped_lines")))
    assert after("dropped_lines_total", sink="archive", reason="io_error") == 500
    assert after("dropped_bytes_total", sink="archive", reason="io_error") == len(DATA)


@moves("failed_over_lines", "dead_lettered_lines")
def test_lines_that_somebody_else_gets(tmp_path: Path) -> None:
    """One sink has a stand-in, which fails as well and leaves the dead letter."""
    (tmp_path / "file").touch()
    keys: Settings = ON | {"DEAD_LETTER__PATH": tmp_path / "dead"}
    for name, more in (("first", {"failover": "second"}), ("second", {"exclude": "^"})):
        path = tmp_path / "file" / name
        keys |= file_sink(path, name, retry_max_elapsed_ms=0, overflow="drop_oldest", **more)
    with Daemon(tmp_path, **keys) as daemon:
        port = port_of(daemon)
        connection = daemon.connect()
        connection.sendall(DATA)
        scrape = until(port, lambda s: s("dead_lettered_lines_total", sink="second") == 500)
        finish(connection)
    assert scrape("failed_over_lines_total", sink="first") == 500


@moves("spooled_lines", "spooled_bytes", "spool_disk_bytes", "recovered_lines",
       "spool_damaged_bytes", "spool_oldest_seconds")  # fmt: skip
def test_a_spool_and_what_the_next_process_finds(tmp_path: Path) -> None:
    """Left by one process, taken over by the next, a damaged byte included."""
    (tmp_path / "file").touch()
    spool = tmp_path / "spool"
    keys: Settings = ON | file_sink(tmp_path / "file" / "archive", spool__path=spool)
    with Daemon(tmp_path, FLUSH__SHUTDOWN_MS=200, **keys) as daemon:
        port = port_of(daemon)
        daemon.send(DATA)
        first = until(port, lambda s: s("spooled_lines", sink="archive") == 500)
        older = Scrape(port)
        daemon.stop()
    with min(spool.rglob("*.spool")).open("ab") as segment:
        segment.write(b"torn")
    with Daemon(tmp_path, FLUSH__SHUTDOWN_MS=200, **keys) as daemon:
        second = until(port_of(daemon), lambda s: s("recovered_lines_total", sink="archive"))
    assert first("spooled_bytes", sink="archive") == len(DATA)
    oldest = [s("spool_oldest_seconds", sink="archive") for s in (first, older, second)]
    assert 0 < oldest[0] < oldest[1] < oldest[2]
    assert first("spool_disk_bytes", sink="archive") > len(DATA)
    assert first("queue_mark_bytes", sink="archive", mark="spool") > 1 << 20
    assert second("recovered_lines_total", sink="archive") == 500
    assert second("spool_damaged_bytes_total", sink="archive") == 4


@moves("invocations", "invocation_added_seconds", "flush_duration_seconds")
def test_invocations_in_lambda(tmp_path: Path) -> None:
    """Where somebody asks for it, Lambda has the endpoint too; what it cost is in the ledger."""
    variables = lambda_file_sink(tmp_path / "out") | {
        "TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0",
        "TELEMETRYD_FLUSH__STRATEGY": "invocation",
    }
    with ScriptedPlatform(variables) as platform:
        telemetry, following = platform.begin()
        while not platform.log("metrics_served"):
            assert platform.process.poll() is None
        port = platform.log("metrics_served")[0]["port"]
        before = Scrape(port)
        following.invoke("r1")
        telemetry.sendall(line(1) + done("r1"))
        following = platform.expect(NEXT)
        after = until(port, lambda s: s("invocation_added_seconds_count") == 1)
        following.shutdown()
        platform.finish()
        figures = platform.ledger()["figures"]
    for family in ("invocations_total", "invocation_added_seconds_count"):
        assert before(family) == 0
    assert after("invocations_total") == 1
    assert after("invocation_added_seconds_sum") > 0.0
    assert after("flush_duration_seconds_count", trigger="invocation") == 1
    assert after("start_seconds", stage="registered") < after("start_seconds", stage="next")
    assert after("start_seconds", stage="next") < after("start_seconds", stage="up")
    assert figures["invocations"] == 1
    assert 0 < figures["added_ms_max"] < 20_000
    assert figures["start_ms"].keys() == {"registered", "next", "up"}
    assert figures["cpu_seconds"] > 0
    assert figures["peak_rss_bytes"] > 1e6


@moves("connections_beyond", "connections_foreign")
def test_connections_that_lambda_does_not_make(tmp_path: Path) -> None:
    """A second one, and one to an address that others can reach, where this machine has any."""
    variables = lambda_file_sink(tmp_path / "out") | {"TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0"}
    with ScriptedPlatform(variables) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        platform.dial(call)
        call.answer(200, b'"OK"')
        following = platform.expect(NEXT)
        while not platform.log("metrics_served"):
            assert platform.process.poll() is None
        port = platform.log("metrics_served")[0]["port"]
        before = Scrape(port)
        platform.dial(call)
        foreign = own_address()
        if foreign:
            platform.dial(call, foreign)
        beyond = 2 if foreign else 1
        after = until(port, lambda s: s("connections_beyond_total") == beyond)
        following.shutdown()
        platform.finish()
    assert before("connections_beyond_total") == before("connections_foreign_total") == 0
    assert after("connections_foreign_total") == (1 if foreign else 0)


@moves("connections_held")
def test_a_process_of_the_sandbox_that_has_to_wait(tmp_path: Path) -> None:
    """It sends more than a sink takes that takes nothing."""
    variables = third_party(
        tmp_path / "packages", "Gate", PATH=tmp_path / "out", GATE=tmp_path / "gate"
    )
    variables |= apart(tmp_path / "packages")
    variables |= {"TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0"}
    with ScriptedPlatform(variables, host=PLATFORM) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        call.answer(200, b'"OK"')
        following = platform.expect(NEXT)
        while not platform.log("metrics_served"):
            assert platform.process.poll() is None
        port = platform.log("metrics_served")[0]["port"]
        with dial_from(PLATFORM, call), Flood(call, 1):
            until(port, lambda s: s("connections_held_total") == 1)
        (tmp_path / "gate").touch()
        following.shutdown()
        platform.finish()


@moves("port_taken", "sandbox_not_ours")
def test_a_network_that_is_not_as_it_should_be(tmp_path: Path) -> None:
    """Another program has the port, and the hosts file names another machine."""
    (tmp_path / "hosts").write_text("203.0.113.9 sandbox.localdomain\n")
    (tmp_path / "sitecustomize.py").write_text(
        "import telemetryd.ingest.addresses as m\n"
        f"m.sandbox_addresses.__defaults__ = ({str(tmp_path / 'hosts')!r},)\n"
    )
    with reserved() as port, socket.create_server(("127.0.0.1", port)):
        variables = {
            "TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0",
            "TELEMETRYD_TELEMETRY__PORT": str(port),
            "PYTHONPATH": str(tmp_path),
        }
        with ScriptedPlatform(variables) as platform:
            _, following = platform.begin()
            while not platform.log("metrics_served"):
                assert platform.process.poll() is None
            scrape = Scrape(platform.log("metrics_served")[0]["port"])
            following.shutdown()
            platform.finish()
            figures = platform.ledger()["figures"]
    for name in ("port_taken", "sandbox_not_ours"):
        assert (scrape(f"{name}_total"), figures[name]) == (1, 1)


@moves("trailing_lines")
def test_lines_behind_an_invocation(tmp_path: Path) -> None:
    """They come when its flush is over."""
    variables = lambda_file_sink(tmp_path / "out") | {
        "TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0",
        "TELEMETRYD_FLUSH__STRATEGY": "invocation",
        "TELEMETRYD_FLUSH__MAX_ADDED_MS": "60000",
    }
    with ScriptedPlatform(variables) as platform:
        telemetry, following = platform.begin()
        following.invoke("r1", seconds=900)
        telemetry.sendall(began("r1") + done("r1"))
        following = platform.expect(NEXT)
        telemetry.sendall(line(2) + line(3))
        port = platform.log("metrics_served")[0]["port"]
        scrape = until(port, lambda s: s("trailing_lines_total"))
        following.shutdown()
        platform.finish()
        figures = platform.ledger()["figures"]
    assert (scrape("trailing_lines_total"), figures["trailing_lines"]) == (2, 2)


@moves("ends_missed", "unknown_requests")
def test_ends_that_are_missed_or_nobodys(tmp_path: Path) -> None:
    """An invocation of which nothing is heard, and the end of one that never was."""
    variables = lambda_file_sink(tmp_path / "out") | {
        "TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0",
        "TELEMETRYD_FLUSH__STRATEGY": "invocation",
    }
    with ScriptedPlatform(variables) as platform:
        telemetry, following = platform.begin()
        following.invoke("r1", seconds=900)
        following = platform.expect(NEXT)
        telemetry.sendall(done("r2"))
        port = platform.log("metrics_served")[0]["port"]
        scrape = until(port, lambda s: s("unknown_requests_total"))
        following.shutdown()
        platform.finish()
        figures = platform.ledger()["figures"]
    assert scrape("ends_missed_total", cause="nothing_received") == 1
    assert scrape("ends_missed_total", cause="silence") == 0
    assert figures["ends_missed"] == {"nothing_received": 1}
    assert figures["unknown_requests"] == 1
    assert figures["added_ms_max"] >= 500


def began(request_id: str) -> bytes:
    """The beginning of an invocation."""
    record = {"requestId": request_id, "version": "$LATEST"}
    body = {"time": "2026-03-14T10:15:30.123Z", "type": "platform.start", "record": record}
    return json.dumps(body).encode() + b"\n"


def done(request_id: str) -> bytes:
    """The end of an invocation, just now."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    record = {"requestId": request_id, "status": "success"}
    body: dict[str, Any] = {"time": stamp, "type": "platform.runtimeDone", "record": record}
    return json.dumps(body).encode() + b"\n"


# -- the edges ---------------------------------------------------------------------------------


@moves("hook_calls", "hook_failures", "hook_seconds", "hook_off")
def test_calls_of_a_hook_that_fails(tmp_path: Path) -> None:
    keys: Settings = ON | file_sink(tmp_path / "archive")
    hook = with_hook(tmp_path / "package", "Raising", budget_ms=60_000)
    with Daemon(tmp_path, foreign=hook, **keys) as daemon:
        port = port_of(daemon)
        for count in (1, 2, 3):
            daemon.send(event(count))
            scrape = until(port, lambda s, n=count: s("hook_failures_total", hook="probe") == n)  # type: ignore[misc]
        daemon.stop()
    assert scrape("hook_calls_total", hook="probe") == 4
    assert scrape("hook_seconds_total", hook="probe") > 0
    assert scrape("hook_off", hook="probe") == 1


@moves("hook_skipped_lines")
def test_lines_that_a_hook_could_not_keep_up_with(tmp_path: Path) -> None:
    keys: Settings = ON | file_sink(tmp_path / "archive")
    hook = with_hook(tmp_path / "package", "Slow", budget_ms=60_000)
    with Daemon(tmp_path, foreign=hook, **keys) as daemon:
        daemon.send(*[events(20_000)] * 4)
        until(port_of(daemon), lambda s: s("hook_skipped_lines_total", hook="probe") > 0)
        daemon.stop()


@moves("derived")
def test_metrics_and_spans_made_of_lines(tmp_path: Path) -> None:
    with SignalServer() as server:
        otlp = sink("otlp", type="otlp", endpoint=server.base, signals="logs,metrics,traces")
        with Daemon(tmp_path, **ON, **otlp) as daemon:
            daemon.send(began("r-1") + done("r-1"))
            key = ("kind", "metrics"), ("outcome", "delivered"), ("sink", "otlp")
            scrape = until(
                port_of(daemon), lambda s: ("telemetryd_derived_total", key) in s.samples
            )
            daemon.stop()
    assert scrape("derived_total", sink="otlp", kind="metrics", outcome="made") > 0


@moves(
    "system_cpu_seconds", "system_memory_bytes", "system_network_bytes", "system_tmp_bytes",
    "system_descriptors", "system_threads",
)  # fmt: skip
def test_the_figures_of_the_system(tmp_path: Path) -> None:
    keys: Settings = ON | {"SYSTEM__METRICS": "true"} | file_sink(tmp_path / "archive")
    with Daemon(tmp_path, **keys) as daemon:
        port = port_of(daemon)
        scrape = Scrape(port)
        before = scrape("system_cpu_seconds_total", mode="user")
        sum(range(10_000_000))
        scrape = until(port, lambda s: s("system_cpu_seconds_total", mode="user") > before)
        daemon.stop()
    used, total = (scrape("system_memory_bytes", state=each) for each in ("used", "total"))
    assert 0 < used < total
    assert scrape("system_network_bytes_total", direction="in") >= 0
    assert scrape("system_tmp_bytes", state="free") > 0
    assert scrape("system_descriptors") > 0
    assert scrape("system_threads") > 0


@moves("sampled_lines")
def test_lines_that_sampling_leaves_out(tmp_path: Path) -> None:
    sampled = file_sink(tmp_path / "archive", sample='[{by = "line", keep = 0.000001}]')
    with Daemon(tmp_path, **ON, **sampled) as daemon:
        daemon.send(DATA)
        scrape = until(port_of(daemon), lambda s: s("sampled_lines_total", sink="archive") > 0)
        daemon.stop()
    assert 490 < scrape("sampled_lines_total", sink="archive") <= 500


@moves("redacted")
def test_what_was_masked_by_rule(tmp_path: Path) -> None:
    keys: Settings = ON | {"REDACT": "email,ipv4"}
    with Daemon(tmp_path, **keys, **file_sink(tmp_path / "archive")) as daemon:
        daemon.send(b"to bob@x.de and ann@x.de\n")
        scrape = until(port_of(daemon), lambda s: s("redacted_total", rule="email") == 2)
        daemon.stop()
    assert scrape("redacted_total", rule="ipv4") == 0


@moves("http_requests")
def test_requests_to_the_telemetry_port_by_what_became_of_them(tmp_path: Path) -> None:
    keys: Settings = ON | {"TELEMETRY__PROTOCOL": "http"}
    with Daemon(tmp_path, **keys, **file_sink(tmp_path / "archive")) as daemon:
        port = port_of(daemon)
        for body in (b"[1,2]", b"[3]", b"no record"):
            connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=60)
            connection.request("POST", "/", body)
            connection.getresponse().read()
            connection.close()
        scrape = until(port, lambda s: s("http_requests_total", outcome="malformed") == 1)
        daemon.stop()
    assert scrape("http_requests_total", outcome="accepted") == 2
    assert scrape("http_requests_total", outcome="busy") == 0
    assert scrape("received_lines_total") == 3


@moves("connections_idle")
def test_connections_that_are_silent_or_too_many(tmp_path: Path) -> None:
    """While no place is left, health says so; it is well again when one is."""
    keys: Settings = ON | {"TELEMETRY__MAX_CONNECTIONS": 2, "TELEMETRY__IDLE_SECONDS": 5}
    with Daemon(tmp_path, **keys, **file_sink(tmp_path / "archive")) as daemon:
        port = port_of(daemon)
        held = [daemon.connect() for _ in range(2)]
        until(port, lambda s: s("connections") == 2)
        full = get(port, "/healthz")
        until(port, lambda s: s("connections_idle_total") == 2)
        well = get(port, "/healthz")
        assert [connection.recv(1) for connection in held] == [b"", b""]
    assert (full[0], well[0]) == (503, 200)
    (problem,) = json.loads(full[2])["problems"]
    assert problem.startswith("all 2 connections are in use; raise telemetry")


@moves("log_skipped_lines")
def test_a_log_that_is_not_read(tmp_path: Path) -> None:
    """The one way to learn of it, since the log can't tell."""
    with reserved() as port, reserved() as metrics:
        settings = {"TELEMETRY__PORT": port, "METRICS__LISTEN": f"127.0.0.1:{metrics}"}
        settings |= {"LOG__LEVEL": "debug"} | file_sink(tmp_path / "archive")
        unread, stderr = os.pipe()
        with subprocess.Popen(
            [sys.executable, "-m", "telemetryd", "listen"],
            env={f"TELEMETRYD_{key}": str(value) for key, value in settings.items()},
            stderr=stderr,
        ) as process:
            try:
                until_it_listens(metrics)
                while not Scrape(metrics)("log_skipped_lines_total"):
                    for _ in range(100):  # each connection is two lines
                        socket.create_connection(("127.0.0.1", port)).close()
                assert get(metrics, "/healthz")[0] == 200
            finally:
                process.kill()
        os.close(unread)
        os.close(stderr)


def until_it_listens(port: int) -> None:
    while True:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return


def test_peers_that_say_nothing_do_not_keep_probes_out(tmp_path: Path) -> None:
    """The one that has been silent for longest makes way."""
    keys: Settings = ON | file_sink(tmp_path / "archive")
    with contextlib.ExitStack() as opened, Daemon(tmp_path, **keys) as daemon:
        port = port_of(daemon)
        silent = [opened.enter_context(connect(port)) for _ in range(MAX_CONNECTIONS - 1)]
        assert get(port, "/healthz")[0] == 200  # by now all have been admitted
        silent[0].sendall(b"GET /hea")
        assert get(port, "/healthz")[0] == 200  # by now it has been heard
        opened.enter_context(connect(port))
        assert get(port, "/healthz")[0] == 200
        assert silent[1].recv(1) == b""
        silent[0].sendall(b"lthz HTTP/1.1\r\n\r\n")
        assert received(silent[0]).startswith(b"HTTP/1.1 200 ")


def test_every_family_is_moved_by_some_scenario() -> None:
    assert {family.name for family in FAMILIES} == MOVED


# -- the whole --------------------------------------------------------------------------------


def test_types_and_labels_are_those_of_the_catalogue(tmp_path: Path) -> None:
    """And no series beside them, `_created` or other."""
    with Daemon(tmp_path, **ON, **file_sink(tmp_path / "archive")) as daemon:
        scrape = Scrape(port_of(daemon))
    known = {f"telemetryd_{family.name}": family for family in FAMILIES}
    assert {name for name in scrape.kinds if name.startswith("telemetryd_")} == known.keys()
    for name, family in known.items():
        assert scrape.kinds[name] == family.kind
        extra = {"le"} if family.kind == "histogram" else set()
        for _, labels in scrape.of(family.name):
            assert {key for key, _ in labels} - extra == set(family.labels)
    assert not [name for name, _ in scrape.samples if name.endswith("_created")]


def test_scrapes_cost_no_line(tmp_path: Path) -> None:
    """Four scrapers without a pause while lines come in."""
    sent = events(100_000)
    archive = tmp_path / "archive"
    stopped = threading.Event()
    scrapes: list[float] = []

    def scrape_on(port: int) -> None:
        while not stopped.is_set():
            scrapes.append(Scrape(port)("delivered_lines_total", sink="archive"))

    with Daemon(tmp_path, **ON, **file_sink(archive)) as daemon:
        scrapers = [threading.Thread(target=scrape_on, args=(port_of(daemon),)) for _ in range(4)]
        for each in scrapers:
            each.start()
        daemon.send(*pieces(sent, 300_000))
        stopped.set()
        for each in scrapers:
            each.join()
        outcome = daemon.stop()
    assert outcome.sink()["delivered"] == leaf_of(sent)
    assert archive.read_bytes() == sent
    assert len(scrapes) >= 4


def test_an_address_that_is_taken_costs_one_warning(tmp_path: Path) -> None:
    """The second of two daemons works without its metrics."""
    with Daemon(tmp_path, **ON, **file_sink(tmp_path / "a")) as first:
        address = f"127.0.0.1:{port_of(first)}"
        keys: Settings = {"METRICS__LISTEN": address} | file_sink(tmp_path / "b")
        with Daemon(tmp_path, **keys) as second:
            second.send(event(1))
            outcome = second.stop()
    (warning,) = outcome.events("metrics_not_served")
    assert "in use" in warning["reason"]
    assert "metrics.listen" in warning["fix"]
    assert outcome.sink()["delivered"] == leaf(1, len(event(1)))


def test_nothing_is_served_in_lambda_unless_asked_for(tmp_path: Path) -> None:
    with ScriptedPlatform(lambda_file_sink(tmp_path / "out")) as platform:
        _, following = platform.begin()
        following.shutdown()
        platform.finish()
        assert platform.log("metrics_served") == []


def test_a_missing_library_costs_a_warning_and_no_line(tmp_path: Path) -> None:
    """As in a layer that leaves it out."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "prometheus_client.py").write_text("raise ImportError('not here')\n")
    variables = lambda_file_sink(tmp_path / "out") | {
        "TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0",
        "PYTHONPATH": str(tmp_path / "site"),
    }
    with ScriptedPlatform(variables) as platform:
        telemetry, following = platform.begin()
        telemetry.sendall(line(1))
        following.shutdown()
        platform.finish()
        (warning,) = platform.log("metrics_not_served")
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1
    assert "not here" in warning["reason"]
    assert "metrics.listen" in warning["fix"]


def test_health_while_stopping(tmp_path: Path) -> None:
    """A probe sees the end coming while there is something left to deliver."""
    keys: Settings = ON | sink("out", type="stdout", write_timeout_ms=600_000)
    with Daemon(tmp_path, stdout_pipe=True, **keys) as daemon:
        port = port_of(daemon)
        daemon.send(events(4000))
        until(port, lambda s: s("writes_in_flight", sink="out") == 1)
        daemon.process.terminate()
        daemon.wait_for("stopping")
        status, _, body = get(port, "/healthz")
        daemon.read_stdout()
        daemon.finish()
    assert (status, json.loads(body)["problems"]) == (503, ["stopping"])


def test_the_document_is_current() -> None:
    text = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    assert text == render(), "make docs"
    for family in FAMILIES:
        assert f"| `{family.full_name}` | {family.kind} |" in text


# -- requests no one should make ----------------------------------------------------------------

GARBAGE = {
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
    "no version": (b"GET /metrics\r\n\r\n", b"400"),
    "another version": (b"GET /metrics HTTP/2.0\r\n\r\n", b"400"),
    "empty lines": (b"\r\n\r\n", b"400"),
    "another path": (b"GET / HTTP/1.1\r\n\r\n", b"404"),
    "a path like ours": (b"GET /metrics/../metrics HTTP/1.1\r\n\r\n", b"404"),
    "a method": (b"DELETE /metrics HTTP/1.1\r\n\r\n", b"405"),
    "a body": (b"POST /healthz HTTP/1.1\r\nContent-Length: 9\r\n\r\n", b"405"),
    "no end": (b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 8192, b"431"),
    "not ASCII": ("GET /metrics HTTP/1.1\r\nAccept: é\r\n\r\n".encode(), b"200"),
    "a query": (b"GET /metrics?name[]=x HTTP/1.1\r\n\r\n", b"200"),
    "bytes of their own": (b"GET /healthz HTTP/1.1\r\nhost:x\r\n\r\n", b"200"),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A daemon that is asked all sorts of things."""
    tmp_path = tmp_path_factory.mktemp("served")
    with Daemon(tmp_path, **ON, **file_sink(tmp_path / "archive")) as daemon:
        daemon.metrics_port = port_of(daemon)  # type: ignore[attr-defined]
        yield daemon
        assert daemon.stop().events("metrics_failed") == []


@pytest.mark.parametrize(("request_bytes", "status"), GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "byte by byte"])
def test_whatever_is_asked_gets_an_answer(
    served: Any, request_bytes: bytes, status: bytes, at_once: bool
) -> None:
    """One, and the connection ends."""
    answer = ask(served.metrics_port, pieces(request_bytes, 8192 if at_once else 61))
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Connection: close" in head


def test_head_is_get_without_the_body(served: Any) -> None:
    status, headers, body = get(served.metrics_port, "/metrics", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["Content-Length"]) > 1000


def test_prometheus_text_is_the_format_of_whoever_asks_for_nothing(served: Any) -> None:
    status, headers, body = get(served.metrics_port, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert b"# HELP telemetryd_received_lines_total " in body
    assert b"# EOF" not in body


def test_connections_that_ask_nothing_are_bounded_and_end(served: Any) -> None:
    """The 17th is turned away; those that stay silent are ended, and others are served again."""
    silent = [connect(served.metrics_port) for _ in range(16)]
    one_more = connect(served.metrics_port)
    assert received(one_more) == b""
    served.send(event(1))  # telemetry continues
    for each in silent:
        assert received(each) == b""
        each.close()
    one_more.close()
    assert get(served.metrics_port, "/healthz")[0] == 200
