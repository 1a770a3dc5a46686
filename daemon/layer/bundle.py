"""The zip: the same files in the same order with the same dates, so the same bytes."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

from layer.shell import EPOCH

_EXECUTABLE = ("extensions/telemetryd", "telemetryd/telemetryd")
_DATE = time.gmtime(EPOCH)[:6]


def files(
    launcher: Path, executable: Path, lib: Path, licenses: dict[str, bytes]
) -> dict[str, bytes]:
    """The layer's content by path under /opt."""
    found = {
        "extensions/telemetryd": (launcher / "telemetryd").read_bytes(),
        "telemetryd/telemetryd": (executable / "telemetryd").read_bytes(),
    }
    for file in (lib / "lib").rglob("*"):
        if file.is_file():
            found[f"telemetryd/lib/{file.relative_to(lib / 'lib')}"] = file.read_bytes()
    for name, text in licenses.items():
        found[f"telemetryd/licenses/{name}"] = text
    return found


def write(path: Path, content: dict[str, bytes]) -> None:
    """Write the zip, replacing an older one only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix: the mode below counts
            entry.external_attr = (0o100755 if name in _EXECUTABLE else 0o100644) << 16
            packed.writestr(entry, content[name])
    unfinished.replace(path)
