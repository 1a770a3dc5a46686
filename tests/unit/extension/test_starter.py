"""The file in /opt/extensions that must have started a program which has another name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from telemetryd.extension.starter import name_of_starter

PROGRAM = "/opt/tools/telemetryd"


@pytest.fixture
def extensions(tmp_path: Path) -> Path:
    """A directory with another extension, which is no script."""
    (tmp_path / "another").write_bytes(b"\x7fELF" + PROGRAM.encode())
    return tmp_path


def starter(directory: Path, program: str = PROGRAM, refused: str = "telemetryd") -> str:
    """The name that is found."""
    return name_of_starter(program, refused, str(directory))


def script(place: Path, text: str) -> None:
    """A script with `text` after its first line."""
    place.write_text(f"#!/bin/sh\n{text}\n")


def test_the_only_file_whatever_it_is(tmp_path: Path) -> None:
    """What it does need not be in it; a directory is no extension."""
    (tmp_path / "wrapper").touch()
    (tmp_path / "lib").mkdir()
    assert starter(tmp_path) == "wrapper"


def test_the_only_file_that_is_refused_itself(tmp_path: Path) -> None:
    """There is no other name to try."""
    script(tmp_path / "telemetryd", f"exec {PROGRAM}")
    assert starter(tmp_path) == ""


def test_the_only_script_that_mentions_the_program(extensions: Path) -> None:
    """By its path, or if none does, by its name: a script may put paths together."""
    script(extensions / "wrapper", f"exec {PROGRAM}")
    script(extensions / "third", "export SOCKET=/tmp/telemetryd.sock; exec /opt/third")
    assert starter(extensions) == "wrapper"
    script(extensions / "third", "exec /opt/third")
    script(extensions / "wrapper", 'exec "$TOOLS/telemetryd"')
    assert starter(extensions) == "wrapper"
    assert starter(extensions, "/venv/telemetryd/__main__.py") == "wrapper"


def test_a_longer_name_is_another(extensions: Path) -> None:
    """Neither a path nor a name counts that only begins or ends alike."""
    script(extensions / "third", f"exec {PROGRAM}-forwarder --pid /run/old-telemetryd")
    assert starter(extensions) == ""
    script(extensions / "wrapper", f"exec {PROGRAM}")
    assert starter(extensions) == "wrapper"


def test_what_is_no_path_says_nothing(extensions: Path) -> None:
    """Such as `-c`, which many a script has; then the refused name decides."""
    script(extensions / "third", "exec bash -c /opt/third")
    script(extensions / "wrapper", "exec telemetryd")
    assert starter(extensions, "-c") == "wrapper"
    assert starter(extensions, "") == "wrapper"


def test_a_script_beside_the_program_itself(extensions: Path) -> None:
    """Both are started; one of the two is refused the name of the program."""
    program = extensions / "telemetryd"
    script(program, f"exec python -m telemetryd # {program}")
    script(extensions / "wrapper", f"exec {program}")
    assert starter(extensions, str(program)) == "wrapper"


@pytest.mark.parametrize("text", [f"exec {PROGRAM}", "exec telemetryd", "exec /opt/third"])
def test_nothing_is_guessed(extensions: Path, text: str) -> None:
    """Two scripts mention it, or none."""
    script(extensions / "one", text)
    script(extensions / "two", text)
    assert starter(extensions) == ""


def test_what_is_no_script_is_not_read(extensions: Path) -> None:
    """A pipe that no one writes to, a link to nowhere, a text too far from the beginning."""
    os.mkfifo(extensions / "pipe")
    (extensions / "link").symlink_to("nowhere")
    script(extensions / "long", "#" * 65536 + f"\nexec {PROGRAM}")
    assert starter(extensions) == ""
    script(extensions / "wrapper", f"exec {PROGRAM}")
    assert starter(extensions) == "wrapper"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """As outside Lambda."""
    assert starter(tmp_path / "extensions") == ""
