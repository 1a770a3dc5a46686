"""An extension that is not ours runs under the local Lambda: Rust, on the crate `lambda-extension`.

Needs cargo and access to crates.io (or a filled cargo cache).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.lifecycle import UNHURRIED
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda

HERE = Path(__file__).parent.parent
SOURCE = HERE / "extensions" / "rust"
HANDLER = HERE.parent / "examples" / "handler"
BUILD_LIMIT = 900

pytestmark = [pytest.mark.system, pytest.mark.timeout(BUILD_LIMIT + 60)]


@pytest.fixture(scope="module")
def foreign() -> Path:
    """The built extension; the build is cached between runs."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.fail(
            "cargo is missing: install Rust from https://rustup.rs (or `apt install cargo-web`)"
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "telemetryd-tests" / "foreign"
    build = subprocess.run(
        [cargo, "build", "--locked", "--quiet", "--target-dir", str(target)],
        cwd=SOURCE,
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT,
        check=False,
    )
    if build.returncode != 0:
        pytest.fail(f"cargo build failed in {SOURCE}:\n{build.stderr}")
    return target / "debug" / "foreign"


def test_the_rust_library_registers_subscribes_and_gets_everything(
    foreign: Path, tmp_path: Path
) -> None:
    """Its own HTTP telemetry, two invocations, a timeout with a new start, and the shutdown."""
    notes = tmp_path / "notes.txt"
    config = LocalConfig(
        handler="app.handler",
        task_root=HANDLER,
        extensions=[foreign],
        extension_env={"FOREIGN_FILE": str(notes)},
        **UNHURRIED,
        flush_at_shutdown=True,
    )

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            results = [
                await env.invoke({"print": 50}),
                await env.invoke({"sleep": 60}, timeout=1.0),
                await env.invoke({}),
            ]
        return results, env

    (good, late, again), env = asyncio.run(scenario())
    assert [item.status for item in (good, late, again)] == ["success", "timeout", "success"]
    lines = notes.read_text().splitlines()
    assert [line for line in lines if line.startswith("INVOKE")] == [
        f"INVOKE {item.request_id}" for item in (good, late, again)
    ]
    assert [line.split()[1].lower() for line in lines if line.startswith("SHUTDOWN")] == [
        "timeout",
        "spindown",
    ]
    assert f"platform.start {good.request_id}" in lines
    assert f"platform.runtimeDone {good.request_id} Success" in lines
    assert f"platform.report {good.request_id} Success" in lines
    printed = [line for line in lines if line.startswith("function order accepted")]
    assert [line.rpartition("=")[2] for line in printed[:50]] == [str(n) for n in range(50)]
    assert env.generation == 2
    # This library asks for the next event after SHUTDOWN instead of exiting: that is good, too.
    assert [item.at_deadline for item in env.exits if item.role == "extension"] == [False, False]
    for account in env.stats:
        assert account.offered == account.sent + account.dropped + account.undelivered
