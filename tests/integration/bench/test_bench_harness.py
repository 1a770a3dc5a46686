"""The harness measures real processes, and does not count a run that lost or changed a line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from typing import Any

from bench.cli import main
from bench.kit.errors import AbsentError, LossError
from bench.load import altered, comparison, daemon, measure
from bench.load.scenario import Expect, Limits, Load, Service, Source, Variant
from bench.peers.catalog import Peer, PeerSpec
from telemetryd import app
from telemetryd.core.watch import LIFE_CYCLE, LOSSES
from telemetryd_proto import scan

RECEIVER = """
import signal, socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
connection, _ = server.accept()
with open(sys.argv[2], "wb", buffering=0) as output, connection.makefile("rb") as stream:
    for number, line in enumerate(stream):
        output.write(CHANGED)
signal.pause()
"""


FILE = {"sinks": {"out": {"type": "file", "path": "{output}"}}}
STREAM = {
    "sinks": {
        "out": {
            "type": "kinesis", "stream": "bench", "region": "eu-west-1",
            "endpoint_url": "{kinesis}", "overflow": "block",
        }
    }
}  # fmt: skip
POST = {"sinks": {"out": {"type": "http", "url": "{collector}", "overflow": "block"}}}
DEAD = {
    "sinks": {
        "out": {"type": "file", "path": "{output}", "overflow": "block"},
        "dead": {"type": "file", "path": "/dev/null/not-a-directory", "retry_max_elapsed_ms": 0},
    }
}


def load(**keys: Any) -> Load:
    source = keys.pop("source", Source(lines=4000))
    return Load(**{"title": "t", "source": source, "daemon": FILE} | keys)


def receiver(tmp_path: Path, changed: str) -> Peer:
    """A peer that writes `changed`, an expression over `number` and `line`."""
    (tmp_path / "receiver.py").write_text(RECEIVER.replace("CHANGED", changed))
    spec = PeerSpec(
        title="r", does="d", does_not="n", protocol="tcp", kind="peer",
        run=["{python}", "receiver.py", "{port}", "{output}"],
    )  # fmt: skip
    return Peer(tmp_path, spec)


@pytest.mark.parametrize("connections", [1, 3])
def test_a_run_of_telemetryd_is_verified_and_measured(connections: int) -> None:
    """Every line read back, the ledger believed only where it balances."""
    run = measure.telemetryd(load(source=Source(lines=4000, connections=connections)))
    assert run.lines >= 3000
    assert run.bytes > 250 * run.lines
    assert run.cpu_seconds > 0
    assert run.peak_mib > 10
    assert run.drops == {}
    assert run.latency is None


@pytest.mark.parametrize("changed", [{"watch": "lambda"}, {"scanner": "python"}])
def test_a_run_of_an_altered_listen_is_verified_too(changed: dict[str, Any]) -> None:
    """`listen` that looks for every event of the life cycle, or does so in Python."""
    assert measure.telemetryd(load(**changed)).lines >= 3000


@pytest.mark.parametrize(
    ("watch", "scanner", "seen"),
    [
        ("lambda", "any", (LIFE_CYCLE, "compiled")),
        ("listen", "python", (LOSSES, None)),
        ("lambda", "python", (LIFE_CYCLE, None)),
    ],
)
def test_what_is_altered_is_what_the_scenario_says(
    watch: str, scanner: str, seen: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    monkeypatch.setattr(app, "LOSSES", LOSSES)
    monkeypatch.setattr(scan, "compiled", "compiled")
    monkeypatch.setattr(sys, "argv", ["altered", watch, scanner, "listen"])

    def note() -> None:
        found.append((vars(app)["LOSSES"], scan.compiled, sys.argv[1:]))

    monkeypatch.setattr(altered, "telemetryd", note)
    altered.main(watch, scanner, "listen")
    assert found == [(*seen, ["listen"])]  # type: ignore[misc]  # two values


def test_a_run_at_a_rate_tells_latencies_and_memory() -> None:
    """One line of each tick is timed from when it was due."""
    run = measure.telemetryd(load(source=Source(rate=2000, seconds=2.2)))
    assert run.lines == 4400
    assert run.latency is not None
    assert 0 < run.latency.p50 <= run.latency.p95 <= run.latency.p99 <= run.latency.max
    assert len(run.resident_mib) >= 2


def test_a_stream_at_a_rate_is_read_back_and_timed() -> None:
    """A line counts until the server has answered for it."""
    expect = Expect(output=False, stream=True, delivered=("out",))
    source, service = Source(rate=2000, seconds=1.0), Service(latency_ms=30)
    run = measure.telemetryd(load(daemon=STREAM, expect=expect, source=source, service=service))
    assert run.lines == 2000
    assert run.records > 0
    assert run.latency is not None
    assert run.latency.p50 >= 30


def test_a_configuration_that_writes_nothing_to_read_back_is_measured_by_its_ledger() -> None:
    """As a user's own may be."""
    null = {"sinks": {"out": {"type": "null"}}}
    expect = Expect(output=False, delivered=("out",))
    run = measure.telemetryd(
        load(daemon=null, expect=expect, source=Source(rate=2000, seconds=0.5))
    )
    assert (run.lines, run.latency) == (1000, None)


def test_metrics_are_counted_and_a_sink_that_misses_some_makes_the_run_void() -> None:
    """Here by a metric that is not asked for, as if it were lost."""
    expect = Expect(output=False, metrics=True)
    source = Source(lines=20_000)
    emf = {"type": "emf", "metrics": ["duration"], "overflow": "block"}
    assert measure.telemetryd(
        load(daemon={"sinks": {"m": emf}}, expect=expect, source=source)
    ).lines
    emf = emf | {"metrics": ["invocations"]}
    with pytest.raises(LossError, match="hold 0 durations"):
        measure.telemetryd(load(daemon={"sinks": {"m": emf}}, expect=expect, source=source))


@pytest.mark.parametrize("body", ["ndjson", "json"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_what_is_posted_is_read_back(body: str, compression: str) -> None:
    """Line by line, whatever the form of the body."""
    out = POST["sinks"]["out"] | {"body": body, "compression": compression}
    expect = Expect(output=False, collected=True, delivered=("out",))
    run = measure.telemetryd(load(daemon={"sinks": {"out": out}}, expect=expect))
    assert run.lines == 4000
    assert run.cpu_seconds > 0


OTLP = {"sinks": {"out": {"type": "otlp", "logs_endpoint": "{collector}", "overflow": "block"}}}


@pytest.mark.parametrize("types", ["", "function"])
def test_records_of_otlp_are_counted(types: str) -> None:
    """A sink that leaves some out has too few."""
    out = OTLP["sinks"]["out"] | ({"types": [types]} if types else {})
    expect = Expect(output=False, counted=True)
    scenario = load(daemon={"sinks": {"out": out}}, expect=expect)
    if not types:
        assert measure.telemetryd(scenario).lines == 4000
        return
    with pytest.raises(LossError, match="records are at the server, not 4,001"):
        measure.telemetryd(scenario)


@pytest.mark.parametrize("name", ["file", "stream", "post"])
def test_a_daemon_that_loses_lines_does_not_count(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sink does not take platform events, and its ledger balances nevertheless."""
    monkeypatch.setattr(measure, "DEADLINE_SECONDS", 3)
    of = {"file": FILE, "stream": STREAM, "post": POST}[name]["sinks"]["out"]
    expect = Expect(output=name == "file", stream=name == "stream", collected=name == "post")
    lossy = {"sinks": {"out": of | {"types": ["function"]}}}
    with pytest.raises(LossError, match=r"lines (arrived|are missing)"):
        measure.telemetryd(load(daemon=lossy, expect=expect))


def test_lines_in_bursts_arrive_although_telemetryd_is_frozen_between_them() -> None:
    """It is stopped with lines in flight."""
    source = Source(lines=12_000, burst_lines=3000, pause_ms=20, freeze=True)
    assert measure.telemetryd(load(source=source)).lines >= 9000


@pytest.mark.parametrize(
    "service",
    [Service(), Service(latency_ms=20, error_rate=0.2, throttle_rate=0.3)],
    ids=["quick", "slow and failing"],
)
def test_a_stream_is_read_back(service: Service) -> None:
    """Whatever the server makes of it, each line is in it once."""
    expect = Expect(output=False, stream=True, delivered=("out",))
    run = measure.telemetryd(load(daemon=STREAM, expect=expect, service=service))
    assert 0 < run.records < 100
    assert run.record_bytes >= run.bytes


def test_a_daemon_that_is_killed_is_told_of_as_such(tmp_path: Path) -> None:
    """As the kernel does where its memory is limited."""
    config = {"sinks": {"out": {"type": "null"}}}
    with daemon.running(config, tmp_path, []) as running:
        running.process.kill()
        with pytest.raises(LossError, match="status -9, killed"):
            running.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="limits need root")
@pytest.mark.parametrize("source", [Source(lines=4000), Source(rate=1000, seconds=1.0)])
def test_a_limit_that_is_too_low_is_told_of_as_such(source: Source) -> None:
    """Whenever it is that the kernel kills it."""
    with pytest.raises((LossError, AbsentError), match=r"did not start|killed|\[limits\]"):
        measure.telemetryd(load(source=source, limits=Limits(memory_mb=5)))


def test_a_sink_that_drops_makes_the_run_void_unless_that_is_what_is_measured() -> None:
    """Then the drops are shown, by sink and reason."""
    with pytest.raises(LossError, match="dead dropped"):
        measure.telemetryd(load(daemon=DEAD))
    run = measure.telemetryd(load(daemon=DEAD, expect=Expect(drops=("dead",))))
    assert all(name.startswith("dead: ") for name in run.drops)
    assert run.dropped == run.lines + 1  # and the line that was sent ahead


def test_a_daemon_whose_file_is_not_what_was_sent_does_not_count(tmp_path: Path) -> None:
    """Here a second sink writes to it, as a daemon would that wrote every line twice."""
    expect = Expect(delivered=("out", "again"))
    twice = {"sinks": {name: {"type": "file", "path": "{output}"} for name in ("out", "again")}}
    with pytest.raises(LossError, match="lines are in the file"):
        measure.telemetryd(load(daemon=twice, expect=expect))


def test_rows_are_run_in_turn_and_one_that_can_not_be_is_absent(tmp_path: Path) -> None:
    """A peer that is not there is no reason to measure nothing."""
    variants = (Variant(name="one"), Variant(name="two"))
    result = comparison.measured("s", load(repeat=2, variant=variants), ["copier"])
    runs = {row.receiver: len(row.runs) for row in result.rows}
    assert runs["one"] == runs["two"] == runs["generator"] == 2
    assert all(row.runs or row.absent for row in result.rows)


def test_the_yardstick_may_mix_the_lines_of_connections() -> None:
    """It knows no lines; without a C compiler there is none."""
    source = Source(lines=60_000, connections=4)
    result = comparison.measured("s", load(repeat=1, source=source), ["copier"])
    (copier,) = [row for row in result.rows if row.receiver == "copier"]
    assert copier.runs or "not found" in copier.absent


def test_a_scenario_of_ones_own_is_run_from_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table, JSON and chart where they were asked for."""
    path = tmp_path / "mine.toml"
    path.write_text(
        'kind = "load"\ntitle = "mine"\n[source]\nlines = 4000\n'
        '[daemon.sinks.out]\ntype = "file"\npath = "{output}"\n'
    )
    out = tmp_path / "out"
    assert main(["run", str(path), "--repeat", "1", "--out", str(out)]) == 0
    assert "| telemetryd | " in capsys.readouterr().out
    assert {file.name for file in out.iterdir()} == {"mine.json", "mine.md", "mine.svg"}
    assert main(["compare", str(out), str(out)]) in (0, 64)  # 64: without a C compiler, no copier
    assert main(["compare", str(out), str(tmp_path / "none")]) == 64
    assert main(["run", str(tmp_path / "none.toml")]) == 64
    assert main(["run", str(path), "--peers", "syslogd"]) == 64
    assert "no peer syslogd; there is: copier" in capsys.readouterr().err
    path.write_text('kind = "load"\ntitel = "mine"\n')
    assert main(["run", str(path)]) == 64
    assert "titel" in capsys.readouterr().err


def test_a_scenario_whose_run_does_not_count_leaves_the_others_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of measurements is not lost to the one that fails."""
    monkeypatch.setattr(measure, "DEADLINE_SECONDS", 3)
    text = 'kind = "load"\ntitle = "t"\nrepeat = 1\n[source]\nlines = 4000\n[daemon.sinks.out]\n'
    text += 'type = "file"\npath = "{output}"\n'
    (tmp_path / "lossy.toml").write_text(text + 'types = ["function"]\n')
    (tmp_path / "sound.toml").write_text(text)
    names = [str(tmp_path / f"{name}.toml") for name in ("lossy", "sound")]
    assert main(["run", *names, "--out", str(tmp_path)]) == 70
    said = capsys.readouterr()
    assert "bench: lossy: a run does not count: telemetryd: " in said.err
    assert "python -m bench run sound" in said.out
    assert not (tmp_path / "lossy.json").exists()


def test_an_honest_peer_counts(tmp_path: Path) -> None:
    """What the other tests do to this one must be what they catch."""
    assert measure.peer(receiver(tmp_path, "line"), Source(lines=4000)).lines >= 3000


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("line if number != 1000 else b''", "lines arrived"),
        ("line if number != 1000 else line.replace(b'2026', b'2027')", "line 1001 is"),
        ("line if number != 1000 else line + line", "lines are in the file"),
    ],
    ids=["lossy", "corrupting", "doubling"],
)
def test_a_peer_that_is_not_honest_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str, told: str
) -> None:
    """A faster receiver that loses lines is not faster."""
    monkeypatch.setattr(measure, "DEADLINE_SECONDS", 3)
    with pytest.raises(LossError, match=told):
        measure.peer(receiver(tmp_path, changed), Source(lines=4000))
