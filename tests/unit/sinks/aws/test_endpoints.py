"""Our endpoints against botocore's rules, in every region and every variant."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from botocore import session
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import create_loader

from telemetryd.errors import PermanentSinkError
from telemetryd.sinks.aws.endpoints import Url, parse_url, place_of, url_of

SERVICES = {
    "kinesis": "kinesis",
    "logs": "logs",
    "firehose": "firehose",
    "monitoring": "cloudwatch",
    "xray": "xray",
}
PARTITIONS = create_loader().load_data("partitions")
REGIONS = sorted(
    {region for each in PARTITIONS["partitions"] for region in each["regions"]}
    | {"eu-new-7", "us-gov-new-1", "cn-new-2", "us-isof-new-1", "eu-isoe-new-9", "eusc-de-new-2"}
    | {"xy-nowhere-1", "us-iso-1", "custom"}
)
FLAGS = [(fips, dual) for fips in (False, True) for dual in (False, True)]


@cache
def provider(service: str) -> EndpointProvider:
    folder = SERVICES[service]
    loader = create_loader()
    names = [folder, service]
    known = loader.list_available_services("endpoint-rule-set-1")
    name = next(each for each in names if each in known)
    return EndpointProvider(loader.load_service_model(name, "endpoint-rule-set-1"), PARTITIONS)


def theirs(service: str, region: str, fips: bool, dual: bool, **parameters: str) -> str | None:
    """The URL, or None for a refusal."""
    if service == "kinesis":
        parameters.setdefault("OperationType", "data")
        parameters.setdefault("AccountIdEndpointMode", "preferred")
    try:
        found = provider(service).resolve_endpoint(
            Region=region, UseFIPS=fips, UseDualStack=dual, **parameters
        )
    except EndpointProviderError:
        return None
    url: str = found.url
    return url


def ours(
    service: str, region: str, fips: bool, dual: bool, environ: dict[str, str] | None = None,
    **keys: str,
) -> str | None:  # fmt: skip
    variables = {
        "AWS_USE_FIPS_ENDPOINT": str(fips),
        "AWS_USE_DUALSTACK_ENDPOINT": str(dual).lower(),
        **(environ or {}),
    }
    try:
        return str(url_of(place_of(service, region, "", variables), **keys))
    except PermanentSinkError as error:
        return None if error.code == "aws_configuration" and error.stops_sink else error.code


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("fips", "dual"), FLAGS)
def test_endpoints_are_those_of_botocore(service: str, fips: bool, dual: bool) -> None:
    for region in REGIONS:
        wanted = theirs(service, region, fips, dual)
        assert wanted is not None
        assert ours(service, region, fips, dual) == wanted, region


@pytest.mark.parametrize(("fips", "dual"), FLAGS)
@pytest.mark.parametrize("partition", ["aws", "aws-cn", "aws-us-gov", "aws-iso-b", "aws-iso-f"])
def test_a_stream_by_arn_has_the_endpoint_of_its_account(
    fips: bool, dual: bool, partition: str
) -> None:
    for region in REGIONS:
        arn = f"arn:{partition}:kinesis:{region}:123456789012:stream/telemetry"
        wanted = theirs("kinesis", region, fips, dual, StreamARN=arn)
        assert ours("kinesis", region, fips, dual, stream_arn=arn) == wanted, region


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:kinesis:eu-west-1:-:stream/x", "arn:aws:sqs:eu-west-1:1:stream/x",
        "arn:aws:kinesis:eu-west-1:1", "no arn",
    ],
)  # fmt: skip
def test_what_is_no_arn_is_refused(arn: str) -> None:
    assert theirs("kinesis", "eu-west-1", False, False, StreamARN=arn) is None
    assert ours("kinesis", "eu-west-1", False, False, stream_arn=arn) is None


@pytest.mark.parametrize("mode", ["preferred", "disabled", "required"])
@pytest.mark.parametrize("account", ["", "123456789012", "no_label"])
def test_the_account_of_the_credentials_counts_as_it_does_in_botocore(
    mode: str, account: str
) -> None:
    known = {"AccountId": account} if account else {}
    for region in ("eu-west-1", "us-iso-east-1", "cn-north-1"):
        for fips, dual in FLAGS:
            wanted = theirs("kinesis", region, fips, dual, AccountIdEndpointMode=mode, **known)
            variables = {"AWS_ACCOUNT_ID_ENDPOINT_MODE": mode.upper()}
            found = ours("kinesis", region, fips, dual, variables, account=account)
            assert found == wanted, region


def test_an_unknown_mode_of_accounts_is_refused() -> None:
    with pytest.raises(PermanentSinkError, match="AWS_ACCOUNT_ID_ENDPOINT_MODE"):
        url_of(place_of("logs", "eu-west-1", "", {"AWS_ACCOUNT_ID_ENDPOINT_MODE": "perhaps"}))


VARIABLES: list[dict[str, str]] = [
    {},
    {"AWS_ENDPOINT_URL": "http://localhost:4566"},
    {"AWS_ENDPOINT_URL": "http://localhost:4566", "AWS_ENDPOINT_URL_KINESIS": "https://own.test"},
    {"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "https://own.test:8443/prefix"},
    {"AWS_ENDPOINT_URL": "http://[::1]:4566/"},
    {"AWS_ENDPOINT_URL": "http://localhost", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "TRUE"},
    {"AWS_ENDPOINT_URL": "http://localhost", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "no"},
    {"AWS_USE_FIPS_ENDPOINT": "True"},
    {"AWS_USE_FIPS_ENDPOINT": "yes"},
    {"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_DEFAULT_REGION": "cn-north-1"},
    {"AWS_DEFAULT_REGION": "us-gov-west-1", "AWS_USE_FIPS_ENDPOINT": "true"},
    {"AWS_DEFAULT_REGION": "fips-us-east-1"},
    {"AWS_DEFAULT_REGION": "us-east-1-fips"},
]


@pytest.mark.parametrize("variables", VARIABLES, ids=str)
@pytest.mark.parametrize("service", ["kinesis", "logs"])
def test_the_environment_is_read_as_botocore_reads_it(
    monkeypatch: pytest.MonkeyPatch, service: str, variables: dict[str, str]
) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    known = {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        **variables,
    }
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    client: Any = session.Session().create_client(service)
    url = url_of(place_of(service, "", "", known))
    assert str(url) == client.meta.endpoint_url.rstrip("/")
    assert place_of(service, "", "", known).region == client.meta.region_name


@pytest.mark.parametrize("flag", ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"])
def test_an_endpoint_of_ones_own_has_no_variants(flag: str) -> None:
    place = place_of("logs", "eu-west-1", "https://own.test", {flag: "true"})
    with pytest.raises(PermanentSinkError, match="custom endpoint"):
        url_of(place)


def test_without_a_region_there_is_no_endpoint() -> None:
    with pytest.raises(PermanentSinkError, match="AWS_REGION") as caught:
        url_of(place_of("logs", "", "https://own.test", {}))
    assert caught.value.code == "no_region"


def test_the_section_goes_before_the_environment() -> None:
    environ = {"AWS_REGION": "ap-south-1", "AWS_ENDPOINT_URL": "https://other.test"}
    place = place_of("kinesis", "sa-east-1", "https://own.test", environ)
    assert place.region == "sa-east-1"
    assert str(url_of(place)) == "https://own.test"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://Own.Test", Url("https", "own.test", 443)),
        ("HTTP://own.test:80/", Url("http", "own.test", 80)),
        ("http://127.0.0.1:4566/a/b/", Url("http", "127.0.0.1", 4566, "/a/b")),
        ("https://[fd00:ec2::23]:443", Url("https", "fd00:ec2::23", 443)),
        ("ftp://own.test", None),
        ("https://", None),
        ("https://own.test:0", None),
        ("https://own.test:65536", None),
        ("https://user:password@own.test", None),
        ("https://own.test/a b", None),
        ("https://own.test\n", None),
    ],
)
def test_urls(url: str, parts: Url | None) -> None:
    assert parse_url(url) == parts


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://own.test:443", "own.test"),
        ("http://own.test:443", "own.test:443"),
        ("http://[::1]:80", "[::1]"),
    ],
)
def test_the_port_is_named_where_it_is_not_the_usual_one(url: str, authority: str) -> None:
    parts = parse_url(url)
    assert parts is not None
    assert parts.authority == authority
