"""One value: from the text of a variable to what its type expects, and what to say if it is not."""

from __future__ import annotations

from typing import get_args, get_origin

import msgspec

from telemetryd.config.explain import note, spell_out, toml_type, unwrap


def from_text(text: str, kind: object) -> object:
    """Parse a variable's text before it is converted to the type `kind`.

    Lists: separated by commas, or an array in JSON or TOML. Tables: JSON or TOML. The rest stays
    text, which `msgspec.convert(strict=False)` turns into numbers and booleans.
    """
    containers = _containers(kind)
    if text[:1] in {"[", "{"} and containers:
        return _parse_structure(text)
    if containers - {dict}:
        return [item.strip() for item in text.split(",")] if text else []
    return text


def must(kind: object, value: object, *, strict: bool) -> str:
    """Return "must be ..." for a value that `kind` refuses, with the source of its limits.

    `strict`: the value came from a file, where the type counts as well as the content.
    """
    base, _ = unwrap(kind)
    right_type = _converts(value, base, strict=strict)
    text = f"must be {spell_out(kind, bare=right_type)}"
    if source := note(kind):
        text += f" ({source})"
    if not right_type and strict and not _only_content_is_wrong(base, value):
        text += f"; found {toml_type(value)}"
        if isinstance(value, str) and _converts(value, kind, strict=False):
            text += ", leave out the quotes"
    return text


def _converts(value: object, kind: object, *, strict: bool) -> bool:
    try:
        msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        return False
    return True


def _only_content_is_wrong(base: object, value: object) -> bool:
    choices = {type(choice) for choice in get_args(base)}
    return type(value) in choices or isinstance(value, list)


def _containers(kind: object) -> set[type]:
    base, _ = unwrap(kind)
    origin = get_origin(base) or base
    if origin in (list, tuple, set, frozenset, dict):
        return {origin}
    return {found for part in get_args(base) for found in _containers(part)}


def _parse_structure(text: str) -> object:
    from telemetryd import toml_file  # noqa: PLC0415 - only for a value that is written in brackets

    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        try:
            table = toml_file.parse(b"value = " + text.encode())
        except toml_file.NoTable:
            return text  # which its type will refuse
        return table["value"] if len(table) == 1 else text
    return text if toml_file.fault(value) else value
