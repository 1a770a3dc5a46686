"""Telemetryd's own lines are recognised when they come back, and no one else's are."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from pathlib import Path

import msgspec
import pytest

from telemetryd.core.own_lines import without_own_lines
from telemetryd.extension import boot
from telemetryd.log import Level, Log, flush
from telemetryd_proto.framing import Block


def event(record: object, kind: str = "extension") -> bytes:
    return msgspec.json.encode({"time": "t", "type": kind, "record": record}) + b"\n"


def block(*lines: bytes) -> Block:
    return Block(b"".join(lines), len(lines), source=3, offset=70, received_at=1.5)


def own(tmp_path: Path, level: Level = "info") -> str:
    """A line as the log writes it."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        Log("debug", fd=file.fileno())(level, "started", port=1, text='with "quotes" and \\')
        flush()
    return path.read_text()


def early(capfd: pytest.CaptureFixture[str]) -> str:
    """A line as the first milliseconds write it."""
    boot.say("error", "degraded", error='with "quotes" and \\', name="\udcff\n\x00é")
    return capfd.readouterr().err


OTHERS = [
    event("somebody else's line\n"),
    event("it is about telemetryd\n"),
    event({"logger": "shop", "message": "telemetryd"}),
    event('{"logger":"telemetryd"}\n', kind="function"),
    event({"logger": "telemetryd"}, kind="function"),
    event({"name": "telemetryd", "state": "Ready"}, kind="platform.extension"),
    b'"logger":"telemetryd" is not an event\n',
    b'{"type":"extension","record":"\\"logger\\":\\"telemetryd\\"\n',
]


@pytest.mark.parametrize("form", ["text", "object", "text without newline"])
def test_own_lines_are_taken_out_in_every_form(tmp_path: Path, form: str) -> None:
    text = own(tmp_path)
    records = {
        "text": text,
        "object": json.loads(text),
        "text without newline": text.rstrip("\n"),
    }
    ours = event(records[form])
    subject = block(OTHERS[0], ours, OTHERS[1], ours)
    kept, lines, size = without_own_lines(subject)
    assert kept is not None
    assert kept.data == OTHERS[0] + OTHERS[1]
    assert (kept.lines, lines, size) == (2, 2, 2 * len(ours))
    assert (kept.source, kept.received_at) == (3, 1.5)


def test_the_first_lines_are_recognised_too(capfd: pytest.CaptureFixture[str]) -> None:
    text = early(capfd)
    assert json.loads(text)["event"] == "degraded"
    assert without_own_lines(block(event(text))) == (None, 1, len(event(text)))


def test_a_block_of_own_lines_leaves_nothing(tmp_path: Path) -> None:
    ours = event(own(tmp_path))
    assert without_own_lines(block(ours, ours)) == (None, 2, 2 * len(ours))


@pytest.mark.parametrize("line", OTHERS)
def test_nobody_elses_line_is_taken(line: bytes) -> None:
    subject = block(line)
    assert without_own_lines(subject) == (subject, 0, 0)


def test_a_block_without_any_is_handed_on_as_it_is() -> None:
    subject = block(*OTHERS)
    assert without_own_lines(subject)[0] is subject


def test_own_lines_are_found_among_others(tmp_path: Path) -> None:
    ours = event(own(tmp_path))
    kept, lines, size = without_own_lines(block(*OTHERS, ours, *OTHERS))
    assert kept is not None
    assert kept.data == b"".join(OTHERS) * 2
    assert (lines, size) == (1, len(ours))


def test_stderr_is_where_the_log_goes() -> None:
    """Not through `sys.stderr`, which a library may have replaced."""
    with redirect_stderr(io.StringIO()) as replaced:
        boot.say("info", "started")
    assert replaced.getvalue() == ""


def test_many_lines_that_only_look_like_ours_are_skipped_at_once(tmp_path: Path) -> None:
    """Behind the ninth, search continues where an event of an extension is."""
    ours = event(own(tmp_path))
    alike = event({"logger": "telemetryd"}, kind="function")
    kept, lines, size = without_own_lines(block(*[alike] * 20, ours, *[alike] * 20))
    assert kept is not None
    assert kept.data == alike * 40
    assert (lines, size) == (1, len(ours))


def test_a_line_of_ours_may_hold_both_marks(tmp_path: Path) -> None:
    ours = event(own(tmp_path).replace('"port":1', '"port":1,"logger":"telemetryd"'))
    both = ours.replace(b'"time":"t"', b'"time":"t","logger":"telemetryd"')
    assert without_own_lines(block(both)) == (None, 1, len(both))
