"""Which engine judges a pattern, and that all say the same as `re` on a line."""

from __future__ import annotations

import re
import sys
import warnings

import pytest

from helpers.work import Work, counted
from telemetryd.core import patterns
from telemetryd.core.patterns import (
    RE_BYTES,
    compile_pattern,
    needs_re2,
    risk_in_the_layer,
    risk_of,
)

LINES = [
    b"",
    b"an order of 12 pieces\n",
    b'{"level":"ERROR","message":"connect: timeout (5 s)"}\n',
    b"timeout before ERROR\r\n",
    b"a+b [x] 100% aaab\n",
    "größer als naïve\n".encode(),
]
TEXTS = ["", "^", "$", "order", "ERROR.*timeout", "zzz|order", "a\\+b", "\\[x\\]",
         '"level":"ERROR"', ".*", "|", "order.*order", "größer"]  # fmt: skip
ENGINE = ["order \\d+", "(?i)error", "timeout$", "^an", "[xyz]\\]", "(5|6) s", "(a+)+$", "a{2,}b",
          "gr(ö|x)", "\\}$", "\\bof\\b"]  # fmt: skip
ONLY_RE = ["(?<=an )order", "(a)\\1", "(?!x)order", "a{,2}b", "a++b", "o(?=r)", "[[:alpha:]]"]


def expected(pattern: str, line: bytes) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return re.search(pattern.encode(), line.rstrip(b"\r\n")) is not None


@pytest.fixture
def without_re2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)


@pytest.mark.parametrize("pattern", [*TEXTS, *ENGINE, *ONLY_RE])
def test_a_pattern_means_what_it_means_to_re(pattern: str) -> None:
    found = [bool(compile_pattern(pattern)(line)) for line in LINES]
    assert found == [expected(pattern, line) for line in LINES]


@pytest.mark.parametrize("pattern", [*TEXTS, *ENGINE, *ONLY_RE])
def test_it_means_the_same_where_re2_is_missing(pattern: str, without_re2: None) -> None:
    found = [bool(compile_pattern(pattern)(line)) for line in LINES]
    assert found == [expected(pattern, line) for line in LINES]


@pytest.mark.parametrize("pattern", TEXTS)
def test_text_needs_no_engine_and_bears_no_risk(pattern: str, without_re2: None) -> None:
    assert not needs_re2(pattern)
    assert risk_of(pattern) == risk_in_the_layer(pattern) == ""


@pytest.mark.parametrize("pattern", ENGINE)
def test_what_re2_judges_bears_no_risk_but_in_the_layer(pattern: str) -> None:
    assert risk_of(pattern) == ""
    assert "the layer has no google-re2" in risk_in_the_layer(pattern)


@pytest.mark.parametrize("pattern", ONLY_RE)
def test_what_re2_can_not_judge_is_told(pattern: str) -> None:
    assert "can block" in risk_of(pattern)


@pytest.mark.parametrize("pattern", ENGINE)
def test_that_re2_is_missing_is_told(pattern: str, without_re2: None) -> None:
    assert "google-re2 is not installed" in risk_of(pattern)


def test_large_counted_repetitions_are_told() -> None:
    assert "counted repetitions" in risk_of("(?:[ab]{1,200}a){4}")


@pytest.mark.parametrize("pattern", ["(", "x**", "(?U)a", "\\Qa\\E", "(" * 20_000 + ")" * 20_000])
def test_what_re_refuses_is_refused_whatever_re2_says(pattern: str) -> None:
    with pytest.raises(re.error):
        compile_pattern(pattern)


def test_patterns_on_re_see_the_first_bytes_of_a_line_only() -> None:
    behind = compile_pattern("(?<!x)end")
    assert behind(b"y" * (RE_BYTES - 3) + b"end\n")
    assert not behind(b"y" * (RE_BYTES - 2) + b"end\n")


@pytest.mark.parametrize("pattern", ["(?<=E)RROR", "(?!x)y"])
def test_patterns_on_re_are_given_no_more(pattern: str) -> None:
    work = Work()
    compile_pattern(pattern)(counted(b"x" * 50_000, work))
    assert work.touched <= RE_BYTES


@pytest.mark.parametrize(
    ("pattern", "line"), [("ERROR.*timeout", b"ERROR " * 43_000), ("(a+)+$", b"a" * 25 + b"!")]
)
def test_neither_an_innocent_nor_a_guilty_pattern_backtracks(pattern: str, line: bytes) -> None:
    """On `re` these take seconds. That they do not run on it is what is asserted."""
    assert risk_of(pattern) == ""
    assert not compile_pattern(pattern)(line)


def test_re2_writes_nothing_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    for pattern in ONLY_RE:
        compile_pattern(pattern)
    compile_pattern("(?:a|b)*a(?:a|b){20}c")(b"ab" * 5000)
    assert capfd.readouterr() == ("", "")


def test_re2_is_loaded_only_where_a_pattern_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "re2", raising=False)
    for pattern in TEXTS:
        compile_pattern(pattern)
        patterns.validate(pattern)
        risk_of(pattern)
    for pattern in ENGINE:
        patterns.validate(pattern)
    assert "re2" not in sys.modules
