"""The profile by which the compiler optimises the interpreter: how often each branch of it runs.

`profile.profdata.xz` is what `python -m layer.train` has counted. It is the same for both
architectures: the compiler finds a function's counts by its name and the shape of its code. What it
does not find, after an update for one, it compiles as it would without a profile.
"""

from __future__ import annotations

import lzma
from pathlib import Path

from layer.cache import HERE

FILE = HERE / "profile.profdata.xz"
COUNTING = ("-fprofile-generate", "-mllvm", "-disable-vp")
"""Has the compiler count: branches, but no values, which would need more of a runtime."""
_UNPACKED = "profile.profdata"
_OPTIMISING = (
    f"-fprofile-use={_UNPACKED}", "-mllvm", "-disable-vp", "-Wno-profile-instr-missing",
    "-Wno-profile-instr-out-of-date", "-Wno-profile-instr-unprofiled", "-Wno-backend-plugin",
)  # fmt: skip


def flags(directory: Path, *, counting: bool) -> tuple[str, ...]:
    """Return the options for a compiler that runs in `directory`."""
    if counting:
        return COUNTING
    (directory / _UNPACKED).write_bytes(lzma.decompress(FILE.read_bytes()))
    return _OPTIMISING


def inputs(*, counting: bool) -> tuple[object, ...]:
    """Return the inputs of these options, for the name of a stage."""
    return (Path(__file__), "counting") if counting else (Path(__file__), FILE)
