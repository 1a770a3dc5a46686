"""A secret reaches no sink, spool, dead letter or log, and the ledger balances all the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from helpers.daemon import Daemon, Settings, file_sink, leaf, leaf_of, sink
from helpers.lines import pieces
from helpers.ports import reserved
from telemetryd.config import Config, load
from telemetryd.errors import ConfigError

MAIL = "bob.o+neil@mail.example.com"
RULES = json.dumps(["email", {"name": "order", "pattern": "ORD-[0-9]+", "replace": "hash"}])
ON: Settings = {"REDACT": RULES, "REDACT_SALT": "of this test"}


def line(number: int, record: object) -> bytes:
    body = {"time": "2022-10-12T00:03:50.000Z", "type": "function", "record": record, "n": number}
    return json.dumps(body).encode() + b"\n"


def everything_in(directory: Path) -> bytes:
    """All that was written below a directory."""
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", [7, 1000, 1 << 20])
def test_a_secret_leaves_no_trace(tmp_path: Path, size: int) -> None:
    """However the stream is cut: in a sink, a spool, the dead letter, the log."""
    data = b"".join(
        line(n, [f"to {MAIL}: hi", {"mail": MAIL, "n": n}, f"{n}"][n % 3]) for n in range(60)
    )
    too_long = line(60, "x" * 4000 + MAIL)
    (tmp_path / "blocked").write_text("a file where a directory is needed")
    with reserved() as port:
        settings: Settings = {
            **ON,
            "TELEMETRY__MAX_LINE_BYTES": 2048,
            "DEAD_LETTER__PATH": tmp_path / "letters",
            **file_sink(tmp_path / "archive"),
            **file_sink(tmp_path / "blocked" / "archive", "blocked", retry_max_elapsed_ms=0),
            **sink(
                "down", type="http", url=f"http://127.0.0.1:{port}/", retry_max_elapsed_ms=0,
                spool__path=tmp_path / "spool",
            ),
        }  # fmt: skip
        with Daemon(tmp_path, **settings) as daemon:
            daemon.send(*pieces(data + too_long + line(61, "end")[:60], size))
            outcome = daemon.stop()
    assert MAIL.encode() not in everything_in(tmp_path)
    assert MAIL not in json.dumps(outcome.log)
    assert outcome.sink()["delivered"] == leaf_of(data)
    assert outcome.sink("blocked")["dead_lettered"] == leaf_of(data)
    assert outcome.sink("down")["spooled"]["lines"] == 60
    assert outcome.ledger["rejected"]["too_long"] == leaf(1, len(too_long))
    assert outcome.ledger["figures"]["redacted"] == {"email": 41, "order": 0}
    delivered = (tmp_path / "archive").read_bytes()
    assert delivered == data.replace(MAIL.encode(), b"[redacted:email]")


def test_a_filtered_sink_gets_masked_lines(tmp_path: Path) -> None:
    """Bytes are counted as they were received, whatever they became, and add up."""
    data = b"".join(line(n, "ORD-1" if n % 2 else f"to {MAIL}") for n in range(40))
    wanted = file_sink(tmp_path / "wanted", "wanted", exclude="redacted", fields="function")
    with Daemon(tmp_path, **ON, **wanted) as daemon:
        daemon.send(data)
        outcome = daemon.stop()
    page = outcome.sink("wanted")
    assert page["offered"] == leaf_of(data)
    assert (page["filtered"]["lines"], page["delivered"]["lines"]) == (20, 20)
    delivered = [json.loads(each) for each in (tmp_path / "wanted").read_bytes().splitlines()]
    assert [each["n"] for each in delivered] == list(range(1, 40, 2))
    (hashed,) = {each["record"] for each in delivered}
    assert hashed.startswith("[order:")
    assert {each["function"] for each in delivered} == {"local"}


def test_the_log_repeats_the_platforms_reason_masked(tmp_path: Path) -> None:
    record = {"reason": f"{'x' * 190} {MAIL}", "droppedRecords": 3, "droppedBytes": 4}
    body = {"time": "2022-10-12T00:03:50.000Z", "type": "platform.logsDropped", "record": record}
    with Daemon(tmp_path, **ON, **file_sink(tmp_path / "archive")) as daemon:
        daemon.send(json.dumps(body).encode() + b"\n")
        outcome = daemon.stop()
    (dropped,) = [each for each in outcome.log if each["event"] == "upstream_dropped"]
    assert dropped["reason"] == "x" * 190 + " [redacted"
    assert outcome.ledger["upstream_dropped"] == leaf(3, 4)


def test_a_fault_turns_every_sink_off_in_lambda() -> None:
    """What must be masked is then not known, so no line may leave."""
    for environ in (
        {"TELEMETRYD_REDACT": "emial"},
        {"TELEMETRYD_REDACT": '[{name = "a", pattern = "("}]'},
        {"TELEMETRYD_REDCT": "email"},
        {"TELEMETRYD_REDACT__RULES": "email"},
        {"TELEMETRYD_REDACT": "email\udcff"},
        {"TELEMETRYD_REDACT": "email", "telemetryd_redact": "card"},
        {f"TELEMETRYD_{'x' * n}": "" for n in range(1, 30)} | {"TELEMETRYD_REDACT__RULES": "email"},
    ):
        sinks = {"TELEMETRYD_SINKS__A__TYPE": "null", "TELEMETRYD_SINKS__B__TYPE": "stdout"}
        with pytest.raises(ConfigError) as caught:
            load(environ | sinks, default_paths=(), mode="lambda", tolerant=True)
        usable = caught.value.usable
        assert isinstance(usable, Config)
        assert usable.sinks == {}
        assert caught.value.left_out == ("a", "b")


def make_missing(path: Path) -> None:
    """Make nothing."""


def make_inside_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def write(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


UNREAD: dict[str, Callable[[Path], object]] = {
    "broken list": write(b'redact = ["email"\n'),
    "broken section": write(b'redact = ["email"]\n[x'),
    "not UTF-8": write(b'redact = ["email"]\n# \xff'),
    "UTF-16": write('redact = ["email"]\n'.encode("utf-16")),
    "too large": write(b"#" * 300_000),
    "missing": make_missing,
    "missing directory": make_inside_a_file,
    "directory": Path.mkdir,
    "pipe": os.mkfifo,
    "cannot be opened": make_loop,
}


def left(environ: dict[str, str], default_paths: Sequence[str] = ()) -> Config:
    """What runs in Lambda in spite of the fault."""
    with pytest.raises(ConfigError) as caught:
        load(environ, default_paths=default_paths, mode="lambda", tolerant=True)
    usable = caught.value.usable
    assert isinstance(usable, Config)
    return usable


@pytest.mark.parametrize("case", UNREAD)
def test_rules_in_a_file_that_can_not_be_read_turn_every_sink_off(
    tmp_path: Path, case: str
) -> None:
    """The file that is named; and the dead letter is off too, which gets lines without a sink."""
    file = tmp_path / "place" / "telemetryd.toml"
    file.parent.mkdir()
    UNREAD[case](file)
    environ = {
        "TELEMETRYD_SINKS__A__TYPE": "null",
        "TELEMETRYD_DEAD_LETTER__PATH": "/data/dead",
        "TELEMETRYD_CONFIG": str(file),
    }
    usable = left(environ)
    assert (usable.sinks, usable.dead_letter.path) == ({}, "")
    for rules in ("card", "[]"):  # of a variable, which replace those of a file
        usable = left(environ | {"TELEMETRYD_REDACT": rules})
        assert ([*usable.sinks], usable.dead_letter.path) == (["a"], "/data/dead")


def test_a_file_at_a_default_path_may_be_missing_but_not_unreadable(tmp_path: Path) -> None:
    sinks = {"TELEMETRYD_SINKS__A__TYPE": "null"}
    missing = str(tmp_path / "none.toml")
    assert [*load(sinks, default_paths=(missing,), mode="lambda").config.sinks] == ["a"]
    assert left(sinks, (missing, str(tmp_path))).sinks == {}


def test_a_broken_file_without_the_word_turns_no_sink_off(tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text("[log\n")
    environ = {"TELEMETRYD_SINKS__A__TYPE": "null", "TELEMETRYD_CONFIG": str(file)}
    assert [*left(environ).sinks] == ["a"]
