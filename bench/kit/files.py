"""Results as files: JSON for programs, Markdown and a chart for people."""

from __future__ import annotations

from pathlib import Path

import msgspec


def write(name: str, folder: Path, *, json: object, markdown: str, svg: str) -> None:
    """Write `name`.json, .md and .svg into `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(json, enc_hook=str), indent=1).decode() + "\n"
    for suffix, text in (("json", data), ("md", markdown), ("svg", svg)):
        (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
