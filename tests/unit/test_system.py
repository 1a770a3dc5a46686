"""The figures of the system: what is read, what a sink is told, and files that are not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from telemetryd.sinks._platform.invocation_metrics import INSTRUMENTS
from telemetryd.sinks.emf.catalogue import SYSTEM_METRICS
from telemetryd.system import INSIGHTS, SystemMetrics, SystemProbe

TICKS = os.sysconf("SC_CLK_TCK")
STAT = "cpu  {user} 7 {system} 999 5 3 2 0 0 0\ncpu0 1 2 3\nintr 1\n"
MEMORY = "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:   {available} kB\n"
NETWORK = (
    "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n"
    "    lo: 900 1 0 0 0 0 0 0 900 1 0 0 0 0 0 0\n"
    "  eth0: {received} 1 0 0 0 0 0 0 {sent} 1 0 0 0 0 0 0\n"
    " vinternal_1:10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n"
)


def write(proc: Path, **values: int) -> None:
    for name, text in {
        "stat": STAT,
        "meminfo": MEMORY,
        "net/dev": NETWORK,
        "sys/fs/file-nr": "544 0 1000\n",
        "loadavg": "0.1 0.2 0.3 2/37 99\n",
    }.items():
        path = proc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            file.write(text.format(**values) if "{" in text else text)


def test_an_invocation_is_what_grew_since_the_last_one(tmp_path: Path) -> None:
    write(tmp_path, user=100, system=50, available=600, received=1000, sent=2000)
    metrics = SystemMetrics(SystemProbe(str(tmp_path)), "system")
    write(
        tmp_path, user=100 + 2 * TICKS, system=50 + TICKS, available=200, received=1500, sent=2100
    )
    values = dict(metrics())
    assert values.pop("system_tmp_used") >= 0
    assert values.pop("system_tmp_free") > 0
    assert values == {
        "system_cpu_user_time": 2000,
        "system_cpu_system_time": 1000,
        "system_cpu_total_time": 3000,
        "system_memory_used": round(800 / 1024, 3),
        "system_memory_peak": round(800 / 1024, 3),
        "system_memory_total": round(1000 / 1024, 3),
        "system_network_in": 500,
        "system_network_out": 100,
        "system_descriptors": 544,
        "system_threads": 37,
    }
    write(tmp_path, user=1, system=1, available=900, received=0, sent=0)
    values = dict(metrics())
    assert values["system_cpu_total_time"] == values["system_network_in"] == 0
    assert (values["system_memory_used"], values["system_memory_peak"]) == (
        round(100 / 1024, 3), round(800 / 1024, 3),
    )  # fmt: skip


def test_names_of_lambda_insights(tmp_path: Path) -> None:
    write(tmp_path, user=1, system=1, available=1, received=1, sent=1)
    found = [name for name, _ in SystemMetrics(SystemProbe(str(tmp_path)), "insights")()]
    assert found == list(INSIGHTS.values())


@pytest.mark.parametrize("text", ["", "nonsense", "cpu 1 2\n"])
def test_what_can_not_be_read_is_nothing(tmp_path: Path, text: str) -> None:
    probe = SystemProbe(str(tmp_path / "none"), tmp=str(tmp_path / "none"))
    assert set(vars_of(probe)) == {0}
    for name in ("stat", "meminfo", "loadavg"):
        (tmp_path / name).write_text(text)
    assert set(vars_of(SystemProbe(str(tmp_path), tmp=str(tmp_path / "none")))) == {0}


def vars_of(probe: SystemProbe) -> list[float]:
    reading = probe.read()
    return [getattr(reading, name) for name in reading.__struct_fields__]


def test_every_sink_knows_the_names() -> None:
    assert {*INSIGHTS, *INSIGHTS.values()} == SYSTEM_METRICS
    assert {each.source for each in INSTRUMENTS if each.source.startswith("system_")} <= set(
        INSIGHTS
    )
