"""What rules find and leave alone, and what a line is like afterwards."""

from __future__ import annotations

import json
import sys
import tracemalloc
from typing import Any

import pytest

from telemetryd.core.redaction.redactor import Redactor, redactor
from telemetryd.core.redaction.replacement import With
from telemetryd.core.redaction.rules import BUILT_IN
from telemetryd.core.redaction.search import fault_of
from telemetryd_proto.framing import Block

SALT = b"salt"


@pytest.fixture(params=["re2", "re"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both engines. `re` is that of the layer, which has no google-re2."""
    if request.param == "re":
        monkeypatch.setitem(sys.modules, "re2", None)
    else:
        pytest.importorskip("re2")
    return str(request.param)


def built_in(*names: str, replace: With = "label") -> Redactor:
    return redactor([(name, "", replace) for name in names or BUILT_IN], SALT)


def own(pattern: str, replace: With = "label") -> Redactor:
    return redactor([("mine", pattern, replace)], SALT)


def event(record: Any) -> bytes:
    time = "2022-10-12T00:03:50.000Z"
    return json.dumps({"time": time, "type": "function", "record": record}).encode() + b"\n"


def record_of(line: bytes) -> Any:
    return json.loads(line)["record"]


FOUND = [
    ("email", "to bob.o'neil+x@mail.example.co.uk.", "to [redacted:email]."),
    ("email", "a@b.co,c@d.co", "[redacted:email],[redacted:email]"),
    ("email", "ülker@müller.example", "[redacted:email]"),
    ("card", "4111 1111 1111 1111", "[redacted:card]"),
    ("card", "7 5500-0000-0000-0004 378282246310005", "7 [redacted:card] [redacted:card]"),
    ("card", "pan:6011111111111117;", "pan:[redacted:card];"),
    ("aws_key", "key AKIAIOSFODNN7EXAMPLE.", "key [redacted:aws_key]."),
    ("aws_key", f"secretAccessKey={'wJalrXUtn/' * 4}", "secretAccessKey=[redacted:aws_key]"),
    ("aws_key", f"AWS_SESSION_TOKEN={'IQoJb3JpZ2' * 20}==", "AWS_SESSION_TOKEN=[redacted:aws_key]"),
    ("bearer", "authorization: BEARER mF_9.B5f-4.1JqM", "authorization: BEARER [redacted:bearer]"),
    ("bearer", "Bearer abcdefghijklmnopqrst", "Bearer [redacted:bearer]"),
    ("jwt", "t=eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "t=[redacted:jwt]"),
    ("ipv4", "from 192.168.0.1:8080 (10.0.0.255)", "from [redacted:ipv4]:8080 ([redacted:ipv4])"),
    ("ipv6", "at 2001:db8::1: refused", "at [redacted:ipv6]: refused"),
    ("ipv6", "client::ffff:192.0.2.1.", "client::ffff:192.0.2.1."),
    ("ipv6", "client:::ffff:192.0.2.1.", "client:[redacted:ipv6]."),
    ("iban", "DE89 3704 0044 0532 0130 00 EUR", "[redacted:iban] EUR"),
    ("iban", "GB82WEST12345698765432", "[redacted:iban]"),
    ("email", "to bob@mail.example.3 times", "to [redacted:email].3 times"),
    ("card", "1.4111 1111 1111 1111 5", "1.[redacted:card] 5"),
    ("card", "5.4111111111111111 4111111111111111.0", "5.4111111111111111 [redacted:card].0"),
    ("aws_key", f"Secret Access Key: {'wJalrXUtn/' * 4}", "Secret Access Key: [redacted:aws_key]"),
    ("aws_key", f"aws-secret-key={'wJalrXUtn/' * 4}", "aws-secret-key=[redacted:aws_key]"),
    ("aws_key", f"Security-Token={'IQoJ%2F' * 9}&a=b", "Security-Token=[redacted:aws_key]&a=b"),
    ("bearer", "'Bearer': 'mF_9.B5f-4.1JqM'", "'Bearer': '[redacted:bearer]'"),
    ("ipv4", "wait...10.0.0.1... host.10.0.0.1", "wait...[redacted:ipv4]... host.[redacted:ipv4]"),
    ("ipv6", "node:2001:db8::1 ip6:1:2:3:4:5:6:7:8", "node:[redacted:ipv6] ip6:[redacted:ipv6]"),
    ("ipv6", "1:2:3:4:5:6:7:8:443, 2001:db8::1...", "[redacted:ipv6]:443, [redacted:ipv6]..."),
    ("iban", "GB82WEST12345698765432 DE89370400440532013000", "[redacted:iban] [redacted:iban]"),
    ("iban", "ID42 NO9386011117947 DE89370400440532013000", "ID42 [redacted:iban] [redacted:iban]"),
]  # fmt: skip
LEFT = [
    ("email", "pkg@1.2.3 @handle user@localhost image@sha256:abcd a@b"),
    ("card", "4111111111111112 1669852800000 1669852800000000 12345678901234567890"),
    ("card", "x4111111111111111"),
    ("card", "0.4539578763621486 1.4111111111111111"),
    ("card", "4111111111111111a 0000000000000000 79b4f56e-95b1-4643-9700-2807f4e68189"),
    ("aws_key", "AKIA AKIAshort secret_access_key=short"),
    ("bearer", "the bearer of letters, Bearer authentication"),
    ("jwt", "eyJhbGciOiJub25lIn0 keyJ.eyJ a.b.c"),
    ("ipv4", "v1.2.3.4 1.2.3.4.5 0.1.2.3.4 1.2.3 256.1.1.1 1.2.3.4x _1.2.3.4"),
    ("ipv6", "12:30:45 std::vector crate::db::add a::b::c ::: x2001::1 2001:db8::1z"),
    ("iban", "DE893704004405320, XX1200000000000"),
    ("iban", "DE89370400440532013001 XX893704004405320130 DE89 3704 xGB82WEST12345698765432"),
]  # fmt: skip


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("rule", "text", "after"), FOUND)
def test_it_is_masked(rule: str, text: str, after: str) -> None:
    masker = built_in(rule)
    assert masker.mask(text.encode() + b"\n").decode() == after + "\n"
    assert record_of(built_in(rule).mask(event(text))) == after
    inner = record_of(built_in(rule).mask(event(json.dumps({"a": text}))))
    assert json.loads(inner) == {"a": after}
    assert masker.counts == {rule: after.count("[redacted")}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("rule", "text"), LEFT)
def test_it_is_left_alone(rule: str, text: str) -> None:
    for line in (text.encode() + b"\n", event(text)):
        masker = built_in(rule)
        assert masker.mask(line) is line
        assert masker.counts == {rule: 0}


@pytest.mark.usefixtures("engine")
def test_escapes_hide_nothing_and_stay_whole() -> None:
    inner = r'{"mail":"bob\u002Bx\u0040mail.example","path":"C:\\new"}'
    line = b'{"record":' + json.dumps(inner).encode() + b',"more":"\\nann@x.de\\ttab \\ud83d"}\n'
    masked = json.loads(built_in().mask(line))
    assert json.loads(masked["record"]) == {"mail": "[redacted:email]", "path": "C:\\new"}
    assert masked["more"] == "\n[redacted:email]\ttab \ud83d"


@pytest.mark.usefixtures("engine")
def test_a_number_becomes_null_in_json_and_in_json_within_a_string() -> None:
    card = 4111111111111111
    record = {"n": card, "f": [card, -card], "text": f"({card})", "inner": json.dumps({"c": card})}
    assert record_of(built_in("card").mask(event(record))) == {
        "n": None,
        "f": [None, None],
        "text": "([redacted:card])",
        "inner": '{"c": null}',
    }
    assert built_in("card").mask(b"4111111111111111.5\n") == b"null\n"


@pytest.mark.usefixtures("engine")
def test_an_empty_group_masks_nothing() -> None:
    assert own("a(b*)c").mask(b"ac abbbbc\n") == b"ac a[redacted:mine]c\n"


def test_a_line_without_its_end_is_masked_too() -> None:
    assert built_in("email").mask(b"bob@x.de") == b"[redacted:email]"


@pytest.mark.usefixtures("engine")
def test_what_is_no_json_is_masked_as_text() -> None:
    lines = b'[INFO] say "bob@x.de\n{"cut":"bob@x.de\n\nbob@x.de\n'
    assert built_in("email").mask(lines) == lines.replace(b"bob@x.de", b"[redacted:email]")


@pytest.mark.usefixtures("engine")
def test_only_the_group_is_masked() -> None:
    """An escaped quote is a quote to a pattern."""
    line = event({"password": "hunter2 x", "user": "bob"})
    masked = own(r'"password":\s*"([^"]*)"').mask(line)
    assert record_of(masked) == {"password": "[redacted:mine]", "user": "bob"}
    assert record_of(own(r'password": "([^"]*)"').mask(event('{"password": "a b c"}'))) == (
        '{"password": "[redacted:mine]"}'
    )


@pytest.mark.usefixtures("engine")
def test_the_first_of_several_groups_that_took_part_is_masked() -> None:
    line = b"user=bobby pass=hunter2\n"
    assert own(r"user=(\w+) pass=(\w+)").mask(line) == b"user=[redacted:mine] pass=hunter2\n"
    assert own("(none)?(hunt)(er2)").mask(line) == b"user=bobby pass=[redacted:mine]er2\n"
    assert own("((hu)(nt))er2").mask(line) == b"user=bobby pass=[redacted:mine]er2\n"
    assert own("(none)|hunter2").mask(line) == b"user=bobby pass=[redacted:mine]\n"


@pytest.mark.usefixtures("engine")
def test_a_letter_that_is_a_surrogate_pair_is_found() -> None:
    """`json.dumps` escapes letters beyond the Basic Multilingual Plane so."""
    masker = own("\U00020bb7\u91ce")
    text = "to \U00020bb7\u91ce."
    assert record_of(masker.mask(event(text))) == "to [redacted:mine]."
    assert record_of(masker.mask(event(json.dumps(text)))) == '"to [redacted:mine]."'
    half = b'{"record":"\\ud842 \\udfb7\\u91ce"}\n'
    assert masker.mask(half) is half


@pytest.mark.usefixtures("engine")
def test_a_dot_is_one_byte_whatever_else_is_in_the_pattern() -> None:
    assert own("é.xx").mask("(éaxx)(éüxx)\n".encode()).decode() == "([redacted:mine])(éüxx)\n"
    assert own("é.*x").mask(b"(\xc3\xa9 \xff x)\n") == b"([redacted:mine])\n"


def test_a_line_of_numbers_is_not_held_in_pieces() -> None:
    line = b"[" + b"1," * 200_000 + b'"bob@x.de"]\n'
    masker = built_in("email")
    tracemalloc.start()
    try:
        masked = masker.mask(line)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert masked == line.replace(b"bob@x.de", b"[redacted:email]")
    assert peak < 10 * len(line)


@pytest.mark.usefixtures("engine")
def test_a_match_ends_with_its_string_and_leaves_what_structures_json() -> None:
    assert record_of(own("secret=.*").mask(event("a secret=x y"))) == "a [redacted:mine]"
    line = b'{"a":1,"time":[true,{"b":"c"}]}\n'
    assert own('"time".*').mask(line) == (
        b'{"a":1,"[redacted:mine]":[null,{"[redacted:mine]":"[redacted:mine]"}]}\n'
    )


@pytest.mark.usefixtures("engine")
def test_what_two_rules_find_is_masked_by_the_first() -> None:
    rules: list[tuple[str, str, With]] = [
        ("one", "b[a-z]+e", "label"),
        ("two", "a[a-z]+f", "label"),
        ("three", "[c-d]+", "label"),
    ]
    masker = redactor(rules, SALT)
    assert masker.mask(b"abcdef\n") == b"***[redacted:one]***\n"
    assert masker.counts == {"one": 1, "two": 1, "three": 1}


@pytest.mark.usefixtures("engine")
def test_a_match_has_whole_characters() -> None:
    assert own("x.").mask("(xé)(éx)\n".encode()) == "(***)(é***\n".encode()
    assert own(".x").mask("(éx)\n".encode()) == b"(***)\n"
    assert own("ö+").mask("größe\n".encode()) == "gr***ße\n".encode()


def test_a_pattern_on_re_sees_a_long_line_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)
    for at in (0, 3500, 3600, 4090, 9000):
        line = b"x" * at + b" ORD-12345678 " + b"y" * 5000 + b"\n"
        assert own("ORD-[0-9]{8}").mask(line) == line.replace(b"ORD-12345678", b"[redacted:mine]")


@pytest.mark.usefixtures("engine")
def test_what_stands_for_a_secret() -> None:
    line = b"4111 1111 1111 1111 bob@x.de\n"
    assert built_in("card", replace="last4").mask(line) == b"****1111 bob@x.de\n"
    assert built_in("email", replace="last4").mask(line) == line[:20] + b"[redacted:email]\n"
    hashed = built_in("email", replace="hash").mask(line)
    assert hashed == built_in("email", replace="hash").mask(line)
    assert hashed != redactor([("email", "", "hash")], b"other").mask(line)
    assert hashed.startswith(line[:20] + b"[email:")
    assert own("[a-z]x", "last4").mask(b"(ax)\n") == b"(***)\n"


def test_the_head_of_a_line_ends_before_half_a_secret() -> None:
    masker = built_in("email")
    head = b"ann@x.de " + b"-" * 300 + b" bob@mail.exa"
    assert masker.mask_head(head, whole=False) == b"[redacted:email] " + b"-" * 61
    assert masker.mask_head(b"bob@x", whole=False) == b""
    assert masker.mask_head(b"", whole=False) == b""
    assert masker.mask_head(b"a bob@x.de\n", whole=True) == b"a [redacted:email]"
    assert masker.mask_head(b"nothing\n", whole=True) == b"nothing\n"


def test_a_masked_block_stands_for_the_same_lines() -> None:
    masker = redactor([("email", "", "label")], b"")
    clean = Block.of(b"nobody\n")
    assert masker.mask_block(clean) is clean
    data = b"bob@mail.example\nx\n"
    masked = masker.mask_block(Block.of(data))
    assert b"bob@" not in masked.data
    assert masked.data.endswith(b"\nx\n")
    assert (masked.lines, masked.size) == (2, len(data))


def test_the_lines_around_a_secret_are_the_same() -> None:
    lines = [event(f"line {n}") for n in range(50)]
    lines[7] = event("bob@x.de")
    masked = built_in().mask(b"".join(lines)).splitlines(keepends=True)
    assert masked[:7] + masked[8:] == lines[:7] + lines[8:]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a(", "no valid pattern"),
        ("(?=a)b", "look-around"),
        ("(a)\\1", "back-reference"),
        ("a++", "look-around, a back-reference or the like"),
        ("a*", "the empty text"),
        ("a{1001}", "google-re2"),
        ("x[[:digit:]]+", "'[:digit:]', which means something else"),
        ("x[0[:^alpha:]]", "which means something else"),
        ("a{,3}b", "'{,3}', which means something else"),
        ("[a-zü]+", "which means something else"),
        ("(?i)josé", "ignores the case of '\\xe9'"),
        ("a(?s-m:b)(?i:ö)", "ignores the case of"),
    ],
)
def test_what_a_pattern_must_not_be(pattern: str, why: str) -> None:
    pytest.importorskip("re2")
    assert why in fault_of(pattern)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "pattern",
    [
        "a",
        "a\\\\+b",
        "ö",
        "(?i)a[0-9]+",
        "(?i)a日",
        "(?s)ö",
        "a|b",
        "a.*b",
        "a\\{,3}",
        r"[\[:x]",
        r"\[ü",
    ],
)
def test_what_it_may_be(pattern: str) -> None:
    assert fault_of(pattern) == ""


@pytest.mark.usefixtures("engine")
def test_a_repeated_letter_is_a_whole_one() -> None:
    masker = own("xü{2}y?|ß+z")
    assert masker.mask("xüüy ßßz ü\n".encode()).decode() == "[redacted:mine] [redacted:mine] ü\n"


@pytest.mark.usefixtures("engine")
def test_patterns_of_text_and_of_characters_together() -> None:
    rules: list[tuple[str, str, With]] = [
        ("one", "größe|weite", "label"),
        ("two", "token [a-z]+", "label"),
        ("email", "", "label"),
    ]
    masker = redactor(rules, SALT)
    lines = "größe\n-\ntoken abc\n-\nbob@x.de\nweite\n".encode()
    assert masker.mask(lines).decode() == (
        "[redacted:one]\n-\n[redacted:two]\n-\n[redacted:email]\n[redacted:one]\n"
    )
