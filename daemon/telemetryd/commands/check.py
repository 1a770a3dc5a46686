"""`telemetryd check`: whether the configuration is valid, what is in effect, and from where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TextIO

from telemetryd import trust
from telemetryd.commands.limits import limits
from telemetryd.commands.lingering import advice
from telemetryd.config import (
    DEFAULT_PATHS,
    Config,
    Mode,
    effective_address,
    effective_memory,
    effective_metrics,
    effective_overflow,
    load,
    mask_warnings,
    pattern_warnings,
)
from telemetryd.config.explain import printable, render
from telemetryd.core.patterns import risk_in_the_layer, risk_of
from telemetryd.errors import EXIT_CONFIG, EXIT_OK, EXIT_UNAVAILABLE, ConfigError
from telemetryd.log import EventLog
from telemetryd.masking import without_secrets
from telemetryd.sinks.aws.choice import choose
from telemetryd.sinks.base import SinkContext
from telemetryd.sinks.file.path import expand
from telemetryd.sinks.file.sink import FileConfig

_MAX_FACT: Final = 1000


def check(
    environ: Mapping[str, str],
    out: TextIO,
    err: TextIO,
    *,
    mode: Mode = "listen",
    probes: bool = False,
    default_paths: Sequence[str] = DEFAULT_PATHS,
) -> int:
    """Print the effective configuration to `out`, or each problem to `err`.

    The output is TOML (secrets masked) with the origin of each value as a comment; defaults
    that depend on `mode` are shown as they are in that mode. `probes`: try each destination, too.
    Returns the exit status: 0, 78 (EX_CONFIG) when there is a problem, or 69 (EX_UNAVAILABLE) when
    a destination would not take lines.
    """
    try:
        loaded = load(environ, default_paths=default_paths, mode=mode, terminal=out.isatty())
    except ConfigError as error:
        return report(error, err, mode)
    sinks = loaded.config.sinks.items()
    effective: dict[str, object] = {
        f"sinks.{name}.overflow": effective_overflow(sink, mode) for name, sink in sinks
    }
    host, port = effective_address(loaded.config, mode)
    effective |= {"telemetry.host": host, "telemetry.port": port}
    effective["metrics.listen"] = effective_metrics(loaded.config, mode)
    effective["memory.max_bytes"] = effective_memory(loaded.config, mode, environ)
    origins = {
        key: f"default of `{mode}`"
        if key in effective and origin == "default"
        else without_secrets(origin)
        for key, origin in loaded.origins.items()
    }
    files = (
        printable(without_secrets(loaded.file)) or f"none; looked for {', '.join(default_paths)}"
    )
    out.write(f"# effective in `{mode}`; configuration file: {files}\n\n")
    out.write(render(loaded.config, origins, effective))
    out.write("\n")
    out.writelines(f"# {line}\n" for line in _clients(loaded.config, environ, mode))
    out.writelines(
        f"# sinks.{name}: {printable(without_secrets(fact), _MAX_FACT)}\n"
        for name, sink in sinks
        for fact in sink.facts()
    )
    warnings = [
        *loaded.warnings, *_file_warnings(loaded.config, environ), *_hook_warnings(loaded.config),
    ]  # fmt: skip
    if mode == "lambda":
        remarks = [(name, remark) for name, sink in sinks for remark in sink.remarks()]
        if loaded.config.system.metrics:
            remarks += [(name, more) for name, sink in sinks for more in sink.system_remarks()]
        out.writelines(
            f"# sinks.{name}: {printable(without_secrets(remark))}\n" for name, remark in remarks
        )
        out.writelines(
            f"# sinks.{name}: {printable(without_secrets(text), _MAX_FACT)}\n"
            for name, text in advice(loaded.config, environ)
        )
        # what re2 can't judge here is among the warnings already
        for find in (pattern_warnings, mask_warnings):
            layer = find(loaded.config, lambda it: risk_of(it) or risk_in_the_layer(it))
            warnings.extend(warning for warning in layer if warning not in warnings)
    out.writelines(
        f"# limit: {printable(without_secrets(limit), _MAX_FACT)}\n"
        for limit in limits(loaded.config, mode, environ)
    )
    out.writelines(f"# warning: {without_secrets(warning)}\n" for warning in warnings)
    out.write("# configuration is valid\n")
    if probes:
        from telemetryd.commands.probe import probe  # noqa: PLC0415 - only where asked for

        out.flush()
        return EXIT_OK if probe(loaded.config, environ, mode, out) else EXIT_UNAVAILABLE
    return EXIT_OK


def _clients(config: Config, environ: Mapping[str, str], mode: Mode) -> Iterator[str]:
    """Yield which client of AWS each sink uses, and why."""
    for name, sink in config.sinks.items():
        wanted = sink.aws_client()
        if wanted is not None:
            choice = choose(wanted, environ, in_lambda=mode == "lambda")
            yield f"sinks.{name}: client {printable(without_secrets(str(choice)))}"


def _file_warnings(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield warnings about existing files that will be written to."""
    context = SinkContext(
        name="",
        function=environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"),
        version=environ.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        instance="0" * 32,
        salvage=lambda _data, _reason: False,
        log=EventLog(),
    )
    paths = {"dead_letter.path": config.dead_letter.path}
    for name, sink in config.sinks.items():
        if isinstance(sink, FileConfig):
            paths[f"sinks.{name}.path"] = expand(sink.path, context, context.clock.wall())
        if sink.spool is not None:
            paths[f"sinks.{name}.spool.path"] = f"{sink.spool.path}/{name}.{sink.type}"
    for key, path in paths.items():
        if path and (concern := trust.concern(path)):
            yield f"{key}: {printable(concern)}"


def _hook_warnings(config: Config) -> Iterator[str]:
    """Yield which hooks can't be loaded here. A layer may have more of them: it is no fault."""
    if config.hooks:
        from telemetryd.hooks.registry import (  # noqa: PLC0415 - only where there are some
            HookUnavailable,
            hook_class,
        )

        for name, hook in config.hooks.items():
            try:
                hook_class(hook.type or name)
            except HookUnavailable as error:
                yield f"hooks.{name}: is off here: {printable(str(error), _MAX_FACT)}"


def report(error: ConfigError, err: TextIO, mode: Mode) -> int:
    """Print each problem to `err`, and what Lambda makes of them; the exit status for them."""
    err.writelines(f"{without_secrets(problem)}\n" for problem in error.problems)
    count = len(error.problems)
    if mode == "lambda" and error.left_out:
        names = ", ".join(map(printable, error.left_out))
        err.write(f"in Lambda, without fail_closed, these sinks would be off: {names}\n")
    err.write(f"configuration is not valid: {count} problem{'s' if count > 1 else ''}\n")
    return EXIT_CONFIG
