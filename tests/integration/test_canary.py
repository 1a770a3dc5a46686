"""The canary: its report from the local Lambda, its stack's life, and the list of assumptions."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp import web

from helpers.lifecycle import UNHURRIED
from helpers.ports import reserved
from telemetryd.local import LocalConfig, LocalLambda
from telemetryd.local.frontend import Frontend

ROOT = Path(__file__).resolve().parents[2]
CANARY = ROOT / "examples" / "canary"
SCRIPT = CANARY / "canary.py"
LIMIT = 240
UNKNOWN = "not seen in this run"
STACK = (
    "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>telemetryd-canary"
    "</StackName><Outputs><member><OutputKey>FunctionName</OutputKey><OutputValue>function"
    "</OutputValue></member></Outputs></member></Stacks></DescribeStacksResult>"
    "</DescribeStacksResponse>"
)


def run(
    *arguments: object, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The script as a user runs it."""
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={**os.environ, **(env or {})},
    )


def answers(report: str) -> dict[str, str]:
    """The report's answers by the name of their question."""
    found = re.findall(r"^\| .*\(`([a-z-]+)`\) \| (.*) \|$", report, re.MULTILINE)
    return dict(found)


def load(name: str) -> ModuleType:
    """A module of the example."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", CANARY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(CANARY))  # it imports its neighbours, as the script does
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(CANARY))
    return module


def questions() -> list[str]:
    """The names of all questions, from the script's own module."""
    return [question.name for question in load("report").QUESTIONS]


def test_the_local_lambda_answers_every_question_it_can(tmp_path: Path) -> None:
    """One run, from the init to the last invocation, with telemetryd beside the recorders."""
    done = run("local", "--lines", 2000, "--pause", 0, "--out", tmp_path / "report.md")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.md").read_text() in done.stdout
    assert "telemetryd beside the recorders: yes" in done.stdout
    found = answers(done.stdout)
    assert list(found) == questions()
    unanswered = {name for name, answer in found.items() if answer == UNKNOWN}
    on_aws = {"bulk-skipped", "bulk-limits", "bulk-time"}
    assert unanswered == {"snapstart", "shutdown", *on_aws}, "the report precedes the shutdown"
    assert found["logs-dropped"].count("2000 of 2000 lines arrived, 0 reported as dropped") == 2
    assert found["runtime-done"].count("16 of 16 invocations had one") == 2
    assert "sent again" in found["refused-post"]
    assert found["half-surrogates"].count(r"\ud83d") == 4
    assert "telemetryd counts" in found["added"]


def test_assumptions_and_questions_are_the_same() -> None:
    """docs/assumptions.md has one row for each question of the report, in its order."""
    rows = re.findall(
        r"^\| `([a-z-]+)` \|", (ROOT / "docs/assumptions.md").read_text(), re.MULTILINE
    )
    assert rows == questions()


class Bulk:
    """CloudWatch Logs, as far as the canary asks: it skips what is too old, long, or no JSON."""

    def __init__(self) -> None:
        self.streams: dict[str, list[dict[str, object]]] = {}
        self.deleted = False

    def call(self, name: str, asked: dict[str, str]) -> web.Response:
        """Answer one call of the API."""
        if name == "DeleteLogGroup":
            self.deleted = True
        if name == "CreateLogStream":
            self.streams[asked["logStreamName"]] = []
        if name != "GetLogEvents":
            return web.json_response({}, content_type="application/x-amz-json-1.1")
        events = {"events": self.streams[asked["logStreamName"]]}
        return web.json_response(events, content_type="application/x-amz-json-1.1")

    async def take(self, request: web.Request) -> web.Response:
        """Take what is POSTed to `/ingest/bulk`."""
        assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
        assert request.headers["x-aws-log-group"] == "/telemetryd/canary"
        body = await request.content.read(1 << 20)
        if not request.content.at_eof():
            return web.Response(status=413, text="too large")
        now = int(time.time() * 1000)
        for line in body.splitlines():
            if line[:1] == b"{" and len(line) < 256 * 1024:
                at = json.loads(line).get("timestamp", now)
                if now - at < 14 * 86_400_000:
                    self.streams[request.headers["x-aws-log-stream"]].append(
                        {"timestamp": at, "message": line.decode(), "ingestionTime": now}
                    )
        return web.json_response({"rejected": 1})


@contextmanager
def cloud() -> Iterator[list[str]]:
    """The canary's stack on the local Lambda: the URLs of CloudFormation and of Lambda."""
    base = load("canary").free_ports(4)
    config = LocalConfig(
        handler="app.handler",
        task_root=CANARY / "function",
        extensions=[CANARY / "layer" / "extensions" / "canary-tcp"],
        env={"CANARY_BASE_PORT": str(base)},
        **UNHURRIED | {"timeout": 60.0},
    )
    urls: list[str] = []
    logs = Bulk()
    ready, stopped = threading.Event(), threading.Event()

    async def describe(request: web.Request) -> web.Response:
        if "Logs_20140328" in request.headers.get("X-Amz-Target", ""):
            return logs.call(
                request.headers["X-Amz-Target"].partition(".")[2], await request.json()
            )
        return web.Response(text=STACK, content_type="text/xml")

    async def serve() -> None:
        app = web.Application()
        app.add_routes([web.post("/", describe), web.post("/ingest/bulk", logs.take)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with LocalLambda(config) as env:
            frontend = Frontend(env)
            await frontend.start(0)
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
            urls.append(frontend.url.partition("/2015")[0])
            ready.set()
            await asyncio.to_thread(stopped.wait)
            await frontend.close()
        await runner.cleanup()

    server = threading.Thread(target=lambda: asyncio.run(serve()))
    server.start()
    try:
        assert ready.wait(LIMIT)
        yield urls
    finally:
        stopped.set()
        server.join()


@pytest.fixture
def sam(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """A `sam` that notes how it was called, and fails to deploy when asked to."""
    program = tmp_path / "bin" / "sam"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\necho "$@" >> "$SAM_CALLS"\n[ -f telemetryd-layer.zip ] || exit 2\n'
        '[ "$1" = deploy ] && exit "${SAM_DEPLOY:-0}"\nexit 0\n'
    )
    program.chmod(0o755)
    calls = tmp_path / "calls"
    env = {"PATH": f"{program.parent}:{os.environ['PATH']}", "SAM_CALLS": str(calls)}
    return env, calls


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """Stands for the layer's zip, which the script only looks for."""
    path = tmp_path / "layer.zip"
    path.write_bytes(b"PK")
    return path


def test_without_sam_the_script_says_what_to_do(tmp_path: Path, layer: Path) -> None:
    """Nothing is deployed, so nothing has to be removed."""
    done = run("aws", "--layer", layer, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "pip install aws-sam-cli" in done.stderr


def test_without_the_layer_the_script_says_what_to_do(
    sam: tuple[dict[str, str], Path], tmp_path: Path
) -> None:
    """The layer is built, not downloaded."""
    env, calls = sam
    done = run("aws", "--layer", tmp_path / "missing.zip", env=env)
    assert done.returncode == 1
    assert "run `make layer` first" in done.stderr
    assert not calls.exists()


def test_a_url_that_takes_no_invocations_is_named() -> None:
    """One line, not a traceback."""
    with reserved() as port:
        done = run("url", f"http://127.0.0.1:{port}/")
    assert done.returncode == 1
    assert f"http://127.0.0.1:{port}/ does not take invocations" in done.stderr
    assert "Traceback" not in done.stderr


def aws(
    layer: Path, env: Mapping[str, str], *arguments: object
) -> subprocess.CompletedProcess[str]:
    """`canary.py aws`, with credentials that are none of this machine's."""
    own = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "example",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return run(
        "aws", "--layer", layer, "--lines", 100, "--pause", 0, *arguments, env={**own, **env}
    )


def test_a_stack_is_deployed_observed_and_deleted(
    sam: tuple[dict[str, str], Path], layer: Path
) -> None:
    """By SAM and AWS's own SDK, against the local Lambda's Invoke API."""
    env, calls = sam
    with cloud() as (formation, function):
        ends = {
            "AWS_ENDPOINT_URL_CLOUDFORMATION": formation,
            "AWS_ENDPOINT_URL_LAMBDA": function,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": formation,
        }
        done = aws(layer, env | ends, "--memory", 512, "--snapstart")
    assert done.returncode == 0, done.stderr
    found = answers(done.stdout)
    assert "100 of 100 lines arrived" in found["logs-dropped"]
    assert found["bulk-skipped"].count('200 ({"rejected": 1}), 2 of 3 lines arrived') == 2
    assert "large-body: 413 (too large), 0 of 120 lines arrived" in found["bulk-limits"]
    assert "the line of an hour ago has a timestamp of" in found["bulk-time"]
    deploy, delete = calls.read_text().splitlines()
    assert deploy.startswith("deploy --stack-name telemetryd-canary ")
    assert "Memory=512 SnapStart=PublishedVersions" in deploy
    assert delete == "delete --stack-name telemetryd-canary --no-prompts"


def test_a_stack_is_deleted_also_after_an_error(
    sam: tuple[dict[str, str], Path], layer: Path
) -> None:
    """The function can't be found or invoked: the account is left as it was."""
    env, calls = sam
    with reserved() as port:
        nowhere = f"http://127.0.0.1:{port}"
        ends = {"AWS_ENDPOINT_URL_CLOUDFORMATION": nowhere, "AWS_MAX_ATTEMPTS": "1"}
        done = aws(layer, env | ends)
    assert done.returncode == 1
    assert nowhere in done.stderr
    assert "Traceback" not in done.stderr
    assert [line.split()[0] for line in calls.read_text().splitlines()] == ["deploy", "delete"]


def test_a_failed_deployment_is_said_and_removed(
    sam: tuple[dict[str, str], Path], layer: Path
) -> None:
    """What CloudFormation had made by then is deleted too."""
    env, calls = sam
    done = aws(layer, env | {"SAM_DEPLOY": "1"})
    assert done.returncode == 1
    assert "`sam deploy` failed" in done.stderr
    assert [line.split()[0] for line in calls.read_text().splitlines()] == ["deploy", "delete"]
