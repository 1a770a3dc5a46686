"""One value: from the text of a variable to what its type expects, and what to say if it is not."""

from __future__ import annotations

import types
from typing import Final, TypeGuard, Union, get_args, get_origin

import msgspec

from telemetryd.config.explain import note, printable, spell_out, toml_type, unwrap

_MOST_SHOWN: Final = 64
"""Characters of a name that is shown."""


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

    Of a table or a list it names the part that is refused.

    `strict`: the value came from a file, where the type counts as well as the content.
    """
    base, _ = unwrap(kind)
    right_type = _converts(value, base, strict=strict)
    inner = inner_fault(kind, value, strict=strict)
    if inner and _has_structs(kind):
        return inner
    text = f"must be {spell_out(kind, bare=right_type)}"
    if source := note(kind):
        text += f" ({source})"
    if inner:
        text += f"; {inner}"
    elif not right_type and strict and not _only_content_is_wrong(base, value):
        text += f"; found {toml_type(value)}"
        if isinstance(value, str) and _converts(value, kind, strict=False):
            text += ", leave out the quotes"
    elif isinstance(value, str) and not strict and _is_table(kind):
        text += ', such as {"name": "value"}'
    return text


def _is_table(kind: object) -> bool:
    """True if it is a table with names of your own."""
    return any((get_origin(part) or part) is dict for part in _alternatives(kind))


def inner_fault(kind: object, value: object, *, strict: bool) -> str:
    """Return which part of a table or a list its type refuses, and why; empty if it is not a part.

    The text names keys, but no values: these may be secrets.
    """
    for part in _alternatives(kind):
        origin = get_origin(part) or part
        if origin is dict and isinstance(value, dict):
            return _fault_in_table(part, value, strict=strict)
        if isinstance(value, list) and origin in (list, tuple):
            return _fault_in_list(get_args(part)[0], value, strict=strict)
        if _is_struct(part) and isinstance(value, dict):
            return _fault_in_struct(part, value, strict=strict)
    return ""


def _fault_in_table(kind: object, table: dict[str, object], *, strict: bool) -> str:
    key_kind, item_kind = get_args(kind)
    for key, item in table.items():
        shown = f"in {printable(key, _MOST_SHOWN)!a}"
        if not _converts(key, key_kind, strict=strict):
            return f"{printable(key, _MOST_SHOWN)!a} is not allowed as a name"
        if fault := _fault_of(item_kind, item, strict=strict):
            return f"{shown}: {fault}"
    return ""


def _fault_in_list(kind: object, items: list[object], *, strict: bool) -> str:
    for number, item in enumerate(items, 1):
        has_parts = isinstance(item, dict | list)
        if has_parts and (fault := _fault_of(kind, item, strict=strict)):
            return f"in item {number}: {fault}"
    return ""


def _fault_in_struct(kind: type[msgspec.Struct], table: dict[str, object], *, strict: bool) -> str:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for key, item in table.items():
        if key not in fields:
            from telemetryd.config.suggest import did_you_mean  # noqa: PLC0415 - for errors only

            return f"unknown key {printable(key, _MOST_SHOWN)!a}{did_you_mean(key, [*fields])}"
        if fault := _fault_of(fields[key].type, item, strict=strict):
            return f"{key} {fault}"
    missing = [name for name, field in fields.items() if field.required and name not in table]
    return f"{missing[0]} is missing" if missing else ""


def _fault_of(kind: object, value: object, *, strict: bool) -> str:
    """Return what is wrong with a part; empty if nothing is."""
    if _converts(value, kind, strict=strict):
        return ""
    return must(kind, value, strict=strict)


def _alternatives(kind: object) -> tuple[object, ...]:
    base, _ = unwrap(kind)
    return get_args(base) if get_origin(base) in (Union, types.UnionType) else (base,)


def _has_structs(kind: object) -> bool:
    """True if the parts of `kind` have keys of their own, which say more than the whole."""
    return any(
        _is_struct(part) or any(map(_has_structs, get_args(part))) for part in _alternatives(kind)
    )


def _is_struct(kind: object) -> TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _converts(value: object, kind: object, *, strict: bool) -> bool:
    try:
        msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        return False
    return True


def _only_content_is_wrong(base: object, value: object) -> bool:
    choices = {type(choice) for part in _alternatives(base) for choice in get_args(part)}
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
