"""The command line: parses arguments, runs a command, prints errors, returns the exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from telemetryd import DOCS, __version__
from telemetryd.errors import EXIT_CANTCREAT, EXIT_OK, EXIT_USAGE, TelemetrydError

_DESCRIPTION = """\
Receives AWS Lambda telemetry as NDJSON over TCP and delivers every line to the configured sinks.

As a Lambda extension it takes no arguments. On your machine:

  telemetryd listen          receive on 127.0.0.1:4243; Ctrl-C drains, a second Ctrl-C hurries
  telemetryd local --handler app.handler --invoke 3    run it with your function on a local Lambda
  telemetryd check           validate the configuration and show where each value comes from
"""
_EPILOG = f"""\
configuration, each overrides the one before: defaults, TOML file, environment, options
  --config FILE              default: TELEMETRYD_CONFIG, then /var/task/telemetryd.toml,
                             then /opt/telemetryd.toml
  TELEMETRYD_SECTION__KEY    e.g. TELEMETRYD_SINKS__ARCHIVE__TYPE=file
                                  TELEMETRYD_SINKS__ARCHIVE__PATH=/tmp/{{function}}.ndjson
exit status: 0 success, 64 invalid arguments, 69 the port is taken or the address is not local
(`health`: the daemon is not healthy; `check --probe`: a destination would take no lines), 70 a bug
in telemetryd, 73 a file can't be written, 78 invalid configuration.
All keys: {DOCS}/configuration.md
"""
_REPLAY = """\
Ctrl-C stops the replay at any time. It stops by itself when the destination takes nothing. The same
command then continues where the last one stopped. A replay leaves files unchanged and stores its
position in PATH.NAME.replayed. It removes records from a spool when they are delivered.

A pipe can be read only once. Lines that were read and not delivered go to the dead letter.

exit status: 0 all lines are delivered, 66 PATH can't be read, 75 some lines are not delivered yet,
78 invalid configuration
"""


class _Parser(argparse.ArgumentParser):
    """A parser that exits with EX_USAGE on an error."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name. Return the exit status."""
    if arguments[:1] == ["local"]:  # it has arguments of its own
        return _local(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] | None = options.command
    if command is None:
        parser.print_help()
        return EXIT_OK
    _use(options)
    try:
        return command(options)
    except TelemetrydError as error:
        from telemetryd.masking import without_secrets  # noqa: PLC0415 - for errors only

        for line in without_secrets(str(error)).splitlines():
            print(f"telemetryd: {line}", file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="telemetryd",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=None)
    parser.add_argument("--version", action="version", version=f"telemetryd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command, summary in (
        ("listen", _listen, "receive telemetry on a TCP port until SIGTERM or Ctrl-C"),
        ("check", _check, "validate the configuration and show where each value comes from"),
        ("replay", _replay, "deliver a spool, a dead letter or an NDJSON file to a sink"),
        ("new", _new, "create a Python package for a sink or hook of your own, with its tests"),
        ("health", _health, "ask the daemon on this machine for its health; for probes"),
        ("iam", _iam, "print the IAM policy that the configured sinks need"),
        ("schema", _schema, "print the JSON Schema of an event or of an API's message"),
        ("version", _version, "print the versions of telemetryd, Python and the libraries"),
    ):
        sub = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        sub.set_defaults(command=command)
        _add_common(sub, name)
        if name == "check":
            sub.add_argument(
                "--lambda",
                dest="mode",
                action="store_const",
                const="lambda",
                default="listen",
                help="check with the defaults of the Lambda extension, not those of `listen`",
            )
            sub.add_argument(
                "--probe",
                action="store_true",
                help="try each destination as well: reachable, existing, permitted? It gets no "
                "line; exit status 69 if one fails",
            )
        elif name == "replay":
            sub.epilog = _REPLAY
            sub.formatter_class = argparse.RawDescriptionHelpFormatter
            sub.add_argument(
                "path",
                metavar="PATH",
                help="a file (plain, gzip or zstd), a pipe, a spool's directory, or - for "
                "standard input",
            )
            sub.add_argument(
                "--sink",
                metavar="NAME",
                required=True,
                help="the sink [sinks.NAME] that gets the lines; its filters do not apply",
            )
            sub.add_argument(
                "--all-sinks",
                action="store_true",
                help="replay the lines of all sinks from a dead letter, not only of this sink",
            )
        elif name == "new":
            sub.add_argument("kind", metavar="KIND", choices=["sink", "hook"], help="sink or hook")
            sub.add_argument("name", metavar="NAME", help="its `type` in the configuration")
        elif name == "health":
            sub.add_argument(
                "--alive",
                action="store_true",
                help="succeed on any answer; for liveness probes, which restart the daemon",
            )
        elif name == "iam":
            for what, default in (
                ("region", "AWS_REGION"),
                ("account", "a placeholder"),
                ("function", "AWS_LAMBDA_FUNCTION_NAME"),
            ):
                sub.add_argument(
                    f"--{what}", default="", help=f"the {what} in the policy (default: {default})"
                )
        elif name == "schema":
            sub.add_argument(
                "name",
                metavar="NAME",
                nargs="?",
                default="event",
                help="a name that `telemetryd schema list` prints (default: event, one line)",
            )
            sub.add_argument(
                "--write", metavar="DIRECTORY", help="write all schemas to this directory"
            )
    local = commands.add_parser("local", help="run a function and its extensions on a local Lambda")
    local.set_defaults(command=lambda _: _local(()))
    return parser


def _add_common(command: argparse.ArgumentParser, name: str) -> None:
    """Add the options that several commands share. Each replaces an environment variable."""
    if name in ("listen", "check", "replay", "health", "iam"):
        command.add_argument(
            "--config", metavar="FILE", help="the configuration (default: TELEMETRYD_CONFIG)"
        )
    if name in ("listen", "check"):
        command.add_argument(
            "--port", type=_port, help="port to listen on (default: TELEMETRYD_TELEMETRY__PORT)"
        )


def _port(text: str) -> int:
    """Return the TCP port in `text`; 0 means any free port. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) <= len("65535") and int(text) <= 65535):  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!a} is not a port; use a number from 0 to 65535")
    return int(text)


def _use(options: argparse.Namespace) -> None:
    """Set the environment variables that `options` replace."""
    given = {"TELEMETRYD_CONFIG": "config", "TELEMETRYD_TELEMETRY__PORT": "port"}
    for variable, option in given.items():
        if (value := getattr(options, option, None)) is not None:
            os.environ[variable] = str(value)


def _local(arguments: Sequence[str]) -> int:
    try:
        from telemetryd.local.cli import main as local  # noqa: PLC0415 - as below
    except ImportError as error:
        print(f"telemetryd local: {error}", file=sys.stderr)
        return EXIT_USAGE
    return local(arguments)


def _hold_hangup() -> None:
    """Block SIGHUP until `listen` handles it: by default it would end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))


def _listen(_: argparse.Namespace) -> int:
    _hold_hangup()
    from telemetryd.listen import listen  # noqa: PLC0415 - each command imports what it needs

    return listen(os.environ)


def _check(options: argparse.Namespace) -> int:
    from telemetryd.commands.check import check  # noqa: PLC0415 - as above

    return check(os.environ, sys.stdout, sys.stderr, mode=options.mode, probes=options.probe)


def _replay(options: argparse.Namespace) -> int:
    from telemetryd.replay.command import replay  # noqa: PLC0415 - as above

    return replay(options.path, options.sink, os.environ, sys.stderr, all_sinks=options.all_sinks)


def _new(options: argparse.Namespace) -> int:
    if options.kind == "hook":
        from telemetryd.commands.new_hook import new_hook  # noqa: PLC0415 - as above

        return new_hook(options.name, sys.stdout, sys.stderr)
    from telemetryd.commands.new import new_sink  # noqa: PLC0415 - as above

    return new_sink(options.name, sys.stdout, sys.stderr)


def _health(options: argparse.Namespace) -> int:
    from telemetryd.commands.health import health  # noqa: PLC0415 - as above

    return health(os.environ, sys.stdout, sys.stderr, alive=options.alive)


def _iam(options: argparse.Namespace) -> int:
    from telemetryd.commands.iam import Place, iam, problem  # noqa: PLC0415 - as above

    given = (options.region, options.account, options.function)
    if fault := problem(*given):
        print(f"telemetryd iam: {fault}", file=sys.stderr)
        return EXIT_USAGE
    return iam(os.environ, sys.stdout, sys.stderr, place=Place.of(os.environ, *given))


def _schema(options: argparse.Namespace) -> int:
    from telemetryd_proto import flat_tables, schema  # noqa: PLC0415 - as above

    files = schema.render() | flat_tables.render()
    documents = {name.removesuffix(".schema.json"): text for name, text in files.items()}
    known = sorted(documents)
    if options.write is not None:
        return _write_all(files, options.write)
    if options.name == "list":
        print("\n".join(known))
    elif options.name in documents:
        print(documents[options.name], end="")
    else:
        print(
            f"telemetryd schema: no schema is named {options.name!r}; known: {', '.join(known)}",
            file=sys.stderr,
        )
        return EXIT_USAGE
    return EXIT_OK


def _write_all(files: Mapping[str, str], directory: str) -> int:
    from pathlib import Path  # noqa: PLC0415 - as above

    try:
        for name, text in files.items():
            Path(directory, name).write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"telemetryd schema: {error.filename}: {error.strerror}", file=sys.stderr)
        return EXIT_CANTCREAT
    return EXIT_OK


def _version(_: argparse.Namespace) -> int:
    from telemetryd.commands import versions  # noqa: PLC0415 - as above

    print(f"telemetryd {__version__} ({versions.interpreter()})")
    for name, version in versions.libraries().items():
        print(f"  {name} {version}")
    print(f"  scanner: {versions.scanner()}")
    return EXIT_OK
