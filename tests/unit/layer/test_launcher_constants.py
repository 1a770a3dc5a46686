"""What the launcher has in C is what the interpreter has in Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from telemetryd.config import prepared
from telemetryd.core import lifecycle
from telemetryd.extension import boot, early

SOURCES = Path(__file__).parents[3] / "layer" / "c"


def defined(file: str, name: str) -> int:
    """The value of a macro: a number, or a product in brackets."""
    text = (SOURCES / file).read_text()
    found = re.search(rf"^#define {name} \(?([0-9 *L]+)\)?( /\*.*)?$", text, re.MULTILINE)
    assert found is not None, name
    value = 1
    for factor in found.group(1).replace("L", "").split("*"):
        value *= int(factor)
    return value


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("settings.c", "DEFAULT_PORT", early.PORT),
        ("settings.c", "LONGEST_MS", lifecycle.LONGEST_SECONDS * 1000),
        ("park.c", "LONGEST_MS", lifecycle.LONGEST_SECONDS * 1000),
        ("prepared.c", "MOST_BYTES", prepared.MOST_BYTES),
        ("park.c", "UNFINISHED_MS", lifecycle.UNFINISHED_SECONDS * 1000),
        (
            "park.c",
            "START_LATE_MS",
            1000 * (lifecycle.START_LATE_SECONDS + 2 * lifecycle.MOST_LAG_SECONDS),
        ),
    ],
)
def test_a_number(file: str, name: str, value: float) -> None:
    """In milliseconds where it is a time."""
    assert defined(file, name) == pytest.approx(value)


def test_names_defaults_and_ranges() -> None:
    """Of the settings that the launcher reads, and of the variables by which it hands over."""
    text = (SOURCES / "settings.c").read_text()
    defaults = early.Early()
    for key in ("max_items", "max_bytes", "timeout_ms"):
        assert f".{key} = {getattr(defaults, key)}" in text
    assert f'"{early.SCHEMA_VERSIONS[0]}"' in text
    for path in early.DEFAULT_PATHS:
        assert f'"{path}"' in text
    assert f'PARKED "{boot.PARKED}"' in (SOURCES / "park.h").read_text()
    assert f'REGISTERED "{boot.REGISTERED}"' in (SOURCES / "park.h").read_text()
    assert f'LARGE_SHARE "{boot.LARGE_SHARE}"' in (SOURCES / "share.h").read_text()
    assert f'REGISTER_FD "{boot.REGISTER_FD}"' in (SOURCES / "platform.h").read_text()
