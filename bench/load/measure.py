"""One run of one receiver: sends a scenario's lines, waits until they are where they belong."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from bench.kit import limits
from bench.kit.cores import aside, on_core
from bench.kit.errors import LossError
from bench.load import daemon, kinesis_service, printed
from bench.load.collector import Collector
from bench.load.collector import serving as collecting
from bench.load.kinesis_service import KinesisService, decoded
from bench.load.pace import Schedule, drive
from bench.load.run import Latency, Run
from bench.load.scenario import Load, Service, Source, filled
from bench.load.send import Sent, Traffic, post
from bench.peers.catalog import Peer, cpu_seconds
from bench.peers.verify import Counted, differences

DEADLINE_SECONDS: Final = 300
"""Seconds for lines to arrive."""
_WORK_SECONDS: Final = 300
_LOOK_SECONDS: Final = 0.001
_SETTLE_SECONDS: Final = 0.02
_STILL_SECONDS: Final = 0.2
_NOTHING_SECONDS: Final = 0.005
_PATIENT_SECONDS: Final = 2.5
"""Longer than telemetryd backs off, for a service that makes it wait."""


def telemetryd(load: Load) -> Run:
    """Run telemetryd on one core, everything else on another.

    Raises LossError, and AbsentError where the machine lacks what the scenario needs.
    """
    with aside(), contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        output = scratch / "out.ndjson"
        values = {"output": str(output), "scratch": str(scratch)}
        service: KinesisService | None = None
        if "{kinesis}" in json.dumps(load.daemon):
            serving = kinesis_service.serving(load.service, scratch, on_core(1))
            service = stack.enter_context(serving)
            values["kinesis"] = service.url
        collector: Collector | None = None
        if "{collector}" in json.dumps(load.daemon):
            collector = stack.enter_context(collecting(scratch, on_core(1)))
            values["collector"] = collector.url
        prefix = [*stack.enter_context(limits.granted(load.limits)), *on_core(0)]
        config = filled(load.daemon, values)
        running = stack.enter_context(daemon.running(config, scratch, prefix, _start(load)))
        if load.source.rate:
            return _paced(load, running, output, service)
        return _flood(load, running, output, service, collector)


def _start(load: Load) -> list[str]:
    if (load.watch, load.scanner) == ("listen", "any"):
        return ["telemetryd"]
    return ["bench.load.altered", load.watch, load.scanner]


def _flood(
    load: Load,
    running: daemon.Daemon,
    output: Path,
    service: KinesisService | None,
    collector: Collector | None,
) -> Run:
    pid, expect = running.process.pid, load.expect
    traffic = Traffic(load.source)
    warm = traffic.first()
    _warm_up(warm, running.port, pid, _still(load), load.protocol)
    with _sender(load.protocol, running.port, load.source, pid) as sender:
        began_cpu, began = cpu_seconds(pid), time.perf_counter()
        sent = _send(sender, running)
        if expect.output:
            _wait_for(output, sent.bytes + len(warm), began)
        seconds = time.perf_counter() - began
        if not expect.output or expect.delivered:
            busy = wait_until_idle(pid, began, _still(load))
            seconds = seconds if expect.output else busy
        cpu = cpu_seconds(pid) - began_cpu
    peak = resident_mib(pid, "VmHWM")
    drops = _judge(load, running.stop(), sent, warm)
    if expect.output and (wrong := _differences("tcp", traffic, output, warm)):
        raise LossError(wrong)
    if expect.metrics and (wrong := printed.differences(running.printed, traffic.lines())):
        raise LossError(wrong)
    run = Run(
        lines=sent.lines, bytes=sent.bytes, seconds=seconds, cpu_seconds=cpu, peak_mib=peak,
        drops=drops,
    )  # fmt: skip
    if service is None and collector is None:
        return run
    wanted = Counter(traffic.lines() * traffic.connections)
    wanted[warm] += 1
    if collector is not None:
        _judge_posts(load, collector, wanted)
    if service is None:
        return run
    return _with_records(run, load, service, wanted)


def _judge_posts(load: Load, collector: Collector, wanted: Counter[bytes]) -> None:
    """Raise LossError if a line is missing at the server, or there twice."""
    if load.expect.counted:
        found = sum(map(len, collector.arrived()))
        if found != wanted.total():
            raise LossError(f"{found:,} records are at the server, not {wanted.total():,}")
    if load.expect.collected:
        wrong = kinesis_service.differences(collector.arrived(), wanted)
        if wrong:
            raise LossError(wrong)


def _with_records(
    run: Run,
    load: Load,
    service: KinesisService,
    wanted: Mapping[bytes, int],
    schedule: Schedule | None = None,
) -> Run:
    """`run` with what the Kinesis server counted. Raises LossError where a line is missing.

    And with latencies, where lines tell when they were due and no file has shown when they came.
    """
    records, told = service.records()
    run = msgspec.structs.replace(run, records=told["records"], record_bytes=told["data_bytes"])
    if not load.expect.stream:
        return run
    arrived = list(decoded(records))
    if wrong := kinesis_service.differences((lines for _, lines in arrived), wanted):
        raise LossError(wrong)
    timed = [(record.at, lines) for record, lines in arrived if record.at is not None]
    if schedule and run.latency is None and (found := schedule.latencies(timed)):
        return msgspec.structs.replace(run, latency=Latency.of(found))
    return run


def _paced(load: Load, running: daemon.Daemon, output: Path, service: KinesisService | None) -> Run:
    pid = running.process.pid
    warm = Traffic(msgspec.structs.replace(load.source, lines=1)).first()
    _warm_up(warm, running.port, pid, _still(load))
    began = cpu_seconds(pid)
    file = output if load.expect.output else None
    try:
        paced = drive(running.port, file, load.source, lambda: resident_mib(pid, "VmRSS"), warm)
    except ConnectionError as error:
        running.stop()  # knows more, if it has ended
        raise LossError(f"the connection broke: {error}") from error
    if load.expect.delivered or file is None:
        wait_until_idle(pid, time.perf_counter(), _PATIENT_SECONDS)
    cpu, peak = cpu_seconds(pid) - began, resident_mib(pid, "VmHWM")
    sent = Sent(lines=paced.lines, bytes=paced.bytes)
    drops = _judge(load, running.stop(), sent, warm)
    if load.expect.output and not load.expect.drops and paced.wrong:
        raise LossError(paced.wrong)
    run = Run(
        lines=paced.lines, bytes=paced.bytes, seconds=paced.seconds, cpu_seconds=cpu,
        peak_mib=peak, drops=drops, resident_mib=tuple(paced.samples),
        latency=Latency.of(paced.latencies) if paced.latencies else None,
    )  # fmt: skip
    if service is None:
        return run
    wanted = paced.schedule.counts()
    wanted[warm] += 1
    return _with_records(run, load, service, wanted, paced.schedule)


def peer(subject: Peer, source: Source) -> Run:
    """Run a peer in the same way. Raises LossError, or what `bench.peers.catalog` raises."""
    with aside(), contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        output = scratch / "out.ndjson"
        process, port = stack.enter_context(subject.running(output, on_core(0)))
        sender = stack.enter_context(_sender(subject.spec.protocol, port, source, process.pid))
        raw = subject.spec.protocol == "tcp"  # others may write an event in their own way
        began_cpu, began = cpu_seconds(process.pid), time.perf_counter()
        sent = _send(sender)
        _wait_for(output, sent.bytes, began, lines=None if raw else sent.lines)
        seconds, cpu = time.perf_counter() - began, cpu_seconds(process.pid) - began_cpu
        peak = resident_mib(process.pid, "VmHWM")
        if subject.spec.kind == "ceiling" and source.connections > 1:
            wrong = _missing(output, sent)
        else:
            wrong = _differences(subject.spec.protocol, Traffic(source), output, b"")
        if wrong:
            raise LossError(f"{subject.name}: {wrong}")
    return Run(lines=sent.lines, bytes=sent.bytes, seconds=seconds, cpu_seconds=cpu, peak_mib=peak)


def generator(source: Source) -> Run:
    """Send to a program that reads and forgets: what no receiver can exceed."""
    single = msgspec.structs.replace(source, connections=1, burst_lines=0, pause_ms=0, freeze=False)
    command = [*on_core(0), sys.executable, "-m", "bench.load.discard"]
    with aside(), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            with _sender("tcp", port, single, process.pid) as sender:
                began = time.perf_counter()
                sent = _send(sender)
                process.wait(DEADLINE_SECONDS)
                seconds = time.perf_counter() - began
        finally:
            process.kill()
    return Run(lines=sent.lines, bytes=sent.bytes, seconds=seconds)


def resident_mib(pid: int, field: str) -> float:
    """The process's resident set: now (`VmRSS`), or its peak (`VmHWM`); 0 if it has ended."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = next((line for line in status.splitlines() if line.startswith(field)), "")
    return int(found.split()[1]) / 1024 if found else 0.0


def _still(load: Load) -> float:
    """For how long telemetryd is idle when it has nothing left to do."""
    return _STILL_SECONDS if load.service == Service() else _PATIENT_SECONDS


def _warm_up(line: bytes, port: int, pid: int, still: float, protocol: str = "tcp") -> None:
    """Send one line ahead, for what is loaded only then."""
    if protocol == "http":
        post(port, [b"[%b]" % line])
    else:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(line)
    wait_until_idle(pid, time.perf_counter(), still)


# -- sending --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _sender(protocol: str, port: int, source: Source, pid: int) -> Iterator[subprocess.Popen[str]]:
    """A process that has everything encoded and waits for the starting signal."""
    described = msgspec.json.encode(source).decode()
    arguments = ["bench.load.send", protocol, str(port), described, str(pid)]
    command = [*on_core(1), sys.executable, "-m", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def _send(sender: subprocess.Popen[str], running: daemon.Daemon | None = None) -> Sent:
    assert sender.stdin is not None
    assert sender.stdout is not None
    sender.stdin.write("go\n")
    sender.stdin.flush()
    if not (said := sender.stdout.readline()):
        if running is not None:
            running.stop()  # knows more, if it has ended
        raise LossError("the receiver closed the connection")
    return msgspec.json.decode(said, type=Sent)


# -- arriving -------------------------------------------------------------------------------------


def _wait_for(output: Path, size: int, began: float, lines: int | None = None) -> None:
    """Return when the file has so many bytes, or `lines`, where only these are known.

    Reading it during the run would take a share of the memory's speed from what is measured.
    """
    written = Counted(output)
    while (written.lines() if lines else _size(output)) < (lines or size):
        if time.perf_counter() - began > DEADLINE_SECONDS:
            raise LossError(
                f"{written.lines():,} lines arrived in {DEADLINE_SECONDS} s, {_size(output):,} "
                f"bytes; {size:,} were sent"
            )
        time.sleep(_LOOK_SECONDS)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def wait_until_idle(pid: int, began: float, still: float) -> float:
    """Return when the process has used no CPU for `still` seconds: its ledger is complete then.

    Less than `_NOTHING_SECONDS` is none: timers continue.

    The seconds from `began` to when it used some last.
    """
    last, busy = -1.0, time.perf_counter()
    while (now := time.perf_counter()) - busy < still:
        used = cpu_seconds(pid)
        if used - last > _NOTHING_SECONDS:
            last, busy = used, now
        if now - began > _WORK_SECONDS:
            raise LossError(f"still at work after {_WORK_SECONDS} s")
        time.sleep(_SETTLE_SECONDS)
    return busy - began


def _judge(load: Load, ledger: dict[str, Any], sent: Sent, warm: bytes) -> dict[str, int]:
    """Return the dropped lines by reason. Raises LossError if the ledger has unexpected losses.

    `warm`: the line that was sent ahead, if one was.
    """
    whole = {"lines": sent.lines + bool(warm), "bytes": sent.bytes + len(warm)}
    if ledger["received"] != whole:
        raise LossError(f"telemetryd received {ledger['received']}, not {whole}")
    drops: dict[str, int] = {}
    for name, page in ledger["sinks"].items():
        for reason, count in page["dropped"].items():
            if name not in load.expect.drops:
                raise LossError(f"{name} dropped {count['lines']:,} lines: {reason}")
            drops[f"{name}: {reason}"] = count["lines"]
    for name in load.expect.delivered:
        delivered = ledger["sinks"][name]["delivered"]
        if delivered != whole:
            raise LossError(f"{name} delivered {delivered}, not {whole}")
    return drops


def _missing(output: Path, sent: Sent) -> str | None:
    """Return a fault of the file's size, or None. A copier mixes the bytes of connections."""
    if (found := _size(output)) != sent.bytes:
        return f"{found:,} bytes are in the file, and {sent.bytes:,} were sent"
    return None


def _differences(protocol: str, traffic: Traffic, output: Path, warm: bytes) -> str | None:
    """Return a fault of the file, or None: in order for one connection, else in how often.

    It begins with `warm`, the line that was sent ahead.
    """
    sent = traffic.sent.lines + bool(warm)
    if (found := Counted(output).lines()) != sent:
        return f"{found:,} lines are in the file, and {sent:,} were sent"
    lines = traffic.lines()
    if traffic.connections == 1:
        return differences(protocol, lines, output, first=warm)
    with output.open("rb") as file:
        if (first := file.read(len(warm))) != warm:
            return f"the file begins with {first!r}"
        counts = Counter(file)
    if counts != Counter(lines * traffic.connections):
        return "the file does not hold the lines that were sent, each as often as it was"
    return None
