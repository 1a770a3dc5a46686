"""Reads what the sandbox uses, from /proc: the figures of Lambda Insights.

In Lambda, /proc is that of the environment's own virtual machine, so the figures are those of
function and extensions together. Elsewhere they are those of the machine or container that /proc
shows. Sources: proc(5), statvfs(3).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

Names: TypeAlias = Literal["system", "insights"]
Values: TypeAlias = list[tuple[str, float]]

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_MIB: Final = 1024 * 1024
_KIB: Final = 1024
_READ: Final = 64 * 1024
_DIGITS: Final = 3
INSIGHTS: Final[Mapping[str, str]] = {
    "system_cpu_user_time": "cpu_user_time",
    "system_cpu_system_time": "cpu_system_time",
    "system_cpu_total_time": "cpu_total_time",
    "system_memory_used": "used_memory",
    "system_memory_peak": "used_memory_max",
    "system_memory_total": "total_memory",
    "system_network_in": "rx_bytes",
    "system_network_out": "tx_bytes",
    "system_tmp_used": "tmp_used",
    "system_tmp_free": "tmp_free",
    "system_descriptors": "fd_use",
    "system_threads": "threads_max",
}
"""Our names, and those of Lambda Insights ("Metrics collected by Lambda Insights", CloudWatch User
Guide)."""


class SystemReading(msgspec.Struct, frozen=True, gc=False):
    """One look. Times and traffic are sums since the machine began."""

    cpu_user_seconds: float
    cpu_system_seconds: float
    memory_used_bytes: int
    """Total less available."""
    memory_total_bytes: int
    network_in_bytes: int
    """Of all interfaces but loopback."""
    network_out_bytes: int
    tmp_used_bytes: int
    tmp_free_bytes: int
    descriptors: int
    """Open files of the machine."""
    threads: int


class SystemProbe:
    """Reads, with files that stay open. A figure that can't be read is 0."""

    def __init__(self, proc: str = "/proc", tmp: str = "/tmp") -> None:  # noqa: S108 - Lambda's
        self._tmp = tmp
        self._files = {
            name: _open(f"{proc}/{name}")
            for name in ("stat", "meminfo", "net/dev", "sys/fs/file-nr", "loadavg")
        }

    def read(self) -> SystemReading:
        """Take a look."""
        user, system = _cpu(self._text("stat"))
        used, total = _memory(self._text("meminfo"))
        received, sent = _network(self._text("net/dev"))
        tmp_used, tmp_free = _room(self._tmp)
        descriptors = self._text("sys/fs/file-nr").split()[:1]
        running = self._text("loadavg").split()[3:4]
        return SystemReading(
            user, system, used, total, received, sent, tmp_used, tmp_free,
            int(descriptors[0]) if descriptors else 0,
            int(running[0].partition(b"/")[2] or 0) if running else 0,
        )  # fmt: skip

    def _text(self, name: str) -> bytes:
        fd = self._files[name]
        try:
            return os.pread(fd, _READ, 0) if fd is not None else b""
        except OSError:
            return b""


class SystemMetrics:
    """Values for the metrics of one sink: what an invocation used, and the state at its end."""

    def __init__(self, probe: SystemProbe, names: Names) -> None:
        self._probe = probe
        self._names = names
        self._last = probe.read()
        self._peak = 0

    def __call__(self) -> Values:
        """Return names and values since the last call: milliseconds, bytes, MiB, numbers."""
        last, now = self._last, self._probe.read()
        self._last = now
        self._peak = max(self._peak, now.memory_used_bytes)
        user = _ms(now.cpu_user_seconds - last.cpu_user_seconds)
        system = _ms(now.cpu_system_seconds - last.cpu_system_seconds)
        values: Values = [
            ("system_cpu_user_time", user),
            ("system_cpu_system_time", system),
            ("system_cpu_total_time", round(user + system, _DIGITS)),
            ("system_memory_used", _mib(now.memory_used_bytes)),
            ("system_memory_peak", _mib(self._peak)),
            ("system_memory_total", _mib(now.memory_total_bytes)),
            ("system_network_in", max(now.network_in_bytes - last.network_in_bytes, 0)),
            ("system_network_out", max(now.network_out_bytes - last.network_out_bytes, 0)),
            ("system_tmp_used", now.tmp_used_bytes),
            ("system_tmp_free", now.tmp_free_bytes),
            ("system_descriptors", now.descriptors),
            ("system_threads", now.threads),
        ]
        if self._names == "insights":
            return [(INSIGHTS[name], value) for name, value in values]
        return values


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _cpu(text: bytes) -> tuple[float, float]:
    """Return seconds in user mode (nice included) and in the kernel (interrupts included)."""
    fields = text.partition(b"\n")[0].split()[1:8]
    if len(fields) < 7:  # noqa: PLR2004 - user nice system idle iowait irq softirq
        return 0.0, 0.0
    user, nice, system, _idle, _wait, irq, softirq = map(int, fields)
    return (user + nice) / _TICKS, (system + irq + softirq) / _TICKS


def _memory(text: bytes) -> tuple[int, int]:
    total, available = _kib(text, b"MemTotal:"), _kib(text, b"MemAvailable:")
    return max(total - available, 0), total


def _kib(text: bytes, name: bytes) -> int:
    at = text.find(name)
    fields = text[at + len(name) : at + len(name) + 32].split() if at >= 0 else []
    return int(fields[0]) * _KIB if fields else 0


def _network(text: bytes) -> tuple[int, int]:
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, counts = line.partition(b":")
        fields = counts.split()
        if len(fields) > 8 and name.strip() != b"lo":  # noqa: PLR2004 - the ninth is sent bytes
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent


def _room(path: str) -> tuple[int, int]:
    try:
        found = os.statvfs(path)
    except OSError:
        return 0, 0
    return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_bavail * found.f_frsize


def _ms(seconds: float) -> float:
    return round(max(seconds, 0.0) * 1000, _DIGITS)


def _mib(size: int) -> float:
    return round(size / _MIB, _DIGITS)
