"""What stands before a message, in layouts that hardly any logger writes."""

from __future__ import annotations

import pytest

from telemetryd.core.log_level import rank_of
from telemetryd.core.text_head import head_of

ID = "8a2d1f3c-0b7e-4c55-9d1a-2f6e8b7c9d10"


def test_what_looks_like_the_runtimes_layout_and_names_no_level_is_read_as_words() -> None:
    assert head_of(f"[NOTHING]\t2026-03-14\t{ID}\tERROR") == head_of(f"[NOTHING] x {ID} ERROR")


@pytest.mark.parametrize("words", [9, 10, 11])
def test_no_more_than_ten_words_are_looked_at(words: int) -> None:
    """A line of numbers costs no more than that."""
    head = head_of("1 " * words + "ERROR: it broke")
    assert head.rank == (rank_of("error") if words < 10 else None)
    assert head.is_all is False


@pytest.mark.parametrize(
    "text", ["Fine: all of it", "2026-03-14T10:00:00 fine: it is", "12:00:00 http: TLS handshake"]
)
def test_a_level_that_begins_other_things_too_is_none_there(text: str) -> None:
    assert head_of(text).rank is None


@pytest.mark.parametrize("text", ["http: listening", "fine: as ever"])
def test_in_lower_case_with_a_colon_it_is_one(text: str) -> None:
    assert head_of(text).rank == rank_of(text.partition(":")[0])


def test_a_text_of_preamble_alone_is_all_head() -> None:
    assert head_of(f"2026-03-14T10:00:00 {ID}").is_all is True
