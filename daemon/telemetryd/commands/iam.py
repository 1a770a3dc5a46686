"""`telemetryd iam`: the least permissions and endpoints that the configured sinks need.

The policy goes to standard output, everything else to standard error. So
`telemetryd iam > policy.json` writes a file that the AWS command line accepts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TextIO

import msgspec

from telemetryd.aws_partitions import Partition, partition_of
from telemetryd.commands.check import report
from telemetryd.config import DEFAULT_PATHS, load
from telemetryd.errors import EXIT_OK, ConfigError
from telemetryd.sinks.aws_needs import AwsNeed

REGION: Final = "REGION"
ACCOUNT: Final = "ACCOUNT"
FUNCTION: Final = "FUNCTION"
PARTITION: Final = "PARTITION"
"""Placeholders in the output for values that were not given."""

_POLICY_VERSION: Final = "2012-10-17"


class Place(NamedTuple):
    """The place of the function, with placeholders for unknown parts."""

    region: str = REGION
    account: str = ACCOUNT
    function: str = FUNCTION

    @classmethod
    def of(cls, environ: Mapping[str, str], region: str, account: str, function: str) -> Place:
        """Return the given values, or those of the environment, or the placeholders."""
        found = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
        return cls(
            region or found or REGION,
            account or ACCOUNT,
            function or environ.get("AWS_LAMBDA_FUNCTION_NAME") or FUNCTION,
        )


def problem(region: str, account: str, function: str) -> str | None:
    """Return a fault of these values, or None. An empty one was not given."""
    if region and not re.fullmatch(r"[a-z]{2,}(-[a-z]+)+-[0-9]+", region):
        return f"--region {region!a}: must be the name of a region, such as eu-west-1"
    if account and not re.fullmatch(r"[0-9]{12}", account):
        return f"--account {account!a}: must have 12 digits"
    if function and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", function):
        return f"--function {function!a}: must be the name of a function, without ARN or version"
    return None


def iam(
    environ: Mapping[str, str],
    out: TextIO,
    err: TextIO,
    *,
    place: Place,
    default_paths: Sequence[str] = DEFAULT_PATHS,
) -> int:
    """Print the policy to `out` and what goes with it to `err`; the exit status, as of `check`.

    Nothing goes to `out` when no permission is needed: an empty policy is no valid one.
    """
    try:
        loaded = load(environ, default_paths=default_paths, mode="lambda")
    except ConfigError as error:
        return report(error, err, "lambda")
    needs = {
        f"sinks.{name} ({sink.type})": [_fill_in(need, place) for need in sink.aws_needs()]
        for name, sink in loaded.config.sinks.items()
    }
    everything = [need for of_sink in needs.values() for need in of_sink]
    statements = list(_statements(everything))
    if statements:
        policy = {"Version": _POLICY_VERSION, "Statement": statements}
        out.write(msgspec.json.format(msgspec.json.encode(policy), indent=2).decode() + "\n")
        out.flush()
    err.writelines(f"# {line}\n" for line in _explanation(needs, statements, everything, place))
    return EXIT_OK


def _fill_in(need: AwsNeed, place: Place) -> AwsNeed:
    """Return `need` with everything filled in."""
    region = need.region or place.region
    partition = _partition(region)
    words = {
        "{partition}": partition.name if partition else PARTITION,
        "{region}": region,
        "{account}": place.account,
        "{function}": place.function,
    }
    resource = need.resource
    for word, text in words.items():
        resource = resource.replace(word, text)
    return msgspec.structs.replace(need, region=region, resource=resource)


def _partition(region: str) -> Partition | None:
    """Return the partition of a region; `aws` where the region is not known yet."""
    return Partition("aws") if region == REGION else partition_of(region)


def _statements(needs: Iterable[AwsNeed]) -> Iterator[dict[str, Any]]:
    """Yield one statement for each set of actions, with the resources of all who need it."""
    resources: dict[tuple[str, ...], list[str]] = {}
    for need in needs:
        if need.actions:
            of_actions = resources.setdefault(need.actions, [])
            if need.resource not in of_actions:
                of_actions.append(need.resource)
    for actions, names in resources.items():
        yield {"Effect": "Allow", "Action": list(actions), "Resource": names}


def _explanation(
    needs: Mapping[str, Sequence[AwsNeed]],
    statements: Sequence[Mapping[str, Any]],
    everything: Sequence[AwsNeed],
    place: Place,
) -> Iterator[str]:
    if not statements:
        yield "no permission is needed:"
    else:
        yield "permissions for the function's role, by sink:"
    for sink, of_sink in needs.items():
        actions = [action for need in of_sink for action in need.actions]
        yield f"  {sink}: {', '.join(actions) or 'nothing'}"
        yield from (f"    {need.remark}" for need in of_sink if need.remark)
    shown = " ".join(resource for of in statements for resource in of["Resource"])
    missing = [
        (word, option)
        for word, option, value in (
            (REGION, "--region", place.region),
            (ACCOUNT, "--account", place.account),
            (FUNCTION, "--function", place.function),
        )
        if value == word and re.search(rf"\b{word}\b", shown)
    ]
    if missing:
        words, options = (", ".join(part) for part in zip(*missing, strict=True))
        yield f"put your own in place of {words}, or name them with {options}"
    if re.search(rf"\b{PARTITION}\b", shown):
        yield (
            f"put that of the region, such as aws or aws-cn, in place of {PARTITION}: botocore "
            "knows them all, but is not installed; pip install 'aiobotocore>=3'"
        )
    yield from _endpoints(everything)


def _endpoints(everything: Sequence[AwsNeed]) -> Iterator[str]:
    """Yield the VPC endpoints, and where their names need a second look."""
    needs = [need for need in everything if need.vpc_endpoint]
    if not needs:
        return
    yield "VPC endpoints, for a function in a VPC without internet access:"
    names, unsure = dict[str, None](), dict[str, None]()
    for need in needs:
        partition = _partition(need.region)
        known = partition or Partition("aws")
        names[known.vpc_endpoint(need.region, need.vpc_endpoint)] = None
        if partition is None or not partition.is_uniform:
            unsure[need.region] = None
    yield from (f"  {name}" for name in names)
    for region in unsure:
        yield (
            f"  in {region} they begin with com.amazonaws or with the domain of the partition, "
            f"service by service: aws ec2 describe-vpc-endpoint-services --region {region}"
        )
