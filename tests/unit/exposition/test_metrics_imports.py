"""Prometheus' library is loaded where metrics are served, and nowhere else."""

import subprocess
import sys

CODE = """
import sys
import telemetryd.extension.run, telemetryd.extension.fallback, telemetryd.listen
import telemetryd.cli, telemetryd.commands.check
from telemetryd.sinks.registry import BUILT_IN, sink_class
for name in BUILT_IN:
    sink_class(name)
print(*(name for name in sys.modules if name.startswith(("prometheus", "telemetryd.expo"))))
"""


def test_whoever_serves_no_metrics_pays_for_no_library() -> None:
    """Its import brings an HTTP server and a client along."""
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
