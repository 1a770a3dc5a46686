"""The zip: the same files in the same order with the same dates, so the same bytes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from layer import shell
from layer.cache import HERE

_EXECUTABLE = ("extensions/telemetryd", "telemetryd/telemetryd", "telemetryd/wrap")
_INTERNAL = ("__init__", "flushing", "registration")
"""Modules of telemetryd.internal that need only the standard library."""


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
    return found | _internal()


def _internal() -> dict[str, bytes]:
    """Return what runs in the process of a Python function: the wrapper and its package."""
    here, ours = HERE / "internal", HERE.parent / "daemon" / "telemetryd"
    package = "telemetryd/internal/package/telemetryd"
    found = {
        "telemetryd/wrap": (here / "wrap").read_bytes(),
        "telemetryd/internal/telemetryd_wrap.py": (here / "telemetryd_wrap.py").read_bytes(),
        f"{package}/__init__.py": (ours / "__init__.py").read_bytes(),
    }
    for module in _INTERNAL:
        path = f"internal/{module}.py"
        found[f"{package}/{path}"] = (ours / path).read_bytes()
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
