"""Runs in the interpreter that is being packaged, so that the zip is made by the pinned zlib.

Usage: python bundle_worker.py ZIP PLAN. PLAN is JSON: a list of name, file and mode, in the order
of the zip.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

_DATE = (2000, 1, 1, 0, 0, 0)


def main(zipped: Path, plan: list[tuple[str, str, int]]) -> None:
    """Write the zip."""
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, file, mode in plan:
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix: the mode below counts
            entry.external_attr = (0o100000 | mode) << 16
            packed.writestr(entry, Path(file).read_bytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))
