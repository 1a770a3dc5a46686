"""Stands in for `asyncio`: what telemetryd uses on uvloop, without asyncio's own loops."""

from typing import Any

import _become

from .coroutines import *
from .events import *
from .exceptions import *
from .futures import *
from .locks import *
from .protocols import *
from .queues import *
from .runners import *
from .streams import *
from .tasks import *
from .timeouts import *
from .transports import *

_FOR_UVLOOP = {"AbstractChildWatcher": ()}
"""For `isinstance`: no signal handler is one's."""


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)
