"""`telemetryd local`: the command."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, get_args

import msgspec

from telemetryd import DOCS
from telemetryd.local import ConfigError, LocalConfig, LocalLambda, TenantError
from telemetryd.local.config import PLATFORM_ADDRESS, SANDBOX_ADDRESS, Mode
from telemetryd.local.env_vars import WITHHELD
from telemetryd.local.frontend import Frontend
from telemetryd.local.narrator import Narrator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from telemetryd.local.config import Echo

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 64
EXIT_INTERRUPTED = 130

_DESCRIPTION = """\
Run a function and its extensions in a Lambda execution environment on this machine. It serves
the Runtime, Extensions and Telemetry APIs, and follows Lambda's life cycle: init, invocations,
freeze and thaw, timeout, shutdown with a deadline. It runs any extension (default: telemetryd).

With --invoke or --event it makes these invocations and shuts down. Otherwise it serves
POST /2015-03-31/functions/function/invocations until Ctrl-C.
"""

_EPILOG = """\
examples:
  telemetryd local --handler app.handler --invoke 3
  telemetryd local --handler app.handler --event event.json --config telemetryd.toml
  telemetryd local --bootstrap 'node bootstrap.js' --extension ./my-extension --timeout 10
  telemetryd local --handler app.handler --mode managed-instances --concurrency 4

Function and extensions get the shell's TELEMETRYD_* variables, AWS credentials and
AWS_ENDPOINT_URL*.
Progress goes to standard error, the responses to --event go to standard output.
exit status: 0 success, 1 an invocation failed, 64 invalid arguments, 130 Ctrl-C.
"""


class _Parser(argparse.ArgumentParser):
    """A parser that exits with EX_USAGE on an error."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="telemetryd local",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    runtime = parser.add_argument_group("the function")
    which = runtime.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--handler",
        metavar="MODULE.FUNCTION",
        help="a Python handler, run with AWS's runtime client",
    )
    which.add_argument("--bootstrap", metavar="CMD", help="the command line of any other runtime")
    runtime.add_argument(
        "--task-root",
        metavar="DIR",
        default=".",
        help="directory of the function's code (default: .)",
    )
    runtime.add_argument(
        "--timeout", type=float, default=3.0, metavar="S", help="seconds (default: 3)"
    )
    runtime.add_argument(
        "--memory", type=int, default=512, metavar="MB", help="memory size (default: 512)"
    )
    runtime.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="default: text"
    )
    runtime.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a variable for function and extensions; may be repeated",
    )
    extensions = parser.add_argument_group("extensions")
    extensions.add_argument(
        "--extension",
        action="append",
        default=[],
        metavar="PATH",
        help="an extension's executable; may be repeated (default: telemetryd)",
    )
    extensions.add_argument(
        "--extensions-dir",
        metavar="DIR",
        help="start every file in this directory, as Lambda does with /opt/extensions",
    )
    extensions.add_argument("--no-extension", action="store_true", help="start no extension")
    extensions.add_argument(
        "--config", metavar="F", help="telemetryd's configuration; sets TELEMETRYD_CONFIG"
    )
    environment = parser.add_argument_group("the environment")
    environment.add_argument(
        "--mode", choices=get_args(Mode), default="on-demand", help="default: on-demand"
    )
    environment.add_argument(
        "--concurrency",
        type=int,
        default=1,
        metavar="N",
        help="invocations at a time (managed-instances only; default: 1)",
    )
    environment.add_argument(
        "--no-freeze", action="store_true", help="do not freeze processes between invocations"
    )
    environment.add_argument(
        "--platform-address",
        default=PLATFORM_ADDRESS,
        metavar="IP",
        help=f"address of Lambda's APIs (default: {PLATFORM_ADDRESS})",
    )
    environment.add_argument(
        "--sandbox-address",
        default=SANDBOX_ADDRESS,
        metavar="IP",
        help="address that sandbox.localdomain resolves to; telemetry is sent there "
        f"(default: {SANDBOX_ADDRESS})",
    )
    environment.add_argument(
        "--no-private-hosts",
        action="store_true",
        help="do not give the processes an /etc/hosts with that name",
    )
    environment.add_argument(
        "--connect-late",
        action="store_true",
        help="connect at the first batch of telemetry, not during the subscription",
    )
    environment.add_argument(
        "--lose",
        action="append",
        default=[],
        metavar="WHAT[:HOW][@N]",
        help="lose telemetry: an event (runtimeDone), its whole batch (function:batch), the rest "
        "of a line (report:garble) or of the stream (start:close, runtimeDone:cut@2, "
        "runtimeDone:stall), the connection (connection); may be repeated; "
        f"see {DOCS}/local.md",
    )
    invocations = parser.add_argument_group("invocations")
    what = invocations.add_mutually_exclusive_group()
    what.add_argument("--invoke", type=int, metavar="N", help="invoke N times with the event {}")
    what.add_argument(
        "--event",
        action="append",
        metavar="FILE",
        help="invoke with this JSON file; - is stdin; may be repeated",
    )
    invocations.add_argument(
        "--tenant",
        action="append",
        default=[],
        metavar="ID",
        help="turn on tenant isolation; --invoke and --event use these tenants in turn, callers of "
        "--port send X-Amz-Tenant-Id; may be repeated",
    )
    invocations.add_argument(
        "--port", type=int, default=9000, help="port to serve on (default: 9000; 0: any free port)"
    )
    parser.add_argument(
        "--echo",
        choices=("none", "extension", "all"),
        default="extension",
        help="show the output of these processes (default: extension)",
    )
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command with `argv`, which lacks the program's name. Return the exit status."""
    arguments = _parser().parse_args(argv)
    narrator = Narrator(sys.stderr)
    try:
        config = _config(arguments, os.environ, narrator)
        events = _events(arguments)
    except ConfigError as error:
        print(f"telemetryd local: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        return asyncio.run(_run(config, events, arguments, narrator))
    except (ConfigError, TenantError) as error:
        print(f"telemetryd local: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _config(
    arguments: argparse.Namespace, surroundings: Mapping[str, str], narrator: Narrator
) -> LocalConfig:
    """Return the configuration that the arguments ask for. Raises `ConfigError`."""
    extensions = arguments.extension
    if not (extensions or arguments.extensions_dir or arguments.no_extension):
        extensions = [_own_command()]
    region = surroundings.get("AWS_REGION", surroundings.get("AWS_DEFAULT_REGION", "us-east-1"))
    return LocalConfig(
        handler=arguments.handler,
        bootstrap=shlex.split(arguments.bootstrap) if arguments.bootstrap else None,
        task_root=Path(arguments.task_root).absolute(),
        extensions=extensions,
        extensions_dir=Path(arguments.extensions_dir) if arguments.extensions_dir else None,
        region=region,
        memory_mb=arguments.memory,
        timeout=arguments.timeout,
        log_format=arguments.log_format,
        mode=arguments.mode,
        tenants=bool(arguments.tenant),
        concurrency=arguments.concurrency,
        freeze=not arguments.no_freeze,
        platform_address=arguments.platform_address,
        sandbox_address=arguments.sandbox_address,
        private_hosts=not arguments.no_private_hosts,
        connect_late=arguments.connect_late,
        lose=arguments.lose,
        env=_variables(arguments, surroundings),
        echo=_echo(arguments.echo, narrator),
        on_event=narrator.event,
    )


def _echo(wanted: str, narrator: Narrator) -> Echo | None:
    def extensions_only(kind: str, name: str, line: bytes) -> None:
        if kind == "extension":
            narrator.echo(kind, name, line)

    choices: dict[str, Echo | None] = {
        "none": None,
        "extension": extensions_only,
        "all": narrator.echo,
    }
    return choices[wanted]


def _own_command() -> Path:
    """Return the `telemetryd` script of this Python, or else of PATH. Raises `ConfigError`."""
    beside = Path(sys.executable).with_name("telemetryd")
    found = str(beside) if beside.is_file() else shutil.which("telemetryd")
    if found is None:
        raise ConfigError(
            f"extension: {beside} does not exist and telemetryd is not on PATH; install it with "
            "`python -m pip install telemetryd`, or name another one with --extension PATH"
        )
    return Path(found)


def _variables(arguments: argparse.Namespace, surroundings: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of function and extensions: the shell's, then --env, then --config."""
    variables = {
        name: value
        for name, value in surroundings.items()
        if name.startswith("TELEMETRYD_")
        or (name.startswith("AWS_") and not name.startswith("AWS_LAMBDA_") and name not in WITHHELD)
    }
    for assignment in arguments.env:
        name, equals, value = assignment.partition("=")
        if not (name and equals):
            raise ConfigError(f"--env: {assignment!r} is not of the form NAME=VALUE")
        variables[name] = value
    if arguments.config is not None:
        path = Path(arguments.config).absolute()
        if not path.is_file():
            raise ConfigError(f"--config: {path} is not a file")
        variables["TELEMETRYD_CONFIG"] = str(path)
    return variables


def _events(arguments: argparse.Namespace) -> list[bytes] | None:
    """Return the events to invoke with, None to serve instead. Raises `ConfigError`."""
    if arguments.invoke is not None:
        if arguments.invoke < 0:
            raise ConfigError(f"--invoke: {arguments.invoke} is negative")
        return [b"{}"] * int(arguments.invoke)
    if arguments.event is None:
        return None
    return [_event(name) for name in arguments.event]


def _event(name: str) -> bytes:
    try:
        text = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        msgspec.json.decode(text)
    except OSError as error:
        raise ConfigError(f"--event: {name}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"--event: {name} is not JSON: {error}") from None
    return text


async def _run(
    config: LocalConfig,
    events: list[bytes] | None,
    arguments: argparse.Namespace,
    narrator: Narrator,
) -> int:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        # The first signal shuts the environment down within Lambda's deadlines; the second kills.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
    environment = LocalLambda(config)
    try:
        async with environment:
            if events is None:
                await _serve(environment, arguments.port, narrator)
                return EXIT_OK
            return await _invoke_all(environment, events, arguments)
    except asyncio.CancelledError:
        return EXIT_OK if events is None else EXIT_INTERRUPTED
    finally:
        narrator.summary(environment.stats)


async def _serve(environment: LocalLambda, port: int, narrator: Narrator) -> None:
    frontend = Frontend(environment)
    try:
        try:
            await frontend.start(port)
        except OSError as error:
            raise ConfigError(f"--port: cannot listen on {port}: {error.strerror}") from None
        narrator.line("serving", f"{frontend.url}  (Ctrl-C ends)")
        narrator.line("", f"try: curl -d '{{}}' {frontend.url}")
        await asyncio.Event().wait()
    finally:
        await frontend.close()


async def _invoke_all(
    environment: LocalLambda, events: list[bytes], arguments: argparse.Namespace
) -> int:
    """Invoke with each event: managed instances at once, others in turn. Return the exit status."""
    tenants = itertools.cycle(arguments.tenant or [None])
    if environment.config.is_managed:
        results = await asyncio.gather(*(environment.invoke(event) for event in events))
    else:
        results = [
            await environment.invoke(event, tenant_id=tenant)
            for event, tenant in zip(events, tenants, strict=False)
        ]
    if arguments.event is not None:
        for result in results:
            sys.stdout.buffer.write(result.payload + b"\n")
        sys.stdout.flush()
    failed = any(result.function_error is not None for result in results)
    return EXIT_FAILED if failed else EXIT_OK
