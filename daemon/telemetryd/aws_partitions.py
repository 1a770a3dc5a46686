"""AWS's partitions: which one a region is in, and how it names the VPC endpoints of services.

The partitions are botocore's own data, as new as the installed botocore. Only `telemetryd iam`
imports this module.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, Final

import msgspec

_WITH_OWN_PREFIX: Final = {
    "aws-cn": frozenset(
        {"athena", "kinesis-streams", "lambda", "monitoring", "sqs", "states", "sts", "xray"}
    ),
    "aws-iso": frozenset({"sns", "sqs"}),
    "aws-iso-b": frozenset({"sns", "sqs"}),
}
"""Services whose endpoints begin with the partition's own domain, of those that a sink may call.
The others begin with `com.amazonaws`, in every partition. No library has these names; they are what
`aws ec2 describe-vpc-endpoint-services` lists there, and the AWS CDK uses."""
_COMMON_DOMAIN: Final = "amazonaws.com"


class Partition(msgspec.Struct, frozen=True):
    """One partition of AWS, such as `aws-cn`."""

    name: str
    domain: str = _COMMON_DOMAIN
    """The domain of its services."""

    @property
    def is_uniform(self) -> bool:
        """True if all its VPC endpoints are named alike."""
        return self.domain == _COMMON_DOMAIN

    def vpc_endpoint(self, region: str, service: str) -> str:
        """Return the name of the VPC endpoint of `service`, as endpoints call it, in `region`."""
        is_own = service in _WITH_OWN_PREFIX.get(self.name, ())
        domain = self.domain if is_own else _COMMON_DOMAIN
        return ".".join((*reversed(domain.split(".")), region, service))


def partition_of(region: str) -> Partition | None:
    """Return the partition of `region`; None if botocore is not there to tell.

    A region that botocore does not know is in `aws`, as its own rules for endpoints have it.
    """
    known = _known()
    if known is None:
        return None
    found = [each for each in known if region in each["regions"]] or [
        each for each in known if re.match(each["regionRegex"], region)
    ]
    if not found:
        return Partition("aws")
    return Partition(found[0]["id"], found[0]["outputs"]["dnsSuffix"])


def _known() -> list[dict[str, Any]] | None:
    try:
        loaders = importlib.import_module("botocore.loaders")
    except ImportError:
        return None
    try:
        found: list[dict[str, Any]] = loaders.create_loader().load_data("partitions")["partitions"]
    except importlib.import_module("botocore.exceptions").DataNotFoundError:
        return None  # as in an installation that was cut down to the services it calls
    return found
