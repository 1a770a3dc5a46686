"""Converts as much of a decoded JSON value as fits a type. An odd member affects only itself.

This is imported when a strict decoder has refused a value: few records and answers need it.
"""

from __future__ import annotations

import math
from types import NoneType
from typing import Any, get_args, get_origin

import msgspec

from telemetryd_proto.records import LogsDropped


def fit_struct(struct: type[Any], value: object) -> Any:
    """Return a `struct` of the members of `value` that fit; None where a required one does not."""
    if not isinstance(value, dict):
        return None
    fit = _fit_count if struct is LogsDropped else _fit
    members = {
        field.name: found
        for field in msgspec.structs.fields(struct)
        if (found := fit(field.type, value.get(field.encode_name))) is not None
    }
    try:
        return struct(**members)
    except TypeError:  # without a required member
        return None


def _fit(kind: Any, value: object) -> Any:
    """Return `value` as `kind`, or as much of it as fits; None if nothing does."""
    if value is None:
        return None
    kind = next((part for part in get_args(kind) if part is not NoneType), kind)
    if get_origin(kind) is tuple:
        return _fit_tuple(get_args(kind)[0], value)
    if issubclass(kind, msgspec.Struct):
        return fit_struct(kind, value)
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        return _whole(value) if kind is int else None


def _fit_count(kind: Any, value: object) -> Any:
    """Return what `_fit` does, but None for a fraction: half a line can't have been lost."""
    found = _fit(kind, value)
    is_rounded = isinstance(found, int) and _fit(float, value) not in (found, None)
    return None if is_rounded else found


def _fit_tuple(kind: Any, value: object) -> tuple[Any, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(found for each in value if (found := _fit(kind, each)) is not None)


def _whole(value: object) -> int | None:
    number = _fit(float, value)
    return round(number) if number is not None and math.isfinite(number) else None
