"""Warnings about the event types that sinks ask for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from telemetryd.config.schema import Config, Mode
from telemetryd.core.line_filter import CATEGORIES
from telemetryd_proto.events import RECORD_TYPES

Fault = tuple[str, str, bool]
"""The key, what is wrong with it, and whether no event can ever be of such a type."""
_PLATFORM: Final = "platform"


def type_faults(config: Config, mode: Mode) -> Iterator[Fault]:
    """Yield unknown types, and types without a subscription.

    In Lambda types are a closed set, but for what the platform may yet invent below `platform.`; in
    `listen` senders may have types of their own.
    """
    subscribed: tuple[str, ...] = config.telemetry.types if mode == "lambda" else CATEGORIES
    for name, sink in config.sinks.items():
        key = f"sinks.{name}.types"
        for kind in sink.types:
            category = kind.partition(".")[0]
            if category not in CATEGORIES or (kind not in CATEGORIES and category != _PLATFORM):
                yield key, _unknown(kind), mode == "lambda"
            elif kind not in CATEGORIES and kind not in RECORD_TYPES:
                yield key, _unknown(kind), False
            elif category not in subscribed:
                text = (
                    f'"{category}" is not in telemetry.types, so there will be no events of type '
                    f"{kind!a}; add it there, or leave it out here"
                )
                yield key, text, False


def _unknown(kind: str) -> str:
    from telemetryd.config.suggest import did_you_mean  # noqa: PLC0415 - for faults only

    hint = did_you_mean(kind, {*CATEGORIES, *RECORD_TYPES})
    return f"{kind!a} is not a known type of event{hint}"
