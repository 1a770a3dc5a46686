"""A wrapped function: what its caller, its logs and the platform say is what they say without."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.lifecycle import UNHURRIED, play
from helpers.wrapping import PLAIN, wrapper
from telemetryd.local import LocalConfig

FILES: Final = {
    "fine.py": "def handler(event, context): return 'fine'\n",
    "syntax.py": "def handler(event, context:\n",
    "imports.py": "import not_installed\n",
    "raises.py": "def no_stock(): raise ValueError('no stock')\nno_stock()\n",
    "attribute.py": "import os\nos.no_such_name\n",
    "leaves.py": "raise SystemExit(3)\n",
    "package/__init__.py": "",
    "package/inner.py": "def handler(event, context): return __name__\n",
    "directory/inner.py": "def handler(event, context): return __name__\n",
}
VARYING: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|\d{4}-\d\d-\d\d[T ][\d:.,]+Z?|\(\d+\)|pid \d+|\d+\.\d+ ms"
)
"""What no two runs have in common."""


def outcome(root: Path, wrap: Path, *events: Any) -> list[Any]:
    """All that can be seen of a function: answers, what the platform reports, what is printed."""
    printed: list[str] = []

    def echo(kind: str, _name: str, line: bytes) -> None:
        if kind == "function":
            printed.append(VARYING.sub("*", line.decode()))

    config = LocalConfig(
        handler="fine.handler", task_root=root, env={"AWS_LAMBDA_EXEC_WRAPPER": str(wrap)},
        **UNHURRIED, echo=echo,
    )  # fmt: skip
    results, env = play(config, *events)
    answers = [
        (each.status, each.function_error, VARYING.sub("*", (each.payload or b"").decode()))
        for each in results
    ]
    reports = [
        (event.type, event.record.get("status"), event.record.get("errorType"))
        for event in env.events
        if event.type in ("platform.initReport", "platform.report")
    ]
    return [answers, reports, sorted(printed)]  # from two pipes


def beside(directory: Path, root: Path, handler: str, *events: Any) -> tuple[list[Any], list[Any]]:
    """The outcome without the wrapper, and with it."""
    outcomes = []
    for number, wrap in enumerate(("", str(wrapper(directory / "opt")))):
        named = directory / f"named{number}"
        named.write_text(f"#!/bin/sh\nexport _HANDLER='{handler}'\nexec {wrap} \"$@\"\n")
        named.chmod(0o755)
        outcomes.append(outcome(root, named, *events))
    return outcomes[0], outcomes[1]


def task(directory: Path) -> Path:
    """The function's code."""
    root = directory / "task"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    shutil.copy(PLAIN / "odd.py", root)
    return root


INITS: Final = {
    "fine.handler": "fine",
    "missing.handler": "Runtime.ImportModuleError",
    "fine.missing": "Runtime.HandlerNotFound",
    "fine": "Runtime.MalformedHandlerName",
    "sys.handler": "Runtime.BuiltInModuleConflict",
    "syntax.handler": "Runtime.UserCodeSyntaxError",
    "imports.handler": "Runtime.ImportModuleError",
    "raises.handler": "ValueError",
    "attribute.handler": "AttributeError",
    "leaves.handler": "Runtime.ExitError",
    "package.inner.handler": "package.inner",
    "package.inner.missing": "Runtime.HandlerNotFound",
    "directory/inner.handler": "directory.inner",
    "": "Runtime.MalformedHandlerName",
}


@pytest.mark.parametrize("handler", INITS)
def test_what_is_wrong_with_an_import_is_said_as_without(tmp_path: Path, handler: str) -> None:
    without, wrapped = beside(tmp_path, task(tmp_path), handler, {})
    assert wrapped == without
    assert INITS[handler] in str(without)


def test_what_a_handler_does_is_said_as_without(tmp_path: Path) -> None:
    cases = (
        "environment", "raises", "odd", "frozen", "generator", "coroutine", "leaves_threads",
        "replaces_streams", "raises", "environment",
    )  # fmt: skip
    without, wrapped = beside(
        tmp_path, task(tmp_path), "odd.handler", *({"case": case} for case in cases)
    )
    assert wrapped == without
    failed = [case for case, answer in zip(cases, without[0], strict=True) if answer[1]]
    assert failed == ["raises", "odd", "frozen", "generator", "coroutine", "raises"]


@pytest.mark.parametrize("case", ["exits", "exits_at_once", "forks"])
def test_a_process_that_ends_is_said_as_without(tmp_path: Path, case: str) -> None:
    without, wrapped = beside(
        tmp_path, task(tmp_path), "odd.handler", {"case": case}, {"case": "environment"}
    )
    assert wrapped == without


@pytest.mark.parametrize("handler", ["odd.NOT_CALLABLE", "odd.one", "odd.later", "odd.Cases"])
def test_what_is_no_handler_is_said_as_without(tmp_path: Path, handler: str) -> None:
    without, wrapped = beside(tmp_path, task(tmp_path), handler, {}, {})
    assert wrapped == without
    assert [answer[1] for answer in without[0]] == ["Unhandled"] * 2


def test_a_function_whose_own_telemetryd_is_another_runs_without_it(tmp_path: Path) -> None:
    root = task(tmp_path)
    (root / "telemetryd.py").write_text("")
    without, wrapped = beside(tmp_path, root, "fine.handler", {})
    assert wrapped[:2] == without[:2]
    (said,) = [line for line in wrapped[2] if line not in without[2]]
    assert said.startswith("telemetryd wrap: ModuleNotFoundError: ")
    assert said.rstrip().endswith("the function runs without it")


def start(wrap: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The wrapper as a managed runtime starts it, with what it prints."""
    return subprocess.run(
        [wrap, *command],
        env={"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13", "_HANDLER": "a.b"} | variables,
        capture_output=True,
        text=True,
        check=True,
    )


HANDLER_OF: Final = ("-c", "import os; print(os.environ['_HANDLER'])", "-I")


@pytest.mark.parametrize(
    ("options", "is_wrapped"),
    [
        ("", True),
        ("-B -u -s", True),
        ("-X importtime", True),
        ("-Xutf8 -W ignore::ImportWarning", True),
        ("-I", False),
        ("-BE", False),
        ("-X dev -W ignore -Bs -I", False),
    ],
)
def test_python_with_options_is_wrapped_where_it_sees_the_wrapper(
    tmp_path: Path, options: str, is_wrapped: bool
) -> None:
    done = start(wrapper(tmp_path / "opt"), sys.executable, *options.split(), *HANDLER_OF)
    assert done.stdout == ("telemetryd_wrap.handler\n" if is_wrapped else "a.b\n")
    assert ("-E and -I leave out" in done.stderr) is not is_wrapped


def test_a_wrapper_without_its_files_changes_nothing(tmp_path: Path) -> None:
    link = tmp_path / "wrap"
    link.symlink_to(wrapper(tmp_path / "opt"))
    done = start(link, sys.executable, *HANDLER_OF)
    assert done.stdout == "a.b\n"
    assert "there is no" in done.stderr


def test_to_wrap_twice_is_to_wrap_once(tmp_path: Path) -> None:
    wrap = wrapper(tmp_path / "opt")
    code = "import os; print(os.environ['_TELEMETRYD_HANDLER'], os.environ['PYTHONPATH'])"
    done = start(wrap, str(wrap), sys.executable, "-c", code)
    assert done.stdout == f"a.b {wrap.parent / 'internal'}\n"
