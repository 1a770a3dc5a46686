"""The zip: the same files in the same order with the same dates, so the same bytes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from layer import shell
from layer.cache import HERE

_EXECUTABLE = ("extensions/telemetryd", "telemetryd/telemetryd")


def files(
    launcher: Path, executable: Path, lib: Path, licenses: dict[str, bytes], prepared: bytes
) -> dict[str, bytes]:
    """The layer's content by path under /opt; `prepared` settings, if any."""
    found = {
        "extensions/telemetryd": (launcher / "telemetryd").read_bytes(),
        "telemetryd/telemetryd": (executable / "telemetryd").read_bytes(),
    }
    for file in (lib / "lib").rglob("*"):
        if file.is_file():
            found[f"telemetryd/lib/{file.relative_to(lib / 'lib')}"] = file.read_bytes()
    for name, text in licenses.items():
        found[f"telemetryd/licenses/{name}"] = text
    if prepared:
        found["telemetryd/prepared"] = prepared
    return found


def write(path: Path, content: dict[str, bytes], python: Path) -> None:
    """Write the zip, replacing an older one only when it is whole. Raises BuildError.

    `python` is layer.cpython's here: what a zlib makes of the same input depends on its version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished").resolve()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        plan = []
        for number, name in enumerate(sorted(content)):
            file = work / str(number)
            file.write_bytes(content[name])
            plan.append((name, str(file), 0o755 if name in _EXECUTABLE else 0o644))
        (work / "plan.json").write_text(json.dumps(plan))
        command = [python / "bin" / "python", "-S", "-s", "-P", HERE / "bundle_worker.py"]
        env = shell.environment(PYTHONDONTWRITEBYTECODE="1")
        shell.run([*command, unfinished, work / "plan.json"], work, env, work / "log")
    unfinished.replace(path)
