"""What the tests of the local Lambda share: the test extension, its record, configurations."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.lifecycle import UNHURRIED
from telemetryd.local import LocalConfig

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
HANDLER = HERE.parent.parent / "examples" / "handler"
NAME = "listener"


def install(directory: Path, name: str = NAME) -> Path:
    """The test extension as an executable called `name`, run by this very Python."""
    directory.mkdir(exist_ok=True)
    source = (HERE / "listener.py").read_text().partition("\n")[2]
    path = directory / name
    path.write_text(f"#!{sys.executable} -IS\n{source}")
    path.chmod(0o755)
    return path


class Record:
    """What a test extension wrote down."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self, kind: str) -> list[dict[str, Any]]:
        """The entries of one kind."""
        if not self.path.exists():
            return []
        *lines, _unfinished = self.path.read_text().split("\n")  # the last one may be half written
        return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]

    def telemetry(self, *types: str) -> list[dict[str, Any]]:
        """The telemetry events, of all types or those given."""
        events = [entry["event"] for entry in self.all("telemetry")]
        return [event for event in events if not types or event["type"] in types]

    def types(self) -> list[str]:
        """The telemetry types in order of arrival."""
        return [event["type"] for event in self.telemetry()]

    def records(self, event_type: str) -> list[Any]:
        """The records of one telemetry type."""
        return [event["record"] for event in self.telemetry(event_type)]

    def events(self) -> list[dict[str, Any]]:
        """INVOKE and SHUTDOWN events."""
        return [entry["event"] for entry in self.all("event")]

    def calls(self, path: str) -> list[tuple[int, Any]]:
        """Status and body of every call to a path that ends so."""
        return [
            (entry["status"], entry["body"])
            for entry in self.all("api")
            if entry["path"].endswith(path)
        ]


def make(
    tmp_path: Path, script: dict[str, Any] | None = None, /, **overrides: Any
) -> tuple[LocalConfig, Record]:
    """A local Lambda of the example handler and one test extension, and the latter's record.

    `script` is what the extension does (its `LISTENER_MODE`); `overrides` are of `LocalConfig`.
    What is buffered is sent before SHUTDOWN, so that nothing depends on a timer at the end.
    """
    record = Record(tmp_path / "record.ndjson")
    values: dict[str, Any] = {
        "task_root": HANDLER,
        "extensions": [install(tmp_path / "extensions")],
        "extension_env": {
            "LISTENER_FILE": str(record.path),
            "LISTENER_MODE": json.dumps(script or {}),
        },
        **UNHURRIED,
        "flush_at_shutdown": True,
    }
    if "bootstrap" not in overrides:
        values["handler"] = "app.handler"
    return LocalConfig(**(values | overrides)), record


def write_handler(tmp_path: Path, code: str) -> dict[str, Any]:
    """Overrides for a handler module of its own, `task.handler`."""
    root = tmp_path / "task"
    root.mkdir()
    (root / "task.py").write_text(code)
    return {"task_root": root, "handler": "task.handler"}


def wait_for(condition: Callable[[], object], limit: float = 60.0) -> None:
    """Wait for something another process does; fails after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited without success"
        time.sleep(0.005)


def state(pid: int) -> str:
    """The kernel's letter for the state of a process; empty when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return ""
    return text.rpartition(")")[2].split()[0]
