"""One scenario of `kind = "load"`: telemetryd and its peers, run after run in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from bench.kit.errors import AbsentError, LossError
from bench.kit.machine import describe
from bench.kit.progress import Progress, say
from bench.load import measure
from bench.load.report import Result, Row
from bench.load.run import Run
from bench.load.scenario import Load
from bench.peers import catalog
from bench.peers.catalog import Peer, PeerAbsentError, PeerError

GENERATOR = "generator"


def measured(name: str, load: Load, peers: Sequence[str]) -> Result:
    """Measure each row `load.repeat` times. Raises LossError where telemetryd loses a line.

    A peer that is not to be had, or that does not write what it was sent, is a row without figures.
    """
    rows: list[Row] = []
    runners: dict[str, Callable[[], Run]] = {}
    for title, variant in load.rows():
        rows.append(Row(receiver=title, title=title, runs=[]))
        runners[title] = lambda variant=variant: measure.telemetryd(variant)  # type: ignore[misc]  # bound now
    if not load.source.rate:
        rows.append(Row(receiver=GENERATOR, title=GENERATOR, kind=GENERATOR, runs=[]))
        runners[GENERATOR] = lambda: measure.generator(load.source)
    known = catalog.load()
    for peer in (known[each] for each in peers):
        say(f"preparing {peer.name}")
        rows.append(_row(peer))
        runners[peer.name] = lambda peer=peer: measure.peer(peer, load.source)  # type: ignore[misc]  # bound now
    absent = {row.receiver: row.absent for row in rows if row.absent}
    progress, done = Progress(name), 0
    total = load.repeat * (len(rows) - len(absent))
    for _ in range(load.repeat):
        for row in rows:
            if row.receiver in absent:
                continue
            progress.show(done, total, row.title)
            done += 1
            try:
                row.runs.append(runners[row.receiver]())
            except AbsentError as error:
                absent[row.receiver] = str(error)
            except (PeerError, LossError) as error:
                if row.kind == "ours":
                    raise LossError(f"{row.title}: {error}") from error
                absent[row.receiver] = f"failed: {str(error).splitlines()[0][:200]}"
    progress.end()
    rows = [
        msgspec.structs.replace(row, absent=absent[row.receiver], runs=[])
        if row.receiver in absent else row
        for row in rows
    ]  # fmt: skip
    return Result(scenario=name, settings=load, machine=describe(), rows=rows)


def _row(peer: Peer) -> Row:
    spec = peer.spec
    row = Row(
        receiver=peer.name, title=spec.title, kind=spec.kind, does=spec.does,
        does_not=spec.does_not, runs=[],
    )  # fmt: skip
    try:
        peer.prepare()
        return msgspec.structs.replace(row, version=peer.version())
    except PeerError as error:
        kind = "" if isinstance(error, PeerAbsentError) else "does not build: "
        return msgspec.structs.replace(row, absent=kind + str(error).splitlines()[0][:200])
