"""Measures what `redact` costs, in microseconds per line, with google-re2 and without it.

    python -m bench.redaction

CPU time, the best of five rounds. Lines are those of the other scenarios; the dirty ones hold an
e-mail address and an IPv4 address each.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from unittest import mock

from bench.kit.lines import block_of_lines
from telemetryd.core.redaction.redactor import Redactor, redactor
from telemetryd.core.redaction.replacement import With
from telemetryd.core.redaction.rules import BUILT_IN

BLOCK_BYTES = 1024 * 1024
MEAN_BYTES = 200
ROUNDS = 5
SECRETS = b'{"from":"bob@mail.example 203.0.113.7","time":'


def microseconds_per_line(masker: Redactor, block: bytes) -> float:
    """The best of `ROUNDS` rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        masker.mask(block)
        best = min(best, time.process_time() - start)
    return best / block.count(b"\n") * 1e6


def made(names: Sequence[str], pattern: str) -> Redactor:
    """A redactor of built-in rules, and of a pattern unless it is empty."""
    label: With = "label"
    rules = [(name, "", label) for name in names]
    return redactor([*rules, ("own", pattern, label)] if pattern else rules, b"salt")


def row(title: str, names: Sequence[str], pattern: str, block: bytes) -> str:
    """One row of the table."""
    with_re2 = microseconds_per_line(made(names, pattern), block)
    with mock.patch.dict(sys.modules, {"re2": None}):
        without = microseconds_per_line(made(names, pattern), block)
    return f"| {title} | {with_re2:.2f} | {without:.2f} |"


def main() -> None:
    """Measure and print."""
    clean = block_of_lines(MEAN_BYTES, BLOCK_BYTES, 1)
    size = len(clean) / clean.count(b"\n")
    dirty = clean.replace(b'{"time":', SECRETS)
    if dirty.count(SECRETS) < dirty.count(b"\n"):
        raise SystemExit("not every line could be made dirty")
    every = list(BUILT_IN)
    print(f"| Lines of {size:.0f} bytes, µs per line | google-re2 | as in the layer |")
    print("|---|---|---|")
    print(row("`email`, no line has one", ["email"], "", clean))
    print(row("all built-in rules, no line has a secret", every, "", clean))
    print(row("these and a pattern, `ORD-[0-9]{8}`", every, "ORD-[0-9]{8}", clean))
    print(row("all built-in rules, two secrets in each line", every, "", dirty))


if __name__ == "__main__":
    main()
