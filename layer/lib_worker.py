"""Runs in the interpreter that is being packaged: compiles modules to sourceless bytecode.

Usage: python lib_worker.py PLAN. PLAN is JSON: a list of source, target and name to show.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import sys
from pathlib import Path

_UNCHECKED = 1
"""A hash-based pyc whose source is never looked for (PEP 552): dates in a zip do not matter."""


def main(plan: list[tuple[str, str, str]]) -> None:
    """Compile each module."""
    for source, target, shown in plan:
        data = Path(source).read_bytes()
        text = importlib.util.decode_source(data)
        code = compile(text, shown, "exec", dont_inherit=True, optimize=2)
        head = importlib.util.MAGIC_NUMBER + _UNCHECKED.to_bytes(4, "little")
        body = importlib.util.source_hash(data) + marshal.dumps(code)
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_bytes(head + body)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
