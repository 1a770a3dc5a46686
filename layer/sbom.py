"""The software bill of materials beside the zip, written by cyclonedx-python-lib."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from layer import shell
from layer.cache import HERE
from layer.inside import Part
from layer.problem import BuildError
from layer.toolchain import Toolchain


def project_version() -> str:
    """Telemetryd's own. Raises BuildError where it does not stand."""
    text = (HERE.parent / "daemon" / "telemetryd" / "__init__.py").read_text()
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise BuildError("daemon/telemetryd/__init__.py has no __version__")
    return match[1]


def write(tools: Toolchain, zipped: Path, parts: Iterable[Part]) -> None:
    """Write the document of the layer `zipped` beside it. Raises BuildError."""
    version = project_version()
    plan = {
        "name": "telemetryd",
        "version": version,
        "purl": f"pkg:pypi/telemetryd@{version}",
        "licence": "Apache-2.0",
        "sha256": hashlib.sha256(zipped.read_bytes()).hexdigest(),
        "file": zipped.name,
        "parts": [
            {
                "name": part.name,
                "version": part.version,
                "purl": part.purl,
                "licence": part.licence,
                "sha256": part.sha256,
                "within": part.within,
            }
            for part in parts
        ],
    }
    document = zipped.with_suffix(".cdx.json").resolve()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / "plan.json").write_text(json.dumps(plan))
        worker = [tools.python, "-I", HERE / "sbom_worker.py"]
        shell.run([*worker, work / "plan.json", document], work, shell.environment(), work / "log")
