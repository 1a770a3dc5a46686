"""Platform events of connections that are not the platform's are taken out, whatever their form."""

from __future__ import annotations

import pytest

from telemetryd.core.untrusted import without_platform_events
from telemetryd_proto.framing import Block

LOG = b'{"time":"t","type":"function","record":"platform.start"}\n'
TEXT = b"platform. is no event\n"
EVENTS = [
    b'{"time":"t","type":"platform.start","record":{"requestId":"r"}}\n',
    b'{"time":"t","type":"platform.anything","record":{}}\n',
    b'{"time":"t","type":"\\u0070latform.report","record":{}}\n',
]


def block(*lines: bytes) -> Block:
    return Block(b"".join(lines), len(lines), source=3, offset=70, received_at=1.5)


def test_a_block_without_any_is_handed_on_as_it_is() -> None:
    subject = block(LOG, TEXT)
    assert without_platform_events(subject) == (subject, 0, 0)


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_among_others_is_taken_out_and_counted(event: bytes) -> None:
    kept, lines, size = without_platform_events(block(LOG, event, TEXT))
    assert kept == block(LOG, TEXT)
    assert (lines, size) == (1, len(event))


def test_a_block_of_nothing_else_leaves_nothing() -> None:
    assert without_platform_events(block(*EVENTS)) == (None, 3, sum(map(len, EVENTS)))
