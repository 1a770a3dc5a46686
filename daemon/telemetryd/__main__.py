"""Where the process starts: picks the command, then ends without interpreter teardown."""

from __future__ import annotations

import sys
from posix import _exit, environ  # `os` takes too long to load

TYPE_CHECKING = False  # type checkers take it for typing's, which costs time to import
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run and exit; threads that hang in a system call can't hold up the end.

    Started without arguments where Lambda runs extensions, the process is one.
    """
    if len(sys.argv) == 1 and b"AWS_LAMBDA_RUNTIME_API" in environ:
        from telemetryd.extension.boot import main as extension  # noqa: PLC0415 - before all else

        _exit(extension())
    _exit(_command_line())


def _command_line() -> int:
    from telemetryd.cli import main as command_line  # noqa: PLC0415 - not what extensions need

    try:
        try:
            status = command_line(sys.argv[1:])
        except SystemExit as request:  # argparse
            status = request.code if isinstance(request.code, int) else 1
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `... | head`
        status = 141  # 128 + SIGPIPE
    except KeyboardInterrupt:  # `listen` takes the signal as the wish to end, once it has begun
        status = 130  # 128 + SIGINT
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    main()
