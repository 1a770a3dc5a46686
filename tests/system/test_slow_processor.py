"""At 7.25 % of a processor, as of a 128-MB function: waits are bounded, the end comes in time."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.kit.errors import AbsentError
from bench.kit.limits import granted
from bench.load.scenario import Limits
from helpers.lifecycle import install, third_party
from helpers.lost import LOSSES, assert_the_function_is_unharmed
from helpers.scripted_platform import NEXT, ScriptedPlatform, file_sink, line, runtime_done

pytestmark = pytest.mark.system

RUN = "import sys; sys.argv = ['telemetryd']; from telemetryd.__main__ import main; main()"
SHUTDOWN_SECONDS = 2.0
"""What Lambda grants."""


@pytest.fixture
def slowly() -> Iterator[list[str]]:
    """What to put before a command so that it gets 7.25 % of a processor."""
    try:
        with granted(Limits(cpu_percent=7.25)) as prefix:
            yield prefix
    except AbsentError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("loss", LOSSES)
def test_lost_events_on_a_slow_processor(tmp_path: Path, slowly: list[str], loss: str) -> None:
    """The function is served all the same."""
    real = install(tmp_path / "real")
    script = tmp_path / "extensions" / "telemetryd"
    script.parent.mkdir()
    enter = " ".join(f"'{word}'" for word in slowly)
    script.write_text(f"#!/bin/sh\nexec {enter} {real}\n")
    script.chmod(0o755)
    assert_the_function_is_unharmed(tmp_path, loss, [script])


@pytest.mark.parametrize("sink", ["", "Gate", "Stubborn", "stream"] * 5)
def test_it_ends_before_the_deadline(tmp_path: Path, slowly: list[str], sink: str) -> None:
    """With status 0 and a ledger: quiet, with a sink that hangs, with a stream that does not end.

    Twenty times in all: once may be luck.
    """
    variables = file_sink(tmp_path / "f") | {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}
    if sink in ("Gate", "Stubborn"):
        variables |= third_party(tmp_path / "p", sink, PATH=tmp_path / "o", GATE=tmp_path / "open")
    command = [*slowly, sys.executable, "-c", RUN]
    with ScriptedPlatform(variables, command=command) as platform:
        telemetry, call = platform.begin()
        call.invoke("a", 60.0)
        telemetry.sendall(b"".join(map(line, range(300))) + runtime_done("a"))
        call = platform.expect(NEXT)
        telemetry.sendall(b"".join(map(line, range(2000))))
        call.shutdown(SHUTDOWN_SECONDS)
        platform.kill_after(SHUTDOWN_SECONDS)
        if sink == "stream":
            until_it_ends(platform, telemetry)
        platform.finish()
        ledger = platform.ledger()
        assert ledger["received"]["lines"] > 300


def until_it_ends(platform: ScriptedPlatform, telemetry: socket.socket) -> None:
    """Send lines as long as anybody reads them."""
    block = b"".join(map(line, range(200)))
    try:
        while platform.process.poll() is None:
            telemetry.sendall(block)
            time.sleep(0.005)  # a function prints, it does not flood
    except OSError:
        return  # it has closed the connection
