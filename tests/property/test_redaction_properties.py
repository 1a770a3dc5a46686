"""A planted secret is gone, however it is escaped and nested, and JSON stays JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.core.redaction.redactor import Redactor, redactor
from telemetryd.core.redaction.rules import BUILT_IN
from telemetryd.core.redaction.view import View, flatten

SECRETS = {
    "email": "bob.o'neil+x@mail.example.com",
    "card": "4111 1111 1111 1111",
    "aws_key": "AKIAIOSFODNN7EXAMPLE",
    "bearer": "Bearer mF_9.B5f-4.1JqM2kk",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "ipv4": "203.0.113.77",
    "ipv6": "2001:db8:85a3::8a2e:370:7334",
    "iban": "DE89 3704 0044 0532 0130 00",
    "mine": "ORD-12345678",
}
PRIVATE = {**SECRETS, "bearer": "mF_9.B5f-4.1JqM2kk"}
BLANK = st.sampled_from(
    [" ", "\n", "\t", '"', "(", ") ", "\\ ", "\r\n", ", ", '{"', "/ ", "\u2028"]
)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=8)


def made() -> Redactor:
    rules = [(name, "", "label") for name in BUILT_IN] + [("mine", "ORD-[0-9]{8}", "label")]
    return redactor([(name, pattern, "label") for name, pattern, _ in rules], b"salt")


WITH_RE2 = made()


def made_without_re2() -> Redactor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "re2", None)
        return made()


REDACTORS = st.sampled_from([WITH_RE2, made_without_re2()])


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """A JSON string of `text`, in which any character may be escaped, as JSON permits."""
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    escaped = draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    return '"' + "".join(
        "".join(f"\\u{unit:04x}" for unit in _units(char))
        if coded else json.dumps(char)[1:-1]
        for char, coded in zip(text, escaped, strict=True)
    ) + '"'  # fmt: skip


def _units(char: str) -> list[int]:
    data = char.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]


@st.composite
def planted(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name of a secret, and a line of JSON that says it."""
    name = draw(st.sampled_from(sorted(SECRETS)))
    text = f"{draw(WORDS)}{draw(BLANK)}{SECRETS[name]}{draw(BLANK)}{draw(WORDS)}"
    value = draw(spelled(text))
    for _ in range(draw(st.integers(0, 2))):
        text = f'{{"a":{value},"n":[1,{draw(st.integers())}]}}'
        value = json.dumps(text, ensure_ascii=draw(st.booleans()))
    key = draw(spelled(draw(WORDS)))
    return name, f'{{"type":"function",{key}:1,"record":{value}}}\n'.encode()


def texts_of(value: Any) -> str:
    """All that a value of JSON says, also that within strings of JSON."""
    if isinstance(value, dict):
        return "\n".join(texts_of(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return "\n".join(map(texts_of, value))
    if isinstance(value, str) and value[:1] == "{":
        try:
            return value + "\n" + texts_of(json.loads(value))
        except ValueError:
            return value
    return str(value)


@given(REDACTORS, planted())
def test_a_planted_secret_is_gone_and_json_stays_json(
    masker: Redactor, planted: tuple[str, bytes]
) -> None:
    name, line = planted
    masked = masker.mask(line)
    assert PRIVATE[name] not in texts_of(json.loads(masked))
    assert masked.count(b"\n") == 1
    assert masked is not line


@given(REDACTORS, st.lists(planted(), max_size=6), st.lists(st.binary(max_size=40), max_size=6))
def test_each_line_is_masked_as_if_it_were_alone(
    masker: Redactor, secrets: list[tuple[str, bytes]], others: list[bytes]
) -> None:
    lines = [line for _, line in secrets] + [other.replace(b"\n", b"") + b"\n" for other in others]
    assert masker.mask(b"".join(lines)) == b"".join(map(masker.mask, lines))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.sampled_from([*SECRETS.values(), 4111111111111111, "ORD-12345678\\"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
ANYTHING = redactor([("a", "[0-9]+|.e", "label"), ("b", '"[^"]*"', "last4"), ("c", ":.*", "hash")],
                    b"salt")  # fmt: skip


@given(VALUES, st.sampled_from([ANYTHING, WITH_RE2]), st.booleans())
def test_whatever_is_masked_json_stays_json(value: Any, masker: Redactor, coded: bool) -> None:
    text = json.dumps(value, ensure_ascii=coded).encode()
    json.loads(masker.mask(text + b"\n"))
    again = json.dumps({"record": json.dumps(value)}).encode()
    json.loads(masker.mask(again + b"\n"))


@given(st.lists(st.text('\\u0041nrtb"/x\x00é', max_size=30), max_size=4))
def test_a_flat_view_has_the_views_of_its_lines(texts: list[str]) -> None:
    lines = [text.encode() for text in texts]
    assert flatten(b"\n".join(lines)) == b"\n".join(View(line).text for line in lines)


@given(st.text('\\u0041nr"/xé', max_size=30), st.data())
def test_a_part_of_a_view_is_whole_escapes_of_the_line(text: str, data: st.DataObject) -> None:
    line = text.encode()
    view = View(line)
    size = len(view.text)
    if not size:
        return
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    first, last = view.place(start, end)
    assert 0 <= first < last <= len(line)
    within = View(line[first:last]).text
    assert View(line[:first]).text + within + View(line[last:]).text == view.text
    assert view.text[start:end] in within
