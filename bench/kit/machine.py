"""The machine of the measurements."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from bench.kit.cores import ALLOWED
from telemetryd_proto import scan


def describe() -> dict[str, str]:
    """Processor, cores, memory, system and versions, for the head of every result."""
    return {
        "processor": _field("/proc/cpuinfo", "model name"),
        "cores": str(len(ALLOWED)),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "system": f"{_system()}, Linux {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "telemetryd": f"{version('telemetryd')} at {_commit()}",
        "scanner": scan.compiled.KIND if scan.compiled else "Python",
        "uvloop": version("uvloop"),
        "msgspec": version("msgspec"),
    }


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _system() -> str:
    release = Path("/etc/os-release")
    for line in release.read_text().splitlines() if release.exists() else ():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "an unknown commit"
