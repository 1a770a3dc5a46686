"""A Lambda execution environment on this machine, for any extension and any runtime.

It knows nothing of telemetryd, and nothing of telemetryd depends on it. As a library:

    async with LocalLambda(LocalConfig(handler="app.handler", extensions=[path])) as env:
        result = await env.invoke({"key": "value"})

As a command: `telemetryd local --handler app.handler`. See docs/local.md.
"""

try:
    import aiohttp  # noqa: F401 - only to say what to do when it is missing
except ModuleNotFoundError as error:
    raise ImportError(
        "telemetryd local needs aiohttp and awslambdaric, which are not installed; "
        "run: python -m pip install 'telemetryd[local]'"
    ) from error

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
