"""The software bill of materials beside the zip: CycloneDX 1.6."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from layer import packages
from layer.cache import HERE
from layer.fetch import Source

_VENDORED = {
    "uvloop": ("libuv", "vendor/libuv/include/uv/version.h", "UV_VERSION_{}"),
    "zstandard": ("zstd", "zstd/zstd.h", "ZSTD_VERSION_{}"),
}
_PARTS = (("MAJOR", "MINOR", "PATCH"), ("MAJOR", "MINOR", "RELEASE"))


def project_version() -> str:
    """Telemetryd's own."""
    text = (HERE.parent / "telemetryd" / "__init__.py").read_text()
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    return match.group(1) if match else "0"


def document(zipped: Path, sources: dict[str, Source], found: packages.Packages) -> str:
    """The document for the layer `zipped`."""
    components = [
        _component(s.name, s.version, f"pkg:generic/{s.name}@{s.version}", s.license)
        for s in sources.values()
    ]
    for name in packages.pinned():
        version = packages.version(name)
        components.append(_component(name, version, f"pkg:pypi/{name}@{version}", ""))
    for (owner, (name, file, pattern)), parts in zip(_VENDORED.items(), _PARTS, strict=True):
        text = (found.source(owner) / file).read_text(errors="replace")
        numbers = [re.search(rf"define\s+{pattern.format(part)}\s+(\d+)", text) for part in parts]
        version = ".".join(number.group(1) for number in numbers if number)
        components.append(_component(name, version, f"pkg:generic/{name}@{version}", ""))
    digest = hashlib.sha256(zipped.read_bytes()).hexdigest()
    version = project_version()
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                **_component("telemetryd", version, f"pkg:pypi/telemetryd@{version}", "Apache-2.0"),
                "type": "application",
                "hashes": [{"alg": "SHA-256", "content": digest}],
                "properties": [{"name": "file", "value": zipped.name}],
            }
        },
        "components": sorted(components, key=lambda component: component["name"]),
    }
    return json.dumps(content, indent=2) + "\n"


def _component(name: str, version: str, purl: str, licence: str) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "library", "name": name, "version": version, "purl": purl}
    if licence:
        found["licenses"] = [{"license": {"id": licence}}]
    return found
