"""Chooses the client of an AWS service, with the reason: ours, or aiobotocore."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from telemetryd.sinks.base import ClientName

MISSING: Final = "aiobotocore is not installed; pip install 'aiobotocore>=3'"

_PROFILES: Final = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")
_WEB_IDENTITY: Final = "AWS_WEB_IDENTITY_TOKEN_FILE"
_KEY: Final = "AWS_ACCESS_KEY_ID"


class Choice(NamedTuple):
    """A client, and the reason for it."""

    is_lean: bool
    reason: str
    is_forced: bool = False
    """True if the environment needs another client than the default: worth a line of log."""

    @property
    def name(self) -> str:
        """Return its name, as the configuration has it."""
        return "lean" if self.is_lean else "aiobotocore"

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def choose(wanted: ClientName, environ: Mapping[str, str], *, in_lambda: bool) -> Choice:
    """Return the client for a sink whose configuration says `client = wanted`."""
    if wanted != "auto":
        return Choice(wanted == "lean", "as configured")
    if not in_lambda:
        if is_available():
            return Choice(is_lean=False, reason="the default of `listen`")
        return Choice(is_lean=True, reason="aiobotocore is not installed", is_forced=True)
    if need := _need_of(environ):
        return Choice(is_lean=False, reason=f"{need}, which only aiobotocore reads", is_forced=True)
    return Choice(is_lean=True, reason="the default in Lambda")


def is_available() -> bool:
    """True if aiobotocore is installed. Does not import it."""
    return importlib.util.find_spec("aiobotocore") is not None


def _need_of(environ: Mapping[str, str]) -> str:
    """Return what of the environment only botocore understands; empty: nothing."""
    for name in _PROFILES:
        if environ.get(name):
            return f"{name} is set"
    if path := _file(environ, "AWS_CONFIG_FILE", "config"):
        return f"there is {path}"
    if environ.get(_KEY):
        return ""  # before all that follows, in botocore as well
    if environ.get(_WEB_IDENTITY):
        return f"{_WEB_IDENTITY} is set"
    if path := _file(environ, "AWS_SHARED_CREDENTIALS_FILE", "credentials"):
        return f"there is {path}"
    return ""


def _file(environ: Mapping[str, str], variable: str, name: str) -> str:
    """Return the path of a file of AWS's tools, empty where it does not exist."""
    home = environ.get("HOME", "")
    path = environ.get(variable) or (f"{home}/.aws/{name}" if home else "")
    if path.startswith("~/"):
        path = f"{home}{path[1:]}"
    return path if path and os.path.isfile(path) else ""  # noqa: PTH113 - pathlib takes 2 ms
