"""The configuration of a local Lambda: function, runtime, extensions, limits; checked at once."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from telemetryd.local.api.server import MAX_EXTENSIONS
from telemetryd.local.losses import LossError, Losses

Mode = Literal["on-demand", "snap-start", "managed-instances"]
LogFormat = Literal["text", "json"]
Echo = Callable[[str, str, bytes], None]
Listener = Callable[[str, Mapping[str, Any]], None]

PLATFORM_ADDRESS = "127.100.0.1"
SANDBOX_ADDRESS = "127.100.0.6"
"""Two addresses, as Lambda's 169.254.100.1 and .6 are. Linux has all of 127.0.0.0/8."""

_MEMORY_RANGE = (128, 32_768)
_MAX_TIMEOUT = 900.0
_SHUTDOWN_BUDGET = 2.0
_LONG_INIT_LIMIT = 130.0


class ConfigError(ValueError):
    """The local Lambda cannot be built so; the message says what to change."""


_BY_VARIABLE = (
    "import os, sys; from awslambdaric.__main__ import main; "
    "main(['bootstrap', os.environ['_HANDLER']])"
)
"""Starts AWS's runtime client as the managed runtimes do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalConfig:
    """One local Lambda function.

    Raises `ConfigError` when built with values that cannot work. Times are in seconds unless the
    name says otherwise.
    """

    handler: str | None = None
    """`module.function`, run by `awslambdaric`; relative to `task_root`."""
    bootstrap: Sequence[str] | None = None
    """A command line to run as the runtime instead of `awslambdaric`."""
    task_root: Path = field(default_factory=Path.cwd)
    """The function's code directory (`LAMBDA_TASK_ROOT`): the runtime's working directory."""
    extensions: Sequence[str | Path] = ()
    """Executables to start as external extensions; each must register under its base name."""
    extensions_dir: Path | None = None
    """Like `/opt/extensions`: every file directly in it is started, whatever it is."""

    function_name: str = "function"
    function_version: str = "$LATEST"
    region: str = "us-east-1"
    account_id: str = "123456789012"
    memory_mb: int = 512
    timeout: float = 3.0
    """The function timeout: runtime plus extensions, for each invocation."""
    log_format: LogFormat = "text"
    log_level: str | None = None

    mode: Mode = "on-demand"
    """`snap-start`: every process is stopped after init, as in a snapshot, and the first invocation
    restores it."""
    tenants: bool = False
    """Tenant isolation: every invocation names its tenant, and an environment serves one."""
    concurrency: int = 1
    """Managed instances only: runtime processes, each with one invocation at a time."""

    env: Mapping[str, str] = field(default_factory=dict)
    """The function's own variables: they reach the runtime and, as on Lambda, the extensions."""
    extension_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for the extensions alone (Lambda has no such thing; tests do)."""
    runtime_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for the runtime alone."""

    init_timeout: float | None = None
    """Limit of the init phase. Default: 10 s; other modes than on demand max(130 s, `timeout`)."""
    restore_timeout: float = 10.0
    """SnapStart: limit of the hooks that run after a restore."""
    shutdown_budget: float = _SHUTDOWN_BUDGET
    """Seconds from the start of a shutdown to SIGKILL, with an external extension."""
    runtime_share: float = 0.3
    """The part of `shutdown_budget` that the runtime has between SIGTERM and SIGKILL."""

    freeze: bool = True
    """On-demand: stop every process between invocations."""
    freeze_after: float = 0.0
    """Time that the environment stays awake after `platform.report`, before the freeze."""

    platform_address: str = PLATFORM_ADDRESS
    """The IPv4 address of Runtime, Extensions and Telemetry API; telemetry comes from there."""
    sandbox_address: str = SANDBOX_ADDRESS
    """The IPv4 address that `sandbox.localdomain` names, to which telemetry is sent."""
    private_hosts: bool = True
    """Make that name resolve for the processes, by an /etc/hosts of their own where permitted."""

    connect_late: bool = False
    """Make a TCP subscription's connection when there is something to send, not while it is
    answered. When Lambda makes it is not documented."""

    telemetry: Literal["on", "unsupported", "logs"] = "on"
    """`unsupported`: subscriptions get 202 and nothing is ever sent, as in AWS's emulator.
    `logs`: there is only the Logs API, the Telemetry API's predecessor."""
    plain_text_errors: bool = False
    """Error bodies that are not JSON, as AWS's emulator sends some."""
    tracing: bool = True
    """Give every invocation an X-Ray trace header."""
    keep_newline: bool = True
    """Text records end in a newline, as on the service; AWS's emulator strips it."""
    max_line_bytes: int = 1 << 20
    """A longer line is delivered in several records."""
    stall_timeout: float = 1.0
    """A consumer that takes nothing for so long loses whole batches; until then the function's
    output waits for it."""
    tcp_send_buffer: int | None = None
    """SO_SNDBUF of telemetry connections, in bytes: how much the kernel holds for a consumer."""
    flush_at_shutdown: bool | None = None
    """Send what is buffered before SHUTDOWN is, and a report that comes after it without delay.
    Default: on managed instances only."""
    report_after_reset: Literal["during", "lost", "next"] = "during"
    """The time when the `platform.report` of a timed out or crashed invocation arrives: during
    the extension's shutdown, never, or in the next environment."""

    lose: Sequence[str] = ()
    """Telemetry to lose on demand, each `WHAT[:HOW][@INVOCATIONS]`: see `telemetryd.local.losses`.
    """

    echo: Echo | None = None
    """Called with (`function` or `extension`, process name, line) for everything printed."""
    on_event: Listener | None = None
    """Called with (what, details) as things happen; see `telemetryd.local.events`."""

    def __post_init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise ConfigError(
                "the local Lambda needs Linux (pidfd, /proc, SIGSTOP); run it in a container"
            )
        self._check_runtime()
        self._check_numbers()
        self._check_addresses()
        self._check_extensions()
        try:
            Losses.parse(self.lose)
        except LossError as error:
            raise ConfigError(f"lose: {error}") from None

    def _check_runtime(self) -> None:
        if (self.handler is None) == (self.bootstrap is None):
            raise ConfigError("give either handler='module.function' or bootstrap=[command, ...]")
        if self.handler is not None:
            self._check_handler(self.handler)
        elif not self.bootstrap:
            raise ConfigError("bootstrap: the command line is empty")
        if not self.task_root.is_dir():
            raise ConfigError(f"task_root: {self.task_root} is not a directory")

    def _check_numbers(self) -> None:
        if not 0 < self.timeout <= _MAX_TIMEOUT:
            raise ConfigError(f"timeout: {self.timeout} s is outside 0..{_MAX_TIMEOUT:.0f} s")
        low, high = _MEMORY_RANGE
        if not low <= self.memory_mb <= high:
            raise ConfigError(f"memory_mb: {self.memory_mb} is outside {low}..{high}")
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode: {self.mode!r}; use one of {', '.join(get_args(Mode))}")
        if self.tenants and self.mode != "on-demand":
            raise ConfigError(f"tenants: not with mode {self.mode!r}; Lambda has it on demand only")
        if self.concurrency < 1:
            raise ConfigError(f"concurrency: {self.concurrency}; use 1 or more")
        if self.concurrency > 1 and not self.is_managed:
            raise ConfigError(
                f"concurrency: {self.concurrency} needs mode='managed-instances'; "
                "on-demand environments take one invocation at a time"
            )

    def _check_addresses(self) -> None:
        for name in ("platform_address", "sandbox_address"):
            value = getattr(self, name)
            try:
                address = ipaddress.IPv4Address(value)
            except ValueError:
                raise ConfigError(f"{name}: {value!r} is no IPv4 address") from None
            if address.is_unspecified or address.is_multicast:
                raise ConfigError(f"{name}: {value} is not one address of this machine")

    def _check_handler(self, handler: str) -> None:
        module, dot, function = handler.rpartition(".")
        if not (module and dot and function):
            raise ConfigError(f"handler: {handler!r} is not of the form module.function")
        path = self.task_root / module.replace(".", "/")
        if not (path.with_name(path.name + ".py").is_file() or (path / "__init__.py").is_file()):
            raise ConfigError(
                f"handler: {handler!r} needs the file {path}.py, which does not exist; "
                "check the name, or set the directory of the code (task_root, --task-root)"
            )
        if importlib.util.find_spec("awslambdaric") is None:
            raise ConfigError(
                f"handler: AWS's Python runtime client is not installed for {sys.executable}; "
                "run: python -m pip install 'telemetryd[local]' (or: pip install awslambdaric)"
            )

    def _check_extensions(self) -> None:
        paths = self.extension_paths()
        if len(paths) > MAX_EXTENSIONS:
            raise ConfigError(f"extensions: {len(paths)}, but Lambda allows {MAX_EXTENSIONS}")
        names: set[str] = set()
        for path in paths:
            if path.name in names:
                raise ConfigError(
                    f"extensions: two are named {path.name!r}; the name is the identity, "
                    "so rename one or link to it under another name"
                )
            names.add(path.name)
        for path in map(Path, self.extensions):
            if not path.is_file():
                raise ConfigError(f"extension: {path} is not a file")
            if not os.access(path, os.X_OK):
                raise ConfigError(f"extension: {path} is not executable; run: chmod +x {path}")
        if self.extensions_dir is not None and not self.extensions_dir.is_dir():
            raise ConfigError(f"extensions_dir: {self.extensions_dir} is not a directory")

    @property
    def is_managed(self) -> bool:
        """Lambda Managed Instances: concurrent, never frozen, SHUTDOWN only."""
        return self.mode == "managed-instances"

    @property
    def initialization_type(self) -> str:
        """The value of `AWS_LAMBDA_INITIALIZATION_TYPE` and of `initializationType`."""
        return "lambda-managed-instances" if self.is_managed else self.mode

    @property
    def init_limit(self) -> float:
        """Seconds for the init phase (Developer Guide: "execution environment lifecycle")."""
        if self.init_timeout is not None:
            return self.init_timeout
        return 10.0 if self.mode == "on-demand" else max(_LONG_INIT_LIMIT, self.timeout)

    @property
    def function_arn(self) -> str:
        """The unqualified ARN of the function."""
        return f"arn:aws:lambda:{self.region}:{self.account_id}:function:{self.function_name}"

    @property
    def flushes_at_shutdown(self) -> bool:
        """True if buffers are sent before SHUTDOWN (seen on managed instances only)."""
        return self.is_managed if self.flush_at_shutdown is None else self.flush_at_shutdown

    def extension_paths(self) -> list[Path]:
        """Return every executable to start: the listed ones, then the files of `extensions_dir`."""
        # Links are kept: the name that counts is theirs.
        paths = [Path(path).absolute() for path in self.extensions]
        if self.extensions_dir is not None and self.extensions_dir.is_dir():
            directory = self.extensions_dir.absolute()
            paths += sorted(entry for entry in directory.iterdir() if not entry.is_dir())
        return paths

    def runtime_command(self) -> list[str]:
        """Return the command line of the runtime process.

        A managed runtime starts `AWS_LAMBDA_EXEC_WRAPPER` with its own command line as arguments,
        and reads the handler's name from `_HANDLER`, which the wrapper may have changed (Developer
        Guide, "Modifying the runtime environment").
        """
        if self.bootstrap is not None:
            return list(self.bootstrap)
        if wrapper := self.env.get("AWS_LAMBDA_EXEC_WRAPPER", ""):
            return [wrapper, sys.executable, "-c", _BY_VARIABLE]
        return [sys.executable, "-m", "awslambdaric", str(self.handler)]
