"""The dead letter: its records, its bounds, several writers, and files damaged or taken away."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import textwrap
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from telemetryd.testing import LogBook, dead_letter_at


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def bytes_of(record: dict[str, Any]) -> bytes:
    if "data" in record:
        return str(record["data"]).encode()
    return base64.b64decode(record["data_base64"])


def test_a_record_says_when_why_where_and_what(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "dead.ndjson"
    letter = dead_letter_at(path)
    assert letter.keep(b'{"a":1}\n', reason="refused", sink="s", source=3, offset=17)
    letter.close()
    (record,) = records(path)
    assert record.pop("time").endswith("Z")
    assert record == {
        "reason": "refused", "sink": "s", "source": 3, "offset": 17, "bytes": 8,
        "data": '{"a":1}\n',
    }  # fmt: skip
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("data", [b"\xff\xfe\n", b"\0\n", b"\xe2\x80\xa8\r\n", b"\xed\xa0\x80\n"])
def test_any_bytes_come_back(tmp_path: Path, data: bytes) -> None:
    letter = dead_letter_at(tmp_path / "dead")
    assert letter.keep(data, reason="x")
    letter.close()
    assert [bytes_of(record) for record in records(tmp_path / "dead")] == [data]


def test_many_lines_are_parted_at_newlines_and_keep_their_places(tmp_path: Path) -> None:
    letter = dead_letter_at(tmp_path / "dead", max_record=100)
    data = b"".join(b"line %d\n" % number for number in range(100))
    assert letter.keep(data, reason="x", offset=1000)
    letter.close()
    found = records(tmp_path / "dead")
    assert b"".join(map(bytes_of, found)) == data
    assert all(len(bytes_of(record)) <= 100 for record in found)
    assert all(data[r["offset"] - 1000 :].startswith(bytes_of(r)) for r in found)


def test_a_line_over_the_limit_is_cut_said_to_be_and_not_counted_as_kept(tmp_path: Path) -> None:
    letter = dead_letter_at(tmp_path / "dead", max_record=100)
    assert not letter.keep(b"short\n" + b"x" * 300 + b"\n" + b"short\n", reason="x")
    letter.close()
    found = records(tmp_path / "dead")
    assert [(r["bytes"], len(bytes_of(r)), r.get("cut")) for r in found] == [
        (6, 6, None),
        (301, 100, True),
        (6, 6, None),
    ]


def test_the_head_of_a_line_never_seen_whole(tmp_path: Path) -> None:
    letter = dead_letter_at(tmp_path / "dead")
    letter.keep_head(b"begin", 10_000_000, reason="too_long", source=1, offset=2)
    letter.close()
    (record,) = records(tmp_path / "dead")
    assert (record["bytes"], record["cut"], record["data"]) == (10_000_000, True, "begin")


def test_it_grows_to_its_limit_counting_what_was_there(tmp_path: Path) -> None:
    path, log = tmp_path / "dead", LogBook()
    path.write_bytes(b"x" * 900 + b"\n")
    letter = dead_letter_at(path, log, max_bytes=1000)
    assert not letter.keep(b"y" * 50 + b"\n", reason="x")
    letter.close()
    assert path.stat().st_size == 901
    (facts,) = log.facts("dead_letter_failed")
    assert "max_bytes = 1000" in facts["error"]
    assert facts["path"] == str(path)
    assert facts["fix"]


def test_a_record_is_not_glued_to_one_cut_short_by_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "dead"
    path.write_bytes(b'{"whole":1}\n{"torn":')
    letter = dead_letter_at(path)
    assert letter.keep(b"line\n", reason="x")
    letter.close()
    whole, torn, new = path.read_bytes().splitlines()
    assert (whole, torn, json.loads(new)["data"]) == (b'{"whole":1}', b'{"torn":', "line\n")


def test_after_close_it_opens_again(tmp_path: Path) -> None:
    letter = dead_letter_at(tmp_path / "dead")
    letter.close()
    for number in range(3):
        assert letter.keep(b"%d\n" % number, reason="x")
        letter.close()
        letter.close()
    assert len(records(tmp_path / "dead")) == 3


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_file_taken_away_is_made_anew(tmp_path: Path, how: str) -> None:
    path = tmp_path / "dead"
    letter = dead_letter_at(path)
    assert letter.keep(b"one\n", reason="x")
    if how == "removed":
        path.unlink()
    else:
        path.rename(tmp_path / "elsewhere")
        path.write_bytes(b"")
    assert letter.keep(b"two\n", reason="x")
    letter.close()
    assert [record["data"] for record in records(path)] == ["two\n"]


@pytest.mark.parametrize("obstacle", ["fifo", "symlink", "directory", "file_as_parent", "device"])
def test_what_is_not_a_file_of_ours_is_refused_and_said(tmp_path: Path, obstacle: str) -> None:
    path, log = tmp_path / "dead", LogBook()
    if obstacle == "fifo":
        os.mkfifo(path)
    elif obstacle == "symlink":
        path.symlink_to(tmp_path / "target")
    elif obstacle == "directory":
        path.mkdir()
    elif obstacle == "device":
        path = Path("/dev/null")
    else:
        path.write_bytes(b"")
        path /= "dead"
    letter = dead_letter_at(path, log)
    assert not letter.keep(b"line\n", reason="x")
    letter.close()
    assert len(log.facts("dead_letter_failed")) == 1
    assert not (tmp_path / "target").exists()


def test_the_loop_and_the_threads_of_sinks_write_at_once(tmp_path: Path) -> None:
    letter = dead_letter_at(tmp_path / "dead", max_bytes=1 << 26, max_record=64)
    start = threading.Barrier(4)

    def write(writer: int) -> None:
        start.wait()
        for number in range(100):
            data = b"".join(b"%d %d %d\n" % (writer, number, part) for part in range(20))
            assert letter.keep(data, reason="x", source=writer)
            if number % 10 == 0:
                letter.close()

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    letter.close()
    found = records(tmp_path / "dead")
    for writer in range(4):
        kept = b"".join(bytes_of(record) for record in found if record["source"] == writer)
        assert kept == b"".join(
            b"%d %d %d\n" % (writer, number, part) for number in range(100) for part in range(20)
        )
    sources = [record["source"] for record in found]
    changes = sum(a != b for a, b in pairwise(sources))
    assert changes < 400  # what one call keeps stays together


def test_no_room_leaves_no_torn_record(tmp_path: Path) -> None:
    """The kernel cuts the write that passes RLIMIT_FSIZE short, as a full disk does."""
    path = tmp_path / "dead"
    code = textwrap.dedent("""
        import resource, sys
        from telemetryd.delivery.dead_letter import DeadLetter
        from telemetryd.testing import LogBook
        log = LogBook()
        letter = DeadLetter(sys.argv[1], max_bytes=1 << 20, max_record_bytes=1 << 16,
                            log=log)
        assert letter.keep(b"first\\n", reason="x")
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        assert not letter.keep(b"x" * 2000 + b"\\n", reason="x")
        assert letter.keep(b"small\\n", reason="x")
        assert not letter.keep(b"y" * 2000 + b"\\n", reason="x")
        resource.setrlimit(resource.RLIMIT_FSIZE, (-1, resource.RLIM_INFINITY))
        assert letter.keep(b"last\\n", reason="x")
        assert [event for _, event, _ in log.records] == ["dead_letter_failed"] * 2
    """)
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert [record["data"] for record in records(path)] == ["first\n", "small\n", "last\n"]
