"""Put before the function by `wrap`, because a handler is named by its module."""

import sys
from pathlib import Path

try:
    import telemetryd.internal  # noqa: F401 - to see whether it is there
except ImportError:  # the function has none of its own, which would be the whole package
    sys.path.append(str(Path(__file__).with_name("package")))

from telemetryd.internal.wrap import handler

__all__ = ["handler"]
