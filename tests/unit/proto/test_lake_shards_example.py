"""The Spark example's reader of shards, with a Kinesis that reshards, throttles and forgets."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SHARDS = Path(__file__).parents[3] / "examples" / "lake" / "spark" / "shards.py"
ARRIVED = datetime(2026, 3, 14, tzinfo=UTC)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lake_shards", SHARDS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MODULE = load()


class ThrottledError(Exception):
    """The client's own class of this error."""


class ExpiredError(Exception):
    """As above."""


class Kinesis:
    """As much of a client as is used. Sequence numbers are in the order of all puts."""

    exceptions = SimpleNamespace(
        ProvisionedThroughputExceededException=ThrottledError,
        ExpiredIteratorException=ExpiredError,
    )

    def __init__(self) -> None:
        self.parents: dict[str, tuple[str, ...]] = {}
        self.records: dict[str, list[tuple[int, bytes]]] = {}
        self.closed: set[str] = set()
        self.throttled: set[str] = set()
        self.expired: set[str] = set()
        self.per_answer = 2
        self.calls = {"get_records": 0, "get_shard_iterator": 0}
        self._sequence = 0

    def add_shard(self, shard: str, *parents: str) -> None:
        """Add an open shard, and close its parents."""
        self.parents[shard], self.records[shard] = parents, []
        self.closed.update(parents)

    def put(self, shard: str, *data: bytes) -> None:
        """Put records; numbers grow from two digits to three, as texts they would not."""
        for each in data:
            self._sequence += 9
            self.records[shard].append((self._sequence, each))

    def list_shards(self, StreamName: str = "", NextToken: str = "") -> dict[str, Any]:  # noqa: N803
        """Answer one shard at a time."""
        names = list(self.parents)
        at = int(NextToken or 0)
        shard: dict[str, Any] = {"ShardId": names[at]}
        members = ("ParentShardId", "AdjacentParentShardId")
        shard |= dict(zip(members, self.parents[names[at]], strict=False))
        return {"Shards": [shard]} | ({"NextToken": str(at + 1)} if at + 1 < len(names) else {})

    def get_shard_iterator(
        self,
        StreamName: str,  # noqa: N803
        ShardId: str,  # noqa: N803
        ShardIteratorType: str,  # noqa: N803
        StartingSequenceNumber: str = "0",  # noqa: N803
    ) -> dict[str, str]:
        """An iterator is the shard and the number it is behind."""
        assert (ShardIteratorType == "TRIM_HORIZON") == (StartingSequenceNumber == "0")
        self.calls["get_shard_iterator"] += 1
        self.expired.discard(ShardId)
        return {"ShardIterator": f"{ShardId}/{StartingSequenceNumber}"}

    def get_records(self, ShardIterator: str) -> dict[str, Any]:  # noqa: N803
        """Answer a few records."""
        self.calls["get_records"] += 1
        shard, _, after = ShardIterator.partition("/")
        if shard in self.throttled:
            raise ThrottledError
        if shard in self.expired:
            raise ExpiredError
        rest = [each for each in self.records[shard] if each[0] > int(after)]
        found = rest[: self.per_answer]
        answer: dict[str, Any] = {
            "Records": [
                {"SequenceNumber": str(number), "PartitionKey": "k", "Data": data,
                 "ApproximateArrivalTimestamp": ARRIVED}
                for number, data in found
            ],
            "MillisBehindLatest": 1000 * (len(rest) > len(found)),
        }  # fmt: skip
        if shard not in self.closed or len(rest) > len(found):
            answer["NextShardIterator"] = f"{shard}/{found[-1][0] if found else after}"
        return answer


@pytest.fixture
def kinesis() -> Kinesis:
    kinesis = Kinesis()
    kinesis.add_shard("a")
    kinesis.add_shard("b")
    return kinesis


def shards_of(kinesis: Kinesis, max_bytes: int = 1 << 20) -> Any:
    return MODULE.Shards(kinesis, "s", max_bytes=max_bytes)


def data(shards: Any, start: dict[str, Any]) -> tuple[list[bytes], dict[str, Any]]:
    records, end = shards.read(start)
    assert [each.data for each in shards.read_again(start, end)] == [each.data for each in records]
    return [each.data for each in records], end


def test_each_read_continues_behind_the_last_one(kinesis: Kinesis) -> None:
    kinesis.put("a", b"1", b"2", b"3", b"4", b"5")
    shards = shards_of(kinesis)
    found, end = data(shards, {})
    assert found == [b"1", b"2", b"3", b"4", b"5"]
    assert data(shards, end) == ([], end)
    kinesis.put("b", b"6")
    kinesis.put("a", *[b"7"] * 8)
    assert data(shards, end)[0] == [*[b"7"] * 8, b"6"]
    assert data(shards_of(kinesis), end)[0] == [*[b"7"] * 8, b"6"]  # another process


def test_a_read_is_bounded_and_shards_share_it(kinesis: Kinesis) -> None:
    kinesis.put("a", *[b"x" * 100] * 20)
    kinesis.put("b", *[b"y" * 100] * 20)
    found, end = data(shards_of(kinesis, 800), {})
    assert found == [b"x" * 100] * 4 + [b"y" * 100] * 4
    assert data(shards_of(kinesis, 800), end)[0] == found


def test_children_come_after_the_ends_of_their_parents(kinesis: Kinesis) -> None:
    kinesis.put("a", b"1", b"2", b"3", b"4")
    kinesis.put("b", b"5")
    kinesis.add_shard("c", "a", "b")
    kinesis.put("c", b"6")
    shards = shards_of(kinesis, 4)
    found, end = data(shards, {})
    assert found == [b"1", b"2", b"5"]
    found, end = data(shards, end)
    assert found == [b"3", b"4"]
    assert data(shards, end)[0] == [b"6"]
    del kinesis.parents["a"], kinesis.parents["b"]  # their retention is over
    assert shards.read(end)[1].keys() == {"c"}


def test_an_empty_parent_does_not_stop_its_child(kinesis: Kinesis) -> None:
    kinesis.add_shard("c", "a")
    kinesis.put("c", b"1")
    shards = shards_of(kinesis)
    found, end = data(shards, {})
    assert found == []
    assert data(shards, end)[0] == [b"1"]


def test_a_throttled_shard_delays_no_other(
    kinesis: Kinesis, capsys: pytest.CaptureFixture[str]
) -> None:
    kinesis.put("a", b"1")
    kinesis.put("b", b"2")
    kinesis.throttled.add("a")
    shards = shards_of(kinesis)
    found, end = data(shards, {})
    assert found == [b"2"]
    assert capsys.readouterr().err == "a is throttled; its turn comes again\n"
    kinesis.throttled.clear()
    assert data(shards, end)[0] == [b"1"]


def test_an_iterator_is_used_again_and_replaced_when_it_expires(kinesis: Kinesis) -> None:
    kinesis.put("a", b"1")
    shards = shards_of(kinesis)
    _, end = shards.read({})
    made = kinesis.calls["get_shard_iterator"]
    shards.read(end)
    assert kinesis.calls["get_shard_iterator"] == made
    kinesis.put("a", b"2")
    kinesis.expired.add("a")
    assert [each.data for each in shards.read(end)[0]] == [b"2"]


def test_records_that_are_gone_are_no_empty_batch(kinesis: Kinesis) -> None:
    kinesis.put("a", b"1", b"2")
    shards = shards_of(kinesis)
    _, end = shards.read({})
    kinesis.records["a"].clear()
    with pytest.raises(MODULE.RecordsGone, match="a: records up to 18 are gone"):
        list(shards.read_again({}, end))
    kinesis.put("a", b"3")
    with pytest.raises(MODULE.RecordsGone):
        list(shards_of(kinesis).read_again({}, end))
