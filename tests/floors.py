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

Packages = tuple[str, ...]

FLOORS: Final[dict[Packages, int]] = {
    ("daemon/telemetryd",): 95,
    ("daemon/telemetryd/config",): 99,
    ("daemon/telemetryd/core",): 100,
    ("daemon/telemetryd/delivery", "daemon/telemetryd/ingest", "daemon/telemetryd/spool"): 94,
    ("daemon/telemetryd/exposition",): 95,
    ("daemon/telemetryd/extension",): 94,
    ("daemon/telemetryd/http_client",): 97,
    ("daemon/telemetryd/local",): 93,
    ("daemon/telemetryd/replay",): 95,
    ("daemon/telemetryd/sinks",): 97,
    ("daemon/telemetryd/testing",): 88,
    ("proto/telemetryd_proto",): 100,
}
"""Per cent, by packages that are judged together; the first is what lies in none of the others."""


def packages_of(path: str, floors: Mapping[Packages, int]) -> Packages:
    """Return those of `floors` of which one is the innermost that holds `path`.

    Raises ValueError for none.
    """
    found = [
        (len(name), names) for names in floors for name in names if path.startswith(f"{name}/")
    ]
    if not found:
        raise ValueError(f"{path} lies in no package that has a floor")
    return max(found)[1]


def covered(files: Mapping[str, Any], floors: Mapping[Packages, int]) -> dict[Packages, float]:
    """Return the per cent of lines and branches of each group of packages that were run."""
    sums = {names: [0, 0] for names in floors}
    for path, page in files.items():
        figures, total = page["summary"], sums[packages_of(path, floors)]
        total[0] += figures["covered_lines"] + figures.get("covered_branches", 0)
        total[1] += figures["num_statements"] + figures.get("num_branches", 0)
    return {names: 100 * done / of if of else 100.0 for names, (done, of) in sums.items()}


def main(report: Path) -> int:
    """Print the table; 1 if a package is below its floor."""
    found = covered(json.loads(report.read_text())["files"], FLOORS)
    for names, per_cent in sorted(found.items()):
        verdict = "" if per_cent >= FLOORS[names] else "  TOO LITTLE"
        print(f"{per_cent:6.2f} %, at least {FLOORS[names]:3} %  {' '.join(names)}{verdict}")
    return int(any(found[names] < FLOORS[names] for names in FLOORS))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
