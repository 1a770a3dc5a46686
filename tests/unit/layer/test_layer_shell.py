"""What the layer's build says of a tool that failed: its cause, once, and nothing else."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from layer import shell
from layer.problem import BuildError

ZIG = "lib/libc/musl/src/{}.c:1:1: note: failed to evaluate zig clang: ProcessFdQuotaExceeded"


def failure(tmp_path: Path, script: str) -> list[str]:
    """The lines of the error that `script` ends in."""
    with pytest.raises(BuildError) as failed:
        shell.run(["sh", "-c", script], tmp_path, dict(os.environ), tmp_path / "log")
    return str(failed.value).splitlines()


@pytest.mark.parametrize(
    ("printed", "advice"),
    [
        (ZIG.format("open"), "ulimit -n"),
        ("OSError: [Errno 24] Too many open files: 'x'", "ulimit -n"),
        ("write: No space left on device", "3 GB"),
        ("fork: Cannot allocate memory", "memory"),
    ],
)
def test_a_limit_of_the_machine_is_one_line_and_an_advice(printed: str, advice: str) -> None:
    """However often the tool has said it, and whatever it has said besides."""
    lines = ["compiling ...", *[printed] * 330, "make: *** [Makefile:1: all] Error 1"]
    said = shell.cause(lines, 1)
    assert said[0] == printed
    assert len(said) == 2
    assert advice in said[1]


def test_a_tool_that_opens_too_many_files_is_told_from_one_that_is_wrong(tmp_path: Path) -> None:
    """Which the tool can't do, and the person at the terminal can."""
    program = f"'{sys.executable}' -c 'found = [open(\"/dev/null\") for _ in range(99)]'"
    said = failure(tmp_path, f"ulimit -n 50; {program}")
    assert "Too many open files" in said[1]
    assert "ulimit -n" in said[2]
    assert len(said) == 3


def test_an_error_of_the_compiler_is_shown_without_what_surrounds_it() -> None:
    """Not the commands, not the warnings, not make's own last words."""
    error = "launcher.c:9:1: error: unknown type name 'in'"
    lines = ["cc -c launcher.c", "launcher.c:1:1: warning: odd", error, error, "make: *** Error 1"]
    assert shell.cause(lines, 2) == [error]


def test_many_errors_are_five_and_a_number() -> None:
    """And none is wider than a few lines of a terminal."""
    said = shell.cause([f"{number}: error: {'x' * 1000}" for number in range(40)], 1)
    assert len(said) == 6
    assert said[-1] == "... and 35 more"
    assert max(map(len, said)) < 310


def test_of_a_traceback_the_last_line_is_shown() -> None:
    """It is what went wrong; the rest is where."""
    lines = ["Traceback (most recent call last):", '  File "x.py"', "KeyError: 'error'"]
    assert shell.cause(lines, 1) == ["KeyError: 'error'"]


def test_a_tool_that_was_killed_has_printed_nothing(tmp_path: Path) -> None:
    """The kernel takes the largest process where memory ends."""
    said = failure(tmp_path, f"kill -{signal.SIGKILL.value} $$")
    assert "memory" in said[1]


def test_a_failure_names_the_command_its_cause_and_the_rest(tmp_path: Path) -> None:
    """The whole output stays in the log."""
    said = failure(tmp_path, "echo one; echo two; exit 3")
    assert "ended with 3" in said[0]
    assert str(tmp_path / "log") in said[0]
    assert said[1:] == ["  | one", "  | two"]
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
