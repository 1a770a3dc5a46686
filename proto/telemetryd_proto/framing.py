"""Newline framing, sans-IO: bytes of a connection in, blocks of whole lines out."""

import msgspec


class Block(msgspec.Struct, frozen=True, gc=False):
    """Whole lines of one connection: what queues hold and sinks get. Never empty."""

    data: bytes
    lines: int
    source: int = 0
    offset: int = 0
    received_at: float = 0.0
