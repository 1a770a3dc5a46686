"""The stored results of `bench.short_life`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from bench.kit.stats import median_interval
from bench.short_life.deliveries import Delivery
from bench.short_life.settings import IN_INIT, LIVES, OURS, Share, is_sure
from bench.short_life.stage import Figures


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One subject under one condition. Runs with the same place in all rows are a pair."""

    name: str
    title: str
    sink: str
    runs: list[Figures]


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One life with one share of a CPU."""

    life: str
    """Its name."""
    share: Share
    subject: str
    """The measured artefact of telemetryd: its layer."""
    rows: list[Row]

    @property
    def title(self) -> str:
        """As it stands above a table."""
        life = LIVES[self.life].title
        return f"{life[0].upper()}{life[1:]}, {self.share.title}"

    def row(self, name: str) -> Row | None:
        """Return the row of that name."""
        return next((row for row in self.rows if row.name == name), None)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was measured."""

    machine: dict[str, str]
    conditions: list[Condition] = []
    deliveries: list[Delivery] = []
    absent: dict[str, str] = {}
    """The reason why there is no figure, by measurement."""

    def runs(self, life: str, share: str, row: str) -> list[Figures]:
        """Return the runs of that row; none where it was not measured."""
        for condition in self.conditions:
            if (condition.life, condition.share.name) == (life, share):
                found = condition.row(row)
                return found.runs if found else []
        return []


def find_losses(result: Result) -> Iterator[str]:
    """Yield what was lost where no run of telemetryd may lose a line, or not end with a ledger."""
    for condition in result.conditions:
        for row in condition.rows:
            if not (
                row.name.startswith((OURS, IN_INIT))
                and is_sure(condition.life, condition.share.name, row.sink)
            ):
                continue
            bad = [run for run in row.runs if run.lines.lost or run.failed]
            if bad:
                lost = sum(run.lines.lost for run in bad)
                why = next((f": {run.failed}" for run in bad if run.failed), "")
                yield (
                    f"{condition.title}: {row.title}: {lost:,} lines lost in {len(bad)} of "
                    f"{len(row.runs)} runs{why}"
                )


def merge(before: Result, now: Result) -> Result:
    """Return `now` with what of `before` was not measured again: whole conditions."""
    measured = {(each.life, each.share.name) for each in now.conditions}
    kept = [each for each in before.conditions if (each.life, each.share.name) not in measured]
    again = {(each.kind, each.name) for each in now.deliveries}
    return msgspec.structs.replace(
        now,
        conditions=sorted([*kept, *now.conditions], key=_order),
        deliveries=[
            *(each for each in before.deliveries if (each.kind, each.name) not in again),
            *now.deliveries,
        ],
    )


def _order(condition: Condition) -> tuple[int, bool, float]:
    share = condition.share
    return list(LIVES).index(condition.life), share.init != share.then, share.then


def spread(values: Sequence[float], places: int) -> str:
    """Return `median (low to high)`: an interval if there are enough values; else one value."""
    if not values:
        return ""
    shown = [f"{round(value, places) + 0.0:,.{places}f}" for value in median_interval(values)]
    return shown[0] if len(values) == 1 else f"{shown[0]} ({shown[1]} to {shown[2]})"
