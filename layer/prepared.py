"""A configuration file for the layer, in the form that its launcher reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from layer.problem import BuildError

_MODULE = "telemetryd.config.prepared"


def read(config: Path) -> bytes:
    """Return the settings of the file as variables. Raises BuildError for what is not valid.

    telemetryd itself reads the file. Its warnings go to standard error.
    """
    command = [sys.executable, "-m", _MODULE, str(config)]
    done = subprocess.run(command, capture_output=True, check=False)
    told = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0:
        if "No module named" in told:
            told = f"telemetryd is not installed in {sys.executable}: use `make layer CONFIG=FILE`"
        raise BuildError(told or f"{_MODULE} ended with {done.returncode}")
    if told:
        print(told, file=sys.stderr)
    return done.stdout
