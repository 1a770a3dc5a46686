"""Routing end to end: who gets which line and with which fields, who stands in for whom.

Every test runs `telemetryd listen` and holds files and ledger against what was sent, byte for byte.
"""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.daemon import (
    MARK,
    NOTHING,
    PATIENCE_SECONDS,
    Daemon,
    Outcome,
    Settings,
    file_sink,
    leaf,
    leaf_of,
    sink,
)
from helpers.lines import event, events, pieces
from helpers.measured import MEASURED
from helpers.ports import reserved

ENDS = ("delivered", "dead_lettered", "failed_over", "spooled")
EXIT_INVALID = 78


class Told(msgspec.Struct):
    """A line, and what the tests know of it without looking at its bytes."""

    data: bytes
    kind: str
    request: str = ""
    """The invocation it belongs to."""
    level: str = ""


def told(kind: str, record: object, request: str = "", level: str = "") -> Told:
    """An event with this record."""
    body = {"time": "2026-03-14T10:15:30.123Z", "type": kind, "record": record}
    return Told(json.dumps(body).encode() + b"\n", kind, request, level)


def invocation(request: str, earlier: str = "first") -> list[Told]:
    """Everything that one invocation tells, in the layouts of several runtimes."""
    at = "2026-03-14T10:15:30.123Z"
    return [
        told("platform.start", {"requestId": request, "version": "7"}, request),
        told("function", f"[DEBUG]\t{at}\t{request}\t{MARK} order=17\n", request, "DEBUG"),
        told("function", f"{at}\t{request}\tINFO\t{MARK} order=18 healthcheck\n", request, "INFO"),
        told("function", f"[ERROR]\t{at}\t{request}\t{MARK} ünlucky\n", request, "ERROR"),
        told("function", {"level": "WARN", "requestId": request, "m": "order=19"}, request, "WARN"),
        told("function", {"level": "TRACE", "message": MARK}, request, "TRACE"),
        told("function", f"{MARK} without a level, order=20\n", request),
        told("extension", f"{MARK} an extension's, healthcheck order=21\n", request),
        # a line may name another invocation than the one that runs, but one that has begun
        told("function", {"AWSRequestId": earlier, "level": "fatal"}, earlier, "FATAL"),
        told("function", {"requestId": "of-api-gateway", "level": "fatal"}, request, "FATAL"),
        told("function", f"{MARK} and one that names none\n", request),
        told("platform.runtimeDone", {"requestId": request, "status": "success"}, request),
        told("platform.report", {"requestId": request, "status": "success"}, request),
    ]


STORY = [
    told("platform.initStart", {"phase": "init"}),
    told("function", f"{MARK} before any invocation, order=16\n"),
    *invocation("first"),
    *invocation("second"),
    told("odd.new", {"healthcheck": True, "level": "DEBUG"}, "second", "DEBUG"),
]
TEXT, CUT = b"order=22 but not an event\n", b'{"type":"function"\n'
BAD = TEXT + CUT
PASSED = {"severe": BAD, "anything_severe": BAD, "quiet": CUT, "all_at_once": TEXT}
"""What sinks get of the lines that are no events: all that nothing tells against."""
SEVERE = ("WARN", "ERROR", "FATAL")


def lines_of(wanted: Callable[[Told], bool]) -> bytes:
    """The lines of the story that are wanted."""
    return b"".join(line.data for line in STORY if wanted(line))


WANTED: Mapping[str, tuple[dict[str, object], Callable[[Told], bool]]] = {
    "platform": ({"types": "platform"}, lambda line: line.kind.startswith("platform.")),
    "reports": ({"types": "platform.report"}, lambda line: line.kind == "platform.report"),
    "severe": (
        {"types": "function,extension", "min_level": "warn"},
        lambda line: line.kind in ("function", "extension") and line.level in ("", *SEVERE),
    ),
    "anything_severe": (
        {"min_level": "Error"},
        lambda line: line.level not in ("DEBUG", "INFO", "TRACE", "WARN"),
    ),
    "orders": (
        {"include": "order=1[789],nowhere", "exclude": '["healthcheck"]'},
        lambda line: b"order=1" in line.data
        and b"order=16" not in line.data
        and b"healthcheck" not in line.data,
    ),
    "quiet": (
        {"exclude": "order=,platform"},
        lambda line: not re.search(rb"order=|platform", line.data),
    ),
    "all_at_once": (
        {"types": "function", "min_level": "info", "include": "order", "exclude": "check"},
        lambda line: line.kind == "function"
        and line.level != "DEBUG"
        and b"order" in line.data
        and b"check" not in line.data,
    ),
}  # fmt: skip


def test_each_filter_passes_what_it_names_and_accounts_for_the_rest(tmp_path: Path) -> None:
    """Lines that are no events pass where nothing tells against them."""
    paths = {name: tmp_path / name for name in WANTED}
    sinks = {
        k: v for name in WANTED for k, v in file_sink(paths[name], name, **WANTED[name][0]).items()
    }
    sent = lines_of(lambda _: True) + BAD
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(*pieces(sent, 199))
        outcome = daemon.stop()
    for name, (_, wanted) in WANTED.items():
        expected = lines_of(wanted)
        assert expected, name
        expected += PASSED.get(name, b"")
        assert paths[name].read_bytes() == expected, name
        page = outcome.sink(name)
        assert page["offered"] == leaf_of(sent)
        assert page["delivered"] == leaf_of(expected), name
        assert page["dropped"] == {}, name
        assert page["filtered"] == leaf(
            sent.count(b"\n") - expected.count(b"\n"), len(sent) - len(expected)
        ), name


@pytest.mark.parametrize("lot", [1, 64, 1 << 20])
def test_what_no_filter_passes_is_unrouted_to_the_byte(tmp_path: Path, lot: int) -> None:
    """However the stream is cut on its way."""
    sinks: Settings = {}
    for name in ("reports", "orders"):
        sinks |= file_sink(tmp_path / name, name, **WANTED[name][0])
    data = lines_of(lambda _: True)
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(*pieces(data, lot))
        outcome = daemon.stop()
    nobodys = lines_of(
        lambda line: not any(WANTED[name][1](line) for name in ("reports", "orders"))
    )
    assert nobodys
    assert outcome.ledger["unrouted"] == leaf_of(nobodys)
    assert outcome.ledger["framed"] == leaf_of(data)


def test_fields_come_in_front_and_the_line_stays_as_it_was(tmp_path: Path) -> None:
    """The ledger counts the bytes that were received, not those that were added."""
    tagged, raw, reports = tmp_path / "tagged", tmp_path / "raw", tmp_path / "reports"
    sinks = (
        file_sink(tagged, "tagged", fields="function,version,instance,request_id")
        | file_sink(raw, "raw")
        | file_sink(reports, "reports", types="platform.report", fields="request_id")
    )
    sent = lines_of(lambda _: True)
    with Daemon(tmp_path, **sinks) as daemon:
        # Two connections, one after the other: the second continues with the same invocation.
        middle = sent.index(b"\n", len(sent) // 2) + 1
        daemon.send(*pieces(sent[:middle], 333))
        daemon.send(sent[middle:])
        outcome = daemon.stop()
    assert raw.read_bytes() == sent
    lines = tagged.read_bytes().splitlines(keepends=True)
    instances = {json.loads(line)["instance"] for line in lines}
    assert len(instances) == 1
    (instance,) = instances
    assert re.fullmatch("[0-9a-f]{32}", instance)
    constant = f'{{"function":"local","version":"$LATEST","instance":"{instance}",'
    for line, original in zip(lines, STORY, strict=True):
        request = f'"request_id":"{original.request}",' if original.request else ""
        assert line == (constant + request).encode() + original.data[1:]
        assert json.loads(line).items() >= json.loads(original.data).items()
    report = [line for line in STORY if line.kind == "platform.report"]
    assert reports.read_bytes() == b"".join(
        f'{{"request_id":"{line.request}",'.encode() + line.data[1:] for line in report
    )
    assert outcome.sink("tagged")["delivered"] == leaf_of(sent)
    assert outcome.sink("reports")["delivered"] == leaf_of(b"".join(line.data for line in report))
    assert outcome.ledger["unrouted"] == NOTHING


def test_tags_and_facts_are_added_to_the_lines_of_any_sender(tmp_path: Path) -> None:
    """Tags of all sinks and of one, facts of an invocation, and names that lines have already."""
    tagged, plain = tmp_path / "tagged", tmp_path / "plain"
    sinks = file_sink(
        tagged, "tagged", fields="region,tenant_id,trace_id,cold_start", tags='{"tier":1}'
    ) | file_sink(plain, "plain")
    root = "1-69b539d1-5f2a0c1b7d3e4a6f8b9c0d1e"
    tracing = {"value": f"Root={root};Parent=7a6b5c4d3e2f1a0b;Sampled=1"}
    lines: list[dict[str, Any]] = [
        {"type": "platform.initStart", "record": {"initializationType": "on-demand"}},
        {"type": "platform.start",
         "record": {"requestId": "r-1", "tenantId": "blue", "tracing": tracing}},
        {"type": "function", "record": "hello"},
        {"level": "INFO", "stage": "of the sender", "tier": None},
    ]  # fmt: skip
    sent = b"".join(json.dumps(line).encode() + b"\n" for line in lines) + b"no object\n"
    region = {"AWS_REGION": "eu-west-1"}
    with Daemon(tmp_path, foreign=region, TAGS__STAGE="test", **sinks) as daemon:
        daemon.send(sent)
        outcome = daemon.stop()
    init, start, log, other, text = tagged.read_bytes().splitlines()
    tags: dict[str, Any] = {"stage": "test", "tier": 1}
    known = {"region": "eu-west-1", "cold_start": True}
    facts = tags | known | {"tenant_id": "blue", "trace_id": "69b539d15f2a0c1b7d3e4a6f8b9c0d1e"}
    assert json.loads(init) == lines[0] | tags | known
    assert json.loads(start) == lines[1] | facts
    assert json.loads(log) == lines[2] | facts
    renamed = {f"telemetryd_{name}": facts.pop(name) for name in ("stage", "tier")}
    assert json.loads(other) == lines[3] | facts | renamed
    assert text == b"no object"
    assert [json.loads(line) for line in plain.read_bytes().splitlines()[:2]] == [
        {"stage": "test"} | line for line in lines[:2]
    ]
    for name in ("tagged", "plain"):
        assert outcome.sink(name)["delivered"] == leaf_of(sent)


def test_added_fields_are_not_counted_where_a_block_exceeds_the_queue(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    data = events(3000, size=300)
    keys: dict[str, Any] = {
        "fields": "instance",
        "overflow": "drop_oldest",
        "queue_max_bytes": 64 * 1024,
    }
    with Daemon(tmp_path, **file_sink(archive, **keys)) as daemon:
        daemon.send(data)
        outcome = daemon.stop()
    page = outcome.sink()
    assert total(page["delivered"], *page["dropped"].values()) == leaf_of(data)


@pytest.mark.parametrize(
    "include", ['["(?i)ORDER=17"]', '["(?P<n>=17)", "(?P<n>=99)"]', "(?x)=17 #"]
)
def test_a_pattern_stands_alone(tmp_path: Path, include: str) -> None:
    archive = tmp_path / "archive"
    with Daemon(tmp_path, **file_sink(archive, include=include)) as daemon:
        daemon.send(lines_of(lambda _: True))
        daemon.stop()
    assert archive.read_bytes() == lines_of(lambda line: b"order=17" in line.data)


def test_requests_of_two_senders_are_told_apart(tmp_path: Path) -> None:
    """Outside Lambda each connection is an environment of its own."""
    archive = tmp_path / "archive"
    stories = [invocation("left", "left"), invocation("right", "left")]
    with Daemon(tmp_path, **file_sink(archive, fields="request_id")) as daemon:
        connections = [daemon.connect(), daemon.connect()]
        for turn in zip(*stories, strict=True):
            for connection, line in zip(connections, turn, strict=True):
                connection.sendall(line.data)
                daemon.barrier()
        daemon.stop()
    sent = [line for turn in zip(*stories, strict=True) for line in turn]
    found = [json.loads(line)["request_id"] for line in archive.read_bytes().splitlines()]
    assert found == [line.request for line in sent]


# -- failover --------------------------------------------------------------------------------------


def total(*leaves: Mapping[str, int]) -> dict[str, int]:
    """The sum of leaves of the ledger."""
    return leaf(sum(one["lines"] for one in leaves), sum(one["bytes"] for one in leaves))


def broken(tmp_path: Path, **keys: object) -> dict[str, object]:
    """A file sink that can't write, since a file is where a directory is needed."""
    (tmp_path / "file").touch()
    return file_sink(tmp_path / "file" / "archive", "broken", **keys)


def standby(path: Path, **keys: object) -> dict[str, object]:
    """A file sink that wants nothing for itself."""
    return file_sink(path, "spare", **{"exclude": "."} | keys)


def assert_all_failed_over(outcome: Outcome, data: bytes) -> None:
    """Both accounts, of a broken sink and of the standby that got all its lines."""
    page = outcome.sink("broken")
    assert page["failed_over"] == page["enqueued"] == leaf_of(data)
    assert page["delivered"] == NOTHING
    assert page["dropped"] == {}
    assert outcome.sink("spare")["delivered"] == leaf_of(data)
    assert outcome.sink("spare")["dropped"] == {}


def test_the_failover_gets_all_that_a_broken_sink_cannot_write(tmp_path: Path) -> None:
    """In order, once, over many batches, from before and after its circuit opens."""
    spare = tmp_path / "spare"
    sinks: Settings = broken(tmp_path, failover="spare", batch_max_bytes=4096) | standby(spare)
    first, then = events(500), events(1500, first=500)
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(*pieces(first, 3001))
        opened = daemon.wait_for("circuit_opened", sink="broken")
        daemon.wait_for("lines_failed_over", sink="broken")
        daemon.wait_for_file(spare, len(first))
        daemon.send(*pieces(then, 3001))
        daemon.wait_for_file(spare, len(first + then))
        outcome = daemon.stop()
    assert spare.read_bytes() == first + then
    assert_all_failed_over(outcome, first + then)
    assert opened["permanent"] is False
    assert outcome.sink("spare")["filtered"] == leaf_of(first + then)


def test_a_failover_is_no_detour_for_what_it_wants_itself(tmp_path: Path) -> None:
    """Its own filter is for what it is offered first hand; the fields are those of the sender."""
    spare = tmp_path / "spare"
    sinks: Settings = broken(
        tmp_path, failover="spare", types="function", fields="request_id"
    ) | standby(spare, exclude="", types="platform")  # fmt: skip
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(lines_of(lambda _: True))
        outcome = daemon.stop()
    written = spare.read_bytes().splitlines(keepends=True)
    own = [line.data for line in STORY if line.kind.startswith("platform.")]
    tagged = [
        (f'{{"request_id":"{line.request}",' if line.request else "{").encode() + line.data[1:]
        for line in STORY
        if line.kind == "function"
    ]
    assert [line for line in written if b'"platform.' in line] == own
    assert [line for line in written if b'"platform.' not in line] == tagged
    received = leaf_of(lines_of(lambda line: line.kind == "function"))
    assert outcome.sink("broken")["failed_over"] == received
    assert outcome.sink("spare")["delivered"] == total(received, leaf_of(b"".join(own)))


def test_what_the_failover_cannot_write_either_is_its_own_loss(tmp_path: Path) -> None:
    """Kept in the dead letter under the failover's name and the reason of its failure."""
    letters = tmp_path / "letters"
    sinks: Settings = broken(tmp_path, failover="spare") | standby(
        tmp_path / "file" / "spare", retry_max_elapsed_ms=0
    )
    data = events(100)
    with Daemon(tmp_path, DEAD_LETTER__PATH=letters, **sinks) as daemon:
        daemon.send(data)
        daemon.wait_for("lines_dead_lettered", sink="spare")
        outcome = daemon.stop()
    assert outcome.sink("broken")["failed_over"] == leaf_of(data)
    assert outcome.sink("broken")["dead_lettered"] == NOTHING
    assert outcome.sink("spare")["dead_lettered"] == leaf_of(data)
    kept = [json.loads(line) for line in letters.read_text().splitlines()]
    assert "".join(letter["data"] for letter in kept).encode() == data
    assert {letter["sink"] for letter in kept} == {"spare"}


def test_the_failover_rests_when_what_is_wrong_is_put_right(tmp_path: Path) -> None:
    """The broken sink is asked again once in a while, and takes over again."""
    spare, mended = tmp_path / "spare", tmp_path / "file" / "archive"
    sinks: Settings = broken(tmp_path, failover="spare") | standby(spare)
    with Daemon(tmp_path, **sinks) as daemon:
        daemon.send(event(0))
        daemon.wait_for_file(spare, len(event(0)))
        (tmp_path / "file").unlink()
        sent = 1
        while not mended.exists() or not mended.stat().st_size:
            daemon.send(event(sent))
            sent += 1
        outcome = daemon.stop()
    data = events(sent)
    assert spare.read_bytes() + mended.read_bytes() == data, "in order, by whichever process"
    assert outcome.sink("broken")["delivered"] == leaf_of(mended.read_bytes())
    assert outcome.sink("broken")["failed_over"] == leaf_of(spare.read_bytes())
    assert outcome.events("circuit_closed")[0]["sink"] == "broken"


PIPE_BYTES = 1 << 20
"""More than a pipe holds by default, on machines with large pages too."""


def hung(**keys: object) -> dict[str, object]:
    """A stdout sink whose reader takes nothing, and whose writes are never given up."""
    return sink("hung", type="stdout", **{"write_timeout_ms": 600_000} | keys)


def fill_pipe(daemon: Daemon, data: bytes) -> None:
    """Send `data`, the first line of which the pipe can't hold; return when its write has begun.

    However little the daemon reads at first, the write is stuck then, and nothing is delivered.
    """
    assert data.index(b"\n") > PIPE_BYTES
    daemon.send(data)
    assert daemon.process.stdout is not None
    assert select.select([daemon.process.stdout], [], [], PATIENCE_SECONDS)[0]


def test_what_is_in_flight_at_the_end_fails_over(tmp_path: Path) -> None:
    """Two standbys deep: `hung` is stuck, `broken` can't write, `spare` gets everything."""
    spare = tmp_path / "spare"
    sinks: Settings = (
        hung(failover="broken")
        | broken(tmp_path, failover="spare", exclude=".")
        | standby(spare)
    )  # fmt: skip
    data = event(0, size=PIPE_BYTES + 1000) + events(2000, first=1, size=300)
    with Daemon(tmp_path, stdout_pipe=True, FLUSH__SHUTDOWN_MS=4000, **sinks) as daemon:
        fill_pipe(daemon, data)
        outcome = daemon.stop()
    assert spare.read_bytes() == data
    assert outcome.sink("hung")["failed_over"] == leaf_of(data)
    assert outcome.sink("hung")["dropped"] == {}
    assert_all_failed_over(outcome, data)


def test_a_sink_that_hangs_fails_over_while_others_go_on(tmp_path: Path) -> None:
    spare, archive = tmp_path / "broken", tmp_path / "archive"
    sinks: Settings = (
        hung(failover="broken", write_timeout_ms=50, retry_max_elapsed_ms=0)
        | file_sink(spare, "broken", exclude=".")
        | file_sink(archive)
    )
    data = event(0, size=PIPE_BYTES + 1000) + events(2000, first=1, size=300)
    with Daemon(tmp_path, stdout_pipe=True, FLUSH__SHUTDOWN_MS=1000, **sinks) as daemon:
        fill_pipe(daemon, data)
        daemon.wait_for_file(spare, len(data))
        outcome = daemon.stop()
    assert spare.read_bytes() == archive.read_bytes() == data
    assert outcome.sink("hung")["failed_over"] == leaf_of(data)
    assert outcome.sink("archive")["delivered"] == leaf_of(data)


# -- isolation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_dead_sink_with_a_drop_policy_delays_no_other(tmp_path: Path, policy: str) -> None:
    """All of several times its queue is in the other file while it still retries the first batch.

    It is told to retry for ten minutes.
    """
    archive = tmp_path / "archive"
    data = events(16 * 1024, size=512)
    sinks = file_sink(archive, overflow=policy) | broken(
        tmp_path, overflow=policy, queue_max_bytes=256 * 1024, retry_max_elapsed_ms=600_000
    )
    with Daemon(tmp_path, FLUSH__SHUTDOWN_MS=500, **sinks) as daemon:
        daemon.send(*pieces(data, 8192))
        daemon.wait_for_file(archive, len(data))
        daemon.wait_for("lines_dropped", sink="broken", reason="queue_full")
        outcome = daemon.stop()
    assert archive.read_bytes() == data
    assert outcome.sink("archive")["delivered"] == leaf_of(data)
    dropped = outcome.sink("broken")["dropped"]
    assert dropped["queue_full"]["bytes"] > len(data) - 512 * 1024
    assert total(*dropped.values()) == leaf_of(data)


def test_sinks_of_a_network_service_fail_over_with_the_lines_as_they_came(tmp_path: Path) -> None:
    """No one listens where the stream should be: what was packed and compressed is unpacked."""
    spare = tmp_path / "spare"
    data = events(1000)
    with reserved() as port:
        sinks: Settings = standby(spare) | sink(
            "broken", type="kinesis", stream="s", region="eu-west-1", failover="spare",
            compression="gzip", endpoint_url=f"http://127.0.0.1:{port}", fields="function",
        )  # fmt: skip
        with Daemon(tmp_path, **sinks) as daemon:
            daemon.send(data)
            daemon.wait_for("lines_failed_over", sink="broken")
            outcome = daemon.stop()
    lines = data.splitlines(keepends=True)
    assert spare.read_bytes() == b"".join(b'{"function":"local",' + line[1:] for line in lines)
    assert_all_failed_over(outcome, data)


# -- what is refused before it runs ----------------------------------------------------------------


def check(**environment: object) -> subprocess.CompletedProcess[str]:
    """Run `telemetryd check`."""
    return subprocess.run(
        [sys.executable, "-m", "telemetryd", "check"],
        env=MEASURED | {f"TELEMETRYD_{key}": str(value) for key, value in environment.items()},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def two(**failovers: str) -> dict[str, object]:
    """Sinks `a` and `b`, and what each fails over to."""
    found = sink("a", type="null") | sink("b", type="null")
    for name, other in failovers.items():
        found |= sink(name, failover=other)
    return found


REFUSED = {
    "itself": (two(a="a"), ("a -> a", "circle")),
    "each other": (two(a="b", b="a"), ("a -> b -> a", "circle")),
    "nobody": (two(a="c"), ("sinks.a.failover", "names no sink", "sinks here: b")),
    "a bad include": (sink("a", type="null", include='["ok", "(no"]'), ("sinks.a.include", "(no")),
    "a bad exclude": (sink("a", type="null", exclude="*"), ("sinks.a.exclude", "'*'")),
    "a bad level": (sink("a", type="null", min_level="loud"), ("sinks.a.min_level", "loud")),
    "a bad field": (sink("a", type="null", fields="colour"), ("sinks.a.fields", "request_id")),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_check_refuses_what_cannot_work(name: str) -> None:
    """And says where it is wrong."""
    environment, words = REFUSED[name]
    done = check(**environment)
    assert done.returncode == EXIT_INVALID, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_check_accepts_a_chain_of_failovers() -> None:
    done = check(**two(a="b"))
    assert (done.returncode, done.stderr) == (0, "")
