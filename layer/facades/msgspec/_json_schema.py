"""Stands in for `msgspec._json_schema`: two functions, which `telemetryd schema` alone calls."""

from typing import Any

import _become


def schema(*arguments: Any, **named: Any) -> Any:
    """As `msgspec.json.schema`."""
    return _become.attribute(globals(), "schema")(*arguments, **named)


def schema_components(*arguments: Any, **named: Any) -> Any:
    """As `msgspec.json.schema_components`."""
    return _become.attribute(globals(), "schema_components")(*arguments, **named)


def __getattr__(name: str) -> Any:
    return _become.attribute(globals(), name)
