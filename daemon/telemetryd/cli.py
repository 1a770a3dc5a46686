"""The command line: reads arguments, calls one command, turns errors into text and exit status."""

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

In a Lambda layer it needs no arguments. On a desk:

  telemetryd listen          receive on 127.0.0.1:4243 until Ctrl-C (twice: wait for no slow sink)
  telemetryd local --handler app.handler --invoke 3    try it beside your function
  telemetryd check           is my configuration right, and where does each value come from?
"""
_EPILOG = f"""\
configuration: defaults < TOML file < environment < options
  --config FILE              else TELEMETRYD_CONFIG=FILE,
                             else /var/task/telemetryd.toml, else /opt/telemetryd.toml
  TELEMETRYD_SECTION__KEY    e.g. TELEMETRYD_SINKS__ARCHIVE__TYPE=file
                                  TELEMETRYD_SINKS__ARCHIVE__PATH=/tmp/{{function}}.ndjson
exit status: 0 done, 64 wrong arguments, 69 the port is taken or the address is not ours (`health`:
the daemon is not well), 70 a bug in telemetryd, 73 a file can't be written, 78 wrong configuration.
All keys: {DOCS}/configuration.md
"""
_REPLAY = """\
It can be stopped with Ctrl-C at any time, and ends by itself where the destination takes nothing;
the same command then goes on where it was. What a file holds stays in it (the place is kept in
PATH.NAME.replayed); what a spool holds leaves it as it is delivered.

What comes through a pipe is read once: what is read and not delivered goes to the dead letter.

exit status: 0 all of it is delivered, 66 PATH can't be read, 75 not all yet, 78 wrong configuration
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors end with EX_USAGE, as the help says."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; the exit status."""
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
        ("replay", _replay, "deliver what was kept: a spool, a dead letter, any NDJSON file"),
        ("new", _new, "write a package for a sink of your own, whose contract test passes"),
        ("health", _health, "ask the daemon on this machine how it is; for probes"),
        ("iam", _iam, "print the IAM policy that the configured sinks need"),
        ("schema", _schema, "print a JSON Schema: of an event, or of a message of an API"),
        ("version", _version, "print the versions of telemetryd and of everything it runs on"),
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
                help="check for use as an extension, where other defaults apply",
            )
        elif name == "replay":
            sub.epilog = _REPLAY
            sub.formatter_class = argparse.RawDescriptionHelpFormatter
            sub.add_argument(
                "path",
                metavar="PATH",
                help="the file (plain, gzip or zstd), a pipe, - for "
                "standard input, or a spool's directory",
            )
            sub.add_argument(
                "--sink",
                metavar="NAME",
                required=True,
                help="which [sinks.NAME] of the configuration gets it; its filters do not apply",
            )
            sub.add_argument(
                "--all-sinks",
                action="store_true",
                help="of a dead letter, what any sink could not deliver, not only this one",
            )
        elif name == "new":
            sub.add_argument("kind", metavar="KIND", choices=["sink"], help="sink")
            sub.add_argument("name", metavar="NAME", help="the sink's `type` in the configuration")
        elif name == "health":
            sub.add_argument(
                "--alive",
                action="store_true",
                help="be content with any answer, for a probe that restarts what fails it",
            )
        elif name == "iam":
            for what, default in (
                ("region", "AWS_REGION"),
                ("account", "a placeholder"),
                ("function", "AWS_LAMBDA_FUNCTION_NAME"),
            ):
                sub.add_argument(f"--{what}", default="", help=f"to fill in; without it {default}")
        elif name == "schema":
            sub.add_argument(
                "name",
                metavar="NAME",
                nargs="?",
                default="event",
                help="whose schema: `event` (the default), one line of the stream, or another of "
                "those that `telemetryd schema list` names",
            )
            sub.add_argument(
                "--write", metavar="DIRECTORY", help="write all schemas there instead of printing"
            )
    local = commands.add_parser("local", help="run a function and its extensions on this machine")
    local.set_defaults(command=lambda _: _local(()))
    return parser


def _add_common(command: argparse.ArgumentParser, name: str) -> None:
    """Add the options that several commands have, each in place of a variable."""
    if name in ("listen", "check", "replay", "health", "iam"):
        command.add_argument(
            "--config", metavar="FILE", help="the configuration; else TELEMETRYD_CONFIG"
        )
    if name in ("listen", "check"):
        command.add_argument(
            "--port", type=_port, help="where lines are received; else TELEMETRYD_TELEMETRY__PORT"
        )


def _port(text: str) -> int:
    """Return the number of a TCP port, 0 being any free one. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and len(text) <= len("65535") and int(text) <= 65535):  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!a} is no port: a number from 0 to 65535")
    return int(text)


def _use(options: argparse.Namespace) -> None:
    """Put the options that stand for a variable in its place, above what the environment says."""
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
    """Hold SIGHUP back until `listen` follows it: its sender can't know that it is too early."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))


def _listen(_: argparse.Namespace) -> int:
    _hold_hangup()
    from telemetryd.listen import listen  # noqa: PLC0415 - each command imports what it needs

    return listen(os.environ)


def _check(options: argparse.Namespace) -> int:
    from telemetryd.commands.check import check  # noqa: PLC0415 - as above

    return check(os.environ, sys.stdout, sys.stderr, mode=options.mode)


def _replay(options: argparse.Namespace) -> int:
    from telemetryd.replay.command import replay  # noqa: PLC0415 - as above

    return replay(options.path, options.sink, os.environ, sys.stderr, all_sinks=options.all_sinks)


def _new(options: argparse.Namespace) -> int:
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
    from telemetryd_proto.schema import render  # noqa: PLC0415 - as above

    files = render()
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
    return EXIT_OK
