"""No output of a daemon holds a secret: its log, its last words, /metrics, the dead letter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.collector_server import CollectorServer, Say
from helpers.daemon import Daemon, Settings, sink
from helpers.kinesis_server import Error, KinesisServer
from helpers.lifecycle import third_party
from helpers.lines import events
from helpers.measured import MEASURED
from helpers.scrape import get

PLANTED = ("hunter2hunter2", 'q"u\\o{te}d=x y', "pässwörd-ñ", "00000000")
LINES = events(3)


def said_by(daemon: Daemon) -> str:
    """All that the daemon wrote to standard error so far."""
    return "\n".join(daemon._lines)


def metrics_of(daemon: Daemon) -> str:
    port = daemon.wait_for("metrics_served")["port"]
    return get(port, "/metrics")[2].decode()


@pytest.mark.parametrize("planted", PLANTED)
def test_a_sink_that_quotes_its_secret_everywhere(tmp_path: Path, planted: str) -> None:
    """In errors, in its log, in a library's, in a thread, in a callback, in what is thrown away."""
    foreign = third_party(tmp_path / "there", "Talker", path=tmp_path / "x")
    foreign |= {"TELEMETRYD_SINKS__PROBE__TOKEN": planted}
    letter = tmp_path / "letter"
    keys: Settings = {"METRICS__LISTEN": "127.0.0.1:0", "DEAD_LETTER__PATH": letter}
    with Daemon(tmp_path, foreign=foreign, **keys) as daemon:
        daemon.send(LINES)
        daemon.wait_for("sink_bug")
        metrics = metrics_of(daemon)
        outcome = daemon.stop()
    said = said_by(daemon)
    escaped = planted.replace("\\", "\\\\").replace('"', '\\"')
    for text in (said, metrics, outcome.stdout.decode(), letter.read_text()):
        assert planted not in text
        assert escaped not in text
    messages = [record["message"] for record in outcome.events("library_message")]
    assert "refused: ***" in messages
    assert any("thread failed: talker" in message for message in messages)
    assert [record["said"] for record in outcome.events("tried") if "said" in record]
    assert "Traceback" not in said


@pytest.mark.parametrize("status", [200, 401, 503])
def test_a_server_that_repeats_what_it_was_sent(tmp_path: Path, status: int) -> None:
    token = "q-planted-q"  # noqa: S105 - opens nothing
    body = f"<html>unknown: Bearer {token}</html>".encode()
    with CollectorServer() as server:
        server.otherwise = Say(status, {"X-Echo": token}, body)
        keys = sink(
            "a", type="http", url=server.url, token=token, headers=f'{{X-Key = "{token}"}}',
            retry_max_elapsed_ms=0,
        )  # fmt: skip
        with Daemon(tmp_path, METRICS__LISTEN="127.0.0.1:0", **keys) as daemon:
            daemon.send(LINES)
            server.wait_for_requests(1)
            metrics = metrics_of(daemon)
            outcome = daemon.stop()
    assert outcome.sink("a")["delivered"]["lines"] == 0
    assert token not in said_by(daemon) + metrics


@pytest.mark.parametrize("client", ["lean", "aiobotocore"])
def test_aws_that_quotes_the_session_token(tmp_path: Path, client: str) -> None:
    """As it does where a signature does not match: with the headers that it has signed."""
    token = "IQoJplantedtoken"  # noqa: S105 - opens nothing
    quoted = f"The Canonical String should have been\n'POST\n/\n\nx-amz-security-token:{token}\n'"
    foreign = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "planted-key",
        "AWS_SESSION_TOKEN": token, "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    with KinesisServer() as server:
        server.otherwise = Error(400, "InvalidSignatureException", quoted)
        keys = sink(
            "k", type="kinesis", stream="s", region="eu-west-1", endpoint_url=server.url,
            client=client,
        )  # fmt: skip
        with Daemon(tmp_path, foreign=foreign, **keys) as daemon:
            daemon.send(LINES)
            server.wait_for_requests(1)
            daemon.stop()
    assert "Canonical String" in said_by(daemon), "the reason is said"
    assert token not in said_by(daemon)
    assert "planted-key" not in said_by(daemon)


def test_replay_says_nothing_either(tmp_path: Path) -> None:
    lines = tmp_path / "lines.ndjson"
    lines.write_bytes(LINES)
    environ = third_party(tmp_path / "there", "Talker", path=tmp_path / "x")
    environ |= {"TELEMETRYD_SINKS__PROBE__TOKEN": PLANTED[0]}
    done = subprocess.run(
        [sys.executable, "-m", "telemetryd", "replay", str(lines), "--sink", "probe"],
        env=MEASURED | environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert PLANTED[0] not in done.stdout + done.stderr
    assert "***" in done.stderr
