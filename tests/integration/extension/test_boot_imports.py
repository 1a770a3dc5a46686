"""What is loaded when `register` and `next` go out: nothing that costs the function time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import telemetryd
import telemetryd_proto
from helpers.scripted_platform import NEXT, TELEMETRY, ScriptedPlatform

OURS = {
    "telemetryd",
    "telemetryd.__main__",
    "telemetryd.extension",
    "telemetryd.extension.boot",
    "telemetryd.extension.early",
    "telemetryd.extension.http",
}
SMALL = {
    *sys.builtin_module_names,
    "__future__",
    *("_socket", "time"),  # built in or not, as the interpreter was made
}
RECORDER = """
import sys
sys.path[:0] = {paths!r}
sys.argv = ["telemetryd"]
import posix
calls = []
def hook(event, arguments):
    if event == "socket.connect":
        calls.append(sorted(sys.modules))
        posix.write(1, (repr(calls[-1]).replace("'", '"') + "\\n").encode())
sys.addaudithook(hook)
from telemetryd.__main__ import main
main()
"""


def loaded(*variables: tuple[str, str]) -> list[set[str]]:
    """The names in `sys.modules` at register, subscribe, next, without site, isolated."""
    paths = [str(Path(str(m.__file__)).parents[1]) for m in (telemetryd, telemetryd_proto)]
    command = (sys.executable, "-I", "-S", "-c", RECORDER.format(paths=paths))
    with ScriptedPlatform(dict(variables), command=command, stdout=subprocess.PIPE) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        call.answer(202, b"")
        call = platform.expect(NEXT)
        assert platform.process.stdout is not None
        found = [set(json.loads(platform.process.stdout.readline())) for _ in range(3)]
    return [names - bare() - {"__main__"} for names in found]


def bare() -> set[str]:
    """What the interpreter itself has loaded."""
    code = "import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("call", [0, 1, 2], ids=["register", "subscribe", "next"])
def test_only_a_handful_of_small_modules(call: int) -> None:
    """No asyncio, no msgspec, no json, no re, and of our own only what makes the calls."""
    names = loaded()[call]
    assert "telemetryd.extension.boot" in names
    assert names - SMALL - OURS == set()


@pytest.mark.parametrize("module", ["fallback", "starter"])
def test_what_runs_when_something_is_wrong_needs_no_more(module: str) -> None:
    """The rest may be what is broken."""
    paths = [str(Path(str(telemetryd.__file__)).parents[1])]
    code = (
        f"import sys; sys.path[:0] = {paths!r}; import telemetryd.extension.{module}\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True
    )
    names = set(done.stdout.split()) - bare() - SMALL - OURS
    own = {"telemetryd.core", "telemetryd.core.lifecycle"} if module == "fallback" else set()
    assert names <= {f"telemetryd.extension.{module}", "select", "_signal", "gc"} | own


def test_a_configuration_file_costs_its_parser_and_nothing_else(tmp_path: Path) -> None:
    """`tomllib` where there is a file; still none of the daemon."""
    file = tmp_path / "telemetryd.toml"
    file.write_text("[telemetry]\nport = 0\n")
    names = loaded(("TELEMETRYD_CONFIG", str(file)))[2]
    assert "tomllib" in names
    assert {name for name in names if name.partition(".")[0].startswith("telemetryd")} == {
        *OURS,
        "telemetryd.toml_file",
    }
    assert names.isdisjoint({"asyncio", "msgspec", "uvloop", "json", "logging"})
