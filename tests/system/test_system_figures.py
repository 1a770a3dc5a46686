"""The figures of the system beside psutil's, under a limit of the processor and without one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from bench.kit.errors import AbsentError
from bench.kit.limits import granted
from bench.load.scenario import Limits

pytestmark = pytest.mark.system

BOTH = """
import json, psutil
from telemetryd.system import SystemProbe

probe = SystemProbe()
sum(range(3_000_000))


def seen():
    cpu, net = psutil.cpu_times(), psutil.net_io_counters(pernic=True)
    memory, disk = psutil.virtual_memory(), psutil.disk_usage("/tmp")
    net.pop("lo", None)
    return {
        "cpu_user_seconds": cpu.user + cpu.nice,
        "cpu_system_seconds": cpu.system + cpu.irq + cpu.softirq,
        "memory_used_bytes": memory.total - memory.available,
        "memory_total_bytes": memory.total,
        "network_in_bytes": sum(each.bytes_recv for each in net.values()),
        "network_out_bytes": sum(each.bytes_sent for each in net.values()),
        "tmp_used_bytes": disk.used,
        "tmp_free_bytes": disk.free,
    }


before, ours, after = seen(), probe.read(), seen()
print(json.dumps({name: [before[name], getattr(ours, name), after[name]] for name in before}))
"""
SLACK = {"memory_used_bytes": 64 << 20, "tmp_used_bytes": 64 << 20, "tmp_free_bytes": 64 << 20}
"""Bytes by which what also falls may differ: others use the machine between two looks."""


@pytest.mark.parametrize("limits", [Limits(), Limits(cpu_percent=20, memory_mb=256)])
def test_they_are_between_two_looks_of_psutil(limits: Limits) -> None:
    try:
        with granted(limits) as prefix:
            done = subprocess.run(
                [*prefix, sys.executable, "-c", BOTH], capture_output=True, text=True, check=False
            )
    except AbsentError as error:
        pytest.skip(str(error))
    assert done.returncode == 0, done.stderr
    for name, (before, ours, after) in json.loads(done.stdout).items():
        low, high = min(before, after), max(before, after)
        slack = SLACK.get(name, 0.02)
        assert low - slack <= ours <= high + slack, name
