"""`telemetryd listen` that looks for all events of the life cycle, as the extension does.

    python -m bench.load.lambda_watch listen

`listen` itself looks only for what its ledger needs. For a scenario's `watch = "lambda"`.
"""

from __future__ import annotations

from typing import Final

from telemetryd import app
from telemetryd.__main__ import main as telemetryd
from telemetryd.core.watch import LIFE_CYCLE

_WATCHED: Final = "LOSSES"
"""The name in `telemetryd.app` of the events that `listen` looks for."""


def main() -> None:
    """Run the command line with the extension's watch."""
    if not getattr(app, _WATCHED) <= LIFE_CYCLE:
        raise SystemExit(f"telemetryd.app.{_WATCHED} is not what it was")
    setattr(app, _WATCHED, LIFE_CYCLE)
    telemetryd()


if __name__ == "__main__":
    main()
