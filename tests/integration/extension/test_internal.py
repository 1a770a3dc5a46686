"""The internal extension, in a real runtime on the local Lambda."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.lifecycle import UNHURRIED, TimesOut, play, statuses
from helpers.wrapping import PLAIN, wrapper
from telemetryd.local import LocalConfig

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "internal"


def config(directory: Path, **env: str) -> LocalConfig:
    """A wrapped function without any other extension."""
    variables = {
        "AWS_LAMBDA_EXEC_WRAPPER": str(wrapper(directory / "opt")),
        "DIARY": str(diary(directory)),
    }
    return LocalConfig(handler="plain.handler", task_root=PLAIN, env=variables | env, **UNHURRIED)


def diary(directory: Path) -> Path:
    return directory / "diary"


def noted(directory: Path) -> list[str]:
    return diary(directory).read_text().splitlines()


def test_an_sqs_function_flushes_its_metrics_after_each_event(tmp_path: Path) -> None:
    out = tmp_path / "metrics"
    env = {"METRICS_SINK": json.dumps({"type": "file", "path": str(out)})}
    event = json.loads((EXAMPLE / "sqs.json").read_text())
    config = LocalConfig(handler="app.handler", task_root=EXAMPLE, env=env, **UNHURRIED)
    results, _ = play(config, event, {"Records": []})
    assert statuses(results) == ["success", "success"]
    assert json.loads(results[0].payload) == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [each["metric"] for each in written] == ["order", "failure", "order", "batch", "batch"]
    assert [each["request"] for each in written if "request" in each] == [
        result.request_id for result in results
    ]


def test_a_wrapped_function_is_not_frozen_before_its_flush(tmp_path: Path) -> None:
    """The flush takes longer than the response, and is whole before the next invocation."""
    results, env = play(config(tmp_path), {}, {}, {})
    assert statuses(results) == ["success"] * 3
    assert noted(tmp_path) == ["handled", "flushed"] * 3
    assert json.loads(results[2].payload)["invocations"] == 2
    assert json.loads(results[2].payload)["in_handler"] == 0
    (ready,) = [event for event in env.events if event.type == "platform.extension"]
    assert ready.record["name"] == "telemetryd-internal"


def test_it_flushes_when_the_handler_raises(tmp_path: Path) -> None:
    results, _ = play(config(tmp_path), {"raise": "no stock"}, {})
    assert results[0].function_error == "Unhandled"
    assert noted(tmp_path) == ["handled", "flushed"] * 2


def test_it_flushes_when_the_handler_ends_the_process(tmp_path: Path) -> None:
    results, _ = play(config(tmp_path), {"exit": 3}, {})
    assert results[0].function_error
    assert noted(tmp_path)[:2] == ["handled", "flushed"]
    assert noted(tmp_path)[-2:] == ["handled", "flushed"]


def test_what_raises_or_hangs_is_contained(tmp_path: Path) -> None:
    printed: list[str] = []

    def echo(_kind: str, _name: str, line: bytes) -> None:
        printed.append(line.decode())

    one = _fields(config(tmp_path, FLUSHES="fail,later,hang,flush")) | {"echo": echo}
    results, _ = play(LocalConfig(**one), {}, {}, {})
    assert statuses(results) == ["success"] * 3
    assert noted(tmp_path) == ["handled", "hangs", "flushed"] + ["handled", "flushed"] * 2
    counts = json.loads(results[2].payload)
    assert (counts["failures"], counts["hung"]) == (4, 1)
    said = [line for line in printed if "telemetryd.internal" in line]
    assert any("hang took longer than 1 s; it is not called any more" in line for line in said)
    assert any("fail raised ValueError" in line for line in said)
    assert any("later is async or a generator, and does nothing here" in line for line in said)
    assert not any("a secret" in line for line in said)


def test_after_a_timeout_a_new_process_registers_again(tmp_path: Path) -> None:
    results, _ = play(config(tmp_path), TimesOut({"sleep": 60}), {})
    assert statuses(results) == ["timeout", "success"]
    assert noted(tmp_path) == ["handled", "handled", "flushed"]


def test_where_lambda_refuses_it_the_handler_flushes_itself(tmp_path: Path) -> None:
    """As on Managed Instances, where there is no INVOKE."""
    one = _fields(config(tmp_path)) | {"mode": "managed-instances"}
    results, _ = play(LocalConfig(**one), {}, {})
    assert statuses(results) == ["success"] * 2
    assert noted(tmp_path) == ["handled", "flushed"] * 2
    assert json.loads(results[1].payload)["in_handler"] == 2


def test_without_a_thread_to_spare_the_function_runs(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import threading\n"
        "from telemetryd.internal import flush_on_return, flushes\n"
        "threading.stack_size(1 << 50)  # more than there can be\n"
        "@flush_on_return()\n"
        "def handler(event, context):\n"
        "    return flushes().in_handler\n"
        "threading.stack_size(0)\n"
    )
    printed: list[str] = []

    def echo(_kind: str, _name: str, line: bytes) -> None:
        printed.append(line.decode())

    config = LocalConfig(handler="app.handler", task_root=tmp_path, **UNHURRIED, echo=echo)
    results, env = play(config, {}, {})
    assert [result.payload for result in results] == [b"0", b"1"]
    (said,) = [line for line in printed if "telemetryd.internal" in line]
    assert "it could not register (can't start new thread)" in said
    assert not [event for event in env.events if event.type == "platform.extension"]


def test_the_layers_part_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """A function without telemetryd of its own has `on_return`, and no more."""
    wrap = wrapper(tmp_path / "opt")
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import telemetryd_wrap as w; print(w.handler({}, None))"],
        env={
            "PYTHONPATH": f"{wrap.parent / 'internal'}:{PLAIN}",
            "_TELEMETRYD_HANDLER": "plain.handler",
            "DIARY": str(diary(tmp_path)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'in_handler': 1" in done.stdout
    assert noted(tmp_path) == ["handled", "flushed"]


@pytest.mark.parametrize("runtime", ["nodejs22.x", "provided.al2023"])
def test_any_other_runtime_starts_unchanged(tmp_path: Path, runtime: str) -> None:
    done = subprocess.run(
        [wrapper(tmp_path / "opt"), "/bin/sh", "-c", "echo $_HANDLER"],
        env={"AWS_EXECUTION_ENV": f"AWS_Lambda_{runtime}", "_HANDLER": "index.handler"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "index.handler\n"
    assert runtime in done.stderr


def _fields(config: LocalConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__slots__}
