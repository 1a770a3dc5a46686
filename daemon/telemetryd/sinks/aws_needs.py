"""The types in which `Config.aws_needs` of a sink describes its permissions.

Imported by that command only: a sink imports it inside the method, and no function waits for it.
"""

from __future__ import annotations

import msgspec


class AwsNeed(msgspec.Struct, frozen=True, kw_only=True):
    """One statement of the policy for the role telemetryd runs under, or just a remark."""

    actions: tuple[str, ...] = ()
    """The actions that the sink really calls, such as `kinesis:PutRecords`."""
    resource: str = ""
    """An ARN, as narrow as can be. `{partition}`, `{region}`, `{account}` and `{function}` are
    filled in; `*` and `?` match as in any policy."""
    region: str = ""
    """The region of the resource; empty: the function's."""
    vpc_endpoint: str = ""
    """The service as VPC endpoints name it, such as `kinesis-streams` for
    `com.amazonaws.<region>.kinesis-streams`; empty: none is needed."""
    remark: str = ""
    """A clause for people, about what the configuration can't tell."""
