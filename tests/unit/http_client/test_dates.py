"""Dates of HTTP, and how long an answer asks to wait."""

from __future__ import annotations

import calendar
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.http_client.dates import parse_http_date, retry_after

THEN = 784111777  # the example of RFC 9110


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_the_three_formats_of_a_date(text: str) -> None:
    assert parse_http_date(text) == THEN


@given(st.integers(0, 4_102_444_799))
def test_every_second_of_this_century(at: int) -> None:
    parts = time.gmtime(at)
    month = calendar.month_abbr[parts.tm_mon]
    text = f"Mon, {parts.tm_mday:02} {month} {parts.tm_year} {time.strftime('%H:%M:%S', parts)} GMT"
    assert parse_http_date(text) == at


@pytest.mark.parametrize(
    "text",
    [
        "", "GMT", "tomorrow", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 06 ovD 1994 08:49:37 GMT", "Sun, 06 N 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT", "Sun, 06 Nov 1994 x1:49:37 GMT",
        "Sun, 06 Nov 1969 08:49:37 GMT", "Sun, ²6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 19940 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37:00 GMT",
    ],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    assert parse_http_date(text) is None


@given(st.text())
def test_no_text_is_a_fault(text: str) -> None:
    parse_http_date(text)
    assert 0 <= retry_after({"retry-after": text}, 0, most=5) <= 5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "9" * 5000}, 60),
        ({"retry-after": "-7"}, 0),
        ({"retry-after": "1.5"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:47 GMT"}, 10),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:27 GMT"}, 0),
        ({"retry-after": "Sun, 06 Nov 2094 08:49:27 GMT"}, 60),
        (
            {
                "retry-after": "Sun, 06 Nov 1994 10:00:09 GMT",
                "date": "Sun, 06 Nov 1994 10:00:00 GMT",
            },
            9,
        ),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers, THEN, most=60) == seconds
