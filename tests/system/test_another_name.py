"""A script in /opt/extensions that starts telemetryd: Lambda knows it by the script's name.

In a mount namespace of its own, in which /opt is a directory of the test's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from helpers.lifecycle import Stage, install, play, statuses

pytestmark = pytest.mark.system
WRAPPER = "start-telemetryd.sh"


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """The kernel gives mount namespaces, or the test can't run."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.fail(
            f"missing: a mount namespace ({done.stderr.decode().strip()}). Run `make test-system` "
            "as root; in a container, start it with the capability SYS_ADMIN.",
            pytrace=False,
        )


def script(opt: Path, name: str, program: Path) -> Path:
    """A script in `opt`'s extensions, which starts `program` with `opt` as its /opt."""
    path = opt / "extensions" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    inside = f"mount --bind {opt} /opt && exec {program}"
    path.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{inside}'\n")
    path.chmod(0o755)
    return path


def test_the_only_file_gives_its_name(tmp_path: Path) -> None:
    """The function runs, and its telemetry arrives."""
    stage = Stage(tmp_path, WRAPPER)
    program = install(tmp_path / "program")
    config = stage.config(extensions=[script(tmp_path / "opt", WRAPPER, program)])
    results, _ = play(config, {"print": 3}, {})
    assert statuses(results) == ["success", "success"]
    (told,) = stage.log("name_refused")
    assert (told["name"], told["used_instead"]) == ("telemetryd", WRAPPER)
    assert stage.told("sinks.file.delivered") == len(stage.lines()) > 3


def test_among_several_the_script_that_names_the_program(tmp_path: Path) -> None:
    """Another extension beside it, which the platform starts as well."""
    stage = Stage(tmp_path, WRAPPER)
    opt, program = tmp_path / "opt", install(tmp_path / "program")
    wrapper = script(opt, WRAPPER, program)
    script(opt, "another", Path("/usr/bin/another"))
    results, _ = play(stage.config(extensions=[wrapper]), {"print": 3}, {})
    assert statuses(results) == ["success", "success"]
    assert stage.log("name_refused")[0]["used_instead"] == WRAPPER
    assert stage.told("sinks.file.delivered") == len(stage.lines()) > 3


def test_among_several_that_name_it_none_is_guessed(tmp_path: Path) -> None:
    """The log says what to do."""
    stage = Stage(tmp_path, WRAPPER)
    opt, program = tmp_path / "opt", install(tmp_path / "program")
    wrapper = script(opt, WRAPPER, program)
    script(opt, "another", program)
    results, _ = play(stage.config(extensions=[wrapper]), {})
    assert statuses(results) != ["success"]
    assert stage.log("name_refused") == []
    assert "give a wrapper the same name" in stage.log("register_failed")[0]["fix"]
