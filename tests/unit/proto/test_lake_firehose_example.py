"""The Firehose transformation: rows of any packing and format, foreign records as they are."""

from __future__ import annotations

import base64
import gzip
import importlib.util
import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.flat_lines import LINES, TAGS, flat_rows
from telemetryd.sinks.kinesis.config import KinesisConfig
from telemetryd.sinks.kinesis.packer import Packer
from telemetryd.testing import block, context
from telemetryd_proto.kinesis import decode_object

pytest.importorskip("zstandard")

APP = Path(__file__).parents[3] / "examples" / "lake" / "firehose" / "app.py"
WAYS = [
    ("ndjson", "none"), ("ndjson", "gzip"), ("ndjson", "zstd"), ("kpl", "none"),
    ("single", "none"), ("single", "gzip"), ("single", "zstd"),
]  # fmt: skip
EVENT = {"time": "2026-03-14T10:15:29.012Z", "type": "function"}
INFO = json.dumps({**EVENT, "record": {"level": "INFO", "message": "one"}}).encode()
ERROR = json.dumps({**EVENT, "record": {"level": "ERROR", "message": "two"}}).encode()
KEYS = {"date": "2026-03-14", "function": "shop", "level": "INFO"}
FOREIGN = (
    b"hello\n", b"", b"\n", b"\x00\xff", b'{"a":1}\n', b"[]", b"\x1f\x8b\x08 not gzip",
    b"\x28\xb5\x2f\xfd not zstd", gzip.compress(b'{"time":"now"}\n'),
    b'{"time":"now","type":"function"}\n', INFO + b"\nhello\n",
)  # fmt: skip


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lake_firehose_app", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


APP_MODULE = load()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delenv("OUTPUT", raising=False)
    return load()


def packed(
    rows: list[bytes], packing: str = "ndjson", compression: str = "none", **more: Any
) -> list[bytes]:
    """The records that the sink makes of rows."""
    keys = {"type": "kinesis", "stream": "s", "packing": packing, "compression": compression}
    packer = Packer(msgspec.convert(keys | more, KinesisConfig), context(function="shop"))
    lines = [row.removesuffix(b"\n") for row in rows]
    return [bytes(item.payload) for item in packer.pack([block(*lines)])]


def event_of(*records: bytes) -> dict[str, Any]:
    return {
        "invocationId": "i",
        "deliveryStreamArn": "arn:aws:firehose:eu-west-1:111122223333:deliverystream/lake",
        "region": "eu-west-1",
        "records": [
            {
                "recordId": f"{number:056d}000000",
                "approximateArrivalTimestamp": 1773483329000,
                "data": base64.b64encode(data).decode(),
            }
            for number, data in enumerate(records)
        ],
    }


def call(app: ModuleType, *records: bytes) -> list[dict[str, Any]]:
    """The answer, checked for what Firehose demands of each one."""
    event = event_of(*records)
    answer = app.handler(event, None)
    assert len(json.dumps(answer)) <= max(6 * 1024 * 1024, len(json.dumps(event)))
    found: list[dict[str, Any]] = answer["records"]
    assert [each["recordId"] for each in found] == [each["recordId"] for each in event["records"]]
    for each, sent in zip(found, event["records"], strict=True):
        if each["result"] == "ProcessingFailed":
            assert each["data"] == sent["data"]
        assert ("metadata" in each) == (each["result"] == "Ok")
    return found


def data_of(answers: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(each["data"]) for each in answers)


def results(answers: list[dict[str, Any]]) -> list[str]:
    return [each["result"] for each in answers]


def rows_of(*lines: bytes) -> list[bytes]:
    return flat_rows(list(lines), {})[0]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(WAYS), st.lists(LINES, min_size=1, max_size=5)), max_size=4),
    TAGS,
    st.booleans(),
)
def test_rows_of_every_packing_come_out_unchanged(
    records: list[Any], tags: dict[str, str | int], compress: bool
) -> None:
    sent, expected = [], []
    for way, lines in records:
        rows = flat_rows(lines, tags)[0]
        sent += packed(rows, *way)
        expected += rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPUT", "gzip" if compress else "")
        answers = call(APP_MODULE, *sent)
    data = data_of(answers)
    data = gzip.decompress(data) if compress and data else data
    assert data.splitlines(keepends=True) == expected
    assert set(results(answers)) <= {"Ok"}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(FOREIGN) | st.binary(max_size=60) | st.none(), max_size=8))
def test_foreign_records_fail_unchanged_and_alone(records: list[bytes | None]) -> None:
    (ours,) = packed(rows_of(INFO), "ndjson", "gzip")
    answers = call(APP_MODULE, *(ours if each is None else each for each in records))
    for each, record in zip(answers, records, strict=True):
        if record is None:
            assert each["result"] == "Ok"
            assert each["metadata"]["partitionKeys"] == KEYS
        else:
            assert each["result"] == ("ProcessingFailed" if record.strip(b"\n") else "Dropped")


@pytest.mark.parametrize("way", WAYS)
def test_raw_lines_become_rows_of_the_same_content(app: ModuleType, way: tuple[str, str]) -> None:
    lines = [INFO, ERROR, json.dumps({**EVENT, "record": "text\n"}).encode()]
    answers = call(app, *packed([line + b"\n" for line in lines], *way))
    assert set(results(answers)) == {"Ok"}
    expected = [json.loads(row) for row in rows_of(*lines)]
    found = [json.loads(row) for row in data_of(answers).splitlines()]
    differing = {"record_id", "instance", "function", "version"}
    assert [without(row, differing) for row in found] == [
        without(row, differing) for row in expected
    ]
    assert len({row["record_id"] for row in found}) == len(lines)


def without(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_raw_lines_say_who_sent_them_if_fields_are_there(app: ModuleType) -> None:
    line = b'{"function":"cart",' + INFO[1:] + b"\n"
    (answer,) = call(app, *packed([line]))
    assert answer["metadata"]["partitionKeys"] == {**KEYS, "function": "cart"}


@pytest.mark.parametrize("way", [way for way in WAYS if way != ("single", "none")])
def test_a_record_that_is_sent_again_has_the_same_ids(
    app: ModuleType, way: tuple[str, str]
) -> None:
    """Also of lines that are no JSON: with telemetryd's id in the record, they are its lines."""
    sent = packed([INFO + b"\n", b"no JSON\n", b'{"msg":1}\n'], *way)
    answers = call(app, *sent, *sent)
    assert set(results(answers)) == {"Ok"}
    rows = data_of(answers).splitlines()
    assert rows[:3] == rows[3:]
    assert len(set(rows)) == 3


@pytest.mark.parametrize("way", [("ndjson", "none"), ("ndjson", "gzip"), ("kpl", "none")])
def test_a_record_with_one_foreign_line_fails_as_a_whole(
    app: ModuleType, way: tuple[str, str]
) -> None:
    (row,) = rows_of(INFO)
    records = packed([row, b'{"time":"2026-03-14T10:15:29.012Z"}\n', row], *way, record_id=False)
    assert results(call(app, *records)) == ["ProcessingFailed"]


def test_a_failed_record_is_logged(app: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    call(app, b"hello")
    logged = json.loads(capsys.readouterr().out)
    assert logged["recordId"] == f"{0:056d}000000"
    assert logged["error"] == "ForeignLine(\"no row and no event: b'hello'\")"


def test_keys_are_the_first_day_and_the_highest_level(app: ModuleType) -> None:
    later = INFO.replace(b"03-14", b"03-15")
    (record,) = packed(rows_of(later, ERROR, INFO))
    (answer,) = call(app, record)
    assert answer["metadata"]["partitionKeys"] == {**KEYS, "level": "ERROR"}


def test_lines_without_a_level_are_in_a_partition_too(app: ModuleType) -> None:
    (record,) = packed(rows_of(json.dumps({**EVENT, "record": "text"}).encode()))
    assert call(app, record)[0]["metadata"]["partitionKeys"]["level"] == "NONE"


def test_lines_of_several_functions_have_a_key_of_their_own(app: ModuleType) -> None:
    (row,) = rows_of(INFO)
    other = row.replace(b'"shop"', b'"cart"')
    assert other != row
    (record,) = packed([row, other])
    assert call(app, record)[0]["metadata"]["partitionKeys"]["function"] == "several"


@pytest.mark.parametrize(
    ("name", "key"), [("../a=b/c", "___a_b_c"), ("", "unknown"), ("x" * 5000, "x" * 140)]
)
def test_a_key_is_one_part_of_a_path(app: ModuleType, name: str, key: str) -> None:
    (row,) = rows_of(INFO)
    (record,) = packed([row.replace(b'"shop"', json.dumps(name).encode())])
    assert call(app, record)[0]["metadata"]["partitionKeys"]["function"] == key


def test_what_firehose_took_apart_is_read(app: ModuleType) -> None:
    """It splits aggregates, and JSON by lines: then neither newline nor neighbour is left."""
    rows = rows_of(INFO, ERROR)
    (whole,) = packed(rows)
    id_line, *lines = whole.splitlines()
    assert lines == [row.removesuffix(b"\n") for row in rows]
    answers = call(app, id_line, *lines)
    assert results(answers) == ["Dropped", "Ok", "Ok"]
    assert data_of(answers) == b"".join(rows)


def noisy(size: int, seed: int) -> bytes:
    """A row that no compressor makes much smaller."""
    text = random.Random(seed).randbytes(size // 2).hex()
    (row,) = rows_of(json.dumps({**EVENT, "record": text}).encode())
    return row


def test_the_answer_stays_below_the_limit_of_lambda(app: ModuleType) -> None:
    rows = [noisy(900_000, seed) for seed in range(6)]
    records = [record for row in rows for record in packed([row], "ndjson", "gzip")]
    (small,) = packed(rows_of(INFO))
    answers = call(app, *records, small)
    assert results(answers)[-1] == "Ok"
    done = results(answers)[:-1]
    assert done == sorted(done)  # the first ones are done, the others fail
    assert {"Ok", "ProcessingFailed"} == set(done)
    kept = data_of([each for each in answers if each["result"] == "Ok"])
    assert kept == b"".join(rows[: done.count("Ok")]) + rows_of(INFO)[0]


def test_a_record_that_no_answer_can_hold_fits_when_it_is_compressed(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps({**EVENT, "record": "x" * 900_000}).encode()
    rows = rows_of(*[text] * 6)
    (record,) = packed(rows, "ndjson", "gzip", record_target_bytes=8 * 1024 * 1024)
    assert results(call(app, record)) == ["ProcessingFailed"]
    monkeypatch.setenv("OUTPUT", "gzip")
    answers = call(app, record)
    assert results(answers) == ["Ok"]
    assert gzip.decompress(data_of(answers)) == b"".join(rows)


def test_a_record_that_grows_too_large_fails(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "MAX_DECODED", 1000)
    (bomb,) = packed(rows_of(*[INFO] * 50), "ndjson", "gzip")
    (good,) = packed(rows_of(INFO), "ndjson", "gzip")
    assert results(call(app, bomb, good)) == ["ProcessingFailed", "Ok"]


def test_an_object_of_several_answers_is_read_by_the_decoder(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Firehose puts answers one behind the other: compressed ones are an object of gzip."""
    monkeypatch.setenv("OUTPUT", "gzip")
    rows = rows_of(INFO, ERROR)
    answers = call(app, *packed(rows[:1]), *packed(rows[1:], "kpl"))
    found = [line for each in decode_object(data_of(answers)) for line in each.lines]
    assert [line + b"\n" for line in found] == rows
