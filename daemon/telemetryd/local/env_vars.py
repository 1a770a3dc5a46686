"""The variables Lambda gives to the runtime, and those it withholds from extensions.

Source: Developer Guide, "Defined runtime environment variables" and "Using the Lambda Extensions
API to create extensions" (the list of variables an extension does not get).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from telemetryd.local.config import LocalConfig

WITHHELD = frozenset(
    {
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    }
)
"""Variables that extensions do not get, like all that begin with an underscore."""

LOCAL = "TELEMETRYD_LOCAL"
"""Shows an extension that it runs on the local Lambda, as AWS_SAM_LOCAL does for functions."""

_PASSED = ("PATH", "LD_LIBRARY_PATH", "HOME")


def _common(config: LocalConfig, api: str, surroundings: Mapping[str, str]) -> dict[str, str]:
    variables = {name: surroundings[name] for name in _PASSED if name in surroundings}
    variables |= config.env
    variables |= {
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "AWS_REGION": config.region,
        "AWS_DEFAULT_REGION": config.region,
        "AWS_LAMBDA_FUNCTION_NAME": config.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": config.function_version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(config.memory_mb),
        "AWS_LAMBDA_INITIALIZATION_TYPE": config.initialization_type,
        "AWS_LAMBDA_LOG_FORMAT": "JSON" if config.log_format == "json" else "Text",
        "AWS_LAMBDA_RUNTIME_API": api,
    }
    if config.log_level is not None:
        variables["AWS_LAMBDA_LOG_LEVEL"] = config.log_level
    return variables


def extension_environment(config: LocalConfig, api: str) -> dict[str, str]:
    """Return the environment of an extension process; `api` is `host:port`."""
    variables = _common(config, api, os.environ) | dict(config.extension_env)
    return {
        name: value
        for name, value in variables.items()
        if name not in WITHHELD and not name.startswith("_")
    } | {LOCAL: "1"}


def runtime_environment(config: LocalConfig, api: str, log_stream: str) -> dict[str, str]:
    """Return the environment of a runtime process; `api` is `host:port`."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    execution = f"AWS_Lambda_python{version}" if config.handler else "AWS_Lambda_provided.al2023"
    log = {
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{config.function_name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
    }
    return {
        **_common(config, api, os.environ),
        "AWS_EXECUTION_ENV": execution,
        # A snapshot is restored many times, so its processes cannot know their log stream.
        **({} if config.mode == "snap-start" else log),
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000",
        "LAMBDA_TASK_ROOT": str(config.task_root.absolute()),
        "LAMBDA_RUNTIME_DIR": str(config.task_root.absolute()),
        "_HANDLER": config.handler or "",
        **config.runtime_env,
    }
