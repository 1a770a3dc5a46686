"""docs/deploy.md and the Dockerfile: what they name exists."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

import telemetryd
from telemetryd.commands.check import check

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/deploy.md").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BLOCKS = re.findall(r"```\w+\n(.*?)```", PAGE, re.DOTALL)


def settings(block: str) -> dict[str, str]:
    """The variables that a block sets, in whichever notation."""
    shell = re.findall(r"(TELEMETRYD_\w+__\w+)=([^\s,}']+)", block)
    yaml = re.findall(r"name: (TELEMETRYD_\w+), value: \"?([^\s\"}]+)", block)
    return dict([*shell, *yaml])


@pytest.mark.parametrize("block", [block for block in BLOCKS if settings(block)])
def test_every_configuration_is_valid(block: str) -> None:
    """Each block by itself, as somebody would copy it."""
    out, err = io.StringIO(), io.StringIO()
    assert check(settings(block), out, err, default_paths=()) == 0, err.getvalue()


def test_every_make_target_and_build_target_exists() -> None:
    """And every argument of the build."""
    makefile = (ROOT / "Makefile").read_text()
    for name in set(re.findall(r"\bmake ([a-z-]+)", PAGE)):
        assert re.search(rf"^{name}:", makefile, re.MULTILINE), name
    for name in set(re.findall(r"--target (\w+)", PAGE)):
        assert re.search(rf" AS {name}$", DOCKERFILE, re.MULTILINE), name
    for name in ("BASE_IMAGE", "VERSION", "REVISION"):
        assert name in PAGE
        assert re.search(rf"^ARG {name}=", DOCKERFILE, re.MULTILINE)


def test_every_link_leads_somewhere() -> None:
    """Files, and headings of the page itself."""
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings


def test_the_lines_for_a_function_are_those_of_the_example() -> None:
    """Two of them."""
    (block,) = (block for block in BLOCKS if "COPY --from=telemetryd" in block)
    example = (ROOT / "examples/container-function/Dockerfile").read_text().splitlines()
    lines = [line for line in block.splitlines() if line != "..."]
    assert len(lines) == 2
    assert set(lines) <= set(example)


def test_the_images_carry_the_version_of_the_package() -> None:
    """The default of the Dockerfile's argument."""
    assert f"\nARG VERSION={telemetryd.__version__}\n" in DOCKERFILE
