"""The recipes of docs/http.md, as keys of a sink."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

_PAGE: Final = Path(__file__).parents[2] / "docs" / "http.md"


def recipe(name: str) -> dict[str, Any]:
    """Return the keys of `[sinks.<name>]` on the page, without its type."""
    for text in re.findall(r"```toml\n(.*?)```", _PAGE.read_text(), re.DOTALL):
        sinks = tomllib.loads(text).get("sinks", {})
        if name in sinks:
            keys = dict(sinks[name])
            assert keys.pop("type") == "http"
            return keys
    raise AssertionError(f"docs/http.md has no recipe for {name}")
