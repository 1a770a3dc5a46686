"""The watch finds exactly the lines whose envelope is of a watched type, however it searches."""

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.scanner import each_scanner  # noqa: F401 - each test runs with each
from telemetryd.core.watch import LIFE_CYCLE, LOSSES, EventWatch
from telemetryd_proto.envelope import decode_line

TEXTS = (
    "platform.logsDropped",
    "platform.report",
    "D" * 40,
    "sD",
    "a D",
    '\\"platform.logsDropped\\"',
    '"platform.logsDropped',
    "x" * 3000,
)
KINDS = st.sampled_from((*sorted(LOSSES), *sorted(LIFE_CYCLE), "function", "D"))
RECORDS = st.lists(st.sampled_from(TEXTS), max_size=4).map(" ".join)
EVENTS = st.builds('{{"record":"{1}","type":"{0}"}}\n'.format, KINDS, RECORDS)
LINES = EVENTS | st.sampled_from(TEXTS).map("{}\n".format)


@settings(max_examples=300)
@given(st.lists(LINES, max_size=12), st.sampled_from((LOSSES, LIFE_CYCLE)))
def test_it_agrees_with_decoding_every_line(lines: list[str], types: frozenset[str]) -> None:
    encoded = [line.encode() for line in lines]
    envelopes = [envelope for line in encoded if (envelope := decode_line(line)) is not None]
    expected = [envelope for envelope in envelopes if envelope.type in types]
    assert EventWatch(types).find(b"".join(encoded)) == expected
