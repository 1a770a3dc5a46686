"""`telemetryd listen` that does something in another way, to measure the difference.

    python -m bench.load.altered WATCH SCANNER listen

WATCH is a scenario's `watch`: with `lambda` it looks for all events of the life cycle, as the
extension does; `listen` itself looks only for what its ledger needs. SCANNER is its `scanner`: with
`python` the compiled scanner is not used, though it be installed.
"""

from __future__ import annotations

import sys
from typing import Final

from telemetryd import app
from telemetryd.__main__ import main as telemetryd
from telemetryd.core.watch import LIFE_CYCLE
from telemetryd_proto import scan

_WATCHED: Final = "LOSSES"
"""The events that `listen` looks for, by their name in `telemetryd.app`."""


def main(watch: str, scanner: str, *arguments: str) -> None:
    """Run the command line `arguments` so altered."""
    if not getattr(app, _WATCHED) <= LIFE_CYCLE:
        raise SystemExit(f"telemetryd.app.{_WATCHED} is not what it was")
    if watch == "lambda":
        setattr(app, _WATCHED, LIFE_CYCLE)
    if scanner == "python":
        scan.compiled = None
    sys.argv[1:] = arguments
    telemetryd()


if __name__ == "__main__":
    main(*sys.argv[1:])
