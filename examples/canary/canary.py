#!/usr/bin/env python3
"""Find out what the Lambda documents leave open, and print it as a report for an issue.

`canary.py aws` deploys the stack beside this file with the SAM command line, invokes its function
for some minutes, prints the report, and deletes the stack again, also after an error. `canary.py
local` does the same on telemetryd's local Lambda; `canary.py url URL` uses any endpoint that takes
invocations, such as AWS's Runtime Interface Emulator with the recorders in /opt/extensions.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from bulk import ask  # noqa: E402 - the file beside this one
from report import Run, as_markdown  # noqa: E402 - as above

STACK = "telemetryd-canary"
REST_SECONDS = 1.2
"""Seconds that the function sleeps while the CPU share of an extension is measured."""
MAX_ANSWER = 6 * 1024 * 1024
CALL_SECONDS = 120
MAX_TRIES = 20
JSON = {"Content-Type": "application/json"}
Invoke = Callable[[dict[str, Any]], dict[str, Any]]


class CanaryError(Exception):
    """The canary cannot continue; the message says what to do."""


def main() -> int:
    """Run the canary; the exit status."""
    options = _parser().parse_args()
    try:
        report = as_markdown(options.run(options))
    except CanaryError as error:
        print(f"canary: {error}", file=sys.stderr)
        return 1
    if options.out:
        options.out.write_text(report)
        _say(f"the report is in {options.out}")
    print(report)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--out", type=Path, metavar="FILE", help="write the report here as well")
    common.add_argument(
        "--lines",
        type=int,
        default=50_000,
        metavar="N",
        help="lines of 200 bytes that the function prints under load",
    )
    common.add_argument(
        "--pause",
        type=float,
        default=None,
        metavar="SECONDS",
        help="rest between some invocations, so that the environment is frozen",
    )
    kinds = parser.add_subparsers(required=True, metavar="aws|local|url")
    aws = kinds.add_parser(
        "aws", parents=[common], help="a stack in your AWS account, deleted at the end"
    )
    aws.add_argument("--memory", type=int, default=256, metavar="MB")
    aws.add_argument(
        "--snapstart", action="store_true", help="restore from a snapshot (takes minutes longer)"
    )
    aws.add_argument(
        "--layer",
        type=Path,
        metavar="ZIP",
        default=HERE.parents[1] / "dist" / "telemetryd-layer-x86_64.zip",
        help="telemetryd's layer (default: where `make layer` puts it)",
    )
    aws.add_argument("--keep", action="store_true", help="leave the stack in place")
    aws.set_defaults(run=run_on_aws)
    local = kinds.add_parser("local", parents=[common], help="telemetryd's local Lambda")
    local.set_defaults(run=run_locally)
    url = kinds.add_parser("url", parents=[common], help="an endpoint that takes invocations")
    url.add_argument(
        "url", help="such as http://127.0.0.1:8080/2015-03-31/functions/function/invocations"
    )
    # AWS's emulator stops for good when lines come faster than a recorder takes them.
    url.set_defaults(run=run_at_url, lines=50)
    return parser


def observe(invoke: Invoke, where: str, *, lines: int, pause: float) -> Run:
    """Invoke the function in all the ways that the questions need; what came of it."""
    steps: list[tuple[str, dict[str, Any], float]] = [
        ("first invocation", {"canary": "rest", "seconds": 0.05}, pause),
        ("CPU share", {"canary": "rest", "seconds": REST_SECONDS}, 0),
        ("half surrogates", {"canary": "surrogate"}, pause),
        ("an exception", {"canary": "raise"}, 0),
        ("a POST that is refused", {"canary": "refuse"}, 1),
        (f"{lines} lines", {"canary": "flood", "lines": lines}, 1),
        *[("a short invocation", {"canary": "rest", "seconds": 0.02}, 0)] * 10,
    ]
    flood = 0
    for number, (what, event, rest) in enumerate(steps, 1):
        _say(f"{number} of {len(steps) + 1}: {what}")
        flood += int(invoke(event).get("printed") or 0)
        time.sleep(rest)
    _say(f"{len(steps) + 1} of {len(steps) + 1}: the report")
    answer = invoke({"canary": "report"})
    if not answer.get("tcp") and not answer.get("http"):
        raise CanaryError(f"no recorder answered; the function said: {str(answer)[:500]}")
    record = answer.get("tcp") or answer["http"]
    return Run(
        where=where,
        tcp=answer.get("tcp") or {},
        http=answer.get("http") or {},
        telemetryd=answer.get("telemetryd") or "",
        flood_lines=flood,
        surroundings={
            "environment": f"{record.get('AWS_LAMBDA_INITIALIZATION_TYPE')}, "
            f"{record.get('AWS_LAMBDA_FUNCTION_MEMORY_SIZE')} MB, "
            f"{record.get('AWS_EXECUTION_ENV')}, {record.get('AWS_REGION')}",
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "telemetryd beside the recorders": "yes" if answer.get("telemetryd") else "no",
        },
    )


def call(url: str, event: dict[str, Any]) -> dict[str, Any]:
    """Invoke by HTTP; the function's answer, whatever it is."""
    request = urllib.request.Request(url, json.dumps(event).encode(), JSON)  # noqa: S310 - given by the user
    for tries_left in reversed(range(MAX_TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:  # noqa: S310
                body = json.loads(answer.read(MAX_ANSWER))
        except (OSError, ValueError) as error:
            if getattr(error, "code", 0) == HTTPStatus.BAD_REQUEST and tries_left:
                time.sleep(0.2)  # AWS's emulator: the runtime has not asked for an invocation yet
                continue
            raise CanaryError(f"{url} does not take invocations: {error}") from error
        return body if isinstance(body, dict) else {}
    raise AssertionError


def run_at_url(options: argparse.Namespace) -> Run:
    """Observe whatever answers at a URL."""
    pause = 0.5 if options.pause is None else options.pause
    return observe(lambda event: call(options.url, event), "url", lines=options.lines, pause=pause)


def run_locally(options: argparse.Namespace) -> Run:
    """Observe telemetryd's local Lambda, with telemetryd and both recorders as its extensions."""
    try:
        from telemetryd.local import LocalConfig, LocalLambda  # noqa: PLC0415 - only here
    except ImportError as error:
        raise CanaryError(f"{error}: pip install 'telemetryd[local]'") from error
    own = shutil.which("telemetryd", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH')}")
    if own is None:
        raise CanaryError(
            "the command `telemetryd` is not on PATH: pip install 'telemetryd[local]'"
        )
    recorders = HERE / "layer" / "extensions"
    base = free_ports(5)
    metrics = f"127.0.0.1:{base + 4}"
    config = LocalConfig(
        handler="app.handler",
        task_root=HERE / "function",
        extensions=[own, recorders / "canary-tcp", recorders / "canary-http"],
        timeout=60,
        memory_mb=256,
        env={
            "CANARY_BASE_PORT": str(base),
            "TELEMETRYD_METRICS__LISTEN": metrics,
            "TELEMETRYD_SINKS__KEEP__TYPE": "null",
        },
    )

    async def scenario() -> Run:
        async with LocalLambda(config) as env:
            loop = asyncio.get_running_loop()

            def invoke(event: dict[str, Any]) -> dict[str, Any]:
                result = asyncio.run_coroutine_threadsafe(env.invoke(event), loop).result()
                body = json.loads(result.payload or b"{}")
                return body if isinstance(body, dict) else {}

            pause = 0.2 if options.pause is None else options.pause
            return await asyncio.to_thread(
                observe, invoke, "local", lines=options.lines, pause=pause
            )

    return asyncio.run(scenario())


def free_ports(count: int) -> int:
    """The first of `count` neighbouring free ports on loopback."""
    for first in range(20_001 + os.getpid() % 10_000, 32_000):
        sockets: list[socket.socket] = []
        try:
            sockets += [socket.create_server(("127.0.0.1", first + n)) for n in range(count)]
        except OSError:
            continue
        finally:
            for taken in sockets:
                taken.close()
        if len(sockets) == count:
            return first
    raise CanaryError("no free ports on loopback")


def run_on_aws(options: argparse.Namespace) -> Run:
    """Deploy the stack, observe its function, delete the stack."""
    if shutil.which("sam") is None:
        raise CanaryError("the command `sam` is missing: pip install aws-sam-cli")
    if not options.layer.exists():
        raise CanaryError(f"{options.layer} is missing: run `make layer` first")
    with tempfile.TemporaryDirectory() as directory:
        stack = Path(directory)
        for name in ("template.yaml", "function", "layer"):
            source = HERE / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, stack / name)
        shutil.copy(options.layer, stack / "telemetryd-layer.zip")
        return _observe_stack(stack, options)


def _observe_stack(stack: Path, options: argparse.Namespace) -> Run:
    snapstart = "PublishedVersions" if options.snapstart else "None"
    _say("deploying (about two minutes)")
    try:
        _sam(
            stack, "deploy", "--template-file", "template.yaml", "--resolve-s3",
            "--no-confirm-changeset",
            "--capabilities", "CAPABILITY_IAM", "--parameter-overrides",
            f"Memory={options.memory}", f"SnapStart={snapstart}",
        )  # fmt: skip
        pause = 20 if options.pause is None else options.pause
        run = observe(_invoke_on_aws(), "aws", lines=options.lines, pause=pause)
        return dataclasses.replace(run, bulk=_ask_bulk())
    finally:
        if options.keep:
            _say(f"the stack is left in place: `sam delete --stack-name {STACK}` removes it")
        else:
            _say("deleting the stack")
            _sam(stack, "delete", "--no-prompts")


def _ask_bulk() -> dict[str, Any]:
    """Return what `/ingest/bulk` of CloudWatch Logs does; `error` if it can't be asked."""
    import botocore.exceptions  # noqa: PLC0415 - only for AWS
    import botocore.session  # noqa: PLC0415

    _say("asking /ingest/bulk of CloudWatch Logs")
    failures = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError)
    try:
        return ask(botocore.session.get_session())
    except failures as error:
        return {"error": str(error)[:500]}


def _sam(stack: Path, command: str, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        ["sam", command, "--stack-name", STACK, *arguments],  # noqa: S607 - the user's own
        cwd=stack,
        stdout=sys.stderr,
        check=False,
    )
    if done.returncode:
        raise CanaryError(
            f"`sam {command}` failed, see above; it needs credentials and a region (aws configure)"
        )


def _invoke_on_aws() -> Invoke:
    """Return what invokes the stack's function, with the credentials of the environment."""
    import botocore.exceptions  # noqa: PLC0415 - only for AWS
    import botocore.session  # noqa: PLC0415

    session = botocore.session.get_session()
    failures = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
    try:
        outputs = session.create_client("cloudformation").describe_stacks(StackName=STACK)
        client = session.create_client("lambda")
    except failures as error:
        raise CanaryError(f"the stack can't be looked up: {error}") from error
    values = {item["OutputKey"]: item["OutputValue"] for item in outputs["Stacks"][0]["Outputs"]}

    def invoke(event: dict[str, Any]) -> dict[str, Any]:
        payload = json.dumps(event).encode()
        try:
            answer = client.invoke(
                FunctionName=values["FunctionName"], Qualifier="canary", Payload=payload
            )
        except failures as error:
            raise CanaryError(f"the function can't be invoked: {error}") from error
        body = json.loads(answer["Payload"].read())
        return body if isinstance(body, dict) else {}

    return invoke


def _say(text: str) -> None:
    print(f"canary: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
