"""The start of the process: selects the command, then ends without interpreter teardown."""

from __future__ import annotations

import posix  # `os` takes too long to load
import sys
from posix import _exit, environ

TYPE_CHECKING = False  # type checkers take it for typing's, which costs time to import
if TYPE_CHECKING:
    from typing import NoReturn

    from telemetryd.extension.boot import Session


_STDERR = 2


def main() -> NoReturn:
    """Run and exit; threads that hang in a system call can't delay the end.

    Started without arguments where Lambda runs extensions, the process is one.
    """
    if len(sys.argv) == 1 and b"AWS_LAMBDA_RUNTIME_API" in environ:
        from telemetryd.extension import hold_signals  # noqa: PLC0415 - not what commands need

        hold_signals()
        open_standard_descriptors()
        from telemetryd.extension.boot import main as extension  # noqa: PLC0415 - before all else

        _end(extension(_run_extension, _fall_back))
    open_standard_descriptors()
    _end(_command_line())


def _run_extension(session: Session) -> int:
    from telemetryd.extension.run import run  # noqa: PLC0415 - after `next`

    return run(session)


def _fall_back(session: Session, error: BaseException) -> int:
    from telemetryd.extension import fallback  # noqa: PLC0415 - only where all else fails

    return fallback.run(session, error)


def _end(status: int) -> NoReturn:
    """Exit; what was logged is written first, if standard error takes it."""
    if "telemetryd.log" in sys.modules:
        sys.modules["telemetryd.log"].flush()
    _exit(status)


def open_standard_descriptors() -> None:
    """Open what is closed of the descriptors 0 to 2, so that nothing else gets their numbers.

    A socket that is descriptor 2 would receive the log, a file that is descriptor 1 the lines of
    the stdout sink. A closed descriptor stays useless: input is empty, output fails as before.
    """
    for number in (0, 1, 2):
        try:
            posix.fstat(number)
        except OSError:
            flags = posix.O_RDWR if number == _STDERR else posix.O_RDONLY
            for path in ("/dev/null", "/"):  # a root without /dev has a directory at least
                try:  # the lowest free number is this one: those below are open
                    posix.set_inheritable(posix.open(path, flags), True)
                except OSError:
                    flags = posix.O_RDONLY
                else:
                    break


def _command_line() -> int:
    from telemetryd.cli import main as command_line  # noqa: PLC0415 - not what extensions need

    # the interpreter has none where the descriptor was closed
    sys.stdout = sys.stdout or open("/dev/null", "w", encoding="utf-8")  # noqa: PTH123, SIM115 - kept
    sys.stderr = sys.stderr or open("/dev/null", "w", encoding="utf-8")  # noqa: PTH123, SIM115 - kept
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
