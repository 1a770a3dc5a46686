"""The compiled scanner reads no byte that is not the buffer's, and does nothing undefined.

Built with the sanitizers of address and undefined behaviour, in a process of its own. An `array`
has exactly the bytes it is given, so that one byte before or after is noticed.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import scanner

OPTIONS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FUZZ = r"""
import random, sys
from array import array
from collections import Counter
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import telemetryd_scan as scan

NAMES = (b'"platform.start"', b'"platform.report"', b'"platform.runtimeDone"')
MARKS = (b'"platform.', b"errorType", b"Traceback (most recent call last)", rb"\n\tat ", b"xy" * 50)
PIECES = [
    *NAMES, *MARKS, b"\n", b"\r\n", b"\0", b"\xff", b" ", b"{", b"}", b'"type"', b":", b"x" * 127,
    b'{"type":"platform.report","record":{}}', b'"type" \t: ', b"\n\n", b"p......m", b"y" * 300,
    b"[", b"]", b",", b'"', b"\\", b'\\"', b"[" * 70, b"]" * 70, b"\r", b'{"a":["b",{}]},',
]
def scanned(text):
    data = array("B", text)
    scan.count_lines(data)
    scan.find_lines(data, MARKS)
    scan.find_lines(data, ())
    scan.find_events(data, MARKS[:1], NAMES)
    scan.find_events(data, MARKS, ())
    scan.split_array(data, 0)
    scan.split_array(data, min(3, len(text)))
    scan.split_array(array("B", b"[" + text + b"]"), 1)

for size in range(600):
    for filler in (
        b"x", b"\n", b"p", b"\r", b'"type":"platform.report"\n', b'"platform.', b"{},", b'"\\",",',
        b"\\", b"[", b"]", b",", b'"',
    ):
        scanned((filler * size)[-size:] if size else b"")
random.seed(20261130)
for _ in range(6000):
    text = b"".join(random.choices(PIECES, k=random.randrange(30)))
    scanned(text[random.randrange(9):])
    scanned(random.randbytes(random.randrange(400)))
scanned(b'"platform.' * 30_000)
scanned(b" " * 300_000 + b'"platform.report"')
for at in (-1, 1 << 40):
    scan.split_array(b"[]", at)

LEVELS = {b'"[INFO]': b"i", b"INFO": b"i", "INFO": b"i"}
MEMBERS = ("type", "record", "level", "request_id", "message", "error_type")
KNOWN = {b"r-1": ("f", b"b", b"m"), "r-1": ("f", b"b", b"m"), b"r-2": (), "r-2": None}
TEXTS = [
    b"\\t", b"\\n", b"\\", b'"', b"[INFO]", b"INFO", b"r-1", b"r-2", b"{", b"}", b"\x7f", b"\xc3",
    b"\0", b"\t", b"y" * 33, b"x" * 16, b'"[INFO]\\tt\\tr-1\\t', b'"t\\tr-1\\tINFO\\t', b'\\n"',
]
def decode(record):
    text = bytes(record)
    if b"x" in text:
        raise ValueError(text)
    values = [None, "INFO", "r-1", "r-2", [], 1, array("B", text[1:]), b'"a"', b'"{"', b"", b'"']
    if random.random() < 0.5:
        message = array("B", b'"' + text[2:] + b'"')
        return SimpleNamespace(level="INFO", request_id="r-1", message=message, error_type=None)
    return SimpleNamespace(
        level=random.choice([*values, "INFO"]), request_id=random.choice([*values, "r-1"]),
        message=random.choice(values), error_type=random.choice([None, None, "E"]),
    )
made = Counter()
def rows_of(records, known=KNOWN, kind="function"):
    lines = [SimpleNamespace(type=kind, record=array("B", record)) for record in records]
    usual, parts, facts = (SimpleNamespace, decode, {"function": LEVELS}, MEMBERS), [], []
    try:
        at = scan.add_rows(lines, [b"h"] * len(lines), 0, usual, known, parts, facts)
    except SystemError:  # what is known of an invocation is no tuple of three
        return
    assert (len(parts), len(facts)) == (8 * at, at)
    made.update(record[:1] for record in records[:at])

for _ in range(20_000):
    body = b"".join(random.choices(TEXTS, k=random.randrange(9)))
    rows_of([random.choice((b'"%b"', b"{%b}", b'"%b', b"%b", b'"[INFO]\\tt\\tr-1\\t%b"')) % body])
for size in range(70):
    rows_of([b'{"a":"' + b"y" * size + b'"}', b"{" + b'"' * size])
    rows_of([b'"' + b"\\t" * size])
rows_of([b'{"a":1}'] * 9, {"r-1": ("f", b"b", b"m")})
rows_of([b"{}"], kind=["function"])
for lines, heads, at in (
    ([None], [b""], 0), ([SimpleNamespace()], [], 0), ([], [], 5), ([1], [b""], -1),
):
    usual = (SimpleNamespace, decode, {}, MEMBERS)
    assert scan.add_rows(lines, heads, at, usual, {}, [], []) == at
for wrong in ((), ((), [], 0, (), {}, [], []), ([], [], 0, (1, 2, 3, 4), {}, [], [])):
    try:
        scan.add_rows(*wrong)
    except TypeError:
        continue
    raise SystemExit("taken: %r" % (wrong,))
assert made[b'"'] > 500 and made[b"{"] > 500, made
print("scanned", scan.KIND)
"""


def _runtime() -> str:
    """The sanitizer's library, which has to be loaded first. Skips the test without it."""
    compiler = shutil.which("cc") or "cc"
    found = subprocess.run(
        [compiler, "-print-file-name=libasan.so"], check=False, capture_output=True, text=True
    ).stdout.strip()
    if platform.libc_ver()[0] != "glibc" or not Path(found).is_absolute():
        pytest.skip("the C compiler has no libasan.so: memory safety is not tested here")
    return found


@pytest.mark.parametrize("kind", scanner.KINDS)
def test_a_fuzzed_scan_stays_within_its_buffer(tmp_path: Path, kind: str) -> None:
    scanner.build(tmp_path / "telemetryd_scan.so", *OPTIONS, *scanner.OPTIONS[kind])
    environment = {
        "PATH": os.defpath,
        "LD_PRELOAD": _runtime(),
        "ASAN_OPTIONS": "detect_leaks=0",  # what the interpreter keeps to its end
        "PYTHONMALLOC": "malloc",
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", FUZZ, tmp_path],
        check=False, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("scanned")
