"""SIGHUP: files are opened again, the configuration is read again, nothing queued is lost."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from helpers.daemon import EXIT_SECONDS, Daemon, finish, leaf_of
from helpers.lines import event, events

FILE_SINK = '[sinks.archive]\ntype = "file"\npath = "{path}"\n'


class Configured:
    """A daemon that reads the file `file`, and a place for what its sink writes."""

    def __init__(self, tmp_path: Path, toml: str = "") -> None:
        self.archive = tmp_path / "archive"
        self.file = tmp_path / "telemetryd.toml"
        self.write(toml)
        self._tmp_path = tmp_path

    def write(self, toml: str) -> None:
        """What the daemon will read next."""
        self.file.write_text(toml + FILE_SINK.format(path=self.archive))

    @contextlib.contextmanager
    def daemon(self, **environment: Any) -> Iterator[Daemon]:
        """The daemon, running."""
        with Daemon(self._tmp_path, CONFIG=self.file, **environment) as daemon:
            yield daemon

    def reload(self, daemon: Daemon, toml: str, outcome: str = "reloaded", **facts: object) -> Any:
        """Write `toml` and send SIGHUP; the log's word about it."""
        self.write(toml)
        daemon.process.send_signal(signal.SIGHUP)
        return daemon.wait_for(outcome, **facts)


def test_what_is_queued_and_who_is_connected_stays(tmp_path: Path) -> None:
    place = Configured(tmp_path)
    with place.daemon(SINKS__ARCHIVE__LINGER_MS=60_000) as daemon:
        connection = daemon.connect()
        connection.sendall(events(500) + event(500)[:20])
        daemon.barrier()
        assert place.reload(daemon, "")["applied"] == []
        connection.sendall(event(500)[20:])
        finish(connection)
        outcome = daemon.stop()
    assert place.archive.read_bytes() == events(501)
    assert outcome.sink()["delivered"] == leaf_of(events(501))


def test_logrotate_with_create(tmp_path: Path) -> None:
    """The new file is there at once, and the old one is released: it can be compressed."""
    place = Configured(tmp_path)
    old = tmp_path / "archive.1"
    with place.daemon() as daemon:
        daemon.send(events(10))
        daemon.wait_for_file(place.archive, len(events(10)))
        place.archive.rename(old)
        place.reload(daemon, "")
        assert place.archive.read_bytes() == b""
        held = [fd.resolve() for fd in Path(f"/proc/{daemon.process.pid}/fd").iterdir()]
        assert place.archive in held
        assert old not in held
        daemon.send(events(5))
        daemon.stop()
    assert (old.read_bytes(), place.archive.read_bytes()) == (events(10), events(5))


def test_logrotate_with_copytruncate(tmp_path: Path) -> None:
    place = Configured(tmp_path)
    with place.daemon() as daemon:
        daemon.send(events(10))
        daemon.wait_for_file(place.archive, len(events(10)))
        os.truncate(place.archive, 0)
        place.reload(daemon, "")
        daemon.send(events(5))
        daemon.stop()
    assert place.archive.read_bytes() == events(5), "no hole at the beginning"


def test_the_dead_letter_is_opened_again(tmp_path: Path) -> None:
    dead, too_long = tmp_path / "dead", b"x" * 2000 + b"\n"
    place = Configured(tmp_path)
    keys = {"TELEMETRY__MAX_LINE_BYTES": 1024, "DEAD_LETTER__PATH": dead}
    with place.daemon(**keys) as daemon:
        daemon.send(too_long)
        dead.rename(tmp_path / "dead.1")
        place.reload(daemon, "")
        daemon.send(too_long)
        daemon.stop()
    for path in (dead, tmp_path / "dead.1"):
        assert path.read_bytes().count(b"\n") == 1


def test_what_changed_at_once_and_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    place = Configured(tmp_path)
    with place.daemon() as daemon:
        toml = (
            '[log]\nlevel = "debug"\n[telemetry]\nmax_connections = 1\nmax_line_bytes = 2048\n'
            '[sinks.more]\ntype = "null"\n'
        )
        said = place.reload(daemon, toml)
        assert sorted(said["applied"]) == [
            'log.level: "info" -> "debug"',
            "telemetry.max_connections: 256 -> 1",
        ]
        assert sorted(said["needs_restart"]) == ["sinks.more", "telemetry.max_line_bytes"]
        connection = daemon.connect()
        daemon.wait_for("connection_opened")  # a line of that level
        assert daemon.connect().recv(1) == b"", "there is one place"
        again = place.reload(daemon, toml, applied=[])
        assert again["needs_restart"] == said["needs_restart"], "until it is done"
        connection.sendall(b"x" * 3000 + b"\n")
        finish(connection)
        outcome = daemon.stop()
    warnings = outcome.events("restart_needed")
    assert [warning["keys"] for warning in warnings] == [said["needs_restart"]] * 2
    assert outcome.ledger["framed"] == leaf_of(b"x" * 3000 + b"\n")
    assert list(outcome.ledger["sinks"]) == ["archive"]


def test_filters_change_between_two_lines(tmp_path: Path) -> None:
    place = Configured(tmp_path)
    more = 'exclude = ["secret"]\nfields = ["function"]\n[tags]\nstage = "test"\n'
    plain, secret = (b'{"time":"2026-03-14T10:15:30Z","type":"function","record":"%s"}\n' % text
                     for text in (b"plain", b"secret"))  # fmt: skip
    with place.daemon() as daemon:
        daemon.send(plain + secret)
        place.file.write_text(FILE_SINK.format(path=place.archive) + more)
        daemon.process.send_signal(signal.SIGHUP)
        said = daemon.wait_for("reloaded")
        daemon.send(plain + secret)
        place.reload(daemon, "", applied=[
            'tags: {stage = "test"} -> {}',
            'sinks.archive.exclude: ["secret"] -> []', 'sinks.archive.fields: ["function"] -> []',
        ])  # fmt: skip
        daemon.send(plain + secret)
        outcome = daemon.stop()
    assert said["needs_restart"] == []
    first, second, third, *rest = place.archive.read_bytes().splitlines(keepends=True)
    assert (first, second, rest) == (plain, secret, [plain, secret])
    assert json.loads(third) == {"function": "local", "stage": "test"} | json.loads(plain)
    assert outcome.sink()["filtered"] == leaf_of(secret)


def test_a_faulty_configuration_changes_nothing_and_is_told(tmp_path: Path) -> None:
    place = Configured(tmp_path)
    with place.daemon() as daemon:
        toml = '[log]\nlevel = "debug"\n[telemetry]\nprot = 1\n'
        said = place.reload(daemon, toml, "configuration_invalid")
        (problem,) = said["problems"]
        assert "telemetry.prot" in problem
        daemon.send(event(0))
        place.file.unlink()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.send(event(1))
        outcome = daemon.stop()
    assert place.archive.read_bytes() == event(0) + event(1)
    assert not outcome.events("connection_opened"), "the level is as it was"


def test_many_at_once_are_one_or_two(tmp_path: Path) -> None:
    place = Configured(tmp_path)
    with place.daemon() as daemon:
        for number in range(200):
            daemon.process.send_signal(signal.SIGHUP)
            if number % 20 == 0:
                daemon.send(event(number))
        daemon.wait_for("reloaded")
        outcome = daemon.stop()
    assert place.archive.read_bytes() == b"".join(event(number) for number in range(0, 200, 20))
    assert len(outcome.events("reloaded")) <= 200


def test_one_that_comes_before_it_listens_waits(tmp_path: Path) -> None:
    """As from `systemctl reload` just after the start; it would have been the end."""
    place = Configured(tmp_path)
    code = (
        "import os, signal, sys; from telemetryd import cli; before = cli._hold_hangup\n"
        "def hold():\n    before()\n    os.kill(os.getpid(), signal.SIGHUP)\n"
        "cli._hold_hangup = hold\n"
        "os._exit(cli.main(['listen']))"
    )
    environment = {
        "TELEMETRYD_CONFIG": str(place.file),
        "TELEMETRYD_TELEMETRY__PORT": "0",
        "TELEMETRYD_METRICS__LISTEN": "",
    }
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(json.loads(line)["event"])
            if told[-1] == "reloaded":
                process.send_signal(signal.SIGTERM)
        assert process.wait(EXIT_SECONDS) == 0
    assert told[-1] == "ledger"


def test_when_its_terminal_is_gone_it_delivers_and_ends(tmp_path: Path) -> None:
    """Without anybody to stop it, it would run for ever, and keep the port."""
    place = Configured(tmp_path, '[telemetry]\nport = 0\n[metrics]\nlisten = ""\n')
    log = tmp_path / "log"
    pid, ours = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600), 2)
        environment = {"TELEMETRYD_CONFIG": str(place.file)}
        os.execve(sys.executable, [sys.executable, "-m", "telemetryd", "listen"], environment)  # noqa: S606
    try:
        while not log.exists() or b'"listening"' not in log.read_bytes():
            assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        os.close(ours)
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    assert os.waitstatus_to_exitcode(status) == 0
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert records[-1]["event"] == "ledger"
    assert [r["signal"] for r in records if r["event"] == "stopping"] == ["SIGHUP"]
