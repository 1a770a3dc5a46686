"""Rules for tags: names, values, count and size."""

import datetime as dt
from typing import Any

import pytest

from telemetryd.core.tags import MAX_BYTES, MAX_TAGS, tag_faults


@pytest.mark.parametrize("value", ["", "prod", 7, -(2**63), 0.5, True, "ü" * 256])
def test_text_numbers_and_booleans_are_tags(value: Any) -> None:
    assert list(tag_faults({"stage": value, "_a-b.C9": value})) == []


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("stage", ["a"], "must be text, a number, or true or false"),
        ("stage", {"a": 1}, "must be text, a number"),
        ("stage", None, "must be text, a number"),
        ("stage", dt.date(2026, 3, 14), "must be text, a number"),
        ("stage", float("nan"), "a finite number"),
        ("stage", float("inf"), "a finite number"),
        ("stage", 2**63, "64 bits"),
        ("stage", "x" * 257, "at most 256 characters"),
        ("stage", "two\nlines", "printable"),
        ("stage", "\udcff", "printable"),
        ("", "x", "no name for a tag"),
        ("9", "x", "no name for a tag"),
        ("a b", "x", "no name for a tag"),
        ("x" * 65, "x", "no name for a tag"),
        ("time", "x", "member of every event"),
        ("record", "x", "member of every event"),
    ],
)
def test_what_is_no_tag_is_named(name: str, value: Any, fault: str) -> None:
    (found,) = tag_faults({"good": 1, name: value})
    assert found.startswith(repr(name[:64]))
    assert fault in found


def test_the_number_of_tags_is_bounded() -> None:
    assert list(tag_faults({f"t{n}": n for n in range(MAX_TAGS)})) == []
    (fault,) = tag_faults({f"t{n}": n for n in range(MAX_TAGS + 1)})
    assert fault == "at most 32 tags; found 33"


def test_the_size_of_tags_is_bounded() -> None:
    (fault,) = tag_faults({f"t{n}": "x" * 256 for n in range(20)})
    assert f"at most {MAX_BYTES} bytes" in fault
