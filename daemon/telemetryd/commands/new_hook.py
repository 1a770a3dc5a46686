"""`telemetryd new hook NAME`: writes a package for a hook of your own, with a test that passes.

The test runs the hook in a local Lambda, beside a function that logs errors.
"""

from __future__ import annotations

from typing import Final, TextIO

from telemetryd.commands.new import is_name, write_package
from telemetryd.errors import EXIT_USAGE

_PYPROJECT: Final = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "telemetryd-hook-$dashed"
version = "0.1.0"
description = "A telemetryd hook: $name"
requires-python = ">=3.11"
dependencies = ["telemetryd>=$version"]

[project.entry-points."telemetryd.hooks"]
$name = "telemetryd_hook_$name:${title}Hook"

[dependency-groups]
test = ["pytest", "telemetryd[local]"]

[tool.hatch.build.targets.wheel]
only-include = ["telemetryd_hook_$name.py"]

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

_MODULE: Final = '''\
"""The hook `$name`: writes the id of each invocation that logged errors to a file.

Put your own code in its place. A hook may have any of the methods of `Hook`, and no others are
called. Each hook has a thread, so its methods may block, within the budget of a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from telemetryd.hook import Event, Hook, HookContext, LogRecord, Start


class ${title}Hook(Hook):
    """Follows one invocation after the other."""

    def __init__(self, context: HookContext) -> None:
        super().__init__(context)
        self._path = Path(context.settings["path"])
        self._request_id = ""

    def on_events(self, events: Sequence[Event]) -> None:
        """Follow the invocations, and look at what the function printed in them."""
        for event in events:
            if isinstance(event.record, Start):
                self._request_id = event.record.request_id
            elif isinstance(event.record, LogRecord) and "ERROR" in str(event.record.body):
                self._note()

    def _note(self) -> None:
        """Write down the invocation, once."""
        if self._request_id:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{self._request_id}\\n")
        self._request_id = ""
'''

_FUNCTION: Final = '''\
"""The function of the test: it logs errors, if its event says so."""

from __future__ import annotations

from typing import Any


def handler(event: dict[str, Any], context: Any) -> str:
    """Print two lines, and return the id of the request."""
    level = "ERROR" if event.get("fail") else "INFO"
    print(f"{level} one")
    print(f"{level} two")
    return str(context.aws_request_id)
'''

_TEST: Final = '''\
"""The hook in a local Lambda, with real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CONFIG = """
[hooks.$name]
budget_ms = 20_000
settings = {path = "PATH"}

[flush]
max_added_ms = 20_000

[sinks.none]
type = "null"
"""


def test_it_notes_each_invocation_that_logs_an_error(tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    config = tmp_path / "telemetryd.toml"
    config.write_text(CONFIG.replace("PATH", str(noted)))
    command = [sys.executable, "-m", "telemetryd", "local", "--handler", "app.handler"]
    command += ["--timeout", "20", "--config", str(config)]
    for number, fails in enumerate(("true", "false", "true")):
        event = tmp_path / f"event-{number}.json"
        event.write_text(f'{{"fail": {fails}}}')
        command += ["--event", str(event)]
    done = subprocess.run(command, cwd=HERE, check=True, stdout=subprocess.PIPE, text=True)
    first, _, third = (json.loads(line) for line in done.stdout.splitlines())
    assert noted.read_text().splitlines() == [first, third]
'''

_README: Final = """\
# telemetryd-hook-$dashed

A hook for telemetryd. In `telemetryd.toml`:

```toml
[hooks.$name]
budget_ms = 100
settings = {path = "/tmp/noted"}
```

Test it: `pip install -e . pytest 'telemetryd[local]'`, then `python -m pytest`. What a hook may do
is in telemetryd's docs/hooks.md.
"""

_FILES: Final = {
    "pyproject.toml": _PYPROJECT,
    "telemetryd_hook_$name.py": _MODULE,
    "tests/app.py": _FUNCTION,
    "tests/test_${name}_hook.py": _TEST,
    "README.md": _README,
}


def new_hook(name: str, out: TextIO, err: TextIO) -> int:
    """Write the package of a hook `name` into a new directory here; the exit status.

    64 (EX_USAGE): it can't be a hook's type. 73 (EX_CANTCREAT): a file can't be written.
    """
    if not is_name(name, 24):
        err.write(
            f"telemetryd new: {name!r} can't be a hook's type: lower-case letters, digits and _, "
            "beginning with a letter, at most 24\n"
        )
        return EXIT_USAGE
    return write_package("hook", name, _FILES, "pytest 'telemetryd[local]'", out, err)
