"""The built-in rules: e-mail, card numbers, keys, tokens, addresses, bank accounts.

A rule searches loosely, with a pattern that is linear on any engine, and then checks what it finds:
the check digits of a card or an account, the parts of an address. `hint` is a pattern that every
line with a match has, and few others.

Sources: RFC 5322 and 6531 (e-mail, as far as it is used), ISO/IEC 7812 (cards: issuer's prefix,
Luhn), "IAM identifiers" of the AWS documentation (keys), RFC 6750 (bearer), RFC 7519 and 7516
(JWT), RFC 791 and 5952 (addresses), ISO 13616 and the registry of IBANs (accounts).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

BuiltIn: TypeAlias = Literal[
    "email", "card", "aws_key", "bearer", "jwt", "ipv4", "ipv6", "iban"
]  # fmt: skip
Span: TypeAlias = tuple[int, int]
Check: TypeAlias = Callable[[bytes, int, int], Iterator[Span]]
"""Yields the parts to mask of what a pattern found from start to end in a view."""

_WORD: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
_DIGITS: Final = frozenset(b"0123456789")
_BYTE: Final = 255
_FIRST_DIGITS: Final = frozenset(b"23456")
_FEWEST_DIGITS: Final = 12
_LEAST_DIGITS: Final = 13
_MOST_DIGITS: Final = 19
_VALUES: Final = bytes(max(char - 0x30, 0) % 10 for char in range(256))
_DOUBLES: Final = bytes(value * 2 - 9 * (value > 4) for value in _VALUES)  # noqa: PLR2004 - as below
"""The digits of ASCII, and their doubles, of which two digits are added up."""
_ISSUERS: Final = re.compile(
    rb"(?:4(?:.{12}|.{15}|.{18})|5[1-5].{14}|2(?:22[1-9]|2[3-9].|[3-6]..|7[01].|720).{12}"
    rb"|3[47].{13}|3(?:0[0-5]|[68].).{11}|35(?:2[89]|[3-8].).{12}|6(?:011|4[4-9].|5..).{12,15}"
    rb"|62.{14,17}|5[06-8].{10,17}|6[37].{10,17})"
)
"""Lengths by the issuer's prefix. No time in milliseconds, micro- or nanoseconds begins so."""
_SHORTEST_HEADER: Final = 8
_SURELY: Final = 20
"""Characters without a digit that may still be a word of a sentence."""
_IBAN_LENGTHS: Final = {
    code: int(length)
    for length, codes in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL SD FK", "19": "MK SI",
        "20": "AT BA EE KZ LT LU MN XK", "21": "CH CR HR LI LV", "22": "BG BH DE GB GE IE ME RS VA",
        "23": "AE GI IL IQ OM SO TL", "24": "AD CZ ES MD PK RO SA SE SK TN VG",
        "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM", "28": "AL AZ BY CY DO GT "
        "HN HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC",
        "32": "LC", "33": "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip


class Rule(NamedTuple):
    """Finds one kind of secret."""

    hint: bytes
    """Pattern, for `re` and re2, that each line with a match has in its view."""
    pattern: bytes
    """Pattern of what is then checked. Its first group, if it has one, is what to mask."""
    check: Check


def _as_found(_: bytes, start: int, end: int) -> Iterator[Span]:
    yield start, end


def _emails(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Yield an address up to its last label that is a name: `package@1.2.3` is none."""
    while (dot := text.rfind(b".", text.find(b"@", start, end), end)) >= 0:
        if not text[dot + 1 : end].isdigit():
            yield start, end
            return
        end = dot


def _cards(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Yield card numbers in a run of digits and single blanks, each made of whole groups."""
    groups = [(start + m.start(), start + m.end()) for m in re.finditer(rb"\d+", text[start:end])]
    if _is(text, start - 1, _WORD) or _is_long_fraction(text, *groups[0]):
        del groups[0]
    if _is(text, end, _WORD):
        del groups[-1:]
    at = 0
    while at < len(groups):
        if text[groups[at][0]] not in _FIRST_DIGITS:
            at += 1
            continue
        digits, found = b"", 0
        for last in range(at, len(groups)):
            first, after = groups[last]
            if len(digits) + after - first > _MOST_DIGITS:
                break
            digits += text[first:after]
            if (
                len(digits) >= _FEWEST_DIGITS
                and _ISSUERS.fullmatch(digits)
                and _satisfies_luhn(digits)
            ):
                found = last + 1
        if found:
            yield groups[at][0], groups[found - 1][1]
        at = found or at + 1


def _is_fraction(text: bytes, start: int) -> bool:
    """True if digits that begin here are decimals, or a further part of a version."""
    return text[start - 1 : start] == b"." and _is(text, start - 2, _DIGITS)


def _is_long_fraction(text: bytes, start: int, end: int) -> bool:
    """True if digits are the decimals of a float: one float in forty has those of a card."""
    return end - start >= _LEAST_DIGITS and _is_fraction(text, start)


def _satisfies_luhn(digits: bytes) -> bool:
    reverse = digits[::-1]
    odd, even = reverse[::2].translate(_VALUES), reverse[1::2].translate(_DOUBLES)
    return not (sum(odd) + sum(even)) % 10


def _tokens(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Yield what follows `Bearer`, unless it is a word of a sentence."""
    if end - start >= _SURELY or any(char in _DIGITS for char in text[start:end]):
        yield start, end


def _web_tokens(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Yield a token in a run of its characters: two parts at least, the first a JSON object."""
    while (start := text.find(b"eyJ", start, end)) >= 0:
        dot = text.find(b".", start, end)
        if dot < 0:
            return
        if dot - start >= _SHORTEST_HEADER:
            yield start, end
            return
        start = dot


def _ipv4(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Yield an address that is not a part of more numbers, as in an object identifier."""
    goes_on = text[end : end + 1] == b"." and _is(text, end + 1, _DIGITS)
    if goes_on or _is_fraction(text, start) or _is(text, start - 1, _WORD):
        return
    if _is(text, end, _WORD):
        return
    if all(int(part) <= _BYTE for part in text[start:end].split(b".")):
        yield start, end


def _ipv6(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Yield an address. A word and a colon before it are none of it, nor is what is behind it."""
    if _is(text, start - 1, _WORD):  # `node:2001:db8::1`, but not `std::vector`
        colon = text.index(b":", start)
        if colon > start and text[colon : colon + 2] == b"::":
            return
        start = colon + 1
    for first in (start, start + 1):
        for last in _ends_of_ipv6(text, first, end):
            address = text[first:last]
            if address.strip(b":.") and not _is(text, last, _WORD) and _is_ipv6(address):
                yield first, last
                return


def _ends_of_ipv6(text: bytes, start: int, end: int) -> Iterator[int]:
    """Yield where an address may end: before punctuation, or before a port."""
    yield end
    last = start + len(text[start:end].rstrip(b"."))
    yield last
    yield last - 1
    colon = text.rfind(b":", start, last)
    if text[colon + 1 : last].isdigit() and text[last : last + 1] != b":":
        yield colon


_COLONS: Final = (6, 7)
"""In an address that leaves nothing out: six, if it ends with one of IPv4."""


def _is_ipv6(address: bytes) -> bool:
    if b"::" not in address and address.count(b":") not in _COLONS:
        return False
    from ipaddress import IPv6Address  # noqa: PLC0415 - 2 ms, for what looks like one

    try:
        IPv6Address(address.decode())
    except ValueError:
        return False
    return True


def _accounts(text: bytes, start: int, end: int) -> Iterator[Span]:
    """Yield an IBAN: as many characters as its country uses, and right check digits."""
    if _is(text, start - 1, _WORD):
        return
    length = _IBAN_LENGTHS.get(text[start : start + 2].decode(), 0)
    account = b""
    for at in range(start, end):
        account += text[at : at + 1].strip()
        if len(account) == length:
            if not _is(text, at + 1, _WORD) and _has_check_digits(account):
                yield start, at + 1
            return


def _has_check_digits(account: bytes) -> bool:
    digits = "".join(str(int(chr(char), 36)) for char in account[4:] + account[:4])
    return int(digits) % 97 == 1


def _is(text: bytes, at: int, chars: frozenset[int]) -> bool:
    return 0 <= at < len(text) and text[at] in chars


BUILT_IN: Final[dict[BuiltIn, Rule]] = {
    "email": Rule(
        rb"@[0-9A-Za-z\x80-\xff]",
        rb"[A-Za-z0-9._%+'\x80-\xff-]{1,64}@[A-Za-z0-9\x80-\xff-]{1,63}"
        rb"(?:\.[A-Za-z0-9\x80-\xff-]{1,63}){1,8}",
        _emails,
    ),
    "card": Rule(
        rb"(?:^|[^0-9A-Za-z_])[2-6](?:[ -]?[0-9]){12}", rb"[0-9](?:[ -]?[0-9]){11,}", _cards
    ),
    "aws_key": Rule(
        rb"(?:A3T|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{13}"
        rb"|(?i:se(?:cret[_ -]?(?:access[_ -]?)?key|(?:ssion|curity)[_ -]?token))",
        rb"((?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16})"
        rb"|(?i:secret[_ -]?(?:access[_ -]?)?key)[^0-9A-Za-z/+]{1,8}([0-9A-Za-z/+]{40})"
        rb"|(?i:(?:session|security)[_ -]?token)[^0-9A-Za-z/+]{1,8}([0-9A-Za-z/+=%]{40,})",
        _as_found,
    ),
    "bearer": Rule(
        rb"(?i:bearer)[ ,:=\"']",
        rb"(?i:bearer)(?:[ ,:=]{1,8}|[\"']?[ :=]{1,8}[\"']?)([0-9A-Za-z._~+/-]{8,}=*)",
        _tokens,
    ),
    "jwt": Rule(rb"eyJ[0-9A-Za-z_-]{5}", rb"[0-9A-Za-z._-]+", _web_tokens),
    "ipv4": Rule(
        rb"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]", rb"[0-9]{1,3}(?:\.[0-9]{1,3}){3}", _ipv4
    ),
    "ipv6": Rule(
        rb"::|(?:[0-9A-Fa-f]{1,4}:){6}", rb"(?:[0-9A-Fa-f]{0,4}:){2,8}[0-9A-Fa-f.]{0,15}", _ipv6
    ),
    "iban": Rule(
        rb"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4}",
        rb"(?=([A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,29}))",  # where one ends, another may begin
        _accounts,
    ),
}  # fmt: skip
"""By the name that `redact` uses."""
