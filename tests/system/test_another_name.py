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


def wrapper(tmp_path: Path, *others: str) -> Path:
    """The script; beside it in /opt/extensions lie `others`."""
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.fail(
            f"missing: a mount namespace ({done.stderr.decode().strip()}). Run `make test-system` "
            "as root; in a container, start it with the capability SYS_ADMIN.",
            pytrace=False,
        )
    opt = tmp_path / "opt"
    script = opt / "extensions" / WRAPPER
    script.parent.mkdir(parents=True)
    for name in others:
        (script.parent / name).touch()
    program = install(tmp_path / "program")
    inside = f"mount --bind {opt} /opt && exec {program}"
    script.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{inside}'\n")
    script.chmod(0o755)
    return script


def test_the_only_file_gives_its_name(tmp_path: Path) -> None:
    """The function runs, and its telemetry arrives."""
    stage = Stage(tmp_path, WRAPPER)
    config = stage.config(extensions=[wrapper(tmp_path)])
    results, _ = play(config, {"print": 3}, {})
    assert statuses(results) == ["success", "success"]
    (told,) = stage.log("name_refused")
    assert (told["name"], told["used_instead"]) == ("telemetryd", WRAPPER)
    assert stage.told("sinks.file.delivered") == len(stage.lines()) > 3


def test_among_several_none_is_guessed(tmp_path: Path) -> None:
    """It could take another extension's place: the log says what to do."""
    stage = Stage(tmp_path, WRAPPER)
    config = stage.config(extensions=[wrapper(tmp_path, "another")])
    results, _ = play(config, {})
    assert statuses(results) != ["success"]
    assert stage.log("name_refused") == []
    assert "a wrapper needs the same name" in stage.log("register_failed")[0]["fix"]
