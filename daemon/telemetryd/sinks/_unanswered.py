"""Requests that got no answer, as sinks count them."""

from __future__ import annotations

from typing import Final

UNANSWERED: Final = {
    "name_not_found": "unreachable",
    "unreachable": "unreachable",
    "connect_timeout": "connect_timeout",
    "proxy_unreachable": "proxy_unreachable",
    "proxy_refused": "proxy_unreachable",
    "proxy_credentials": "proxy_unreachable",
    "tls_error": "tls_error",
    "send_timeout": "read_timeout",
    "read_timeout": "read_timeout",
    "timeout": "read_timeout",
    "connection_lost": "connection_lost",
    "closed": "connection_lost",
    "garbled_answer": "garbled_answer",
    "answer_too_large": "garbled_answer",
}
"""Reasons for no answer, with the codes that we count them under."""
