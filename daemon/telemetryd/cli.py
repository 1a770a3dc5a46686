"""The command line: reads arguments, calls one command, turns errors into text and exit status."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from telemetryd import __version__
from telemetryd.errors import EXIT_OK, TelemetrydError

_DESCRIPTION = """\
Receives AWS Lambda telemetry as NDJSON over TCP and delivers every line to the configured sinks.

In a Lambda layer it needs no arguments. On a desk:

  telemetryd listen          receive on 127.0.0.1:4243 until Ctrl-C
  telemetryd check           is my configuration right, and where does each value come from?
"""
_EPILOG = """\
configuration: defaults < TOML file < environment
  TELEMETRYD_CONFIG=FILE     else /var/task/telemetryd.toml, else /opt/telemetryd.toml
  TELEMETRYD_SECTION__KEY    e.g. TELEMETRYD_SINKS__ARCHIVE__TYPE=file
                                  TELEMETRYD_SINKS__ARCHIVE__PATH=/tmp/{function}.ndjson
exit status: 0 done, 64 wrong arguments, 69 the port is taken, 70 a bug in telemetryd, 78 wrong
configuration. All keys: docs/configuration.md
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] | None = options.command
    if command is None:
        parser.print_help()
        return EXIT_OK
    try:
        return command(options)
    except TelemetrydError as error:
        for line in str(error).splitlines():
            print(f"telemetryd: {line}", file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="telemetryd",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command, summary in (
        ("listen", _listen, "receive telemetry on a TCP port until SIGTERM or Ctrl-C"),
        ("check", _check, "validate the configuration and show where each value comes from"),
        ("schema", _schema, "print the JSON Schema of the events and API messages"),
        ("version", _version, "print the versions of telemetryd and what it runs on"),
    ):
        sub = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        sub.set_defaults(command=command)
        if name == "check":
            sub.add_argument(
                "--lambda",
                dest="mode",
                action="store_const",
                const="lambda",
                default="listen",
                help="check for use as an extension, where other defaults apply",
            )
    return parser


def _listen(_: argparse.Namespace) -> int:
    from telemetryd.listen import listen  # noqa: PLC0415 - each command imports what it needs

    return listen(os.environ)


def _check(options: argparse.Namespace) -> int:
    from telemetryd.check import check  # noqa: PLC0415 - as above

    return check(os.environ, sys.stdout, sys.stderr, mode=options.mode)


def _schema(_: argparse.Namespace) -> int:
    from telemetryd_proto.schema import render  # noqa: PLC0415 - as above

    documents = render()
    for name, text in sorted(documents.items()):
        print(f"// {name}\n{text}")
    return EXIT_OK


def _version(_: argparse.Namespace) -> int:
    import platform  # noqa: PLC0415 - as above
    from importlib.metadata import version  # noqa: PLC0415

    parts = [f"{platform.python_implementation()} {platform.python_version()}"]
    parts += [f"{name} {version(name)}" for name in ("uvloop", "msgspec")]
    print(f"telemetryd {__version__} ({', '.join(parts)})")
    return EXIT_OK
