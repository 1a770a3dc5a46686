"""`make layer-profile`: makes the profile (layer/profile) by which the layer is compiled.

Builds the interpreter once more, so that it counts how often each branch runs, and lets it live
on the local Lambda as an extension: short lives with each sink, and one with many lines. Needs what
`make layer` needs, `make test`'s environment, and `llvm-profdata` (of any LLVM since 14) on PATH.

To be run after an update of CPython, uvloop or msgspec, or when what a start does has changed a
lot. A profile that is a little old costs a little speed and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import lzma
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.coldstart.subjects import unpack
from bench.load.kinesis_service import STREAM, decoded, serving
from bench.load.scenario import Service
from layer import build, profile, start
from layer.cache import Cache, default_directory
from layer.machines import this_machine
from layer.problem import BuildError
from telemetryd.local import LocalConfig, LocalLambda

_HANDLER = Path(__file__).parents[1] / "examples" / "handler"
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "layer",
    "AWS_SECRET_ACCESS_KEY": "layer",
    "AWS_REGION": "eu-west-1",
}
_FEW = ({"print": 3}, {"print": 1, "log": "json"}, {"raise": "no stock"})
SHORT = "short"
"""The name, instead of `base`'s, for the counts of lives that hardly do more than to start."""
_RECORD = struct.Struct("<QQqqQQIHHHxxI")
"""`__llvm_profile_data`, of LLVM 22: name, hash, counters from here, ..., number of counters."""


class Function(NamedTuple):
    """The key of a function's counts."""

    name: str
    shape: int


def lives(launcher: Path, place: Path, base: Path) -> None:
    """Let the extension at `launcher` live, with every sink; it counts in `base`.PID.

    Raises BuildError if their lines did not arrive. The shortest lives count in SHORT.PID beside
    it.
    """
    file = {"TYPE": "file", "PATH": str(place / "lines.ndjson")}
    for sinks in ({}, {"OUT": {"TYPE": "stdout"}}, {"OUT": file}):
        live(launcher, base.with_name(SHORT), sinks, _FEW)
    for _ in range(8):
        live(launcher, base, {"OUT": file}, _FEW)
    live(launcher, base, {"OUT": file}, [{"print": 20_000}] * 3)
    filtered = {**file, "TYPES": "function", "INCLUDE": "order accepted i=[0-9]*7$"}
    emf = {"TYPE": "emf", "PATH": str(place / "emf.ndjson"), "NAMESPACE": "layer"}
    live(launcher, base, {"OUT": filtered, "EMF": emf}, [*_FEW, {"print": 5_000}])
    live(launcher, base, {"OUT": {"TYPE": "stdout"}}, _FEW)
    with serving(Service(), place, []) as server:
        kinesis = {"TYPE": "kinesis", "STREAM": STREAM, "ENDPOINT_URL": server.url}
        for client in ("lean", "lean", "aiobotocore"):
            live(launcher, base, {"OUT": {**kinesis, "CLIENT": client}}, _FEW)
        arrived = {
            file["PATH"]: Path(file["PATH"]).read_bytes().count(b"\n"),
            "Kinesis": sum(len(lines) for _, lines in decoded(server.records()[0])),
        }
    for where, wanted in ((file["PATH"], 60_000), ("Kinesis", 3 * len(_FEW))):
        if arrived[where] < wanted:
            raise BuildError(f"only {arrived[where]} lines arrived at {where}: lives went wrong")


def live(
    launcher: Path, base: Path, sinks: dict[str, dict[str, str]], events: Sequence[object]
) -> None:
    """One environment with `sinks`, from its init to its end."""
    named = {
        f"TELEMETRYD_SINKS__{sink}__{key}": value
        for sink, keys in sinks.items()
        for key, value in keys.items()
    }
    config = LocalConfig(
        bootstrap=[sys.executable, "-m", "awslambdaric", "app.handler"],
        task_root=_HANDLER,
        extensions=[launcher],
        extension_env={
            **_CREDENTIALS, **named, "TELEMETRYD_LAMBDA__START": "init",
            "TELEMETRYD_TELEMETRY__PORT": "0", "LAYER_PROFILE": str(base),
        },
        private_hosts=False,
        timeout=60.0,
        shutdown_budget=20.0,
    )  # fmt: skip

    async def scenario() -> None:
        async with LocalLambda(config) as environment:
            for event in events:
                await environment.invoke(event)

    asyncio.run(scenario())


def counted(dumped: bytes) -> Iterator[tuple[Function, tuple[int, ...]]]:
    """The counts of each function, of what layer/c/profile.c has written."""
    data, data_end, counters, counters_end, names, names_end = struct.unpack_from("<6Q", dumped)
    at_counters = 48 + data_end - data
    at_names = at_counters + counters_end - counters
    by_hash = {
        int.from_bytes(hashlib.md5(name, usedforsecurity=False).digest()[:8], "little"): name
        for name in _names(dumped[at_names : at_names + names_end - names])
    }
    for at in range(0, data_end - data, _RECORD.size):
        name, shape, distance, _, _, _, count, *_ = _RECORD.unpack_from(dumped, 48 + at)
        offset = at_counters + data + at + distance - counters
        values = struct.unpack_from(f"<{count}Q", dumped, offset)
        yield Function(by_hash[name].decode(), shape), values


def _names(section: bytes) -> Iterator[bytes]:
    """The names of all functions: pieces of a length, a compressed length, and a text."""
    at = 0
    while at < len(section):
        if not section[at]:  # between two pieces
            at += 1
            continue
        size, at = _number(section, at)
        packed, at = _number(section, at)
        piece = section[at : at + (packed or size)]
        yield from (zlib.decompress(piece) if packed else piece).split(b"\1")
        at += packed or size


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number in LEB128, and where it ends."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1


def names(files: Sequence[Path]) -> str:
    """The names of what ran, one a line, as the linker knows them."""
    found = {
        function.name.rpartition(";")[2]
        for file in files
        for function, values in counted(file.read_bytes())
        if any(values)
    }
    return "".join(f"{name}\n" for name in sorted(found))


def text(files: Sequence[Path]) -> str:
    """The sum of what the files counted, in LLVM's text format, without what never ran."""
    total: dict[Function, list[int]] = {}
    for file in files:
        for function, values in counted(file.read_bytes()):
            so_far = total.get(function, [0] * len(values))
            total[function] = [a + b for a, b in zip(so_far, values, strict=True)]
    lines = [":ir"]
    for function, counts in sorted(total.items()):
        # What did not run is not cold: it is what other lives are made of.
        if any(counts):
            lines += [function.name, str(function.shape), str(len(counts)), *map(str, counts), ""]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Build, count, and write the file."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        zipped = build.build(Cache(default_directory()), this_machine(), place, counting=True)
        launcher = unpack(zipped, place / "opt")
        lives(launcher, place, place / "counts")
        short = sorted(place.glob(f"{SHORT}.[0-9]*"))
        counts = sorted(place.glob("counts.[0-9]*"))
        (place / "counts.txt").write_text(text([*short, *counts]))
        result = place / "profile.profdata"
        merge = ["llvm-profdata", "merge", "-o", str(result), str(place / "counts.txt")]
        subprocess.run(merge, check=True)
        profile.FILE.write_bytes(lzma.compress(result.read_bytes(), preset=9 | lzma.PRESET_EXTREME))
        start.FILE.write_text(names(short))
    print(f"{start.FILE} ({len(start.FILE.read_text().split())} functions)")
    print(f"{profile.FILE} ({profile.FILE.stat().st_size / 1000:.0f} kB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
