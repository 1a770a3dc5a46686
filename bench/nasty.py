"""Measures nasty lines: CPU per MiB of each kind, and its ratio to ordinary lines.

    python -m bench.nasty [MIB]

A line that costs more than its length and number justify could stop telemetryd. Each kind goes
through `telemetryd listen` with three configurations, and through the scanners that only the
extension uses. Ordinary lines cost a part per line and a part per byte. Both parts are measured
first, with lines of two lengths. They give the cost of ordinary lines of the same number and
length. The cost of a byte depends on what a logger writes: plain text, text in escapes (as
`json.dumps` writes everything but ASCII), or an object with members. A kind is compared with its
own form. The exit status is 1 if a kind costs more than `MOST` times that.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.kit.lines import block_of_lines
from bench.kit.progress import say
from bench.load import daemon
from bench.load.measure import wait_until_idle
from bench.peers.catalog import cpu_seconds
from telemetryd.core.own_lines import without_own_lines
from telemetryd.core.watch import LIFE_CYCLE, EventWatch
from telemetryd.ingest.heap import MOST_KEPT_BYTES, keep_heap
from telemetryd_proto.framing import Block, LineFramer, TailBudget

MIB: Final = 1024 * 1024
MOST: Final = 5.0
"""Times the cost of ordinary lines: above it, a kind of line is a fault."""
DEFAULT_MIB: Final = 4
_STILL_SECONDS: Final = 0.1
_AGAIN: Final = 3
_ORDINARY_BYTES: Final = 16 * MIB
"""Of each kind of ordinary lines: the kernel counts a process's time in ticks of 10 ms."""
_READ_BYTES: Final = 256 * 1024
_SEARCHED: Final = (
    b'"platform.report"', b'"platform.logsDropped"', b'\\"platform.runtimeDone\\"',
    b'"logger":"telemetryd"', b'\\"logger\\":\\"telemetryd\\"', b"errorType", b"_aws",
    b"Traceback (most recent call last)", b'"requestId":', b'"level":"ERROR"',
)  # fmt: skip
"""Texts that the scanners look for."""

SINKS: Final[Mapping[str, dict[str, Any]]] = {
    "as they come": {"type": "file", "path": "{scratch}/out"},
    "looked into": {
        "type": "file", "path": "{scratch}/out", "types": ["function", "platform"],
        "min_level": "info", "exclude": ["ERROR.*never", "(a+)+z$"],
        "fields": ["function", "request_id"],
    },
    "metrics": {"type": "emf", "forward_emf": True, "count_log_errors": True},
}  # fmt: skip


def _event(record: bytes, kind: bytes = b"function") -> bytes:
    return b'{"time":"2026-03-14T10:15:30.123Z","type":"%s","record":%s}\n' % (kind, record)


def _text(piece: bytes, size: int = 60_000) -> bytes:
    """A log line whose text is `piece`, again and again."""
    return _event(b'"' + piece * (size // len(piece)) + b'"')


def _list(piece: bytes, size: int = 60_000) -> bytes:
    return _event(b'{"x":[' + b",".join([piece] * (size // (len(piece) + 1))) + b"]}")


_LONG_ESCAPED: Final = _text(json.dumps("заказ клиента 4711 отправлен ")[1:-1].encode(), 32_768)
_LONG_RECORD: Final = _event(
    json.dumps(
        {
            "level": "INFO", "location": "ship:42", "message": "shipped", "service": "orders",
            "timestamp": "2026-03-14 10:15:30,123+0000", "cold_start": True,
            "function_request_id": "52fdfc07-2182-454f-963f-5f0f9a621d72",
            "items": [{"sku": f"A-{n}", "count": n % 7, "price": n * 1.25} for n in range(700)],
        }
    ).encode()
)  # fmt: skip
"""As Powertools for AWS Lambda writes a record (its documentation, Logger), with a long list."""


def corpus() -> dict[str, bytes]:
    """Kinds of nasty lines; each value is a few lines, to be sent again and again."""
    kinds: dict[str, bytes] = {}
    for mark in _SEARCHED:
        name = mark.decode().replace("\\", "")
        escaped = mark.replace(b"\\", b"").replace(b'"', b'\\"')
        kinds[f"{name} in a text"] = _text(escaped)
        kinds[f"{name} in each short line"] = _event(b'"' + escaped + b'"')
        kinds[f"{name} alone on a line"] = mark + b"\n"
        kinds[f"{name} in a line that is cut"] = _text(escaped)[:-3] + b"\n"
    quoted = b'"platform.report"'
    kinds |= {
        "names in a list": _list(quoted),
        "names as members": _event(b"{" + b",".join([quoted + b":1"] * 3000) + b"}"),
        "names in nested objects": _event(b'{"platform.report":' * 900 + b"1" + b"}" * 900),
        "type that is not text": b'{"type":7,"record":"platform.report"}\n',
        "event cut off": b'{"type":"platform.report"\n',
        "events one after the other on a line": b'{"type":"platform.report"}' * 2000 + b"\n",
        "the rare byte": _text(b"D"),
        "the rare byte, almost the name": _text(b"sDropped logsD"),
        "blank lines between": b"x\n\n",
        "blank lines with a return": b"x\r\n\r\n",
        "blank lines alone": b"\n",
        "lines of spaces": b"   \n \t\n",
        "returns": b"\r\r\r\r" * 30 + b"\n",
        "short lines with returns": b"x\r\n",
        "NULs": b"\0\0\0\n",
        "NULs, long": b"\0" * 50_000 + b"\n",
        "no JSON": b"xx\n",
        "not UTF-8": _text(b"\xff\xfe"),
        "half surrogates": _text(rb"\ud83d"),
        "escapes": _text(rb"\u0041\n\t\\"),
        "deep lists": b'{"type":"function","record":' + b"[" * 30_000 + b"]" * 30_000 + b"}\n",
        "deep lists, not closed": b'{"type":"function","record":' + b"[" * 60_000 + b"\n",
        "many members": _event(b"{" + b",".join(b'"k%d":1' % n for n in range(6000)) + b"}"),
        "endless number": _event(b"1" * 60_000),
        "numbers that JSON has not": _event(b"[" + b"NaN," * 15_000 + b"1]"),
        "texts after a number that JSON has not": _event(b"[NaN" + b',"a"' * 15_000 + b"]"),
        "type that is a list": b'{"type":[' + b"1," * 30_000 + b'"platform.report"],"record":1}\n',
        "an object that is no JSON": b"{errorType, Traceback (most recent call last)}\n",
        "an object and a brace": _text(rb"\"platform.report\"")[:-1] + b"}\n",
        "endless type": b'{"type":"' + b"t" * 60_000 + b'","record":1}\n',
        "endless request id": _event(b'{"requestId":"' + b"r" * 60_000 + b'"}', b"platform.start"),
        "endless level": _event(b'{"level":"' + b"L" * 60_000 + b'"}'),
        "tabs, as before a level": _text(rb"x\t"),
        "what a pattern begins with": _text(b"ERROR "),
        "what backtracks": _event(b'"' + b"a" * 25 + b'!"'),
        "what backtracks, long": _text(b"a"),
    }  # fmt: skip
    return kinds


ESCAPED: Final = frozenset({"escapes", "half surrogates"})
"""Kinds that are text in escapes: compared with ordinary text in escapes."""
MEMBERS: Final = frozenset(
    {
        "names in a list", "names as members", "names in nested objects", "many members",
        "numbers that JSON has not", "texts after a number that JSON has not", "deep lists",
        "deep lists, not closed", "type that is a list",
    }
)  # fmt: skip
"""Kinds that are lists and objects: compared with ordinary structured records."""
EVENTS: Final = frozenset({"event cut off", "events one after the other on a line"})
"""Kinds that name a platform event as their type: compared with ordinary events."""


class Cost(NamedTuple):
    """CPU seconds of ordinary lines."""

    per_line: float
    per_byte: float

    def of(self, data: bytes) -> float:
        """Return the cost of ordinary lines of the same number and length as those of `data`."""
        return self.per_line * data.count(b"\n") + self.per_byte * len(data)


class Ordinary(NamedTuple):
    """The cost of ordinary lines, by the form of their content."""

    text: Cost
    escaped: Cost
    members: Cost
    events: Cost

    def like(self, name: str) -> Cost:
        """Return the cost of what the kind `name` is compared with."""
        if name in EVENTS:
            return self.events
        if name in ESCAPED:
            return self.escaped
        return self.members if name in MEMBERS else self.text


def ordinary(measure: Callable[[bytes], float]) -> Ordinary:
    """Measure long lines of each form, short lines and events, and solve for the parts."""
    size = _ORDINARY_BYTES

    def cost(line: bytes) -> tuple[float, int, int]:
        block = repeated(line, size)
        return min(measure(block) for _ in range(4)), block.count(b"\n"), len(block)

    forms = []
    for line in (_text(b"order of customer 4711 shipped ", 32_768), _LONG_ESCAPED, _LONG_RECORD):
        taken, _, length = cost(line)
        forms.append(taken / length)  # so long that what each line costs is nothing beside it
    text, escaped, members = forms
    short, more, reach = cost(b'{"type":"function","record":1}\n')
    per_line = max((short - text * reach) / more, 0.0)
    event, events, extent = cost(b'{"type":"platform.logsDropped","record":{}}\n')
    per_event = max((event - text * extent) / events, per_line)
    return Ordinary(
        Cost(per_line, text), Cost(per_line, escaped), Cost(per_line, members),
        Cost(per_event, text),
    )  # fmt: skip


def repeated(lines: bytes, size: int) -> bytes:
    """`lines` again and again, about `size` bytes."""
    return lines * max(size // len(lines), 1)


def through_daemon(running: daemon.Daemon) -> Callable[[bytes], float]:
    """Return what measures the CPU seconds that `running` takes for some bytes."""
    pid = running.process.pid

    def measure(data: bytes) -> float:
        before = cpu_seconds(pid)
        with socket.create_connection(("127.0.0.1", running.port)) as sock:
            sock.sendall(data)
        wait_until_idle(pid, time.perf_counter(), _STILL_SECONDS)
        return cpu_seconds(pid) - before

    return measure


def through_the_extensions_scanners(data: bytes) -> float:
    """CPU seconds of framing, the watch for life-cycle events, and the search for our own log."""
    framer, watch = LineFramer(TailBudget(1 << 24)), EventWatch(LIFE_CYCLE)
    start = time.process_time()
    for at in range(0, len(data), _READ_BYTES):
        piece = data[at : at + _READ_BYTES]
        for part in framer.feed(piece, len(piece)):
            if isinstance(part, Block) and (kept := without_own_lines(part)[0]) is not None:
                watch.find(kept.data)
    return time.process_time() - start


def report(title: str, measure: Callable[[bytes], float], size: int) -> float:
    """Measure and print each kind; the worst ratio."""
    usual = ordinary(measure)
    mean = usual.text.of(repeated(block_of_lines(290), size)) / size * MIB * 1000
    print(f"\n{title}: ordinary lines of 290 bytes take {mean:.1f} ms of CPU per MiB\n")
    print("| lines | ms/MiB | times ordinary lines as many and as long |\n|---|---|---|")
    found = []
    for name, lines in corpus().items():
        data = repeated(lines, size)
        basis = usual.like(name).of(data)
        taken = measure(data)
        for _ in range(_AGAIN):  # a busy machine adds, and never takes away
            if taken > MOST * basis:
                taken = min(taken, measure(data))
        found.append((taken / basis, taken / len(data) * MIB * 1000, name))
    for ratio, cost, name in sorted(found, reverse=True):
        print(f"| {name} | {cost:.1f} | {ratio:.2f} |", flush=True)
    return max(found)[0]


def main(size: int) -> int:
    """Measure and print; the exit status."""
    keep_heap(MOST_KEPT_BYTES)  # as the daemon does
    title = "what only the extension looks for"
    worst = {title: report(title, through_the_extensions_scanners, size)}
    for title, sink in SINKS.items():
        say(f"starting telemetryd: {title}")
        with tempfile.TemporaryDirectory() as directory:
            filled = {
                key: value.replace("{scratch}", directory) if isinstance(value, str) else value
                for key, value in sink.items()
            }
            config = {"sinks": {"out": filled}}
            with daemon.running(config, Path(directory), ()) as running:
                measure = through_daemon(running)
                measure(block_of_lines(290))  # what is loaded only then
                worst[title] = report(title, measure, size)
                running.stop()
    print("\nThe worst, in times ordinary lines as many and as long:\n")
    for title, ratio in worst.items():
        print(f"  {title:<40}{ratio:>6.2f}")
    return int(max(worst.values()) > MOST)


if __name__ == "__main__":
    sys.exit(main(MIB * (int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MIB)))
