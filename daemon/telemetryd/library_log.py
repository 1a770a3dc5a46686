"""Has what libraries log come out in telemetryd's own log, without loading `logging` for it."""

from __future__ import annotations

import logging
from functools import partial

from telemetryd.log import Log


def bridge(log: Log) -> None:
    """Send what libraries log through `logging` to `log`, from warnings on.

    In the layer something else stands in for `logging` until anything of it is needed
    (layer/facades); most environments end before that.
    """
    when_loaded = getattr(logging, "when_loaded", None)
    if when_loaded is None:
        _bridge(log)
    else:
        when_loaded(partial(_bridge, log))


def _bridge(log: Log) -> None:
    from telemetryd.logging_bridge import LoggingBridge  # noqa: PLC0415 - needs all of `logging`

    logging.getLogger().addHandler(LoggingBridge(log))
