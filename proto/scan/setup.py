"""Builds the module: one wheel a machine for all Pythons, by the limited API."""

import re
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
ONE_NUMBER = HERE.parents[1] / "daemon" / "telemetryd" / "__init__.py"


def version() -> str:
    """Return telemetryd's version, which a source distribution has in its PKG-INFO."""
    if ONE_NUMBER.is_file():
        text, pattern = ONE_NUMBER.read_text(), r'(?m)^__version__ = "([^"]+)"$'
    else:
        text, pattern = (HERE / "PKG-INFO").read_text(), r"(?m)^Version: (\S+)$"
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"no version in {ONE_NUMBER}, and none in PKG-INFO")
    return found.group(1)


setup(
    version=version(),
    ext_modules=[
        Extension(
            "telemetryd_scan",
            ["telemetryd_scan.c"],
            depends=["arrays.h", "kernels.h", "rows.h"],
            extra_compile_args=["-O3"],
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
