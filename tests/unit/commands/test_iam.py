"""`telemetryd iam`: the policy on standard output, what goes with it on standard error."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import create_loader

from helpers.iam_policies import allows
from telemetryd.aws_partitions import Partition, partition_of
from telemetryd.commands.check import check
from telemetryd.commands.iam import Place, iam, problem

ACCOUNT = "123456789012"
PLACE = Place("eu-west-1", ACCOUNT, "orders")
KINESIS = {"TELEMETRYD_SINKS__S__TYPE": "kinesis", "TELEMETRYD_SINKS__S__STREAM": "telemetry"}
LOGS = {"TELEMETRYD_SINKS__M__TYPE": "emf", "TELEMETRYD_SINKS__M__DELIVERY": "logs"}
GROUP = f"arn:aws:logs:eu-west-1:{ACCOUNT}:log-group:/aws/lambda/orders"


def run(environ: dict[str, str], place: Place = PLACE) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = iam(environ, out, err, place=place, default_paths=())
    return status, out.getvalue(), err.getvalue()


def statements(environ: dict[str, str], place: Place = PLACE) -> list[dict[str, Any]]:
    status, out, _ = run(environ, place)
    assert status == 0
    policy = json.loads(out)
    assert policy.keys() == {"Version", "Statement"}
    assert policy["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = policy["Statement"]
    return found


@pytest.mark.parametrize("sink", [None, "emf", "stdout", "null"])
def test_what_is_printed_needs_no_permission(sink: str | None) -> None:
    """An empty policy would be refused by AWS, so there is none."""
    status, out, err = run({"TELEMETRYD_SINKS__A__TYPE": sink} if sink else {})
    assert (status, out) == (0, "")
    assert err.startswith("# no permission is needed:\n")
    assert "VPC" not in err


def test_kinesis_needs_one_action_on_one_stream() -> None:
    """And the endpoint of its region; a key of one's own is unknown to us, so it is said."""
    assert statements(KINESIS) == [
        {
            "Effect": "Allow",
            "Action": ["kinesis:PutRecords"],
            "Resource": [f"arn:aws:kinesis:eu-west-1:{ACCOUNT}:stream/telemetry"],
        }
    ]
    err = run(KINESIS)[2]
    assert "#   com.amazonaws.eu-west-1.kinesis-streams\n" in err
    assert "kms:GenerateDataKey" in err


def test_an_arn_is_taken_as_it_is() -> None:
    """Another region and account are no mistake: the policy and the endpoint follow them."""
    arn = "arn:aws-cn:kinesis:cn-north-1:999999999999:stream/other"
    environ = KINESIS | {"TELEMETRYD_SINKS__S__STREAM": arn}
    assert statements(environ)[0]["Resource"] == [arn]
    assert "#   cn.com.amazonaws.cn-north-1.kinesis-streams\n" in run(environ)[2]


@pytest.mark.parametrize(
    ("region", "partition", "kinesis", "logs"),
    [
        ("eu-west-1", "aws", "com.amazonaws", "com.amazonaws"),
        ("mx-central-1", "aws", "com.amazonaws", "com.amazonaws"),
        ("us-gov-east-1", "aws-us-gov", "com.amazonaws", "com.amazonaws"),
        ("cn-north-1", "aws-cn", "cn.com.amazonaws", "com.amazonaws"),
        ("cn-northwest-1", "aws-cn", "cn.com.amazonaws", "com.amazonaws"),
        ("us-iso-east-1", "aws-iso", "com.amazonaws", "com.amazonaws"),
        ("us-isob-east-1", "aws-iso-b", "com.amazonaws", "com.amazonaws"),
        ("eu-isoe-west-1", "aws-iso-e", "com.amazonaws", "com.amazonaws"),
        ("us-isof-south-1", "aws-iso-f", "com.amazonaws", "com.amazonaws"),
        ("us-isof-tomorrow-7", "aws-iso-f", "com.amazonaws", "com.amazonaws"),
        ("eusc-de-east-1", "aws-eusc", "com.amazonaws", "com.amazonaws"),
        ("moon-base-1", "aws", "com.amazonaws", "com.amazonaws"),
    ],
)
def test_each_partition_has_its_own_arns_and_endpoints(
    region: str, partition: str, kinesis: str, logs: str
) -> None:
    place = Place(region, ACCOUNT, "orders")
    (stream,) = statements(KINESIS, place)
    assert stream["Resource"] == [f"arn:{partition}:kinesis:{region}:{ACCOUNT}:stream/telemetry"]
    assert all(
        resource.startswith(f"arn:{partition}:logs:{region}:{ACCOUNT}:log-group:")
        for statement in statements(LOGS, place)
        for resource in statement["Resource"]
    )
    err = run(KINESIS | LOGS, place)[2]
    assert f"#   {kinesis}.{region}.kinesis-streams\n" in err
    assert f"#   {logs}.{region}.logs\n" in err
    is_uniform = partition in ("aws", "aws-us-gov")
    assert ("describe-vpc-endpoint-services" in err) is not is_uniform


def test_every_partition_and_region_of_botocore_is_known() -> None:
    for each in create_loader().load_data("partitions")["partitions"]:
        for region in each["regions"]:
            found = partition_of(region)
            assert found == Partition(each["id"], each["outputs"]["dnsSuffix"])


def test_without_botocore_the_partition_is_left_to_the_reader() -> None:
    """In a process of its own, where importing it fails."""
    script = (
        "import sys; sys.modules['botocore'] = None\n"
        "from telemetryd.commands.iam import Place, _explanation, _fill_in, _statements\n"
        "from telemetryd.sinks.aws_needs import AwsNeed\n"
        "need = AwsNeed(actions=('q:Send',), resource='arn:{partition}:q:{region}:1:x', "
        "vpc_endpoint='q')\n"
        "place = Place('cn-north-1', '1', 'f')\n"
        "needs = [_fill_in(need, place)]\n"
        "found = list(_statements(needs))\n"
        "print(found[0]['Resource'], *_explanation({'s': needs}, found, needs, place), sep='\\n')"
    )
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    text = found.stdout.decode()
    assert "arn:PARTITION:q:cn-north-1:1:x" in text
    assert "in place of PARTITION" in text
    assert "describe-vpc-endpoint-services --region cn-north-1" in text


def test_a_region_of_the_sink_beats_that_of_the_function() -> None:
    """In the resource and the endpoint."""
    environ = KINESIS | {"TELEMETRYD_SINKS__S__REGION": "us-gov-west-1"}
    arn = f"arn:aws-us-gov:kinesis:us-gov-west-1:{ACCOUNT}:stream/telemetry"
    assert statements(environ)[0]["Resource"] == [arn]
    assert "com.amazonaws.us-gov-west-1.kinesis-streams" in run(environ)[2]


def test_an_endpoint_of_ones_own_needs_no_vpc_endpoint() -> None:
    """The URL says already where requests go."""
    url = {"TELEMETRYD_SINKS__S__ENDPOINT_URL": "https://vpce-1.example.com"}
    assert "VPC" not in run(KINESIS | url)[2]


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        ("logs:CreateLogGroup", f"{GROUP}:log-stream:", True),
        ("logs:CreateLogStream", f"{GROUP}:log-stream:telemetryd/0123", True),
        ("logs:PutLogEvents", f"{GROUP}:log-stream:telemetryd/0123", True),
        ("logs:PutLogEvents", f"{GROUP}:log-stream:2026/03/14/[$LATEST]0123", False),
        ("logs:PutLogEvents", f"{GROUP}-too:log-stream:telemetryd/0123", False),
        ("logs:CreateLogGroup", f"{GROUP}-too:log-stream:", False),
        ("logs:DeleteLogGroup", f"{GROUP}:log-stream:", False),
    ],
)
def test_log_delivery_may_write_its_own_streams_only(
    action: str, resource: str, allowed: bool
) -> None:
    """The streams of the function itself stay out of reach."""
    assert allows(statements(LOGS), action, resource) is allowed


def test_log_delivery_names_its_endpoint() -> None:
    """CloudWatch Logs has one."""
    assert "#   com.amazonaws.eu-west-1.logs\n" in run(LOGS)[2]


def test_names_with_every_placeholder_match_what_they_become() -> None:
    """Version and instance are any; `$` and `?` of a name are no policy variables."""
    names = {
        "TELEMETRYD_SINKS__M__LOG_GROUP": "/t/{function}/{version}",
        "TELEMETRYD_SINKS__M__LOG_STREAM": "a$x?/{instance}",
    }
    found = statements(LOGS | names)
    arn = f"arn:aws:logs:eu-west-1:{ACCOUNT}:log-group:/t/orders/_LATEST:log-stream:"
    assert allows(found, "logs:PutLogEvents", f"{arn}a$x?/0123")
    assert not allows(found, "logs:PutLogEvents", f"{arn}b$x?/0123")
    assert "${" not in json.dumps(found)


def test_sinks_with_the_same_actions_share_a_statement() -> None:
    """Each resource once."""
    second = {k.replace("__S__", "__T__"): v for k, v in KINESIS.items()}
    third = {k.replace("__S__", "__U__"): v for k, v in KINESIS.items()}
    third["TELEMETRYD_SINKS__U__STREAM"] = "other"
    found = statements(KINESIS | second | third)
    arns = {f"arn:aws:kinesis:eu-west-1:{ACCOUNT}:stream/{name}" for name in ("telemetry", "other")}
    assert len(found) == 1
    assert (set(found[0]["Resource"]), len(found[0]["Resource"])) == (arns, 2)


def test_placeholders_stand_for_what_was_not_said() -> None:
    """And only those that are in the policy are asked for."""
    resource = statements(LOGS, Place())[0]["Resource"]
    assert resource == ["arn:aws:logs:REGION:ACCOUNT:log-group:/aws/lambda/FUNCTION:*"]
    assert "put your own in place of REGION, ACCOUNT, FUNCTION" in run(LOGS, Place())[2]
    assert "in place of REGION, ACCOUNT, or name them" in run(KINESIS, Place())[2]
    assert "put your own" not in run(LOGS)[2]


def test_the_environment_fills_in_what_is_not_given() -> None:
    """As inside a function; what was given wins."""
    environ = {"AWS_REGION": "eu-west-1", "AWS_LAMBDA_FUNCTION_NAME": "orders"}
    assert Place.of(environ, "", ACCOUNT, "") == PLACE
    assert Place.of(environ, "us-east-1", "", "f") == Place("us-east-1", "ACCOUNT", "f")
    assert Place.of({"AWS_DEFAULT_REGION": "us-west-2"}, "", "", "").region == "us-west-2"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("ireland", "", ""), "--region"),
        (("", "12", ""), "--account"),
        (("", "", "arn:aws:lambda:x"), "--function"),
    ],
)
def test_impossible_names_are_refused(given: tuple[str, str, str], named: str) -> None:
    """Before they stand in a policy."""
    assert named in (problem(*given) or "")
    assert problem("eu-west-1", ACCOUNT, "orders") is None


def test_a_wrong_configuration_is_told_as_check_tells_it(tmp_path: Path) -> None:
    """Same lines, same status, and no policy."""
    environ = {"TELEMETRYD_SINKS__S__TYPE": "kinesis", "TELEMETRYD_PORT": "1"}
    out, err = io.StringIO(), io.StringIO()
    status = check(environ, out, err, mode="lambda", default_paths=())
    assert run(environ) == (status, "", err.getvalue())
    assert status == 78
