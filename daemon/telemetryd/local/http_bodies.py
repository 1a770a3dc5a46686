"""Answers in the form of Lambda's own HTTP services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

_encode = msgspec.json.Encoder().encode


def json_answer(
    body: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return `body` as JSON."""
    return web.Response(
        body=_encode(body), status=status, headers=headers, content_type="application/json"
    )


def error_answer(
    status: int, error_type: str, message: str, *, plain_text: bool = False
) -> web.Response:
    """Return `{"errorType", "errorMessage"}`; with `plain_text` broken like the emulator's.

    AWS's emulator puts messages with unescaped quotes into some bodies, which makes them invalid.
    """
    if plain_text:
        text = f'{{"errorType": "{error_type}", "errorMessage": "value must be "{message}""}}'
        return web.Response(text=text, status=status)
    return json_answer({"errorMessage": message, "errorType": error_type}, status)
