"""Endpoints of AWS services: partition, dual-stack, FIPS, or a URL of your own.

The same as botocore's rules for the services that a sink may call; a test compares them in every
region. These rules are older than most regions, and new ones follow them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from telemetryd.errors import PermanentSinkError

Scheme: TypeAlias = Literal["http", "https"]

_PARTITIONS: Final = (
    # name, its regions but those that all partitions have, domain, dual-stack domain
    ("aws-cn", "cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    ("aws-eusc", "eusc-de", "amazonaws.eu", "api.amazonwebservices.eu"),
    ("aws-iso", "us-iso", "c2s.ic.gov", "api.aws.ic.gov"),
    ("aws-iso-b", "us-isob", "sc2s.sgov.gov", "api.aws.scloud"),
    ("aws-iso-e", "eu-isoe", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    ("aws-iso-f", "us-isof", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    ("aws-us-gov", "us-gov", "amazonaws.com", "api.aws"),
)
_COMMON: Final = ("aws", "", "amazonaws.com", "api.aws")
_VARIABLES: Final = {
    "kinesis": "KINESIS",
    "logs": "CLOUDWATCH_LOGS",
    "firehose": "FIREHOSE",
    "monitoring": "CLOUDWATCH",
    "xray": "XRAY",
}
"""The name of each service in AWS_ENDPOINT_URL_<SERVICE>."""
_FIPS_BY_ITSELF: Final = {
    # in GovCloud the ordinary name is the one of FIPS; "both": with dual-stack as well
    "kinesis": "plain",
    "logs": "plain",
    "monitoring": "both",
}
_GOV_LOGS: Final = ("us-gov-east-1", "us-gov-west-1")
_BY_ACCOUNT: Final = frozenset({"kinesis"})
"""Services with a name for each account, which the ARN of a stream leads to."""
_WITHOUT_ACCOUNTS: Final = ("aws-iso", "aws-iso-b")
_MODES: Final = ("preferred", "disabled", "required")
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!-~]*)?",
    re.IGNORECASE,
)
_MOST_PORTS: Final = 65535
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_ARN: Final = re.compile(
    r"arn:(?P<partition>[^:]+):kinesis:(?P<region>[^:]+):(?P<account>[^:]+):stream/.+"
)


class Url(NamedTuple):
    """An `http` or `https` URL in its parts."""

    scheme: Scheme
    host: str
    """Without brackets, if it is an IPv6 address."""
    port: int
    path: str = ""
    """A prefix for the path of each request, without the last slash."""

    @property
    def authority(self) -> str:
        """Return the value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == (443 if self.scheme == "https" else 80)
        return host if usual else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that decide where requests go. `url_of` finds their faults."""

    service: str
    region: str
    url: str = ""
    """One's own, instead of AWS's."""
    fips: bool = False
    dual_stack: bool = False
    account_mode: str = "preferred"


def place_of(service: str, region: str, url: str, environ: Mapping[str, str]) -> Place:
    """Return the place of `service`. `region` and `url`: what the sink's section says, or empty.

    A region such as `fips-us-east-1` is that of the FIPS endpoint, as with all tools of AWS.
    """
    region = region or environ.get("AWS_DEFAULT_REGION") or environ.get("AWS_REGION") or ""
    plain = region.replace("fips-", "").replace("-fips", "")
    if not url and not _is_true(environ, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"):
        variable = f"AWS_ENDPOINT_URL_{_VARIABLES.get(service, service.upper())}"
        url = environ.get(variable) or environ.get("AWS_ENDPOINT_URL") or ""
    return Place(
        service=service,
        region=plain,
        url=url,
        fips=plain != region or _is_true(environ, "AWS_USE_FIPS_ENDPOINT"),
        dual_stack=_is_true(environ, "AWS_USE_DUALSTACK_ENDPOINT"),
        account_mode=environ.get("AWS_ACCOUNT_ID_ENDPOINT_MODE", "preferred").lower(),
    )


def url_of(place: Place, *, stream_arn: str = "", account: str = "") -> Url:
    """Return the URL that requests go to.

    `stream_arn`: of the stream they are about. `account`: the account of the credentials. Raises
    PermanentSinkError: there is no region, or what is set does not fit together.
    """
    if not place.region:
        raise PermanentSinkError(
            "no_region", "no AWS region; set `region` or AWS_REGION", stops_sink=True
        )
    if place.url:
        return _own_url(place)
    name, _, domain, dual_domain = _partition(place.region)
    account = _account_of(place, name, stream_arn, account)
    if not account:
        host = f"{_prefix(place, name)}.{place.region}"
    else:
        host = f"{account}.data-{place.service}{'-fips' * place.fips}.{place.region}"
    host = f"{host}.{dual_domain if place.dual_stack else domain}"
    return Url("https", host, 443)


def parse_url(url: str) -> Url | None:
    """Return the parts of `url`; None if it is no `http` or `https` URL of a server."""
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme: Scheme = "https" if found["scheme"].lower() == "https" else "http"
    port = int(found["port"] or (443 if scheme == "https" else 80))
    if not 0 < port <= _MOST_PORTS:
        return None
    return Url(scheme, found["host"].strip("[]").lower(), port, (found["path"] or "").rstrip("/"))


def _own_url(place: Place) -> Url:
    if place.fips or place.dual_stack:
        kind = "FIPS" if place.fips else "Dualstack"
        raise _refuse(f"{kind} and custom endpoint are not supported")
    if (url := parse_url(place.url)) is None:
        raise _refuse("the endpoint URL must look like https://host or http://host:port")
    return url


def _partition(region: str) -> tuple[str, str, str, str]:
    for each in _PARTITIONS:
        if re.fullmatch(rf"{each[1]}-\w+-\d+", region) or region == f"{each[0]}-global":
            return each
    return _COMMON


def _prefix(place: Place, partition: str) -> str:
    if not place.fips:
        return place.service
    known = _FIPS_BY_ITSELF.get(place.service, "")
    exempt = known == "both" or (known == "plain" and not place.dual_stack)
    if place.service == "logs" and place.region not in _GOV_LOGS:
        exempt = False
    return place.service if exempt and partition == "aws-us-gov" else f"{place.service}-fips"


def _account_of(place: Place, partition: str, stream_arn: str, account: str) -> str:
    """Return the account in whose name requests go; empty: in that of the region."""
    if place.account_mode not in _MODES:
        raise _refuse(f"AWS_ACCOUNT_ID_ENDPOINT_MODE must be one of {', '.join(_MODES)}")
    if place.service not in _BY_ACCOUNT:
        return ""
    is_without = partition in _WITHOUT_ACCOUNTS
    if stream_arn and not is_without:
        arn = _ARN.fullmatch(stream_arn)
        if arn is None or not _LABEL.fullmatch(arn["account"]):
            raise _refuse("the ARN of the stream is not one")
        if arn["partition"] != partition:
            raise _refuse(f"the ARN of the stream is of {arn['partition']}, not of {partition}")
        return arn["account"]
    if place.account_mode == "disabled":
        return ""
    if account and not is_without:
        if not _LABEL.fullmatch(account):
            raise _refuse("the account of the credentials is not one")
        return account
    if place.account_mode == "required":
        raise _refuse("AWS_ACCOUNT_ID_ENDPOINT_MODE is required, but no account is known")
    return ""


def _refuse(text: str) -> PermanentSinkError:
    return PermanentSinkError("aws_configuration", text, stops_sink=True)


def _is_true(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() == "true"
