"""telemetryd as an extension of a local Lambda: a stage to play on, and the books to check.

What the function's caller saw is in the results of `env.invoke`, what arrived is in the stage's
file, and every process's ledger is in the log it printed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from helpers.daemon import assert_balanced
from helpers.measured import MEASURED
from telemetryd.local import LocalConfig, LocalLambda

HANDLER: Final = Path(__file__).parents[2] / "examples" / "handler"
SCHEMA: Final = "2025-01-29"
PATIENCE_SECONDS: Final = 60.0
UNHURRIED: Final[dict[str, Any]] = {
    "timeout": 20.0, "init_timeout": 40.0, "shutdown_budget": 15.0, "stall_timeout": 20.0,
}  # fmt: skip
"""Limits of a local Lambda that nothing meets which does not hang, however busy the machine."""

_LAUNCHER = "from telemetryd.__main__ import main\nmain()\n"


def install(directory: Path, name: str = "telemetryd") -> Path:
    """Telemetryd as an executable called `name`, run by this very Python."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text(f"#!{sys.executable}\n{_LAUNCHER}")
    path.chmod(0o755)
    return path


def settings(**keys: object) -> dict[str, str]:
    """Environment variables of telemetryd: `TELEMETRY__PORT=0` and so on."""
    return {f"TELEMETRYD_{key.upper()}": str(value) for key, value in keys.items()}


def third_party(directory: Path, sink: str, **keys: object) -> dict[str, str]:
    """Environment of a sink `probe` whose class is in a package installed under `directory`.

    `sink` is the name of a class in `helpers.probe_sinks`.
    """
    info = directory / "probe_sinks-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("probe_sinks.py"), directory / "probe_sinks.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe-sinks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[telemetryd.sinks]\nprobe = probe_sinks:{sink}\n")
    variables = settings(**{f"SINKS__PROBE__{key}": value for key, value in keys.items()})
    return {"PYTHONPATH": str(directory), "TELEMETRYD_SINKS__PROBE__TYPE": "probe"} | variables


def with_hook(directory: Path, hook: str, name: str = "probe", **keys: object) -> dict[str, str]:
    """Environment of a hook whose class is in a package installed under `directory`.

    `hook` is the name of a class in `helpers.probe_hooks`; `keys` are those of its section.
    """
    info = directory / "probe_hooks-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("probe_hooks.py"), directory / "probe_hooks.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: probe-hooks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[telemetryd.hooks]\nprobe = probe_hooks:{hook}\n")
    section = {"type": "probe", "settings": {"path": str(directory / "diary")}} | keys
    return {"PYTHONPATH": str(directory), "TELEMETRYD_HOOKS": json.dumps({name: section})}


def until(condition: Callable[[], object]) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited without success"
        time.sleep(0.005)


class Stage:
    """The configuration of a local Lambda with telemetryd in it, and what came of it."""

    def __init__(self, tmp_path: Path, name: str = "telemetryd") -> None:
        self.directory = tmp_path
        self.name = name
        self.file = tmp_path / "telemetry.ndjson"
        self.printed: list[tuple[str, str]] = []
        """Every line an extension printed, with the extension's name."""

    def config(
        self, variables: dict[str, str] | None = None, *, sink: bool = True, **overrides: Any
    ) -> LocalConfig:
        """A local Lambda of the example handler; `variables` are telemetryd's.

        What the platform has buffered is sent before SHUTDOWN, so that no test depends on a timer
        at the end. `sink=False`: no file sink.
        """
        own = settings(TELEMETRY__PORT=0)
        if sink:
            own |= settings(SINKS__FILE__TYPE="file", SINKS__FILE__PATH=self.file)
        values: dict[str, Any] = {
            "task_root": HANDLER,
            "extensions": [install(self.directory / "extensions", self.name)],
            **UNHURRIED,
            "flush_at_shutdown": True,
            "echo": self._echo,
        }
        if "bootstrap" not in overrides:
            values["handler"] = "app.handler"
        values |= overrides
        values["extension_env"] = (
            MEASURED | own | (variables or {}) | overrides.get("extension_env", {})
        )
        return LocalConfig(**values)

    def _echo(self, kind: str, name: str, line: bytes) -> None:
        if kind == "extension":
            self.printed.append((name, line.decode()))

    # -- what telemetryd said --------------------------------------------------------------------

    def log(self, event: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """What telemetryd printed: JSON objects all of it; those of one `event`, if given."""
        records = []
        for printer, line in self.printed:
            if printer == (name or self.name):
                record = json.loads(line)
                assert record["logger"] == "telemetryd", line
                records.append(record)
        return [record for record in records if event in (None, record.get("event", "emf"))]

    def ledgers(self, name: str | None = None) -> list[dict[str, Any]]:
        """The ledgers of all processes, each checked."""
        found = self.log("ledger", name)
        for ledger in found:
            assert_balanced(ledger)
        return found

    def told(self, count: str, name: str | None = None) -> int:
        """Lines of one leaf, such as `received` or `sinks.file.delivered`, over all ledgers."""
        total = 0
        for ledger in self.ledgers(name):
            leaf: Any = ledger
            for part in count.split("."):
                leaf = leaf.get(part, {})
            total += leaf.get("lines", 0)
        return total

    # -- what arrived ----------------------------------------------------------------------------

    def lines(self, path: Path | None = None) -> list[bytes]:
        """The lines of the sink's file."""
        path = path or self.file
        return path.read_bytes().splitlines(keepends=True) if path.exists() else []

    def arrived(self, kind: str = "", path: Path | None = None) -> list[dict[str, Any]]:
        """The events in the sink's file whose type begins so."""
        events = [json.loads(line) for line in self.lines(path)]
        return [event for event in events if event["type"].startswith(kind)]

    def records(self, kind: str) -> list[Any]:
        """The records of the events in the sink's file whose type begins so."""
        return [event["record"] for event in self.arrived(kind)]

    # -- the books -------------------------------------------------------------------------------

    def assert_nothing_lost(self, env: LocalLambda, *, processes: int = 1) -> None:
        """All the platform made has arrived once, in order, and every process's books say so."""
        self.assert_sent_is_delivered(env, processes=processes)
        assert [account.undelivered for account in env.stats] == [0] * processes
        assert len(self.arrived("function")) == env.lines.total("function")
        expected = [event.encode(SCHEMA) + b"\n" for event in env.events]
        assert [line for line in self.lines() if b'"type":"platform.' in line] == expected

    def assert_sent_is_delivered(self, env: LocalLambda, *, processes: int = 1) -> None:
        """All that the platform has sent is in the file; there was one ledger per process."""
        sent = sum(account.sent for account in env.stats)
        assert sum(account.dropped for account in env.stats) == 0
        assert len(self.ledgers()) == processes
        assert self.told("received") == sent
        assert self.told("sinks.file.delivered") == sent
        assert len(self.lines()) == sent

    def assert_clean_exits(self, env: LocalLambda, *, processes: int = 1) -> None:
        """Every process of telemetryd ended by itself, in time, with status 0."""
        ends = [end for end in env.exits if end.name == self.name]
        assert [(end.returncode, end.at_deadline) for end in ends] == [(0, False)] * processes


IN_TIME: Final = settings(FLUSH__MARGIN_MS=1500)
SHORT_END: Final[dict[str, Any]] = {"shutdown_budget": 3.0}
"""For a sink that uses all the time there is for a shutdown: so much, of which so much is left for
what a busy machine takes to end then."""


class TimesOut(NamedTuple):
    """An event whose invocation is to time out: it alone has no more than so many seconds.

    The next one has to start all processes again, which takes what it takes.
    """

    event: Any
    seconds: float = 0.5


def play(config: LocalConfig, *events: Any) -> tuple[list[Any], LocalLambda]:
    """Invoke with each event in turn; the results and the environment, after its shutdown."""

    async def scenario() -> tuple[list[Any], LocalLambda]:
        async with LocalLambda(config) as env:
            results = [await invoke(env, event) for event in events]
        return results, env

    async def invoke(env: LocalLambda, event: Any) -> Any:
        if isinstance(event, TimesOut):
            return await env.invoke(event.event, timeout=event.seconds)
        return await env.invoke(event)

    return asyncio.run(scenario())


def statuses(results: Sequence[Any]) -> list[str]:
    """What the callers saw."""
    return [result.status for result in results]
