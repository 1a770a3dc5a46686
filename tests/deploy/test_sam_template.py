"""Both SAM templates are valid, and the role of examples/sam permits what its sinks need."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "examples" / "sam" / "template.yaml"
TELEMETRYD = ROOT / ".venv" / "bin" / "telemetryd"
# What the template's references stand for in these tests.
NAMES = {"Stream": "telemetry", "MetricsLogGroup": "metrics-of-orders"}
PLACE = {"AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": "123456789012"}
OPTIONS = ("--region", PLACE["AWS::Region"], "--account", PLACE["AWS::AccountId"])


def tool(name: str, *arguments: str, example: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """A tool of this environment, which must not need the network."""
    return subprocess.run(
        [Path(sys.executable).with_name(name), *arguments],
        cwd=example,
        env={
            "PATH": os.environ["PATH"], "HOME": str(home), "AWS_DEFAULT_REGION": "eu-west-1",
            "SAM_CLI_TELEMETRY": "0", "AWS_EC2_METADATA_DISABLED": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def resolved(value: Any) -> Any:
    """`value` with CloudFormation's functions carried out."""
    if isinstance(value, list):
        return [resolved(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "Ref" in value:
        return NAMES.get(value["Ref"], value["Ref"])
    if "Fn::GetAtt" in value:
        assert value["Fn::GetAtt"] in ("Stream.Arn", ["Stream", "Arn"])
        return f"arn:aws:kinesis:eu-west-1:123456789012:stream/{NAMES['Stream']}"
    if "Fn::Sub" in value:
        text = value["Fn::Sub"]
        for name, meaning in (NAMES | PLACE).items():
            text = text.replace(f"${{{name}}}", meaning)
        assert "${" not in text
        return text
    return {key: resolved(item) for key, item in value.items()}


@pytest.fixture(scope="module")
def function() -> dict[str, Any]:
    """The function's properties."""
    template = yaml_parse(TEMPLATE.read_text())
    properties: dict[str, Any] = resolved(template["Resources"]["Function"]["Properties"])
    return properties


def needed(variables: dict[str, str]) -> set[tuple[str, str]]:
    """Pairs of action and resource that `telemetryd iam` prints for these variables."""
    done = subprocess.run(
        [TELEMETRYD, "iam", *OPTIONS], env=variables, capture_output=True, check=True
    )
    statements = json.loads(done.stdout)["Statement"]
    return {(a, r) for s in statements for a in s["Action"] for r in s["Resource"]}


@pytest.fixture(params=["sam", "canary"])
def example(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an example, with a file where its template wants a layer."""
    copy = tmp_path / "examples" / str(request.param)
    shutil.copytree(ROOT / "examples" / str(request.param), copy)
    (copy / "telemetryd-layer.zip").write_bytes(b"PK")
    return copy


def test_cfn_lint_finds_nothing(example: Path, tmp_path: Path) -> None:
    """By CloudFormation's own schemas."""
    done = tool("cfn-lint", "template.yaml", example=example, home=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_sam_validates_it(example: Path, tmp_path: Path) -> None:
    """As `sam deploy` would, without an account."""
    arguments = ("validate", "--lint", "--template-file", "template.yaml")
    done = tool("sam", *arguments, example=example, home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "valid SAM Template" in done.stdout


def test_the_role_permits_what_the_sinks_need_and_no_more(function: dict[str, Any]) -> None:
    """Action by action; only the log group is made by the template itself."""
    (policy,) = function["Policies"]
    permitted = {(statement["Action"], statement["Resource"]) for statement in policy["Statement"]}
    wanted = needed(function["Environment"]["Variables"])
    made_by_the_template = {pair for pair in wanted if pair[0] == "logs:CreateLogGroup"}
    assert len(made_by_the_template) == 1
    assert permitted == wanted - made_by_the_template


def test_the_configuration_is_valid_in_lambda(function: dict[str, Any]) -> None:
    """Nothing but the documented keys, and no warning."""
    done = subprocess.run(
        [TELEMETRYD, "check", "--lambda"],
        env=function["Environment"]["Variables"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "# warning" not in done.stdout


def test_the_layer_is_the_one_that_make_layer_builds() -> None:
    """Of the function's architecture; it has nothing that only one runtime could use."""
    resources = yaml_parse(TEMPLATE.read_text())["Resources"]
    layer = resources["TelemetrydLayer"]["Properties"]
    architectures = resources["Function"]["Properties"]["Architectures"]
    assert layer["CompatibleArchitectures"] == architectures
    zipped = (TEMPLATE.parent / layer["ContentUri"]).resolve().relative_to(ROOT)
    assert fnmatch.fnmatch(str(zipped), f"dist/telemetryd-layer-{architectures[0]}.zip")
    assert "CompatibleRuntimes" not in layer
