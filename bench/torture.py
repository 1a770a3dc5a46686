"""Torture: random bytes, kills and damaged spools, with an independent oracle.

    python -m bench.torture [--minutes M] [--seed N] [--only fuzz kills damage] [--json]

Three programs take turns until the time is up (default: one minute). Each uses real processes of
`telemetryd listen`:

fuzz     sends random bytes and lines over several connections, cut anywhere. The oracle splits at
         newlines by itself. It knows what must be in the file, and what must be rejected and why.
kills    sends numbered lines to a sink with a spool that is down or up, and SIGKILL at a random
         moment. Lines that /metrics had reported as on disk must arrive from a later process,
         unchanged and in order.
damage   flips, overwrites or cuts off bytes of spools, or deletes whole files. Every line that is
         farther from the damage than one record can reach must arrive. No line may change.

Each process must end with a ledger that balances and agrees with the oracle. The exit status is 1
if anything is wrong. The seed of the turn is printed; it repeats exactly the same turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec

from bench.load.daemon import variables

PATIENCE_SECONDS: Final = 120
"""Seconds for anything on a busy machine."""
RECORD_BYTES: Final = 1400 * 1024
"""The largest record of a spool: 1 MiB, which is one read, and its header."""
SPOOLS: Final = 8
"""Damaged spools that one process recovers."""
KILLS: Final = 4
"""In one turn."""
_EMPTY_BYTES: Final = 64
"""A file of a spool that holds no record is not larger."""
_TOKENS: Final = (
    b"\n", b"\n\n", b"\r\n", b"\r", b"\0", b"\xff\xfe", b"{}", b" ", b"\t",
    b'{"type":"function","record":"x"}\n', b'{"type":"platform.logsDropped"', b'"platform.report"',
    b'{"type":"platform.report","record":{"requestId":"r"}}\n', b'"logger":"telemetryd"', b"\\",
    b'{"type":"platform.start","record":{"requestId":"r-1"}}\n', "größer \u2028".encode(),
    b"[" * 99,
)  # fmt: skip
_LINE: Final = re.compile(rb'\{"type":"function","record":"L(\d{8}) x*"\}\n')


class Wrong(Exception):  # noqa: N818 - a finding, not an error of this program
    """Something that telemetryd did and should not have done."""


class Totals(msgspec.Struct):
    """Counts of the attempts and of their outcomes."""

    lines: int = 0
    bytes: int = 0
    kills: int = 0
    spools: int = 0
    at_risk: int = 0
    """Lines that were in memory at a kill: nothing is promised of them."""
    damaged: int = 0
    """Lines within reach of a damage that did not arrive."""
    lost: int = 0
    """Lines that had to arrive and did not."""


class Process:
    """A `telemetryd listen` and what it says."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        self._log = directory / f"log-{time.monotonic_ns()}"
        environ = {"PATH": os.environ["PATH"], **variables(config)}
        environ |= {"TELEMETRYD_TELEMETRY__PORT": "0", "TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0"}
        command = [sys.executable, "-m", "telemetryd", "listen"]
        with self._log.open("wb") as said:
            self._process = subprocess.Popen(
                command, env=environ, stdout=subprocess.DEVNULL, stderr=said
            )
        self.port = int(self._said("listening")["port"])
        self._metrics = f"http://127.0.0.1:{self._said('metrics_served')['port']}/metrics"

    def _records(self) -> list[dict[str, Any]]:
        lines = self._log.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def _said(self, event: str, **facts: str) -> dict[str, Any]:
        wanted = {"event": event, **facts}

        def look() -> dict[str, Any] | None:
            has_ended = self._process.poll() is not None
            found = next((each for each in self._records() if wanted.items() <= each.items()), None)
            if found is None and has_ended:
                raise Wrong(f"ended without {event}: {self._log.read_text()[-800:]}")
            return found

        return waited(look, f"{event} in the log")

    def recovered(self, sink: str) -> int:
        """Lines found in a spool that holds records, once it has been looked at."""
        return int(self._said("spool_recovered", sink=sink)["lines"])

    def spooled(self, sink: str) -> int:
        """Lines on disk for `sink`, as /metrics tells."""
        with urllib.request.urlopen(self._metrics, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
            text = answer.read().decode()
        pattern = rf'^telemetryd_spooled_lines{{sink="{sink}"}} (\S+)$'
        found = re.search(pattern, text, re.MULTILINE)
        return int(float(found[1])) if found else 0

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def end(self) -> dict[str, Any]:
        """SIGTERM; the ledger. Raises Wrong where it does not balance."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise Wrong("did not end") from error
        ledger = next((each for each in self._records() if each["event"] == "ledger"), None)
        if status or ledger is None or not ledger["balanced"]:
            raise Wrong(f"ended with {status}, ledger {ledger}: {self._log.read_text()[-800:]}")
        return ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


_Found = TypeVar("_Found")


def waited(look: Callable[[], _Found | None], what: str) -> _Found:
    """Wait until `look` finds something, and return it. Raises Wrong if it finds nothing."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(0.005)
    raise Wrong(f"waited {PATIENCE_SECONDS} s for {what}")


def send(port: int, pieces: list[bytes]) -> None:
    """Send over a connection of its own, and wait until it is read to its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as sock:
        for piece in pieces:
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            sock.recv(1)


def _has_records(spool: Path) -> bool:
    """True if a file of `spool` is larger than one without a record."""
    return any(path.stat().st_size > _EMPTY_BYTES for path in spool.glob("*.spool"))


# -- random bytes ------------------------------------------------------------------------------


def fuzz(rng: random.Random, directory: Path, totals: Totals) -> None:
    """Random streams to a file that gets all lines and one that gets what patterns let through."""
    limit = rng.choice((1024, 4096, 1 << 20))
    texts = rng.choice(((), ("platform.*r",), ("x|größer",)))
    sinks: dict[str, Any] = {
        "all": {"type": "file", "path": str(directory / "all"), "overflow": "block"},
        "some": {
            "type": "file", "path": str(directory / "some"), "overflow": "block",
            "include": list(texts), "exclude": ["[0-9]{3}$"],
        },
    }  # fmt: skip
    config = {"telemetry": {"max_line_bytes": limit}, "sinks": sinks}
    streams = [_stream(rng, limit) for _ in range(rng.randint(1, 4))]
    with Process(directory, config) as process:
        senders = [
            threading.Thread(target=send, args=(process.port, list(_cut(rng, stream))))
            for stream in streams
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        ledger = process.end()
    good, rejected = Counter[bytes](), Counter[str]()
    for stream in streams:
        _judge(stream, limit, good, rejected)
    sent = {"lines": good.total() + rejected.total(), "bytes": sum(map(len, streams))}
    told = {each: count["lines"] for each, count in ledger["rejected"].items() if count["lines"]}
    if ledger["received"] != sent or told != rejected:
        raise Wrong(f"sent {sent} {rejected}, the ledger says {ledger['received']} {told}")
    totals.lines += sent["lines"]
    totals.bytes += sent["bytes"]
    _compare(directory / "all", good, totals)
    wanted = Counter({line: count for line, count in good.items() if _passes(line, texts)})
    _compare(directory / "some", wanted, totals)


def _passes(line: bytes, texts: tuple[str, ...]) -> bool:
    text = line.rstrip(b"\r\n")
    if texts and not any(re.search(pattern.encode(), text) for pattern in texts):
        return False
    return re.search(rb"[0-9]{3}$", text) is None


def _stream(rng: random.Random, limit: int) -> bytes:
    pieces: list[bytes] = []
    for _ in range(rng.randint(1, 20_000)):
        kind = rng.random()
        if kind < 0.7:
            pieces.append(rng.choice(_TOKENS))
        elif kind < 0.95:
            pieces.append(rng.randbytes(rng.randint(1, 40)))
        elif kind < 0.999:
            pieces.append(b"%d\n" % rng.getrandbits(40))
        else:
            pieces.append(b"y" * rng.randint(limit - 40, limit + 40))
    return b"".join(pieces)


def _cut(rng: random.Random, stream: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(stream):
        size = rng.choice((1, 7, 100, 4096, 65_536, 300_000))
        yield stream[at : at + size]
        at += size


def _judge(stream: bytes, limit: int, good: Counter[bytes], rejected: Counter[str]) -> None:
    *lines, rest = stream.split(b"\n")
    for line in lines:
        if line in (b"", b"\r"):
            rejected["empty"] += 1
        elif len(line) > limit:
            rejected["too_long"] += 1
        else:
            good[line + b"\n"] += 1
    if rest:
        rejected["too_long" if len(rest) > limit else "truncated"] += 1


def _compare(path: Path, wanted: Counter[bytes], totals: Totals) -> None:
    data = path.read_bytes() if path.exists() else b""
    found = Counter(line + b"\n" for line in data.split(b"\n")[:-1])
    if missing := wanted - found:
        totals.lost += missing.total()
        raise Wrong(f"{path.name}: {missing.total()} lines are missing, such as {min(missing)!r}")
    if more := found - wanted:
        raise Wrong(f"{path.name}: {more.total()} lines too many, such as {min(more)!r}")


# -- kills -------------------------------------------------------------------------------------


def numbered(first: int, count: int, rng: random.Random) -> list[bytes]:
    """So many lines that tell their number."""
    return [
        b'{"type":"function","record":"L%08d %s"}\n' % (number, b"x" * rng.randint(0, 300))
        for number in range(first, first + count)
    ]


def _gated(directory: Path, *, down: bool) -> dict[str, Any]:
    """A file sink with a spool; what makes it fail is a file where its directory should be."""
    gate = directory / "gate"
    if down:
        gate.write_bytes(b"")
    else:
        gate.unlink(missing_ok=True)
        (directory / "arrived").mkdir(exist_ok=True)
        gate.symlink_to(directory / "arrived")
    return {
        "type": "file", "path": str(gate / "out"), "overflow": "block",
        "spool": {"path": str(directory / "spool")},
    }  # fmt: skip


def kills(rng: random.Random, directory: Path, totals: Totals) -> None:
    """Processes that are killed one after the other; the last one delivers."""
    sent: dict[int, bytes] = {}
    disk: list[bytes] = []  # what was on disk when a process began, in order
    fresh: list[bytes] = []
    told = 0  # lines that /metrics had told to be on disk at the last kill
    for _ in range(KILLS):
        (directory / "gate").unlink(missing_ok=True)
        begun = _has_records(directory / "spool" / "s.file")
        with Process(directory, {"sinks": {"s": _gated(directory, down=True)}}) as process:
            recovered = process.recovered("s") if begun else 0
            if recovered < told:
                totals.lost += told - recovered
                raise Wrong(f"{told} lines were on disk at a kill, {recovered} are found")
            disk += fresh[: recovered - len(disk)]
            fresh = numbered(len(sent), rng.randint(100, 5000), rng)
            sent |= {len(sent) + at: line for at, line in enumerate(fresh)}
            thread = threading.Thread(target=_send_quietly, args=(process.port, fresh))
            thread.start()
            end = time.monotonic() + rng.choice((0.1, 1.0, PATIENCE_SECONDS))
            told = recovered
            while told < len(disk) + len(fresh) and time.monotonic() < end:
                told = process.spooled("s")
            process.kill()
            thread.join()
        totals.kills += 1
        totals.lines += len(fresh)
        totals.bytes += sum(map(len, fresh))
        totals.at_risk += len(disk) + len(fresh) - told
    (directory / "gate").unlink()
    begun = _has_records(directory / "spool" / "s.file")
    with Process(directory, {"sinks": {"s": _gated(directory, down=False)}}) as process:
        if begun:
            process.recovered("s")
        waited(lambda: True if not process.spooled("s") else None, "the spool to be delivered")
        process.end()
    _arrived(directory / "arrived" / "out", sent, (disk + fresh)[:told], totals)


def _send_quietly(port: int, lines: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # it is killed while we send
        send(port, [b"".join(lines[at : at + 50]) for at in range(0, len(lines), 50)])


def _arrived(path: Path, sent: dict[int, bytes], must: list[bytes], totals: Totals) -> None:
    """Check that `must` has arrived, nothing has changed, and the lines are in order."""
    data = path.read_bytes() if path.exists() else b""
    seen: dict[int, None] = {}
    for line in data.split(b"\n")[:-1]:
        match = _LINE.fullmatch(line + b"\n")
        if match is None or sent.get(int(match[1])) != line + b"\n":
            raise Wrong(f"arrived, and never sent: {line[:200]!r}")
        seen.setdefault(int(match[1]))
    if missing := set(must) - {sent[number] for number in seen}:
        totals.lost += len(missing)
        raise Wrong(f"{len(missing)} lines are missing, such as {min(missing)!r}")
    if list(seen) != sorted(seen):
        raise Wrong("lines arrived out of order")


# -- damage ------------------------------------------------------------------------------------


def damage(rng: random.Random, directory: Path, totals: Totals) -> None:
    """A spool, damaged in several ways at once, each in a copy; one process recovers all copies."""
    lines = numbered(0, rng.randint(15_000, 50_000), rng)
    sent = dict(enumerate(lines))
    with Process(directory, {"sinks": {"s": _gated(directory, down=True)}}) as process:
        send(process.port, [b"".join(lines[at : at + 20]) for at in range(0, len(lines), 20)])
        waited(lambda: True if process.spooled("s") == len(lines) else None, "lines on disk")
        process.kill()
    (kept,) = (directory / "spool").iterdir()
    sinks: dict[str, Any] = {}
    must: dict[str, list[bytes]] = {}
    begun: list[str] = []
    for number in range(SPOOLS):
        name = f"s{number}"
        copy = directory / "copies" / name / f"{name}.file"
        shutil.copytree(kept, copy)
        must[name] = _damaged(rng, copy)
        if _has_records(copy):
            begun.append(name)
        sinks[name] = {
            "type": "file", "path": str(directory / name), "overflow": "block",
            "spool": {"path": str(copy.parent)},
        }  # fmt: skip
    with Process(directory, {"memory": {"max_bytes": 64 << 20}, "sinks": sinks}) as process:
        for name in begun:
            process.recovered(name)
            waited(lambda name=name: True if not process.spooled(name) else None, f"{name}'s spool")  # type: ignore[misc]  # bound now
        ledger = process.end()
    for name, wanted in must.items():
        _arrived(directory / name, sent, wanted, totals)
        page = ledger["sinks"][name]
        path = directory / name
        arrived = set(path.read_bytes().split(b"\n")[:-1]) if path.exists() else set()
        gone = len(lines) - len(arrived)
        known = page["recovered"]["lines"] >= len(lines)
        dropped = sum(count["lines"] for count in page["dropped"].values())
        if known and gone > dropped:
            raise Wrong(f"{name}: {gone} lines did not arrive, {dropped} are told: {page}")
        totals.damaged += gone
        totals.spools += 1
    totals.lines += len(lines) * SPOOLS
    totals.bytes += sum(map(len, lines)) * SPOOLS


def _damaged(rng: random.Random, spool: Path) -> list[bytes]:
    """Damage one file of `spool`; the lines that lie out of reach, and must arrive."""
    files = sorted(path for path in spool.iterdir() if path.suffix == ".spool")
    chosen = rng.choice(files)
    data = bytearray(chosen.read_bytes())
    at = rng.choice((rng.randrange(64), rng.randrange(len(data)), rng.randrange(len(data))))
    end = min(at + rng.choice((1, 4, 100, 5000)), len(data))
    how = rng.choice(("flip", "zero", "noise", "cut", "delete", "append"))
    must = []
    for path in files:
        intact = path.read_bytes()
        for match in _LINE.finditer(intact):
            far = match.end() < at - RECORD_BYTES
            if how not in ("cut", "delete"):
                far |= match.start() > end + RECORD_BYTES
            if path != chosen or how == "append" or (far and how != "delete"):
                must.append(match[0])
    if how == "delete":
        chosen.unlink()
        return must
    if how == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif how == "zero":
        data[at:end] = bytes(end - at)
    elif how == "noise":
        data[at:end] = rng.randbytes(end - at)
    elif how == "cut":
        del data[at:]
    else:
        data += rng.randbytes(rng.randint(1, 10_000))
    chosen.write_bytes(data)
    return must


PROGRAMS: Final = {"fuzz": fuzz, "kills": kills, "damage": damage}


def main() -> int:
    """Take turns until the time is up; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.torture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="at least one turn of each")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")
    options = parser.parse_args()
    totals, wrong, turn = Totals(), [], 0
    end = time.monotonic() + 60 * options.minutes
    while turn < len(options.only) or time.monotonic() < end:
        name = options.only[turn % len(options.only)]
        seed = options.seed + turn
        turn += 1
        with tempfile.TemporaryDirectory(prefix="telemetryd-torture-") as directory:
            try:
                PROGRAMS[name](random.Random(seed), Path(directory), totals)
            except Wrong as found:
                wrong.append(f"{found}; again: python -m bench.torture --only {name} --seed {seed}")
                print(f"{name}: {wrong[-1]}", file=sys.stderr, flush=True)
    told = msgspec.to_builtins(totals) | {"turns": turn, "wrong": len(wrong)}
    if options.json:
        print(json.dumps(told))
    else:
        print(
            f"{turn} turns, seed {options.seed}: {totals.lines:,} lines and {totals.bytes:,} bytes "
            f"sent, {totals.kills:,} kills, {totals.spools:,} damaged spools; "
            f"{totals.lost:,} lines lost; {totals.at_risk:,} were in memory at a kill, and damage "
            f"reached {totals.damaged:,}; {len(wrong)} turns went wrong"
        )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
