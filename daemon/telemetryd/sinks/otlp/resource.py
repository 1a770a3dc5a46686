"""The resource that telemetry comes from, by OpenTelemetry's semantic conventions.

Sources: semantic conventions, "FaaS", "AWS Lambda", "Cloud", "Cloud Provider: AWS", "Service".
What Lambda does not put into the environment of an extension (the log stream, the ARN) comes with
`platform.initStart` and `platform.start`; the account, with the answer to `register` already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from telemetryd.sinks.otlp.settings import percent_decode
from telemetryd_proto.otlp.requests import Source

SCOPE: Final = "telemetryd"
_MIB: Final = 1024 * 1024
_ARN_PARTS: Final = 7
_MAX_TEXT: Final = 2048


class Resource:
    """Attributes of this process's function. `given` are the configuration's, which come first.

    `account`: the function's, if the platform has told it.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        given: Mapping[str, str],
        *,
        scope_version: str,
        account: str = "",
    ) -> None:
        self._given = given
        self._version = scope_version
        self._listed = _read_list(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        if service := environ.get("OTEL_SERVICE_NAME"):
            self._listed["service.name"] = service
        self._found = _of_environment(environ)
        if account:
            self._found["cloud.account.id"] = account
        self.changes = 0
        """The number of times that `learn` found something new."""

    def attributes(self) -> dict[str, Any]:
        """Return all attributes."""
        found = {**self._found, **self._listed, **self._given}
        return {"service.name": "unknown_service:telemetryd", **found}

    def source(self) -> Source:
        """Return the source of all that is sent."""
        return Source(self.attributes(), SCOPE, self._version)

    def learn(self, record: object) -> None:
        """Take what a `platform.initStart` or `platform.start` says of the function."""
        if not isinstance(record, dict):
            return
        found: dict[str, Any] = {}
        instance, memory = record.get("instanceId"), record.get("instanceMaxMemory")
        if _is_text(instance):
            found |= {"faas.instance": instance, "aws.log.stream.names": [instance]}
        if type(memory) is int and "faas.max_memory" not in self._found:
            found["faas.max_memory"] = memory
        arn = record.get("functionArn")
        if isinstance(arn, str) and _is_text(arn):
            found |= _of_arn(arn)
        if not found.items() <= self._found.items():
            self._found |= found
            self.changes += 1


def _read_list(text: str) -> dict[str, Any]:
    """Return the attributes in `name=value,...`. All of it is dropped if a part is none."""
    found: dict[str, Any] = {}
    for part in filter(str.strip, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            return {}
        found[percent_decode(name.strip())] = percent_decode(value.strip())
    return found


def _of_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    name = environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    if not name:
        return {}
    found: dict[str, Any] = {
        "service.name": name,
        "faas.name": name,
        "cloud.provider": "aws",
        "cloud.platform": "aws_lambda",
        "aws.log.group.names": [environ.get("AWS_LAMBDA_LOG_GROUP_NAME") or f"/aws/lambda/{name}"],
    }
    for attribute, variable in (
        ("faas.version", "AWS_LAMBDA_FUNCTION_VERSION"),
        ("faas.instance", "AWS_LAMBDA_LOG_STREAM_NAME"),
        ("cloud.region", "AWS_REGION"),
        ("cloud.account.id", "AWS_ACCOUNT_ID"),
    ):
        if value := environ.get(variable):
            found[attribute] = value
    if "faas.instance" in found:
        found["aws.log.stream.names"] = [found["faas.instance"]]
    memory = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    if memory.isascii() and memory.isdigit() and len(memory) < len("10000000"):
        found["faas.max_memory"] = int(memory) * _MIB
    return found


def _of_arn(arn: str) -> dict[str, Any]:
    """Return what the ARN of a function says.

    The caller may have used an alias or a version: the version that runs is `faas.version`.
    """
    parts = arn.split(":")
    if len(parts) < _ARN_PARTS or parts[2] != "lambda":
        return {}
    return {"cloud.account.id": parts[4], "cloud.resource_id": ":".join(parts[:_ARN_PARTS])}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT
