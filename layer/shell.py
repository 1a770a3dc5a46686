"""Runs the tools of the build; of one that fails it shows the cause alone."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from layer.problem import BuildError

_PACKAGES = {"make": "make", "perl": "perl", "sed": "sed", "sh": "dash"}
_SHOWN_LINES = 5
_SHOWN_WIDTH = 300
_ERROR = re.compile(r"\berror\b|\bfatal\b|undefined symbol|not found|can't|cannot", re.IGNORECASE)
_FROM_MAKE = re.compile(r"make(\[\d+\])?: ")
"""It repeats that a command failed; the command itself says why."""
NEEDED_FILES = 256
"""The most files that a tool of the build opens at once."""
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
        lines = cause(log.read_text(errors="replace").splitlines(), done.returncode)
        text = "\n".join(f"  | {line}" for line in lines)
        name = " ".join(str(part) for part in command)[:200]
        raise BuildError(f"`{name}` ended with {done.returncode} (all of it: {log})\n{text}")


def cause(printed: Sequence[str], status: int) -> list[str]:
    """Of what a failed tool printed, the lines that say why; each once, and what to do if known.

    `status` is its exit status, or the negative number of the signal that ended it.
    """
    lines = [line.rstrip() for line in printed if line.strip()]
    for line in lines:
        for text, advice in _known_limits():
            if text.lower() in line.lower():
                return [_shortened(line), advice()]
    if status == -signal.SIGKILL or status == 128 + signal.SIGKILL:
        return ["it was killed: most often for want of memory, of which the build needs 1 GB"]
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return [_shortened(lines[-1])]
    errors = [line for line in lines if _ERROR.search(line)]
    errors = [line for line in errors if not _FROM_MAKE.match(line)] or errors
    found = list(dict.fromkeys(map(_shortened, errors))) or [_shortened(x) for x in lines[-2:]]
    more = len(found) - _SHOWN_LINES
    return found[:_SHOWN_LINES] + ([f"... and {more} more"] if more > 0 else [])


def _known_limits() -> Sequence[tuple[str, Callable[[], str]]]:
    """Return messages of tools at a limit of this machine, with the advice for each."""
    return (
        ("FdQuotaExceeded", _too_few_files),
        (os.strerror(errno.EMFILE), _too_few_files),
        (os.strerror(errno.ENFILE), lambda: "this machine has no more: see fs.file-max in sysctl"),
        (os.strerror(errno.ENOSPC), lambda: "the build needs 3 GB, in the cache and in TMPDIR"),
        (os.strerror(errno.ENOMEM), lambda: "the build needs 1 GB of memory"),
    )


def _too_few_files() -> str:
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return f"a process may open {allowed} files here; the build needs {NEEDED_FILES}: ulimit -n"


def _shortened(line: str) -> str:
    return line if len(line) <= _SHOWN_WIDTH else f"{line[:_SHOWN_WIDTH]}..."


def jobs() -> str:
    """Make's option to use every core."""
    return f"-j{os.cpu_count() or 1}"
