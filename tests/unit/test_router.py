"""Selecting lines by event type."""

from telemetryd.core.router import DecodedBlock, TypeFilter
from telemetryd_proto.framing import Block

START = b'{"time":"t","type":"platform.start","record":{}}\n'
REPORT = b'{"time":"t","type":"platform.report","record":{}}\n'
LOG = b'{"time":"t","type":"function","record":"platform.start"}\n'
BAD = b'{"type":"platform.start"\n'


def select(types: tuple[str, ...], *lines: bytes) -> tuple[bytes, bytes, int, int]:
    block = Block(b"".join(lines), len(lines), 3, 100, 2.0)
    chosen = DecodedBlock(block).select(TypeFilter(types).wants)
    for part in (chosen.wanted, chosen.malformed):
        if part is not None:
            assert (part.source, part.received_at) == (3, 2.0)
            assert part.lines == part.data.count(b"\n")
    return (
        chosen.wanted.data if chosen.wanted else b"",
        chosen.malformed.data if chosen.malformed else b"",
        chosen.filtered_lines,
        chosen.filtered_bytes,
    )


def test_a_type_is_matched_exactly() -> None:
    assert select(("function",), START, LOG, REPORT, LOG) == (
        LOG + LOG,
        b"",
        2,
        len(START + REPORT),
    )


def test_platform_means_all_platform_events() -> None:
    assert select(("platform",), START, LOG, REPORT) == (START + REPORT, b"", 1, len(LOG))


def test_one_platform_event_can_be_named() -> None:
    assert select(("platform.report", "extension"), START, REPORT) == (
        REPORT,
        b"",
        1,
        len(START),
    )


def test_lines_without_a_type_are_set_apart() -> None:
    assert select(("function",), BAD, LOG, b"[]\n", LOG) == (LOG + LOG, BAD + b"[]\n", 0, 0)


def test_a_block_wanted_whole_is_not_copied() -> None:
    block = Block(LOG + LOG, 2)
    assert DecodedBlock(block).select(TypeFilter(("function",)).wants).wanted is block
