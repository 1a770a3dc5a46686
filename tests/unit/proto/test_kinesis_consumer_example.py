"""The example consumer: every packing is read, duplicates are dropped, bad records are named."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from telemetryd_proto.kinesis import Encoder, RecordId

APP = Path(__file__).parents[1].parent.parent / "examples" / "consumer" / "app.py"
EVENT = {"time": "2026-03-14T10:00:00.000Z", "type": "function", "record": "hello"}
LINES = json.dumps(EVENT).encode() + b"\n"


@pytest.fixture
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("consumer_app", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batch(*data: bytes) -> dict[str, Any]:
    return {
        "Records": [
            {"kinesis": {"data": base64.b64encode(each).decode(), "sequenceNumber": str(number)}}
            for number, each in enumerate(data)
        ]
    }


def encoded(packing: Any, compression: Any, sequence: int) -> bytes:
    record_id = RecordId(b"p" * 16, sequence)
    return Encoder(packing, compression).encode(LINES, record_id=record_id, key="k", time="")


def test_each_record_is_handled_once(app: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    ways = [("ndjson", "none"), ("ndjson", "gzip"), ("ndjson", "zstd"), ("kpl", "none")]
    records = [encoded(*way, sequence) for sequence, way in enumerate(ways)]
    assert app.handler(batch(*records, *records, LINES), None) == {"batchItemFailures": []}
    assert app.handler(batch(*records), None) == {"batchItemFailures": []}
    assert capsys.readouterr().out == "2026-03-14T10:00:00.000Z function\n" * 5


def test_a_bad_record_is_named_and_what_follows_left(
    app: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    records = batch(LINES, b"\x1f\x8b\x08 not gzip", LINES)
    assert app.handler(records, None) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert capsys.readouterr().out.count("function") == 1


def test_a_line_that_is_not_json_holds_up_nothing(
    app: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.handler(batch(b"no json \xff\n" + LINES), None) == {"batchItemFailures": []}
    bad, good = capsys.readouterr().out.splitlines()
    assert json.loads(bad) == {"not_json": "no json \ufffd"}
    assert good.endswith(" function")


def test_what_it_remembers_is_bounded(app: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "REMEMBERED", 10)
    app.handler(batch(*(encoded("ndjson", "gzip", number) for number in range(50))), None)
    assert len(app._seen) == 10
