"""Parting a block among sinks that do not want all of it."""

from collections.abc import Sequence

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


def rules(fields: Sequence[Field] = (), **wanted) -> RouteRules:
    return RouteRules(LineFilter(**wanted), FieldAdder(fields, VALUES) if fields else None)


def parts(selection: Selection) -> tuple[bytes, bytes, int, int]:
    for part in (selection.wanted, selection.malformed):
        if part is not None:
            assert (part.source, part.received_at) == (3, 2.0)
            assert part.lines == part.data.count(b"\n")
    return (
        selection.wanted.data if selection.wanted else b"",
        selection.malformed.data if selection.malformed else b"",
        selection.filtered_lines,
        selection.filtered_bytes,
    )


def select(wanted: RouteRules, *lines: bytes) -> tuple[bytes, bytes, int, int]:
    return parts(opened(*lines).select(wanted))


def test_a_type_is_matched_exactly() -> None:
    found = select(rules(types=["function"]), START, LOG, REPORT, LOG)
    assert found == (LOG + LOG, b"", 2, len(START + REPORT))


def test_platform_means_all_platform_events() -> None:
    found = select(rules(types=["platform"]), START, LOG, REPORT)
    assert found == (START + REPORT, b"", 1, len(LOG))


def test_one_platform_event_can_be_named() -> None:
    found = select(rules(types=["platform.report", "extension"]), START, REPORT)
    assert found == (REPORT, b"", 1, len(START))


def test_lines_without_a_type_are_set_apart() -> None:
    found = select(rules(types=["function"]), BAD, LOG, b"[]\n", LOG)
    assert found == (LOG + LOG, BAD + b"[]\n", 0, 0)


def test_a_block_wanted_whole_is_not_copied() -> None:
    block = opened(LOG, LOG)
    assert block.select(rules(types=["function"])).wanted is block.block


def test_patterns_need_no_json() -> None:
    found = select(rules(include=["start"]), START, b"not json, start\n", b"neither\n")
    assert found == (START + b"not json, start\n", b"", 1, len(b"neither\n"))


def test_lines_nobody_wants_are_counted_and_refused_ones_are_not_among_them() -> None:
    block = opened(START, LOG, REPORT, BAD)
    both = [rules(types=["platform.report"]), rules(include=["nowhere"])]
    block.select(both[1])
    assert block.unwanted() == (4, len(START + LOG + REPORT + BAD))
    block.select(both[0])
    assert block.unwanted() == (2, len(START + LOG))


def test_fields_go_to_the_front_and_the_received_size_stays() -> None:
    (part,) = [opened(LOG, LOG).select(rules(["function", "version"])).wanted]
    assert part is not None
    added = b'{"function":"shop","version":"7",'
    assert part.data == (added + LOG[1:]) * 2
    assert part.size == len(LOG + LOG)


@pytest.mark.parametrize("one_at_a_time", [True, False])
def test_lines_are_attributed_to_the_invocation_that_started_last(one_at_a_time: bool) -> None:
    tracker = RequestTracker(one_at_a_time=one_at_a_time)
    named = b'{"time":"t","type":"function","record":{"AWSRequestId":"r-9"}}\n'
    opened(LOG, START, tracker=tracker).follow()
    part = opened(LOG, REPORT, named, LOG, tracker=tracker).select(rules(["request_id"])).wanted
    assert part is not None
    ids = [line.split(b'"')[3] if b"request_id" in line else b"" for line in part.data.split(b"\n")]
    unnamed = b"r-1" if one_at_a_time else b""
    assert ids == [unnamed, b"r-0", b"r-9", unnamed, b""]


def test_a_new_environment_belongs_to_no_invocation_yet() -> None:
    tracker = RequestTracker(one_at_a_time=True)
    init = b'{"time":"t","type":"platform.initStart","record":{}}\n'
    opened(START, tracker=tracker).follow()
    assert opened(LOG, init, LOG, tracker=tracker).requests == ["r-1", "", ""]


def test_fields_can_be_renewed() -> None:
    adder = FieldAdder(["instance"], VALUES)
    adder.renew(VALUES | {"instance": "cd"})
    assert adder.add(LOG, "") == b'{"instance":"cd",' + LOG[1:]


def in_pieces(block: Block, wanted: RouteRules) -> tuple[Selection, tuple[int, int]]:
    """What a sink gets of a block that is opened piece by piece, and what nobody gets."""
    tracker = RequestTracker(one_at_a_time=True)
    selections, lines, size = [], 0, 0
    for piece in router.opened(block, tracker):
        piece.follow()
        selections.append(piece.select(wanted))
        left = piece.unwanted()
        lines, size = lines + left[0], size + left[1]
    return router.merged(block, selections), (lines, size)


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
    assert left == whole.unwanted()
    for part in (selection.wanted, selection.malformed):
        assert part is None or part.offset == whole.block.offset


def test_a_block_wanted_whole_is_the_same_block_after_its_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = Block(LOG * 9, 9, 3, 100, 2.0)
    monkeypatch.setattr(router, "_PIECE_BYTES", 150)
    selection, left = in_pieces(block, rules(types=["function"]))
    assert selection.wanted is block
    assert left == (0, 0)
