"""Looking into a line never costs the line, and never changes it, whatever is in it."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from telemetryd.core import log_level
from telemetryd.core.fields import FieldAdder, RequestTracker
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.log_level import LEVELS, rank_of
from telemetryd.core.router import OpenBlock, RouteRules, reader_for
from telemetryd.core.text_head import head_of
from telemetryd_proto import loose
from telemetryd_proto.envelope import decode_line
from telemetryd_proto.framing import Block
from telemetryd_proto.loose import loosen
from telemetryd_proto.objects import decode_objects
from telemetryd_proto.surrogates import without_lone_surrogates

# Half pairs, backslashes and what follows them are likelier than by chance.
TEXTS = st.text(
    st.sampled_from('\ud83d\ude00\udce9\\"u\n\t{}d8:,') | st.characters(codec=None), max_size=20
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = ("type", "record", "level", "requestId", "message", "time", "severity", "@l", "log")
KINDS = st.sampled_from(("function", "platform.start", "platform.report", "extension", "access"))
OBJECTS = st.dictionaries(
    st.sampled_from(NAMES) | TEXTS, VALUES, max_size=6
) | st.fixed_dictionaries({"type": KINDS, "record": VALUES})
LINES = OBJECTS.map(lambda value: json.dumps(value).encode()) | st.binary(min_size=1).map(
    lambda line: line.replace(b"\n", b" ")
)
RULES = st.builds(
    lambda types, level, fields: RouteRules(
        LineFilter(types=types, min_level=level),
        FieldAdder(fields, {"function": "shop"}) if fields else None,
    ),
    st.lists(st.sampled_from(("function", "platform", "platform.start")), max_size=2, unique=True),
    st.sampled_from(("", *LEVELS)),
    st.sampled_from(((), ("function",), ("function", "request_id"))),
)


@given(st.lists(LINES, min_size=1, max_size=6), RULES)
def test_every_line_is_wanted_or_kept_back_and_those_wanted_stay_as_they_are(
    lines: list[bytes], rules: RouteRules
) -> None:
    data = b"".join(line + b"\n" for line in lines)
    tracker = RequestTracker(one_at_a_time=True)
    found = OpenBlock(Block(data, len(lines), 1, 0, 0.0), tracker).select(rules)
    wanted = found.wanted
    assert (wanted.lines if wanted else 0) + found.filtered_lines == len(lines)
    assert (wanted.size if wanted else 0) + found.filtered_bytes == len(data)
    assert found.unjudged_lines <= (wanted.lines if wanted else 0)
    tails = [line.partition(b"{")[2] for line in lines]
    for line in BytesIO(wanted.data if wanted else b""):
        ends = [tail for tail in tails if line.endswith(tail + b"\n")]
        assert ends or line[:-1] in lines


@given(OBJECTS)
def test_fields_go_into_every_object_and_leave_its_members(value: dict[str, Any]) -> None:
    line = json.dumps(value).encode() + b"\n"
    rules = RouteRules(LineFilter(), FieldAdder(["instance"], {"instance": "i-1"}))
    tracker = RequestTracker(one_at_a_time=True)
    found = OpenBlock(Block(line, 1, 1, 0, 0.0), tracker).select(rules)
    assert found.wanted is not None
    name = "telemetryd_instance" if "instance" in value else "instance"
    expected = {name: "i-1"} | value
    assert json.dumps(json.loads(found.wanted.data)) == json.dumps(expected)


@given(st.dictionaries(TEXTS, TEXTS, max_size=4))
def test_an_event_is_read_whatever_half_pairs_it_holds(members: dict[str, str]) -> None:
    event = members | {"type": "function", "record": members, "time": "t"}
    envelope = decode_line(json.dumps(event).encode())
    assert envelope is not None
    assert (envelope.time, envelope.type) == ("t", "function")


@given(TEXTS)
def test_only_half_pairs_are_replaced(text: str) -> None:
    found = json.loads(without_lone_surrogates(json.dumps(text).encode()))
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert len(found) <= len(text)
    assert found == "".join(
        "\ufffd" if "\ud800" <= c <= "\udfff" else c for c in json.loads(json.dumps(text))
    )
    assert whole.replace("\ufffd", "") == found.replace("\ufffd", "")


@given(VALUES)
def test_loosened_json_says_the_same_but_for_what_json_lacks(value: Any) -> None:
    text = json.dumps(value)
    plain = without_lone_surrogates(text.encode())
    found = json.loads(loosen(text.encode()))
    nulls = {"NaN": None, "Infinity": None, "-Infinity": None}
    assert found == json.loads(plain, parse_constant=lambda name: nulls[name])


NUMBERS = ("NaN", "-NaN", "Infinity", "-Infinity", "1e999", "-2.5E+400", "9" * 310)
KEPT = ("1", "-1e100", "2e-999", "true", "null", "[]", *map(json.dumps, NUMBERS))
ESCAPED = tuple(json.dumps(text) for text in ('"NaN', "\\", '\\"', '\\\\"1e999', "", "\\NaN"))


@given(st.lists(st.sampled_from((*NUMBERS, *KEPT, *ESCAPED))), st.sampled_from((",", ", ", ":")))
def test_only_numbers_outside_strings_become_null(parts: list[str], between: str) -> None:
    text = "[" + between.join(parts) + "]"
    nulls = "[" + between.join("null" if part in NUMBERS else part for part in parts) + "]"
    assert loosen(text.encode()) == nulls.encode()


@given(st.lists(st.sampled_from([b"\\\\", b"NaN", b'\\"', b"x", b" ", b"1e999"])).map(b"".join))
def test_a_string_that_never_ends_is_kept(rest: bytes) -> None:
    assert loosen(b'NaN "' + rest) == b'null "' + rest


@given(TEXTS | st.from_regex(r"(\\[?[A-Z]{3,8}\\]?[:\t ]|2026-11-30 |- ){1,4}.*", fullmatch=True))
def test_the_head_of_any_text_has_a_level_or_none(text: str) -> None:
    rank = head_of(text).rank
    assert rank is None or 0 <= rank < len(LEVELS)


@given(st.text(max_size=40))
def test_any_name_is_a_level_or_none(name: str) -> None:
    rank = rank_of(name)
    assert rank is None or 0 <= rank < len(LEVELS)


@given(st.lists(st.tuples(st.integers(1, 700), st.sampled_from([",", "x", ".", " "]))))
def test_a_number_is_huge_from_300_digits_on(runs: list[tuple[int, str]]) -> None:
    text = "".join("7" * size + end for size, end in runs).encode()
    assert loose.has_huge_number(text) is any(size >= 300 for size, _ in runs)


@given(
    st.sampled_from([*log_level._MEMBERS, "LOG-LEVEL", "sever.ity", "_L", "short_message", "k"]),
    st.sampled_from(["error", 50, {"name": "error"}]),
    st.sampled_from(["{}", '{"log":{}}', '{"record":{}}', '{"message":{}}', "text", "escapes"]),
)
def test_a_level_is_found_in_a_large_record_as_in_a_small_one(
    member: str, value: Any, shape: str
) -> None:
    """A large record is not decoded if no name in it can hold a level."""
    told = json.dumps(
        {member: value, "level": 50} if member == "short_message" else {member: value}
    )
    if shape == "text":
        told = json.dumps({"message": told})
    elif shape == "escapes":
        spelled = "".join(f"\\u{ord(letter):04x}" for letter in member)
        told = '{"' + spelled + told[len(member) + 2 :]
    else:
        told = shape.replace("{}", told)
    large = "{" + "".join(f'"k{at}":1,' for at in range(1000)) + told[1:]
    found = log_level.rank_of_object(told.encode())
    assert log_level.rank_of_object(large.encode()) == found
    assert found is not None or member in {"short_message", "_L", "k"} or value == 50


@given(st.lists(st.sampled_from([b"x\n", b'{"type":"t"}\n', b'{"a\n', b" \n", b' {"type":7}\n'])))
def test_each_line_is_decoded_as_it_is_alone(lines: list[bytes]) -> None:
    alone = [decode_objects([line])[0] for line in lines]
    assert decode_objects(lines) == alone


OUR_NAMES = ("stage", "level", "telemetryd_stage", "telemetryd_level")
PAIRS = st.lists(
    st.tuples(st.sampled_from(OUR_NAMES) | st.sampled_from(NAMES) | TEXTS, VALUES), max_size=6
)
CODINGS = st.sampled_from(("%s", " %s", "%s\r"))


@given(st.lists(st.tuples(PAIRS, st.booleans(), CODINGS), min_size=1, max_size=4))
def test_what_is_added_never_hides_a_member_and_is_never_hidden(
    sent: list[tuple[list[tuple[str, Any]], bool, str]],
) -> None:
    lines = [
        (form % with_pairs(pairs, escaped=escaped)).encode() + b"\n"
        for pairs, escaped, form in sent
    ]
    ours: dict[str, str | int] = {"stage": "prod", "level": 7}
    rules = RouteRules(LineFilter(), FieldAdder((), {}, ours))
    block = Block(b"".join(lines), len(lines), 1, 0, 0.0)
    tracker = RequestTracker(one_at_a_time=True)
    part = OpenBlock(block, tracker, reader=reader_for([rules])).select(rules).wanted
    assert part is not None
    for before, after in zip(lines, part.data.splitlines(keepends=True), strict=True):
        theirs, found = pairs_of(before), pairs_of(after)
        added = found[: len(found) - len(theirs)]
        assert json.dumps(found[len(added) :]) == json.dumps(theirs)
        assert [value for _, value in added] == list(ours.values())
        assert not {name for name, _ in added} & {name for name, _ in theirs}
        assert len({name for name, _ in added}) == len(added)


def with_pairs(pairs: list[tuple[str, Any]], *, escaped: bool) -> str:
    """An object of members, some of whose names may be alike."""
    members = []
    for name, value in pairs:
        spelled = json.dumps(name)
        if escaped and name.isascii() and name.isalpha():
            spelled = f'"\\u{ord(name[0]):04x}{name[1:]}"'
        members.append(f"{spelled}:{json.dumps(value)}")
    return "{" + ",".join(members) + "}"


def pairs_of(line: bytes) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    json.JSONDecoder(object_pairs_hook=lambda pairs: found.__setitem__(slice(None), pairs)).decode(
        line.decode().strip()
    )
    return found
