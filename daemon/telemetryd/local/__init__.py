"""A Lambda execution environment on this machine, for any extension and any runtime.

It knows nothing of telemetryd, and nothing of telemetryd depends on it. As a library:

    async with LocalLambda(LocalConfig(handler="app.handler", extensions=[path])) as env:
        result = await env.invoke({"key": "value"})

As a command: `telemetryd local --handler app.handler`. See docs/local.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from telemetryd.local.config import ConfigError, LocalConfig
    from telemetryd.local.environment import EnvironmentClosedError, LocalLambda, TenantError
    from telemetryd.local.invocation import InvokeResult
    from telemetryd.local.losses import LossError

__all__ = [
    "ConfigError",
    "EnvironmentClosedError",
    "InvokeResult",
    "LocalConfig",
    "LocalLambda",
    "LossError",
    "TenantError",
]

_HOMES = {
    "ConfigError": "config",
    "EnvironmentClosedError": "environment",
    "InvokeResult": "invocation",
    "LocalConfig": "config",
    "LocalLambda": "environment",
    "LossError": "losses",
    "TenantError": "environment",
}
"""The module of each name. They are loaded when first asked for: `api` needs none of them."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            import_module("aiohttp")
        except ModuleNotFoundError as error:
            raise ImportError(
                "telemetryd local needs aiohttp and awslambdaric, which are not installed; "
                "run: python -m pip install 'telemetryd[local]'"
            ) from error
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
