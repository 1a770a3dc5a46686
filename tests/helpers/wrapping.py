"""What the layer has for `AWS_LAMBDA_EXEC_WRAPPER`, as files, without a build of the layer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from layer import bundle

PLAIN: Final = Path(__file__).parents[1] / "fixtures" / "internal"
"""A function that registers what is to be flushed; its handler is `plain.handler`."""


def wrapper(directory: Path) -> Path:
    """The script, installed in `directory` as the layer installs it."""
    nothing = directory / "none"
    for name in ("telemetryd", "lib"):
        (nothing / name).mkdir(parents=True)
    (nothing / "telemetryd" / "telemetryd").touch()
    launcher, lib = nothing / "telemetryd", nothing
    for path, data in bundle.files(launcher, launcher, lib, {}, b"").items():
        file = directory / path.removeprefix("telemetryd/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (directory / "wrap").chmod(0o755)
    return directory / "wrap"
