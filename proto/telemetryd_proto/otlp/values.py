"""AnyValue and KeyValue, in protobuf and in JSON.

How JSON values map to them is from the OpenTelemetry specification, "Mapping Arbitrary Data to
OTLP AnyValue": an integer beyond 64 bits becomes text, null becomes a value that is not set.

What is nested deeper than `MAX_DEPTH` becomes its JSON text: readers of protobuf refuse a message
that is nested 100 times, and each level of an object takes three.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from telemetryd_proto.otlp.wire import (
    DELIMITED,
    SMALL_VARINTS,
    delimited,
    pack_double,
    tag,
    text,
    varint,
)

Pairs: TypeAlias = Iterable[tuple[str, Any]]
"""Attributes: names and values. A name should occur once."""
JsonObject: TypeAlias = dict[str, Any]

MAX_DEPTH: Final = 24
"""Most objects and arrays within one another."""

_MIN_INT: Final = -(1 << 63)
_MAX_INT: Final = (1 << 63) - 1
_STRING: Final = tag(1, DELIMITED)
_TRUE: Final = b"\x10\x01"
_FALSE: Final = b"\x10\x00"
_INT: Final = b"\x18"
_DOUBLE: Final = b"\x21"
_ARRAY: Final = tag(5, DELIMITED)
_MAP: Final = tag(6, DELIMITED)
_BYTES: Final = tag(7, DELIMITED)
_ELEMENT: Final = tag(1, DELIMITED)
_VALUE: Final = tag(2, DELIMITED)

_SHORT: Final = tuple(bytes((size + 2, 0x0A, size)) for size in range(126))
"""The bytes before a short text in a KeyValue: lengths of a byte each, and `_STRING`."""

_SHORTS: Final = len(_SHORT)
_VARINTS: Final = len(SMALL_VARINTS)
_BEFORE_DOUBLE: Final = b"\x09" + _DOUBLE

_MAX_KEYS: Final = 1024
_keys: dict[str, bytes] = {}
"""Names as they begin a KeyValue. Loggers use the same few; beyond `_MAX_KEYS` all are dropped."""


def any_value(value: Any, depth: int = 0) -> bytes:  # noqa: PLR0911 - one for each type
    """Return `value` as an AnyValue message: None, bool, int, float, str, bytes, dict or list.

    `depth` counts the objects and arrays around it. Raises TypeError for another type.
    """
    kind = type(value)
    if kind is str:
        return delimited(_STRING, value.encode("utf-8", "replace"))
    if kind is int:
        return _INT + varint(value) if _MIN_INT <= value <= _MAX_INT else _string(str(value))
    if value is None:
        return b""
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is float:
        return _DOUBLE + pack_double(value)
    if kind is bytes:
        return delimited(_BYTES, value)
    if depth >= MAX_DEPTH and isinstance(value, dict | list | tuple):
        return _string(_json_text(value))
    if isinstance(value, dict):
        return delimited(_MAP, attributes(_ELEMENT, value.items(), depth + 1))
    if isinstance(value, list | tuple):
        each = [delimited(_ELEMENT, any_value(element, depth + 1)) for element in value]
        return delimited(_ARRAY, b"".join(each))
    raise TypeError(f"no AnyValue is a {kind.__name__}")


def key_value(key: str, value: Any, depth: int = 0) -> bytes:
    """Return a KeyValue message."""
    return _key(key) + _with_length(any_value(value, depth))


def attributes(field_tag: bytes, pairs: Pairs, depth: int = 0) -> bytes:
    """Return a field of KeyValue messages, one for each of `pairs`."""
    parts: list[bytes] = []
    # Most lengths, and the most usual texts. Calls of `len` for them cost a tenth of a pair.
    varints, small, short, shorts = SMALL_VARINTS, _VARINTS, _SHORT, _SHORTS
    for key, value in pairs:
        head = _keys.get(key) or _key(key)
        size = len(head)
        kind = type(value)
        if kind is str:
            data = value.encode("utf-8", "replace")
            text_size = len(data)
            if text_size < shorts:
                size += text_size + 3  # the bytes of `_SHORT`
                length = varints[size] if size < small else varint(size)
                parts += (field_tag, length, head, short[text_size], data)
                continue
            data = delimited(_STRING, data)
        elif kind is float:
            size += 10  # the bytes of `_BEFORE_DOUBLE`, and 8
            length = varints[size] if size < small else varint(size)
            parts += (field_tag, length, head, _BEFORE_DOUBLE, pack_double(value))
            continue
        elif kind is dict and depth < MAX_DEPTH:
            data = attributes(_ELEMENT, value.items(), depth + 1)
            inner = len(data)
            data = _MAP + (varints[inner] if inner < small else varint(inner)) + data
        elif kind is int and 0 <= value < _MAX_INT:
            data = _INT + (varints[value] if value < small else varint(value))
        else:
            data = any_value(value, depth)
        inner = len(data)
        before = varints[inner] if inner < small else varint(inner)
        size += len(before) + inner
        length = varints[size] if size < small else varint(size)
        parts += (field_tag, length, head, before, data)
    return b"".join(parts)


class _Heads(dict[int, bytes]):
    """The bytes of an attribute before its text, by the text's size."""

    def __init__(self, field_tag: bytes, name: str) -> None:
        super().__init__()
        self.texts: Final[dict[str, bytes]] = {}
        """The first short texts, as a whole: those of many names are few."""
        self.true: Final = attributes(field_tag, ((name, True),))
        self.false: Final = attributes(field_tag, ((name, False),))
        self.double: Final = attributes(field_tag, ((name, 0.0),))[:-8]
        self._tag = field_tag
        self._key = _key(name)
        self.integers: Final = tuple(self.before(size + 1) + _INT for size in range(10))
        """The bytes before an integer that is not negative, by its size."""

    def __missing__(self, size: int) -> bytes:
        before = _STRING + varint(size)
        found = self.before(len(before) + size) + before
        if size < _MAX_SIZE:
            self[size] = found
        return found

    def before(self, size: int) -> bytes:
        """Return the bytes before a value of so many bytes."""
        length = SMALL_VARINTS[size] if size < _VARINTS else varint(size)
        whole = len(self._key) + len(length) + size
        before = SMALL_VARINTS[whole] if whole < _VARINTS else varint(whole)
        return b"".join((self._tag, before, self._key, length))


def writer_of(field_tag: bytes, names: Sequence[str]) -> Callable[[Iterable[Any]], list[bytes]]:
    """Return what takes the values of `names`, and returns what `attributes` does, in parts.

    It keeps what precedes a value, unless too many names were kept already.
    """
    kept = [heads for name in names if (heads := _heads_of(field_tag, name)) is not None]
    if len(kept) < len(names):
        return lambda values: [attributes(field_tag, zip(names, values, strict=True))]
    return lambda values: _parts(kept, values)


def _parts(names: list[_Heads], values: Iterable[Any]) -> list[bytes]:
    parts: list[bytes] = []
    varints, small = SMALL_VARINTS, _VARINTS
    for heads, value in zip(names, values, strict=True):
        kind = type(value)
        if kind is str:
            if known := heads.texts.get(value):
                parts.append(known)
                continue
            data = value.encode("utf-8", "replace")
            head = heads[len(data)]
            parts += (head, data)
            if len(heads.texts) < _MAX_TEXTS and len(value) < _MAX_SIZE:
                heads.texts[value] = head + data
        elif kind is int and 0 <= value <= _MAX_INT:
            data = varints[value] if value < small else varint(value)
            parts += (heads.integers[len(data)], data)
        elif kind is bool:
            parts.append(heads.true if value else heads.false)
        elif kind is float:
            parts += (heads.double, pack_double(value))
        elif kind is dict:
            data = attributes(_ELEMENT, value.items(), 1)
            inner = len(data)
            length = varints[inner] if inner < small else varint(inner)
            parts += (heads.before(1 + len(length) + inner), _MAP, length, data)
        else:
            data = any_value(value)
            parts += (heads.before(len(data)), data)
    return parts


_MAX_SIZE: Final = 128
_MAX_TEXTS: Final = 8
_MAX_HEADS: Final = 256
_heads: dict[tuple[bytes, str], _Heads] = {}
"""Those of the first `_MAX_HEADS` names."""


def _heads_of(field_tag: bytes, name: str) -> _Heads | None:
    found = _heads.get((field_tag, name))
    if found is None and len(_heads) < _MAX_HEADS:
        found = _heads[field_tag, name] = _Heads(field_tag, name)
    return found


def json_value(value: Any, depth: int = 0) -> JsonObject:  # noqa: PLR0911 - as above
    """Return what `any_value` returns, in the form for JSON."""
    kind = type(value)
    if kind is str:
        return {"stringValue": _unicode(value)}
    if kind is int:
        return {"intValue" if _MIN_INT <= value <= _MAX_INT else "stringValue": str(value)}
    if value is None:
        return {}
    if kind is bool:
        return {"boolValue": value}
    if kind is float:
        return {"doubleValue": json_double(value)}
    if kind is bytes:
        return {"bytesValue": b64encode(value).decode()}
    if depth >= MAX_DEPTH and isinstance(value, dict | list | tuple):
        return {"stringValue": _json_text(value)}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": json_attributes(value.items(), depth + 1)}}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [json_value(each, depth + 1) for each in value]}}
    raise TypeError(f"no AnyValue is a {kind.__name__}")


def json_attributes(pairs: Pairs, depth: int = 0) -> list[JsonObject]:
    """Return KeyValue messages in the form for JSON, one for each of `pairs`."""
    return [{"key": _unicode(key), "value": json_value(each, depth)} for key, each in pairs]


def json_double(value: float) -> float | str:
    """Return a double for JSON, which has no number for NaN and the infinities."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _key(key: str) -> bytes:
    known = _keys.get(key)
    if known is None:
        if len(_keys) >= _MAX_KEYS:
            _keys.clear()
        known = _keys[key] = text(_STRING, key) + _VALUE
    return known


def _with_length(data: bytes) -> bytes:
    return varint(len(data)) + data


def _string(value: str) -> bytes:
    return delimited(_STRING, value.encode())


def _unicode(value: str) -> str:
    """Return `value` with `?` for what is no Unicode, which no encoder takes."""
    return value.encode("utf-8", "replace").decode()


def _json_text(value: Any) -> str:
    """Return `value` as JSON; a number that JSON does not have is null."""
    try:
        return msgspec.json.encode(value).decode()
    except (RecursionError, UnicodeEncodeError):
        return "nested too deeply"
