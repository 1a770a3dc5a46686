"""Where the process starts: picks the command, then ends without interpreter teardown."""

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit. Threads that hang in a system call can't hold up the end."""
    from telemetryd.cli import main as command_line  # noqa: PLC0415 - keep the entry light

    try:
        status = command_line(sys.argv[1:])
    except SystemExit as request:  # argparse
        status = request.code if isinstance(request.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
