"""Runs where cyclonedx-python-lib is installed: `python sbom_worker.py PLAN DOCUMENT`.

PLAN is JSON: name, version, purl, licence, sha256 and file of the layer, and the same of its parts.
The same plan gives the same bytes: serial number and time come from it, not from the machine.
"""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

_DATE = datetime(2000, 1, 1, tzinfo=UTC)
"""As in the zip: what is built does not depend on when."""


def main(plan: dict[str, Any]) -> str:
    """The document."""
    layer = _component(plan, ComponentType.APPLICATION)
    layer.properties.add(Property(name="file", value=plan["file"]))
    parts = [_component(part, ComponentType.LIBRARY) for part in plan["parts"]]
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{plan['purl']}#{plan['sha256']}"),
        metadata=BomMetaData(timestamp=_DATE, component=layer),
        components=parts,
    )
    bom.register_dependency(layer, parts)
    document: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return document + "\n"


def _component(part: dict[str, Any], kind: ComponentType) -> Component:
    found = Component(
        name=part["name"],
        version=part["version"],
        type=kind,
        purl=PackageURL.from_string(part["purl"]),
        bom_ref=f"{part['name']}@{part['version']}",
        licenses=[LicenseFactory().make_from_string(part["licence"])],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=part["sha256"])],
    )
    if part.get("within"):  # it has no archive of its own: the hash is of what brings it along
        found.properties.add(Property(name="within", value=part["within"]))
    return found


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(main(json.loads(Path(sys.argv[1]).read_text())))
