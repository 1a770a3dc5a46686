"""What a process needs in its environment to be measured by `make coverage`; else nothing.

Tests give processes an environment of their own, so that nothing of the machine's has an effect.
"""

from __future__ import annotations

import os
from typing import Final

MEASURED: Final = {name: os.environ[name] for name in os.environ if name.startswith("COVERAGE_")}
