"""Lines of any sender: JSON objects, whether they are telemetry events or not.

The Telemetry API sends events, which `envelope` decodes. Others send NDJSON without a `type`. Their
objects have as members what the Telemetry API puts into a record.
"""

# Annotations are evaluated here: msgspec would do it later, at a quarter of a millisecond more.
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias, cast

import msgspec

from telemetryd_proto.errors import DECODE_FAILURES
from telemetryd_proto.surrogates import without_lone_surrogates

_NULL = msgspec.Raw(b"null")


class AnyObject(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The members of an object that routing needs."""

    type: str = ""
    """The event's type; empty where the object has none that is a string."""
    record: msgspec.Raw = _NULL
    """The record, as in an envelope; `null` if not sent."""


class TimedObject(AnyObject, frozen=True, gc=False, kw_only=True):
    """The same members, and the time."""

    time: msgspec.Raw = _NULL
    """The time, any JSON value; `null` if not sent."""


class _Untyped(msgspec.Struct, gc=False, kw_only=True):
    """An object whose `type` is something other than a string."""

    record: msgspec.Raw = _NULL
    time: msgspec.Raw = _NULL


_OTHER_TYPE = (msgspec.ValidationError, UnicodeDecodeError)
"""Errors for a `type` that is not text. The line may still be an object."""

_decode = msgspec.json.Decoder(AnyObject).decode
_decode_untyped = msgspec.json.Decoder(_Untyped).decode


Decode: TypeAlias = Callable[[bytes], AnyObject]


class ObjectReader:
    """Decodes objects, and tells which of them have members of some names, at no further cost.

    An object with none of `names` becomes a `free`, any other one an `AnyObject`. With `timed` all
    are `TimedObject`s, and only those are `free` that have no members but time, type and record.
    """

    __slots__ = ("decode", "free", "names", "plain", "whole")

    def __init__(self, names: Collection[str] = (), *, timed: bool = False) -> None:
        self.names: frozenset[str] = frozenset(names)
        self.whole: type[AnyObject] = TimedObject if timed else AnyObject
        self.plain: Decode = msgspec.json.Decoder(self.whole).decode if timed else _decode
        self.free: type[AnyObject] = self.whole
        self.decode: Decode = self.plain
        if names or timed:
            # No value is of this type, so a member of such a name makes the decoder refuse.
            members = [
                (f"m{at}", msgspec.UnsetType, msgspec.field(default=msgspec.UNSET, name=name))
                for at, name in enumerate(sorted(names))
            ]
            made = msgspec.defstruct(
                "_Free",
                members,
                bases=(self.whole,),
                frozen=True,
                gc=False,
                kw_only=True,
                forbid_unknown_fields=timed,
            )
            self.free = cast("type[AnyObject]", made)
            self.decode = msgspec.json.Decoder(self.free).decode


def decode_objects(
    lines: Sequence[bytes], reader: ObjectReader | None = None
) -> list[AnyObject | None]:
    """Decode lines, each ended by a newline or not, as far as routing needs it.

    `reader`: decodes more of them than that.

    Returns:
        One entry a line, in order; None for a line that is not exactly one JSON object. A bad line
        affects only itself, and half a surrogate pair not even that.

    """
    rest = iter(lines)
    objects: list[AnyObject | None] = []
    append = objects.append
    decode = _decode if reader is None else reader.decode
    while True:
        try:
            objects.extend(map(decode, rest))  # in C, as in `envelope.decode_lines`
            break
        except _OTHER_TYPE:
            append(_decode_other(lines[len(objects)], reader))
        except DECODE_FAILURES:
            append(None)
        # what is refused is seldom alone; to begin again with each costs twice as much
        for line in rest:
            if not line.lstrip().startswith(b"{"):  # an exception costs many times this look
                append(None)
                continue
            try:
                append(decode(line))
                break
            except _OTHER_TYPE:
                append(_decode_other(line, reader))
            except DECODE_FAILURES:
                append(None)
    if None in objects:
        _decode_with_halves(lines, objects, reader)
    return objects


def _decode_other(line: bytes, reader: ObjectReader | None) -> AnyObject | None:
    """Decode an object that has a guarded member, or a `type` that is no string; else None."""
    if not line.lstrip().startswith(b"{"):
        return None
    if reader is not None:
        try:
            return reader.plain(line)
        except DECODE_FAILURES:
            pass  # its type may be no string
    try:
        found = _decode_untyped(line)
    except DECODE_FAILURES:
        return None
    if reader is None or reader.whole is AnyObject:
        return AnyObject(record=found.record)
    return TimedObject(record=found.record, time=found.time)


def _decode_with_halves(
    lines: Sequence[bytes], objects: list[AnyObject | None], reader: ObjectReader | None
) -> None:
    """Decode those of the refused lines that hold half a surrogate pair: all at once."""
    spelled = [at for at, found in enumerate(objects) if found is None and b"\\u" in lines[at]]
    text = b"\n".join([lines[at].strip(b"\r\n") for at in spelled])
    if (whole := without_lone_surrogates(text)) is text:
        return
    pairs = zip(spelled, text.split(b"\n"), whole.split(b"\n"), strict=True)
    changed = [(at, after) for at, before, after in pairs if before != after]
    decoded = decode_objects([after for _, after in changed], reader)
    for (at, _), found in zip(changed, decoded, strict=True):
        objects[at] = found
