"""A signal while the extension starts: held back until it can be acted on, then an orderly end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.lifecycle import third_party, until
from helpers.scripted_platform import (
    NEXT,
    REGISTER,
    TELEMETRY,
    ScriptedPlatform,
    file_sink,
    line,
)
from telemetryd.extension import ENDING_SIGNALS

EACH = pytest.mark.parametrize("number", ENDING_SIGNALS, ids=ENDING_SIGNALS.get)


@EACH
def test_a_signal_before_the_registration_is_answered(tmp_path: Path, number: int) -> None:
    """What has been registered ends with a ledger, and with what was sent until then."""
    with ScriptedPlatform(file_sink(tmp_path / "f")) as platform:
        call = platform.expect(REGISTER)
        platform.process.send_signal(number)
        call.accept()
        telemetry = platform.subscribe()
        telemetry.sendall(line(1) + line(2))
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 2
        assert platform.log("stopping")[0]["signal"] == signal.Signals(number).name


@pytest.mark.parametrize("moment", [TELEMETRY, NEXT])
def test_a_signal_while_the_rest_is_loaded(tmp_path: Path, moment: str) -> None:
    """Between the subscription and the loop: lines that were received are delivered."""
    with ScriptedPlatform(file_sink(tmp_path / "f")) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        telemetry = platform.dial(call)
        telemetry.sendall(line(1))
        if moment == TELEMETRY:
            platform.process.send_signal(signal.SIGTERM)
        call.answer(200, b'"OK"')
        call = platform.expect(NEXT)
        if moment == NEXT:
            platform.process.send_signal(signal.SIGTERM)
        call.invoke("a", 900)
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1


def test_signals_while_what_is_loaded_breaks(tmp_path: Path) -> None:
    """Several at once: `fallback` takes them up, reads and counts what was sent."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('no uvloop here')")
    with ScriptedPlatform({"PYTHONPATH": str(tmp_path)}) as platform:
        call = platform.expect(REGISTER)
        for number in ENDING_SIGNALS:
            platform.process.send_signal(number)
        call.accept()
        platform.subscribe().sendall(line(1))
        platform.finish()
        ledger = platform.ledger()
        assert (ledger["degraded"], ledger["received"]["lines"]) == (True, 1)
        assert len(platform.log("stopping")) == 1


@EACH
@pytest.mark.parametrize("is_broken", [False, True])
def test_a_signal_in_the_midst_of_things(tmp_path: Path, number: int, is_broken: bool) -> None:
    """Each of them asks for the same, in `run` and in `fallback`."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('no uvloop here')")
    variables = {"PYTHONPATH": str(tmp_path)} if is_broken else {}
    with ScriptedPlatform(variables) as platform:
        telemetry, _ = platform.begin()
        until(lambda: platform.log("degraded" if is_broken else "started"))
        telemetry.sendall(line(1))
        platform.process.send_signal(number)
        platform.finish()
        assert platform.ledger()["received"]["lines"] == 1
        assert platform.log("stopping")[0]["signal"] == signal.Signals(number).name


def test_what_a_sink_starts_holds_no_signal_back(tmp_path: Path) -> None:
    """A child of telemetryd's can be ended as usual, even one that a constructor starts."""
    variables = third_party(tmp_path / "packages", "Parent", PATH=tmp_path / "blocked")
    with ScriptedPlatform(variables) as platform:
        _, call = platform.begin()
        until(lambda: platform.log("started"))
        call.shutdown()
        platform.finish()
    assert int((tmp_path / "blocked").read_text(), 16) == 0


def test_a_launcher_may_hold_signals_back(tmp_path: Path) -> None:
    """Until the interpreter runs: what a process has blocked is inherited by `execve`."""
    code = (
        "import os, signal, sys\n"
        f"signal.pthread_sigmask(signal.SIG_BLOCK, {list(ENDING_SIGNALS)})\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "run = \"import sys; sys.argv = ['telemetryd']; \"\n"
        'run += "from telemetryd.__main__ import main; main()"\n'
        "os.execv(sys.executable, [sys.executable, '-c', run])\n"
    )
    with ScriptedPlatform(
        file_sink(tmp_path / "f"), command=(sys.executable, "-c", code)
    ) as platform:
        platform.register()
        platform.subscribe().sendall(line(1))
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1


def test_commands_hold_nothing_back() -> None:
    """Only the extension does so."""
    code = (
        "import json, signal, sys\n"
        "sys.argv = ['telemetryd', '--version']\n"
        "from telemetryd import __main__ as m\n"
        "m._end = lambda status: print(json.dumps(list(signal.pthread_sigmask(0, []))))\n"
        "m.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"},
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1]) == []
