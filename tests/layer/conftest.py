"""The layer under test: built (from the cache, if nothing changed) and unpacked as Lambda would."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from helpers.layer_kit import BUILD_LIMIT, HERE, build, debootstrap, unpack


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is about the layer, and may have to wait for its build."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.layer)
            item.add_marker(pytest.mark.timeout(BUILD_LIMIT))


@pytest.fixture(scope="session", params=["x86_64", "arm64"])
def zipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip of each architecture."""
    return build(request.param, tmp_path_factory.mktemp(f"dist-{request.param}"))


@pytest.fixture(scope="session")
def own_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The zip of this machine's architecture."""
    return build(HERE, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def opt(own_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer of this machine, unpacked; root can be entered by any user."""
    place = tmp_path_factory.mktemp("layer")
    for directory in (place, *place.parents[:-2]):
        directory.chmod(0o755)
    return unpack(own_zip, place / "opt")


@pytest.fixture(scope="session")
def launcher(opt: Path) -> Path:
    """What the platform starts."""
    return opt / "extensions" / "telemetryd"


@pytest.fixture(scope="session")
def old_root() -> Path:
    """A root file system with an older C library than any Lambda runtime of today: glibc 2.31."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("needs root and debootstrap (apt-get install debootstrap)")
    return debootstrap("bullseye")
