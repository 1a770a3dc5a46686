"""examples/container-function: a function's image that has telemetryd by two lines."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from helpers import container_kit as kit
from helpers.scripted_platform import ScriptedPlatform, line, runtime_done

PATIENCE_SECONDS = 120


def test_it_is_used_in_two_lines() -> None:
    """And by nothing else in the Dockerfile."""
    text = (kit.ROOT / "examples/container-function/Dockerfile").read_text()
    lines = [each for each in text.splitlines() if not each.startswith("#")]
    assert [each for each in lines if "telemetryd" in each and "telemetryd.toml" not in each] == [
        "FROM telemetryd:extension AS telemetryd",
        "COPY --from=telemetryd /opt /opt",
    ]


def test_the_function_answers_and_its_lines_arrive(local: str, tmp_path: Path) -> None:
    """Three invocations of a local Lambda inside the image; the configuration is the image's."""
    options = (
        "--network", "none", "--volume", f"{tmp_path}:/kept", "--entrypoint", "/local/bin/python",
        "--env", "TELEMETRYD_SINKS__ARCHIVE__PATH=/kept/telemetry.ndjson",
    )  # fmt: skip
    arguments = ["-m", "telemetryd", "local", "--handler", "app.handler",
                 "--extension", "/opt/extensions/telemetryd", "--invoke", "3"]  # fmt: skip
    done = subprocess.run(
        kit.podman(*options, image=local, arguments=arguments),
        env=kit.podman_environment({}),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^invoke +\d: success", done.stderr, re.MULTILINE)) == 3
    events = [
        json.loads(each) for each in (tmp_path / "telemetry.ndjson").read_bytes().splitlines()
    ]
    types = [event["type"] for event in events]
    assert types.count("platform.report") == 3
    printed = [str(event["record"]) for event in events if event["type"] == "function"]
    assert sum("order accepted" in text for text in printed) == 3
    assert '"CloudWatchMetrics"' in done.stderr + done.stdout


@pytest.mark.parametrize("user", ["0:0", "993:990"])
def test_the_extension_lives_in_128_megabytes(function: str, tmp_path: Path, user: str) -> None:
    """With 1/14 of a processor: registered, an invocation flushed, gone with status 0."""
    tmp_path.chmod(0o777)
    variables = {
        "TELEMETRYD_SINKS__ARCHIVE__TYPE": "file",
        "TELEMETRYD_SINKS__ARCHIVE__PATH": "/kept/telemetry.ndjson",
        "TELEMETRYD_FLUSH__STRATEGY": "invocation",
        "TELEMETRYD_FLUSH__MAX_ADDED_MS": "10000",
    }
    passed = ("AWS_LAMBDA_RUNTIME_API", "TELEMETRYD_TELEMETRY__PORT", *variables)
    command = kit.podman(
        "--network", "host", *kit.SMALL, "--user", user, "--volume", f"{tmp_path}:/kept",
        *(option for name in passed for option in ("--env", name)),
        "--entrypoint", "/opt/extensions/telemetryd",
        image=function,
    )  # fmt: skip
    with ScriptedPlatform(kit.podman_environment(variables), command=command) as platform:
        telemetry, call = platform.begin()
        call.invoke("a", seconds=60)
        telemetry.sendall(b"".join(map(line, range(1000))) + runtime_done("a"))
        call = platform.expect("/2020-01-01/extension/event/next")
        kept = (tmp_path / "telemetry.ndjson").read_bytes()
        assert kept == b"".join(map(line, range(1000))) + runtime_done("a")
        call.shutdown(2.0)
        platform.finish()
        assert platform.ledger()["sinks"]["archive"]["delivered"]["lines"] == 1001


def test_a_configuration_that_may_not_be_read_costs_nothing_else(
    function: str, tmp_path: Path
) -> None:
    """One line names the file and why; the extension serves to the end."""
    secret = tmp_path / "telemetryd.toml"
    secret.write_text("[log]\nlevel = 'debug'\n")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    variables = {"TELEMETRYD_CONFIG": "/kept/telemetryd.toml"}
    passed = ("AWS_LAMBDA_RUNTIME_API", "TELEMETRYD_TELEMETRY__PORT", *variables)
    command = kit.podman(
        "--network", "host", "--user", "993:990", "--volume", f"{tmp_path}:/kept",
        *(option for name in passed for option in ("--env", name)),
        "--entrypoint", "/opt/extensions/telemetryd",
        image=function,
    )  # fmt: skip
    with ScriptedPlatform(kit.podman_environment(variables), command=command) as platform:
        _, call = platform.begin()
        call.shutdown(5.0)
        platform.finish()
        (fault,) = platform.log("configuration_invalid")
        assert "/kept/telemetryd.toml: can't be read: Permission denied" in str(fault["problems"])
        platform.ledger()
