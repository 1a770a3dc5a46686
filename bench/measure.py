"""One run of one receiver: sends a scenario's lines, waits until they are where they belong."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import msgspec

from bench import daemon
from bench.daemon import LossError
from bench.lines import block_of_lines
from bench.peers.catalog import Peer, cpu_seconds
from bench.peers.verify import Counted, differences
from bench.scenario import Scenario, filled

DEADLINE_SECONDS: Final = 300
_LOOK_SECONDS: Final = 0.005
_SETTLE_SECONDS: Final = 0.02


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What one run showed."""

    lines: int
    bytes: int
    seconds: float
    """From the first byte sent until every line was where it belongs."""
    cpu_seconds: float
    """User and system time of the receiver's processes, its start left out."""
    peak_mib: float
    drops: dict[str, int] = {}
    """Lines dropped, by sink and reason."""

    @property
    def lines_per_second(self) -> float:
        """Throughput."""
        return self.lines / self.seconds

    @property
    def cpu_us_per_line(self) -> float:
        """What a line costs."""
        return self.cpu_seconds / self.lines * 1e6


def on_core(core: int) -> list[str]:
    """What binds a command to one core, where there is more than one."""
    several = len(os.sched_getaffinity(0)) > 1
    return ["taskset", "-c", str(core)] if several else []


def telemetryd(scenario: Scenario) -> Run:
    """Run telemetryd on one core, everything else on another. Raises LossError."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        output = scratch / "out.ndjson"
        values = {"output": str(output), "scratch": str(scratch)}
        if "{kinesis}" in json.dumps(scenario.daemon):
            values["kinesis"] = stack.enter_context(daemon.kinesis(on_core(1)))
        config = filled(scenario.daemon, values)
        running = stack.enter_context(daemon.running(config, scratch, on_core(0)))
        pid = running.process.pid
        warm = 0 if scenario.expect.output else _warm_up(running.port, pid)
        sender = stack.enter_context(_sender("tcp", running.port, scenario))
        began_cpu, began = cpu_seconds(pid), time.perf_counter()
        sent = _send(sender)
        if scenario.expect.output:
            _wait_for(output, sent["lines"], began)
        else:
            _wait_until_idle(pid, began)
        seconds, cpu = time.perf_counter() - began, cpu_seconds(pid) - began_cpu
        peak = peak_mib(pid)
        ledger = running.stop()
        drops = _judge(scenario, ledger, sent, warm)
        if scenario.expect.output:
            _verify(scenario, output)
    return Run(
        lines=sent["lines"], bytes=sent["bytes"], seconds=seconds, cpu_seconds=cpu, peak_mib=peak,
        drops=drops,
    )  # fmt: skip


def peer(subject: Peer, scenario: Scenario) -> Run:
    """Run a peer likewise. Raises LossError, or what `bench.peers.catalog` raises."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        output = scratch / "out.ndjson"
        process, port = stack.enter_context(subject.running(output, on_core(0)))
        sender = stack.enter_context(_sender(subject.spec.protocol, port, scenario))
        began_cpu, began = cpu_seconds(process.pid), time.perf_counter()
        sent = _send(sender)
        _wait_for(output, sent["lines"], began)
        seconds, cpu = time.perf_counter() - began, cpu_seconds(process.pid) - began_cpu
        peak = peak_mib(process.pid)
        block = block_of_lines(scenario.line_bytes)
        if wrong := differences(subject.spec.protocol, block.splitlines(keepends=True), output):
            raise LossError(f"{subject.name}: {wrong}")
    return Run(
        lines=sent["lines"], bytes=sent["bytes"], seconds=seconds, cpu_seconds=cpu, peak_mib=peak
    )


def peak_mib(pid: int) -> float:
    """Largest resident set of the process so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def _warm_up(port: int, pid: int) -> int:
    """Send one line ahead, for what is loaded only then; its bytes."""
    line = block_of_lines(290, block_bytes=1)
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(line)
    _wait_until_idle(pid, time.perf_counter())
    return len(line)


# -- sending --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _sender(protocol: str, port: int, scenario: Scenario) -> Any:
    """A process that has everything encoded and waits for the starting signal."""
    if protocol == "tcp":
        arguments = [
            "bench.blast", str(port), str(scenario.lines), str(scenario.line_bytes),
            str(scenario.connections), str(scenario.burst_lines), str(scenario.pauses_ms),
        ]  # fmt: skip
    else:
        arguments = [
            "bench.peers.send", protocol, str(port), str(scenario.lines), str(scenario.line_bytes)
        ]  # fmt: skip
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


def _send(sender: subprocess.Popen[str]) -> dict[str, int]:
    assert sender.stdin is not None
    assert sender.stdout is not None
    sender.stdin.write("go\n")
    sender.stdin.flush()
    sent: dict[str, int] | None = json.loads(sender.stdout.readline() or "null")
    if sent is None:
        raise LossError("sending failed")
    return sent


# -- arriving -------------------------------------------------------------------------------------


def _wait_for(output: Path, lines: int, began: float) -> None:
    written = Counted(output)
    while (found := written.lines()) < lines:
        if time.perf_counter() - began > DEADLINE_SECONDS:
            raise LossError(f"{found:,} of {lines:,} lines arrived in {DEADLINE_SECONDS} s")
        time.sleep(_LOOK_SECONDS)


def _wait_until_idle(pid: int, began: float) -> None:
    """Return when the process has used no CPU for a while: the ledger then tells what it did."""
    still, last = 0, -1.0
    while still < 10:
        now = cpu_seconds(pid)
        still, last = (still + 1 if now == last else 0), now
        if time.perf_counter() - began > DEADLINE_SECONDS:
            raise LossError(f"still at work after {DEADLINE_SECONDS} s")
        time.sleep(_SETTLE_SECONDS)


def _judge(
    scenario: Scenario, ledger: dict[str, Any], sent: dict[str, int], warm: int
) -> dict[str, int]:
    """What was dropped. Raises LossError where the ledger tells of what should not have been.

    `warm`: bytes of a line that was sent ahead, 0 if none was.
    """
    if warm:
        sent = {"lines": sent["lines"] + 1, "bytes": sent["bytes"] + warm}
    if ledger["received"]["lines"] != sent["lines"]:
        raise LossError(f"{ledger['received']['lines']:,} of {sent['lines']:,} lines received")
    drops = {
        f"{name}: {reason}": count["lines"]
        for name, page in ledger["sinks"].items()
        for reason, count in page["dropped"].items()
    }
    if drops and not scenario.expect.drops:
        raise LossError(f"lines were dropped: {drops}")
    for name in scenario.expect.delivered:
        delivered = ledger["sinks"][name]["delivered"]
        if delivered != sent:
            raise LossError(f"{name} delivered {delivered}, not {sent}")
    return drops


def _verify(scenario: Scenario, output: Path) -> None:
    """The file holds what was sent: in order for one connection, each line as often for several."""
    lines = block_of_lines(scenario.line_bytes).splitlines(keepends=True)
    if scenario.connections == 1:
        if wrong := differences("tcp", lines, output):
            raise LossError(wrong)
        return
    with output.open("rb") as file:
        found = Counter(file)
    if found.keys() != set(lines):
        raise LossError("the file does not hold the lines that were sent")
    wanted = Counter(lines)
    rounds = {found[line] / count for line, count in wanted.items()}
    if len(rounds) != 1:
        raise LossError("some lines are in the file more often than others")
