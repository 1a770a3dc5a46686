"""`telemetryd new sink NAME`: writes a package for a sink of your own, whose contract test passes.

It appends lines to a file, with as little code as a real destination needs. Replace that part.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Final, TextIO

from telemetryd import __version__
from telemetryd.errors import EXIT_CANTCREAT, EXIT_OK, EXIT_USAGE
from telemetryd.sinks.registry import BUILT_IN

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")

_PYPROJECT: Final = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "telemetryd-sink-$dashed"
version = "0.1.0"
description = "A telemetryd sink: $name"
requires-python = ">=3.11"
dependencies = ["telemetryd>=$version"]

[project.entry-points."telemetryd.sinks"]
$name = "telemetryd_sink_$name:${title}Sink"

[dependency-groups]
test = ["pytest"]

[tool.hatch.build.targets.wheel]
only-include = ["telemetryd_sink_$name.py"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

_MODULE: Final = '''\
"""`type = "$name"`: appends lines to a file. Put your destination in its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from telemetryd.sink import (
    DELIVERED,
    Batch,
    Sink,
    SinkConfig,
    SinkContext,
    TransientSinkError,
    WriteResult,
)


class ${title}Config(SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "$name"`."""

    path: str
    """Where to."""

    def problems(self) -> Iterator[str]:
        """Yield faults that types and limits can't express, as `"key: text"`."""
        if not self.path.startswith("/"):
            yield "path: must begin with /"


class ${title}Sink(Sink):
    """One write per batch."""

    Config = ${title}Config

    def __init__(self, config: ${title}Config, context: SinkContext) -> None:
        super().__init__(config, context)
        self._path = config.path
        self._file: BinaryIO | None = None

    async def open(self) -> None:
        """Make the destination ready. May be called again, also when it is open."""
        await self.close()
        try:
            self._file = open(self._path, "ab", buffering=0)
        except OSError as error:
            raise TransientSinkError("not_open", error.strerror or str(error)) from error

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Deliver every item once; use an asyncio client, so that the loop is never blocked.

        `batch.key(index)` is the same for an item in every attempt: what a destination needs to
        drop what it has already.
        """
        if self._file is None:
            raise TransientSinkError("not_open")
        try:
            left = memoryview(b"".join(item.payload for item in batch.items))
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise TransientSinkError("write_failed", error.strerror or str(error)) from error
        return DELIVERED

    async def close(self) -> None:
        """Give back what `open` took. May be called twice, and unopened."""
        if self._file is not None:
            self._file.close()
            self._file = None
'''

_TEST: Final = '''\
"""The sink under telemetryd's contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from telemetryd_sink_$name import ${title}Config, ${title}Sink

from telemetryd.testing import Received, SinkContract


class Test${title}Sink(SinkContract):
    sink_class = ${title}Sink

    def config(self, directory: Path, **keys: object) -> ${title}Config:
        path = str(directory / "out")
        return msgspec.convert({"type": "$name", "path": path, **keys}, ${title}Config)

    @contextmanager
    def destination(self, directory: Path) -> Iterator[Received]:
        out = directory / "out"
        yield lambda _: out.read_bytes() if out.exists() else b""
'''

_README: Final = """\
# telemetryd-sink-$dashed

A sink for telemetryd. In `telemetryd.toml`:

```toml
[sinks.mine]
type = "$name"
path = "/tmp/lines.ndjson"
```

Test it: `pip install -e . pytest`, then `python -m pytest`. What a sink must do is in telemetryd's
docs/sinks.md.
"""

_FILES: Final = {
    "pyproject.toml": _PYPROJECT,
    "telemetryd_sink_$name.py": _MODULE,
    "tests/test_${name}_sink.py": _TEST,
    "README.md": _README,
}


def new_sink(name: str, out: TextIO, err: TextIO) -> int:
    """Write the package of a sink `name` into a new directory here; the exit status.

    64 (EX_USAGE): it can't be a sink's type. 73 (EX_CANTCREAT): a file can't be written.
    """
    if not is_name(name):
        err.write(
            f"telemetryd new: {name!r} can't be a sink's type: lower-case letters, digits and _, "
            "beginning with a letter, at most 40\n"
        )
        return EXIT_USAGE
    if name in BUILT_IN:
        err.write(f"telemetryd new: telemetryd has its own sink {name}; choose another name\n")
        return EXIT_USAGE
    return write_package("sink", name, _FILES, "pytest", out, err)


def is_name(name: str, longest: int = 40) -> bool:
    """True if `name` can be the name of a type and of a module."""
    return len(name) <= longest and bool(_NAME.fullmatch(name)) and not keyword.iskeyword(name)


def write_package(
    kind: str, name: str, files: Mapping[str, str], needs: str, out: TextIO, err: TextIO
) -> int:
    """Write the `files` of a package for a `kind` called `name`; the exit status.

    `needs`: what else to install for its test.
    """
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "title": "".join(word.capitalize() for word in name.split("_")),
        "version": ".".join(__version__.split(".")[:2]),
    }
    directory = Path(f"telemetryd-{kind}-{words['dashed']}")
    try:
        (directory / "tests").mkdir(parents=True)
        for path, text in files.items():
            file = directory / Template(path).substitute(words)
            file.write_text(Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        err.write(f"telemetryd new: {error.filename}: {error.strerror}\n")
        return EXIT_CANTCREAT
    out.write(
        f"{directory} is written. Next:\n"
        f"  cd {directory}\n  pip install -e . {needs}\n  python -m pytest\n"
    )
    return EXIT_OK
