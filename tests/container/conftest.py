"""The images under test, built from the Dockerfile as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import container_kit as kit
from helpers.layer_kit import CACHE as LAYER_CACHE
from helpers.layer_kit import HERE

BUILD_LIMIT = 3600
FIGURES: dict[str, str] = {}
"""What docs/deploy.md quotes, printed at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here builds images, and may have to wait for the layer's build."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.container)
            item.add_marker(pytest.mark.timeout(BUILD_LIMIT))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    for what, figure in FIGURES.items():
        terminalreporter.write_line(f"{what}: {figure}")


@pytest.fixture(scope="session")
def figures() -> dict[str, str]:
    """To be filled in."""
    return FIGURES


@pytest.fixture(scope="session")
def base() -> str:
    """What the build runs in."""
    kit.require()
    return kit.base_image()


def _build(base: str, target: str) -> str:
    cache = str(LAYER_CACHE)
    return kit.build(
        f"telemetryd:{target}",
        kit.ROOT,
        target=target,
        BASE_IMAGE=base,
        LAYER_CACHE=cache,
        REVISION="tested",
    )


@pytest.fixture(scope="session")
def layer(base: str) -> str:
    """The image that exports the zip."""
    return _build(base, "layer")


@pytest.fixture(scope="session")
def extension(base: str) -> str:
    """The image to copy /opt from."""
    return _build(base, "extension")


@pytest.fixture(scope="session")
def daemon(base: str) -> str:
    """The image of `telemetryd listen`."""
    return _build(base, "daemon")


@pytest.fixture(scope="session")
def other_daemon(base: str) -> str:
    """The daemon's image for the other architecture, which this machine can't run."""
    cache, arch = str(LAYER_CACHE), {"x86_64": "arm64", "arm64": "amd64"}[HERE]
    return kit.build(
        f"telemetryd:daemon-{arch}",
        kit.ROOT,
        target="daemon",
        BASE_IMAGE=base,
        LAYER_CACHE=cache,
        TARGETARCH=arch,
    )


@pytest.fixture(scope="session")
def function(base: str, extension: str) -> str:
    """examples/container-function, as its Dockerfile has it."""
    assert extension == "localhost/telemetryd:extension"
    context = kit.ROOT / "examples/container-function"
    return kit.build("orders:latest", context, FUNCTION_IMAGE=kit.function_image(base))


@pytest.fixture(scope="session")
def local(function: str) -> str:
    """The function's image with a local Lambda added."""
    file = Path(__file__).with_name("local.Dockerfile")
    return kit.build("orders:local", kit.ROOT, file=file, FUNCTION=function)
