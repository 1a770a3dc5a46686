"""The least coverage of each package, by `make coverage`: `python tests/floors.py REPORT.json`.

A floor is what there is today, rounded down: it goes up with the code, and never down. What counts
are lines and branches together, in the process of the tests and in those that they start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FLOORS: Final = {
    "daemon/telemetryd": 95,
    "daemon/telemetryd/config": 99,
    "daemon/telemetryd/core": 100,
    "daemon/telemetryd/exposition": 95,
    "daemon/telemetryd/extension": 94,
    "daemon/telemetryd/local": 93,
    "daemon/telemetryd/replay": 95,
    "daemon/telemetryd/shell": 94,
    "daemon/telemetryd/sinks": 97,
    "daemon/telemetryd/testing": 88,
    "proto/telemetryd_proto": 100,
}
"""Per cent, by package; `daemon/telemetryd` is what lies in none of the others."""


def package_of(path: str, floors: Mapping[str, int]) -> str:
    """Return the longest name in `floors` that `path` lies below. Raises ValueError for none."""
    found = [name for name in floors if path.startswith(f"{name}/")]
    if not found:
        raise ValueError(f"{path} lies in no package that has a floor")
    return max(found, key=len)


def covered(files: Mapping[str, Any], floors: Mapping[str, int]) -> dict[str, float]:
    """Return the per cent of lines and branches of each package that were run."""
    sums = {name: [0, 0] for name in floors}
    for path, page in files.items():
        figures, total = page["summary"], sums[package_of(path, floors)]
        total[0] += figures["covered_lines"] + figures.get("covered_branches", 0)
        total[1] += figures["num_statements"] + figures.get("num_branches", 0)
    return {name: 100 * done / of if of else 100.0 for name, (done, of) in sums.items()}


def main(report: Path) -> int:
    """Print the table; 1 if a package is below its floor."""
    found = covered(json.loads(report.read_text())["files"], FLOORS)
    for name, per_cent in sorted(found.items()):
        verdict = "" if per_cent >= FLOORS[name] else "  TOO LITTLE"
        print(f"{name:<40} {per_cent:6.1f} %, at least {FLOORS[name]:3} %{verdict}")
    return int(any(found[name] < FLOORS[name] for name in FLOORS))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
