"""botocore's service descriptions, cut down to the operations that telemetryd calls."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from layer.problem import BuildError

_GLOBAL = ("_retry.json", "partitions.json", "sdk-default-configuration.json")


def write(source: Path, target: Path, services: dict[str, list[str]]) -> None:
    """Write to `target` what botocore's data directory `source` says of `services`."""
    target.mkdir(parents=True)
    for name in _GLOBAL:
        _dump(target / name, _load(source / name))
    endpoints = _load(source / "endpoints.json")
    for partition in endpoints["partitions"]:
        known = partition["services"]
        partition["services"] = {name: known[name] for name in known if name in services}
    _dump(target / "endpoints.json", endpoints)
    for service, operations in services.items():
        versions = sorted(path.name for path in (source / service).iterdir())
        directory = target / service / versions[-1]
        directory.mkdir(parents=True)
        found = source / service / versions[-1]
        _dump(directory / "service-2.json", pruned(_load(found / "service-2.json"), operations))
        rules = _load(found / "endpoint-rule-set-1.json")
        _dump(directory / "endpoint-rule-set-1.json", rules)


def pruned(model: dict[str, Any], operations: list[str]) -> dict[str, Any]:
    """A service model with these operations and the shapes they need, without documentation."""
    missing = set(operations) - model["operations"].keys()
    if missing:
        raise BuildError(f"botocore knows no operation {', '.join(sorted(missing))}")
    kept = {name: model["operations"][name] for name in operations}
    needed: set[str] = set()
    waiting = [reference for operation in kept.values() for reference in _shapes_in(operation)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += _shapes_in(model["shapes"][name])
    shapes = {name: shape for name, shape in model["shapes"].items() if name in needed}
    found: dict[str, Any] = _undocumented({**model, "operations": kept, "shapes": shapes})
    return found


def _shapes_in(item: Any) -> list[str]:
    """Every shape that `item` refers to."""
    if isinstance(item, list):
        return [name for part in item for name in _shapes_in(part)]
    if not isinstance(item, dict):
        return []
    own = [item["shape"]] if isinstance(item.get("shape"), str) else []
    return own + [name for part in item.values() for name in _shapes_in(part)]


def _undocumented(item: Any) -> Any:
    if isinstance(item, list):
        return [_undocumented(part) for part in item]
    if not isinstance(item, dict):
        return item
    dropped = ("documentation", "documentationUrl")
    return {
        key: _undocumented(value)
        for key, value in item.items()
        if key not in dropped or not isinstance(value, str)
    }


def _load(path: Path) -> Any:
    if path.exists():
        return json.loads(path.read_bytes())
    return json.loads(gzip.decompress(path.with_name(path.name + ".gz").read_bytes()))


def _dump(path: Path, content: Any) -> None:
    """Uncompressed: at the start of the extension that is quicker, and the zip is compressed."""
    path.write_text(json.dumps(content, separators=(",", ":")))
