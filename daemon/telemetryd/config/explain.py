"""Renders values, types and whole configurations for people, with secrets masked."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec

from telemetryd.masking import (
    REDACTED,
    is_secret,
    without_header_values,
    without_secrets,
    without_user,
)

MAX_SHOWN: Final = 80
_ADDRESSES: Final = frozenset(("metrics.listen", "telemetry.host"))
"""Keys whose values are addresses without a scheme."""
# Compiled when first used (and kept by `re`): a start-up without faults needs none.
_BARE_KEY: Final = r"[A-Za-z0-9_-]+"
_LAST_SHORT_ESCAPE: Final = 0xFFFF


def printable(text: str, limit: int = 200) -> str:
    """Return `text` on one line, escaped and cut at `limit` characters."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def show(key: str, value: object) -> str:
    """Return `value` as in a configuration file, for an error: redacted, at most MAX_SHOWN long."""
    text = toml_value(value, key)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def toml_value(value: object, key: str = "") -> str:
    """Return `value` in TOML notation; `key` decides whether it is a secret."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, msgspec.Struct):
        value = _items(value)
    if isinstance(value, dict):
        pairs = [(str(name), inner) for name, inner in value.items()]
        shown = (f"{_toml_key(name)} = {toml_value(v, f'{key}.{name}')}" for name, v in pairs)
        return f"{{{', '.join(shown)}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(toml_value(item, key) for item in value)}]"
    if value and is_secret(key):
        return _quote(REDACTED)
    if not isinstance(value, str):
        return str(value)
    text = _without_secrets(value)
    return _quote(without_user(text) if key in _ADDRESSES else text)


def toml_type(value: object) -> str:
    """Return the type of a TOML value in words: "text", "a table", ..."""
    names: dict[type, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a decimal number",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


def spell_out(kind: object, *, bare: bool = False) -> str:
    """Return the values of `kind` in words: "25 to 30000", `one of "a", "b"`, "true or false".

    `bare` leaves out "a whole number" and the like, for a value that has the right type.
    """
    base, metas = unwrap(kind)
    for meta in metas:
        if meta.extra and "must" in meta.extra:
            return str(meta.extra["must"])
    origin = get_origin(base)
    if origin is Literal:
        values = ", ".join(toml_value(value) for value in get_args(base))
        return f"one of {values}" if len(get_args(base)) > 1 else values
    if origin in (Union, types.UnionType):
        return " or ".join(spell_out(part) for part in get_args(base) if part is not type(None))
    if origin in (list, tuple, set, frozenset):
        items = [f"each {spell_out(part)}" for part in get_args(base)[:1]]
        return ", ".join(["a list", *_lengths(metas, "item"), *items])
    names: dict[object, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        dict: "a table",
    }
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        return "a table"
    name = names.get(origin or base, "") or str(getattr(base, "__name__", base))
    limits = [*_range(metas), *_lengths(metas, "character")]
    has_pattern = any(meta.pattern is not None for meta in metas)
    return ", ".join(limits if bare and limits and not has_pattern else [name, *limits])


def note(kind: object) -> str:
    """Return the source of the limits of `kind`, "" if they are ours."""
    base, metas = unwrap(kind)
    for meta in metas:
        if meta.extra and "note" in meta.extra:
            return str(meta.extra["note"])
    if get_origin(base) in (Union, types.UnionType):
        return next(filter(None, map(note, get_args(base))), "")
    return ""


def unwrap(kind: object) -> tuple[Any, list[msgspec.Meta]]:
    """Return the type inside `Annotated`, and its msgspec annotations."""
    if get_origin(kind) is Annotated:
        base, *extras = get_args(kind)
        return base, [extra for extra in extras if isinstance(extra, msgspec.Meta)]
    return kind, []


def render(
    config: msgspec.Struct, origins: Mapping[str, str], replaced: Mapping[str, object]
) -> str:
    """Return `config` as TOML with each value's origin as a comment, aligned per section.

    `replaced` (dotted key to value) shows another value than the struct holds, for keys whose
    default is decided at run time.
    """
    return "\n".join(_render_section("", _items(config), origins, replaced)) + "\n"


def _render_section(
    path: str, items: Mapping[str, Any], origins: Mapping[str, str], replaced: Mapping[str, object]
) -> Iterable[str]:
    leaves: list[tuple[str, str]] = []
    sections: list[tuple[str, Mapping[str, Any]]] = []
    for key, value in items.items():
        dotted = f"{path}.{key}" if path else key
        value = replaced.get(dotted, value)  # noqa: PLW2901 - the shown value takes its place
        if dotted in origins and value is None:
            leaves.append((f"# {_toml_key(key)} is not set", origins[dotted]))
        elif dotted in origins:
            leaves.append((f"{_toml_key(key)} = {toml_value(value, dotted)}", origins[dotted]))
        else:
            sections.append((dotted, _items(value)))
    if leaves and path:
        yield ""
        yield f"[{path}]"
    width = max((len(text) for text, _ in leaves if len(text) <= MAX_SHOWN), default=0)
    for text, origin in leaves:
        yield f"{text:<{width}}  # {printable(origin)}"
    for dotted, inner in sections:
        yield from _render_section(dotted, inner, origins, replaced)


def _items(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    fields = msgspec.structs.fields(value)
    return {field.encode_name: getattr(value, field.name) for field in fields}


def _range(metas: list[msgspec.Meta]) -> Iterable[str]:
    for meta in metas:
        if meta.ge is not None and meta.le is not None:
            yield f"{meta.ge} to {meta.le}"
            continue
        lower = {"at least": meta.ge, "more than": meta.gt}
        upper = {"at most": meta.le, "less than": meta.lt}
        yield from (f"{word} {end}" for word, end in (lower | upper).items() if end is not None)


def _lengths(metas: list[msgspec.Meta], unit: str) -> Iterable[str]:
    for meta in metas:
        if meta.min_length is not None and meta.max_length is not None:
            yield f"{meta.min_length} to {meta.max_length} {unit}s"
        elif meta.min_length is not None:
            yield f"at least {meta.min_length} {unit}" + ("s" if meta.min_length > 1 else "")
        elif meta.max_length is not None:
            yield f"at most {meta.max_length} {unit}s"
        if meta.pattern is not None:
            yield f"matching {meta.pattern}"


def _without_secrets(text: str) -> str:
    return without_header_values(without_secrets(text))


def _quote(text: str) -> str:
    return '"' + "".join(_escape_in_quotes(char) for char in text) + '"'


def _escape_in_quotes(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else _escape(char)


def _escape(char: str) -> str:
    if char in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char]
    code = ord(char)
    return f"\\u{code:04x}" if code <= _LAST_SHORT_ESCAPE else f"\\U{code:08x}"


def _toml_key(key: str) -> str:
    return key if re.fullmatch(_BARE_KEY, key) else _quote(key)
