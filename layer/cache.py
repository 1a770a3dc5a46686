"""Each stage's result is kept in a directory named by everything that went into it."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
DIGITS = 16
KEPT = 3


def default_directory() -> Path:
    """`$TELEMETRYD_LAYER_CACHE`, else under the user's cache directory."""
    if named := os.environ.get("TELEMETRYD_LAYER_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "telemetryd-layer"


def digest(*inputs: object) -> str:
    """A short name for `inputs`: of a Path its content, of anything else its text."""
    total = hashlib.sha256()
    for item in inputs:
        data = _content(item) if isinstance(item, Path) else str(item).encode()
        total.update(len(data).to_bytes(8, "little") + data)
    return total.hexdigest()[:DIGITS]


def _content(path: Path) -> bytes:
    """Of the build's own modules the code without comments: those need no six minutes."""
    data = path.read_bytes()
    if path.suffix == ".py" and path.parent == HERE:
        return ast.dump(ast.parse(data)).encode()
    return data


class Cache:
    """A directory of archives and stages; a stage is made by one build at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.archives = self.directory / "archives"
        self._stages = self.directory / "stages"
        self.archives.mkdir(parents=True, exist_ok=True)
        self._stages.mkdir(exist_ok=True)

    def stage(self, name: str, inputs: tuple[object, ...], make: Callable[[Path], None]) -> Path:
        """The directory that `make` filled from `inputs`, now or earlier."""
        place = self._stages / f"{name}-{digest(*inputs)}"
        with (self._stages / f".lock-{name}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # while another build makes it, wait
            if not place.is_dir():
                self._make(name, place, make)
        return place

    def _make(self, name: str, place: Path, make: Callable[[Path], None]) -> None:
        started = time.monotonic()
        print(f"layer: {name} ...", file=sys.stderr, flush=True)
        work = self._stages / f".making-{name}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        make(work)
        work.rename(place)
        self._forget_old(name)
        seconds = time.monotonic() - started
        print(f"layer: {name} done in {seconds:.0f} s", file=sys.stderr, flush=True)

    def _forget_old(self, name: str) -> None:
        """Keep the last results of a stage, so that going back and forth costs nothing."""
        digits = "[0-9a-f]" * DIGITS
        found = [p for p in self._stages.glob(f"{name}-{digits}") if not p.is_symlink()]
        for old in sorted(found, key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old)
