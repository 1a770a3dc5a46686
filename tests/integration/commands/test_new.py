"""`telemetryd new sink|hook NAME`: the package installs as written, and passes its own test."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from telemetryd.hook import Hook, LogRecord


def new(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "telemetryd", "new", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def install_and_test(tmp_path: Path, kind: str) -> tuple[int, Path]:
    """Write and install a package, and run its test; how many passed, and the Python that has it.

    It is a Python of its own, for an extension ignores PYTHONPATH.
    """
    written = new(tmp_path, kind, "my_own")
    assert written.returncode == 0, written.stderr
    package = tmp_path / f"telemetryd-{kind}-my-own"
    assert str(package.name) in written.stdout
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text(f"import site; list(map(site.addsitedir, {ours}))\n")
    script = python.with_name("telemetryd")
    script.write_text(f"#!{python}\nfrom telemetryd.__main__ import main\nmain()\n")
    script.chmod(0o755)
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
    run = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=package,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    return int(passed[1]), python


def test_a_sink_passes_its_contract_test_at_once(tmp_path: Path) -> None:
    passed, python = install_and_test(tmp_path, "sink")
    assert passed > 40
    config = tmp_path / "telemetryd.toml"
    config.write_text(f'[sinks.mine]\ntype = "my_own"\npath = "{tmp_path}/lines"\n')
    checked = subprocess.run(
        [python, "-m", "telemetryd", "check", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_a_hook_passes_its_test_on_the_local_lambda_at_once(tmp_path: Path) -> None:
    assert install_and_test(tmp_path, "hook")[0] == 1


@pytest.mark.parametrize("name", ["Mine", "class", "x" * 25, "1st"])
def test_a_name_that_can_not_be_a_hook_is_refused(tmp_path: Path, name: str) -> None:
    done = new(tmp_path, "hook", name)
    assert done.returncode == 64
    assert "a hook's type" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "kinesis", "Mine", "../x", "class", "", "x" * 41, "1st"])
def test_a_name_that_can_not_be_a_type_is_refused(tmp_path: Path, name: str) -> None:
    done = new(tmp_path, "sink", name)
    assert done.returncode == 64
    assert "telemetryd new: " in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["none", "path", "hook", "log_record"])
def test_a_hook_may_have_any_name_that_is_one(tmp_path: Path, name: str) -> None:
    """Also that of what its module imports."""
    assert new(tmp_path, "hook", name).returncode == 0
    (path,) = tmp_path.glob(f"*/telemetryd_hook_{name}.py")
    module = runpy.run_path(str(path))
    assert (module["Hook"], module["LogRecord"], module["Path"]) == (Hook, LogRecord, Path)
    title = "".join(word.capitalize() for word in name.split("_"))
    assert issubclass(module[f"{title}Hook"], Hook)
    assert f"telemetryd_hook_{name}:{title}Hook" in (path.parent / "pyproject.toml").read_text()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    assert new(tmp_path, "sink", "mine").returncode == 0
    module = tmp_path / "telemetryd-sink-mine" / "telemetryd_sink_mine.py"
    module.write_text("mine\n")
    done = new(tmp_path, "sink", "mine")
    assert done.returncode == 73
    assert "File exists" in done.stderr
    assert module.read_text() == "mine\n"
