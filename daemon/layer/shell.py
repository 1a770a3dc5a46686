"""Runs the tools of the build; one that fails shows the end of what it printed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from layer.problem import BuildError

_PACKAGES = {"make": "make", "perl": "perl", "sh": "dash"}
_SHOWN_LINES = 25
# 2000-01-01: where a tool writes a date into its output, it is this one. Also the zip's.
EPOCH = 946_684_800


def require(*tools: str) -> None:
    """Raise BuildError, naming every tool that is missing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = " ".join(_PACKAGES.get(tool, tool) for tool in missing)
        raise BuildError(
            f"not installed: {', '.join(missing)}; e.g. apt-get install {packages}"
            f" (or dnf install {packages})"
        )


def environment(**more: str) -> dict[str, str]:
    """A fixed environment, so that the result depends on nothing of the caller's."""
    kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
    fixed = {"LC_ALL": "C", "TZ": "UTC", "SOURCE_DATE_EPOCH": str(EPOCH)}
    return kept | fixed | {"PATH": os.environ["PATH"]} | more


def run(command: Sequence[object], cwd: Path, env: Mapping[str, str], log: Path) -> None:
    """Run `command` (strings, paths), its output going to `log`. Raises BuildError if it fails."""
    with log.open("ab") as file:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        lines = log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]
        text = "\n".join(f"  | {line}" for line in lines)
        name = " ".join(str(part) for part in command)[:200]
        raise BuildError(f"`{name}` ended with {done.returncode}; the end of {log}:\n{text}")


def jobs() -> str:
    """Make's option to use every core."""
    return f"-j{os.cpu_count() or 1}"
