"""Parting a block among sinks that do not want all of it."""

import re
from collections.abc import Sequence
from typing import Any

import pytest

from telemetryd.core import router
from telemetryd.core.fields import Field, FieldAdder, RequestTracker
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.router import OpenBlock, RouteRules, Selection
from telemetryd_proto.framing import Block

START = b'{"time":"t","type":"platform.start","record":{"requestId":"r-1"}}\n'
REPORT = b'{"time":"t","type":"platform.report","record":{"requestId":"r-0"}}\n'
LOG = b'{"time":"t","type":"function","record":"platform.start"}\n'
BAD = b'{"type":"platform.start"\n'
VALUES = {"function": "shop", "version": "7", "instance": "ab" * 16}


def opened(*lines: bytes, tracker: RequestTracker | None = None) -> OpenBlock:
    block = Block(b"".join(lines), len(lines), 3, 100, 2.0)
    return OpenBlock(block, tracker or RequestTracker(one_at_a_time=True))


def rules(fields: Sequence[Field] = (), **wanted: Any) -> RouteRules:
    return RouteRules(LineFilter(**wanted), FieldAdder(fields, VALUES) if fields else None)


def parts(selection: Selection) -> tuple[bytes, int, int, int]:
    part = selection.wanted
    if part is not None:
        assert (part.source, part.received_at) == (3, 2.0)
        assert part.lines == part.data.count(b"\n")
    return (
        part.data if part else b"",
        selection.unjudged_lines,
        selection.filtered_lines,
        selection.filtered_bytes,
    )


def select(wanted: RouteRules, *lines: bytes) -> tuple[bytes, int, int, int]:
    """What a sink gets, the same whether the reader knows of its rules or not."""
    block = Block(b"".join(lines), len(lines), 3, 100, 2.0)
    tracker = RequestTracker(one_at_a_time=True)
    with_reader = OpenBlock(block, tracker, reader=router.reader_for([wanted]))
    found = parts(with_reader.select(wanted))
    assert parts(opened(*lines).select(wanted)) == found
    return found


def test_a_type_is_matched_exactly() -> None:
    found = select(rules(types=["function"]), START, LOG, REPORT, LOG)
    assert found == (LOG + LOG, 0, 2, len(START + REPORT))


def test_platform_means_all_platform_events() -> None:
    found = select(rules(types=["platform"]), START, LOG, REPORT)
    assert found == (START + REPORT, 0, 1, len(LOG))


def test_one_platform_event_can_be_named() -> None:
    found = select(rules(types=["platform.report", "extension"]), START, REPORT)
    assert found == (REPORT, 0, 1, len(START))


PLAIN = b'{"level":"INFO","msg":"of another sender"}\n'
TEXT = b"not json at all\n"
CUT = b'{"time":"t","type":"function","record":"cut\n'


def test_lines_without_a_type_pass_where_logs_are_wanted_and_are_counted() -> None:
    sent = (BAD, PLAIN, LOG, b"[]\n", TEXT, CUT, LOG)
    found = select(rules(types=["function"]), *sent)
    assert found == (PLAIN + LOG + b"[]\n" + TEXT + CUT + LOG, 4, 1, len(BAD))


def test_lines_without_a_type_are_no_platform_events() -> None:
    """Only one that seems to be such an event, and does not decode, is not kept back."""
    found = select(rules(types=["platform"]), PLAIN, TEXT, BAD, b"[]\n", CUT, START)
    kept_back = PLAIN + TEXT + b"[]\n" + CUT
    assert found == (BAD + START, 1, 4, len(kept_back))


def test_what_is_no_object_passes_a_level_and_gets_no_fields() -> None:
    sent = (TEXT, PLAIN, CUT, b'{"level":"ERROR"}\n', LOG)
    found = select(rules(["function"], min_level="warn"), *sent)
    assert found == (
        TEXT + CUT + b'{"function":"shop","level":"ERROR"}\n{"function":"shop",' + LOG[1:],
        2,
        1,
        len(PLAIN),
    )


@pytest.mark.parametrize(
    ("line", "with_fields"),
    [
        (b"{}\n", b'{"function":"shop"}\n'),
        (b" { }\r\n", b'{"function":"shop" }\r\n'),
        (b'{"a":1}\n', b'{"function":"shop","a":1}\n'),
        (rb'{"a":"\ud83d"}' + b"\n", rb'{"function":"shop","a":"\ud83d"}' + b"\n"),
        (b'{"a":NaN}\n', b'{"function":"shop","a":NaN}\n'),
        (b"[{}]\n", b"[{}]\n"),
        (b'"{}"\n', b'"{}"\n'),
        (b'{"a":\n', b'{"a":\n'),
    ],
)
def test_fields_go_into_any_object(line: bytes, with_fields: bytes) -> None:
    assert select(rules(["function"]), line)[0] == with_fields


def test_a_block_wanted_whole_is_not_copied() -> None:
    block = opened(LOG, LOG)
    assert block.select(rules(types=["function"])).wanted is block.block


def test_patterns_need_no_json() -> None:
    found = select(rules(include=["start"]), START, b"not json, start\n", b"neither\n")
    assert found == (START + b"not json, start\n", 0, 1, len(b"neither\n"))


def test_lines_no_sink_wants_are_counted() -> None:
    block = opened(START, LOG, REPORT, BAD)
    both = [rules(types=["platform.report"]), rules(include=["nowhere"])]
    block.select(both[1])
    assert block.count_unwanted() == (4, len(START + LOG + REPORT + BAD))
    block.select(both[0])
    assert block.count_unwanted() == (3, len(START + LOG + BAD))


def test_fields_go_to_the_front_and_the_received_size_stays() -> None:
    (part,) = [opened(LOG, LOG).select(rules(["function", "version"])).wanted]
    assert part is not None
    added = b'{"function":"shop","version":"7",'
    assert part.data == (added + LOG[1:]) * 2
    assert part.size == len(LOG + LOG)


def test_fields_go_to_the_lines_that_are_wanted() -> None:
    found = select(rules(["function"], types=["function"]), START, LOG, LOG)
    assert found == ((b'{"function":"shop",' + LOG[1:]) * 2, 0, 1, len(START))


def ids_of(part: Block | None) -> list[str]:
    """The request ids that were added to the lines of a block."""
    assert part is not None
    added = [re.match(rb'\{"request_id":"([^"]*)"', line) for line in part.data.splitlines()]
    return [found[1].decode() if found else "" for found in added]


@pytest.mark.parametrize("one_at_a_time", [True, False])
def test_lines_are_attributed_to_the_invocation_that_started_last(one_at_a_time: bool) -> None:
    tracker = RequestTracker(one_at_a_time=one_at_a_time)
    named = b'{"time":"t","type":"function","record":{"AWSRequestId":"r-1"}}\n'
    other = b'{"time":"t","type":"platform.start","record":{"requestId":"r-2"}}\n'
    opened(LOG, START, tracker=tracker).follow()
    lines = (LOG, REPORT, named, other, named, LOG)
    part = opened(*lines, tracker=tracker).select(rules(["request_id"])).wanted
    first, second = ("r-1", "r-2") if one_at_a_time else ("", "")
    assert ids_of(part) == [first, "r-0", "r-1", "r-2", "r-1", second]


UNKNOWN = "5e0f8c2a-1111-4222-8333-944455566677"


@pytest.mark.parametrize(("one_at_a_time", "believed"), [(True, "r-1"), (False, UNKNOWN)])
def test_an_id_that_no_start_named_is_believed_for_its_form_where_several_run(
    one_at_a_time: bool, believed: str
) -> None:
    tracker = RequestTracker(one_at_a_time=one_at_a_time)
    uuid = f'{{"type":"function","record":{{"requestId":"{UNKNOWN}"}}}}\n'.encode()
    gateway = b'{"type":"function","record":{"requestId":"apigw-Xa1bcDE="}}\n'
    part = opened(START, uuid, gateway, tracker=tracker).select(rules(["request_id"])).wanted
    assert ids_of(part) == ["r-1", believed, "r-1" if one_at_a_time else ""]


@pytest.mark.parametrize(("length", "kept"), [(128, 128), (129, 0)])
def test_an_id_that_is_too_long_is_none(length: int, kept: int) -> None:
    tracker = RequestTracker(one_at_a_time=True)
    long = b'{"type":"platform.start","record":{"requestId":"%s"}}\n' % (b"x" * length)
    opened(START, tracker=tracker).follow()
    assert [len(str(one)) for one in opened(long, LOG, tracker=tracker).origins] == [kept, kept]


def test_started_invocations_are_remembered_in_a_bounded_number() -> None:
    tracker = RequestTracker(one_at_a_time=True)
    for number in range(5000):
        start = b'{"type":"platform.start","record":{"requestId":"r-%d"}}\n' % number
        opened(start, tracker=tracker).follow()
    late = [b'{"type":"function","record":{"requestId":"r-%d"}}\n' % n for n in (0, 4990, 4999)]
    assert opened(*late, tracker=tracker).origins == ["r-4999", "r-4990", "r-4999"]


def test_a_new_environment_belongs_to_no_invocation_yet() -> None:
    tracker = RequestTracker(one_at_a_time=True)
    init = b'{"time":"t","type":"platform.initStart","record":{}}\n'
    opened(START, tracker=tracker).follow()
    assert opened(LOG, init, LOG, tracker=tracker).origins == ["r-1", "", ""]


def test_fields_can_be_renewed() -> None:
    adder = FieldAdder(["instance"], VALUES)
    adder.renew(VALUES | {"instance": "cd"})
    assert adder.shape(opened(LOG), [0]) == b'{"instance":"cd",' + LOG[1:]


def in_pieces(block: Block, wanted: RouteRules) -> tuple[Selection, tuple[int, int]]:
    """What a sink gets of a block that is opened piece by piece, and what no one gets."""
    tracker = RequestTracker(one_at_a_time=True)
    selections, lines, size = [], 0, 0
    for piece in router.open_pieces(block, tracker):
        piece.follow()
        selections.append(piece.select(wanted))
        left = piece.count_unwanted()
        lines, size = lines + left[0], size + left[1]
    return router.merge(block, selections), (lines, size)


@pytest.mark.parametrize(
    "wanted",
    [
        rules(types=["platform"]),
        rules(types=["function", "platform"]),
        rules(include=["r-0"]),
        rules(types=["nothing"]),
        rules(["request_id"], types=["function"]),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 100, 150, 400])
def test_a_block_opened_in_pieces_is_parted_as_if_whole(
    piece_bytes: int, wanted: RouteRules, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = opened(START, LOG, BAD, LOG, REPORT, LOG, BAD, START, LOG, LOG)
    expected = whole.select(wanted)
    monkeypatch.setattr(router, "_PIECE_BYTES", piece_bytes)
    selection, left = in_pieces(whole.block, wanted)
    assert parts(selection) == parts(expected)
    assert left == whole.count_unwanted()
    assert selection.wanted is None or selection.wanted.offset == whole.block.offset


def test_a_block_wanted_whole_is_the_same_block_after_its_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = Block(LOG * 9, 9, 3, 100, 2.0)
    monkeypatch.setattr(router, "_PIECE_BYTES", 150)
    selection, left = in_pieces(block, rules(types=["function"]))
    assert selection.wanted is block
    assert left == (0, 0)


def test_the_oldest_of_too_many_connections_is_forgotten() -> None:
    tracker = RequestTracker(one_at_a_time=True)
    last = 1024
    for source in range(last + 1):
        block = Block(START, 1, source, 0, 2.0)
        OpenBlock(block, tracker).follow()
    (first,) = OpenBlock(Block(LOG, 1, 0, 0, 2.0), tracker).origins
    (newest,) = OpenBlock(Block(LOG, 1, last, 0, 2.0), tracker).origins
    assert (first, newest) == ("", "r-1")


def test_a_large_block_is_judged_in_pieces_and_comes_out_as_one() -> None:
    lines = [LOG, REPORT] * 5000
    block = Block(b"".join(lines), len(lines), 3, 100, 2.0)
    wanted = rules(types=["function"])
    pieces = list(router.open_pieces(block, RequestTracker(one_at_a_time=True)))
    assert len(pieces) > 1
    assert b"".join(piece.block.data for piece in pieces) == block.data
    starts = [piece.block.offset for piece in pieces]
    assert starts == sorted(starts)
    assert starts[0] == block.offset
    found = router.merge(block, [piece.select(wanted) for piece in pieces])
    assert parts(found) == (LOG * 5000, 0, 5000, len(REPORT) * 5000)


def test_where_only_requests_are_asked_for_a_sink_wants_them() -> None:
    assert rules(["request_id"]).wants_requests is True
    assert rules(["function"]).wants_requests is False
    assert rules().needs_envelopes is False
    assert rules(types=["function"]).needs_envelopes is True


def test_a_small_block_is_one_piece() -> None:
    block = Block(LOG + REPORT, 2, 3, 100, 2.0)
    (piece,) = router.open_pieces(block, RequestTracker(one_at_a_time=True))
    found = piece.select(rules(types=["function"]))
    assert router.merge(block, [found]) is found
