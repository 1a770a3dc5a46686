"""Every error telemetryd raises, in one tree.

TelemetrydError
├── ConfigError              the configuration is wrong; exit 78 (EX_CONFIG)
├── ListenError              the telemetry port can't be bound; exit 69 (EX_UNAVAILABLE)
├── ReplayError              the lines can't be replayed; exit 66 (EX_NOINPUT)
├── HttpError                a request got no answer (`http_client.messages`); sinks translate it
├── SinkContractError        a sink broke the Sink contract: a bug of the sink
└── SinkError
    ├── SinkUnavailable      `open` failed; retried later
    ├── TransientSinkError   this attempt failed, another may succeed
    └── PermanentSinkError   no attempt with these lines will succeed

`code` is a bounded snake_case constant: it becomes a metric label and a drop reason. Anything that
is not a TelemetrydError is a bug.
"""

from typing import Final

EXIT_OK: Final = 0
EXIT_USAGE: Final = 64
EXIT_NOINPUT: Final = 66
EXIT_UNAVAILABLE: Final = 69
EXIT_BUG: Final = 70
EXIT_CANTCREAT: Final = 73
EXIT_TEMPFAIL: Final = 75
EXIT_CONFIG: Final = 78


class TelemetrydError(Exception):
    """Base of all errors of the daemon. `exit_status` is that of the process."""

    exit_status: int = EXIT_BUG


class ConfigError(TelemetrydError):
    """The configuration is invalid. `problems` has one line for each fault.

    `usable` is the configuration without the faults (a `telemetryd.config.Config`). The extension,
    which must not fail the function, runs on it. `left_out` names the sinks that are not in it:
    with a default for the fault they would send their lines elsewhere. `warnings` are about
    variables that name no key, where that is no fault.
    """

    exit_status = EXIT_CONFIG

    def __init__(
        self,
        problems: tuple[str, ...],
        usable: object = None,
        left_out: tuple[str, ...] = (),
        warnings: tuple[str, ...] = (),
    ) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
        self.usable = usable
        self.left_out = left_out
        self.warnings = warnings


class ReplayError(TelemetrydError):
    """A replay can't begin or continue. The text says why, and what to do."""

    exit_status = EXIT_NOINPUT


class ListenError(TelemetrydError):
    """The telemetry listener could not be opened."""

    exit_status = EXIT_UNAVAILABLE


class SinkContractError(TelemetrydError):
    """A sink broke the Sink contract. The text says how, and never quotes a line."""


class SinkError(TelemetrydError):
    """A sink failed. `code` is a bounded snake_case constant such as `disk_full`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class SinkUnavailable(SinkError):  # noqa: N818 - the field's usual name
    """`open` failed. The delivery worker retries while lines wait."""


class TransientSinkError(SinkError):
    """The whole attempt failed. It may be retried, but not before `retry_after` seconds."""

    def __init__(self, code: str, detail: str = "", *, retry_after: float = 0.0) -> None:
        super().__init__(code, detail)
        self.retry_after = retry_after


class PermanentSinkError(SinkError):
    """The destination refused these lines for good. They go to the dead letter or are dropped.

    `stops_sink`: it would refuse any lines until somebody changes something there (no permission,
    no such stream). Then telemetryd makes no attempt for a while, and these lines are lost.
    """

    def __init__(self, code: str, detail: str = "", *, stops_sink: bool = False) -> None:
        super().__init__(code, detail)
        self.stops_sink = stops_sink
