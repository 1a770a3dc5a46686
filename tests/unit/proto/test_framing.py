"""The framer's rules, one by one."""

import pytest

from helpers.scanner import each_scanner  # noqa: F401 - each test runs with each
from telemetryd_proto.framing import Block, Framed, LineFramer, Rejected, TailBudget

A = b'{"a":1}\n'
B = b'{"b":22}\n'


def framer(max_line: int = 64, budget: int = 1024, keep: int = 16) -> LineFramer:
    return LineFramer(TailBudget(budget), max_line_bytes=max_line, source=7, keep_bytes=keep)


def feed(subject: LineFramer, *reads: bytes, now: float = 1.5) -> list[Framed]:
    return [part for read in reads for part in subject.feed(read, len(read), now)]


def test_whole_lines_become_one_block_that_says_where_and_when_it_was_read() -> None:
    assert feed(framer(), A + B) == [Block(A + B, 2, 7, 0, 1.5)]


def test_a_line_over_two_reads_opens_the_next_block() -> None:
    parts = feed(framer(), A + B[:3], B[3:] + A)
    assert parts == [Block(A, 1, 7, 0, 1.5), Block(B + A, 2, 7, len(A), 1.5)]


def test_only_the_given_size_of_the_buffer_is_read() -> None:
    buffer = bytearray(A + b"left over from an earlier read\n")
    assert framer().feed(buffer, len(A), 0.0) == [Block(A, 1, 7, 0, 0.0)]


def test_blocks_outlive_a_reused_buffer() -> None:
    buffer = bytearray(A)
    (block,) = framer().feed(buffer, len(A), 0.0)
    buffer[:] = b"x" * len(A)
    assert isinstance(block, Block)
    assert block.data == A


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\u2029", "\r", "\x0b", "\x0c", "\x1c"])
def test_nothing_but_a_newline_ends_a_line(separator: str) -> None:
    line = f'{{"record":"one{separator}line"}}\n'.encode()
    assert feed(framer(), line) == [Block(line, 1, 7, 0, 1.5)]


def test_a_carriage_return_before_the_newline_is_kept() -> None:
    assert feed(framer(), b"{}\r\n{}\r\n") == [Block(b"{}\r\n{}\r\n", 2, 7, 0, 1.5)]


def test_blank_lines_of_a_read_are_rejected_in_one_sum_and_the_lines_stay_one_block() -> None:
    parts = feed(framer(), b"\n" + A + b"\n\r\n\n" + B + b"\n", A)
    assert parts == [
        Block(A + B, 2, 7, 0, 1.5),
        Rejected("empty", 5, 6, 7, 17),
        Block(A, 1, 7, 23, 1.5),
    ]


def test_blank_lines_alone_make_no_block() -> None:
    assert feed(framer(), b"\n\r\n" * 40) == [Rejected("empty", 80, 120, 7, 0)]


def test_lines_that_begin_with_a_control_character_are_not_blank() -> None:
    data = b"\0\n\t{}\n\r\r\n\x0c\n \n"
    assert feed(framer(), data) == [Block(data, 5, 7, 0, 1.5)]


def test_a_line_of_exactly_the_limit_passes_and_one_byte_more_does_not() -> None:
    fits, over = b"x" * 64 + b"\n", b"y" * 65 + b"\n"
    assert feed(framer(), A + fits + over + B) == [
        Block(A + fits, 2, 7, 0, 1.5),
        Rejected("too_long", 1, 66, 7, 73, b"y" * 16),
        Block(B, 1, 7, 139, 1.5),
    ]


def test_a_long_line_over_many_reads_is_skipped_to_its_newline_and_counted_once() -> None:
    subject = framer()
    assert feed(subject, A + b"abcdef", b"x" * 60, b"y" * 60) == [Block(A, 1, 7, 0, 1.5)]
    assert subject.unfinished_bytes == 126
    assert feed(subject, b"z\n" + B) == [
        Rejected("too_long", 1, 128, 7, 8, b"abcdefxxxxxxxxxx"),
        Block(B, 1, 7, 136, 1.5),
    ]
    assert subject.unfinished_bytes == 0


def test_skipped_lines_hold_no_memory_of_the_shared_budget() -> None:
    budget = TailBudget(1024)
    subject = LineFramer(budget, max_line_bytes=64)
    feed(subject, b"x" * 60)
    assert budget.used == 60
    feed(subject, b"x" * 60)
    assert budget.used == 0


def test_tails_of_all_connections_share_one_budget() -> None:
    budget = TailBudget(100)
    first, second = (LineFramer(budget, max_line_bytes=90, source=n) for n in (1, 2))
    assert feed(first, b"x" * 80) == []
    assert feed(second, b"y" * 30) == []
    assert feed(second, b"\n" + A) == [
        Rejected("tail_budget", 1, 31, 2, 0),
        Block(A, 1, 2, 31, 1.5),
    ]
    assert feed(first, b"\n") == [Block(b"x" * 80 + b"\n", 1, 1, 0, 1.5)]
    assert budget.used == 0


def test_the_end_of_the_stream_rejects_what_it_cut_off() -> None:
    subject = framer()
    feed(subject, A + b'{"cut":')
    assert subject.eof() == [Rejected("truncated", 1, 7, 7, 8, b'{"cut":')]
    assert subject.eof() == []


def test_the_end_of_the_stream_inside_a_skipped_line_counts_it_as_too_long() -> None:
    subject = framer()
    feed(subject, b"x" * 100)
    assert subject.eof() == [Rejected("too_long", 1, 100, 7, 0, b"x" * 16)]


def test_nothing_is_kept_of_refused_lines_when_nobody_wants_it() -> None:
    subject = framer(keep=0)
    assert feed(subject, b"x" * 70 + b"\n") == [Rejected("too_long", 1, 71, 7, 0)]


def test_a_budget_within_another_is_taken_out_of_both() -> None:
    whole = TailBudget(100)
    part = TailBudget(80, within=whole)
    assert whole.take(30)
    assert part.take(60)
    assert not part.take(11), "the whole has no more"
    assert (part.used, whole.used) == (60, 90)
    part.give(60)
    assert (part.used, whole.used) == (0, 30)


def test_what_is_unfinished_moves_to_another_budget_if_it_fits() -> None:
    small, first, second = TailBudget(10), TailBudget(100), TailBudget(100)
    subject = LineFramer(first, max_line_bytes=64)
    feed(subject, b"x" * 20)
    subject.use(small)
    assert (first.used, small.used) == (20, 0), "it does not fit"
    subject.use(second)
    assert (first.used, second.used) == (0, 20)
    feed(subject, b"\n")
    assert second.used == 0


def test_the_head_of_a_refused_line_is_kept_in_full_though_it_came_in_pieces() -> None:
    subject = LineFramer(TailBudget(4), max_line_bytes=64, source=7, keep_bytes=16)
    for piece in (b"x" * 5, b"y" * 5, b"z" * 10):
        feed(subject, piece)
    assert feed(subject, b"\n") == [
        Rejected("tail_budget", 1, 21, 7, 0, b"x" * 5 + b"y" * 5 + b"z" * 6)
    ]


def test_lines_between_two_reads_have_a_place_in_the_stream() -> None:
    """Those of a body by HTTP: counted already, or refused as a whole."""
    subject = framer(keep=4)
    assert feed(subject, A) == [Block(A, 1, 7, 0, 1.5)]
    assert subject.hand_out(B, 1, 2.5) == Block(B, 1, 7, len(A), 2.5)
    place = len(A) + len(B)
    assert subject.reject("malformed_body", 9, b"no record") == Rejected(
        "malformed_body", 1, 9, 7, place, b"no r"
    )
    assert feed(subject, A) == [Block(A, 1, 7, place + 9, 1.5)]
