"""`telemetryd new sink NAME`: the package installs as it is written, and passes its own test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def new(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "telemetryd", "new", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_the_package_passes_its_contract_test_at_once(tmp_path: Path) -> None:
    written = new(tmp_path, "sink", "my_own")
    assert written.returncode == 0, written.stderr
    package = tmp_path / "telemetryd-sink-my-own"
    assert str(package.name) in written.stdout
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(site), str(package)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    own = ("TELEMETRYD_", "PYTEST_")  # of this run
    environ = {key: value for key, value in os.environ.items() if not key.startswith(own)}
    environ["PYTHONPATH"] = str(site)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=package,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) > 40
    config = tmp_path / "telemetryd.toml"
    config.write_text(f'[sinks.mine]\ntype = "my_own"\npath = "{tmp_path}/lines"\n')
    checked = subprocess.run(
        [sys.executable, "-m", "telemetryd", "check"],
        env={**environ, "TELEMETRYD_CONFIG": str(config)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", ["file", "kinesis", "Mine", "../x", "class", "", "x" * 41, "1st"])
def test_a_name_that_can_not_be_a_type_is_refused(tmp_path: Path, name: str) -> None:
    done = new(tmp_path, "sink", name)
    assert done.returncode == 64
    assert "telemetryd new: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    assert new(tmp_path, "sink", "mine").returncode == 0
    module = tmp_path / "telemetryd-sink-mine" / "telemetryd_sink_mine.py"
    module.write_text("mine\n")
    done = new(tmp_path, "sink", "mine")
    assert done.returncode == 73
    assert "File exists" in done.stderr
    assert module.read_text() == "mine\n"
