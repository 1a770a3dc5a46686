"""Objects with their time, and those that have members of some names."""

import pytest

from telemetryd_proto.objects import AnyObject, ObjectReader, TimedObject, decode_objects

FREE = b'{"time":"t","type":"a","record":1}'


def test_without_names_all_objects_are_free() -> None:
    reader = ObjectReader()
    assert decode_objects([FREE], reader) == decode_objects([FREE])
    assert reader.free is AnyObject


@pytest.mark.parametrize(
    "line",
    [
        b'{"stage":1,"type":"a"}',
        b'{"stage":null,"type":"a"}',
        rb'{"st\u0061ge":"x","type":"a"}',
        rb'{"x":"\ud83d","stage":1,"type":"a"}',
        b'{"stage":1,"type":7}',
    ],
)
def test_an_object_with_such_a_member_is_not_free(line: bytes) -> None:
    reader = ObjectReader(["stage", "team"])
    found = decode_objects([FREE, line, FREE, b"no object", b'{"x":{"stage":1}}'], reader)
    assert [type(each) is reader.free for each in found] == [True, False, True, False, True]
    assert found[1] is not None
    assert found[1].type in {"a", ""}
    assert found[3] is None


@pytest.mark.parametrize("names", [(), ("stage",)])
def test_the_time_is_kept_as_it_came(names: tuple[str, ...]) -> None:
    reader = ObjectReader(names, timed=True)
    lines = [FREE, b'{"time":7,"type":8}', b'{"stage":1,"time":[]}', b"{}"]
    found = [each for each in decode_objects(lines, reader) if isinstance(each, TimedObject)]
    assert [bytes(each.time) for each in found] == [b'"t"', b"7", b"[]", b"null"]
