"""The handler that `/opt/telemetryd/wrap` puts before the function's own.

The script keeps the name of the function's handler in `_TELEMETRYD_HANDLER`. Importing this module
imports the function, as the runtime would, so what is wrong with it is an error of the init.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, Final

from telemetryd.internal.flushing import flush_on_return

VARIABLE: Final = "_TELEMETRYD_HANDLER"


def _load() -> Callable[[Any, Any], Any]:
    module, _, name = os.environ.get(VARIABLE, "").rpartition(".")
    if not module or not name:
        raise ImportError(f"{VARIABLE} does not name a handler, such as app.handler")
    found: Callable[[Any, Any], Any] = getattr(
        importlib.import_module(module.replace("/", ".")), name
    )
    return found


handler: Final = flush_on_return()(_load())
