"""Checks if a policy allows a call. It knows the IAM rules that we use: Allow, `*`, `?`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any


def allows(statements: Iterable[Mapping[str, Any]], action: str, resource: str) -> bool:
    """Some statement names the action and matches the resource."""
    return any(
        action in statement["Action"]
        and any(_matches(pattern, resource) for pattern in statement["Resource"])
        for statement in statements
    )


def _matches(pattern: str, text: str) -> bool:
    expression = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None
