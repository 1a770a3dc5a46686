"""Presets: what a vendor wants of URL, headers, body and labels, and how it says what it refused.

A preset is one module with a value `PRESET`. It is imported only where it is configured. A new one
is a module, its name in `PresetName`, a strict server in the tests' helpers, and a line in
`docs/http.md`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from telemetryd.sinks.http.formats import Format

PresetName: TypeAlias = Literal[
    "cloudwatch", "datadog", "elastic_bulk", "honeycomb", "loki", "new_relic", "splunk_hec"
]
Labels: TypeAlias = Mapping[str, str]


def _no_problems(_labels: Labels) -> Iterator[str]:
    return iter(())


class Preset(NamedTuple):
    """One vendor's way to take lines."""

    path: str
    """Path of requests where `url` has none; `{name}` stands for the label `name`."""
    token_header: str
    """Header that carries the token."""
    token_prefix: str
    """Text before the token in that header."""
    labels: Labels
    """The labels that are sent unless the configuration has other values; empty ones are not."""
    has_free_labels: bool
    """True if there may be others as well."""
    max_body_bytes: int
    """Largest body, unless the configuration has another value."""
    limits: str
    """The vendor's limits, as it documents them."""
    duplicates: str
    """How the vendor tells what arrives twice, if it does."""
    make: Callable[[Labels], Format]
    """Returns the format for these labels, which hold no placeholder any more."""
    problems: Callable[[Labels], Iterator[str]] = _no_problems
    """Yields what is wrong with labels, in a sentence without a subject."""
    compressions: tuple[str, ...] = ("none", "gzip")
    """The compressions that the vendor documents."""
    service: str = ""
    """The service of AWS that requests are signed for, unless there is a token; empty: none."""
    headers: Labels = MappingProxyType({})
    """Labels that are sent as a header, with its name."""


def preset(name: PresetName) -> Preset:
    """Return the preset `name`."""
    found: Preset = importlib.import_module(f"{__name__}.{name}").PRESET
    return found


def with_defaults(chosen: Preset, labels: Labels) -> dict[str, str]:
    """Return the labels that are sent: those of the preset and of the configuration."""
    return {name: value for name, value in {**chosen.labels, **labels}.items() if value}
