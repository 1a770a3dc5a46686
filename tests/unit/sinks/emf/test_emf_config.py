"""What a user may write in the section of an EMF sink, and what is refused with which words."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from telemetryd import DOCS
from telemetryd.config import load
from telemetryd.errors import ConfigError
from telemetryd.sinks.emf import guide as _emf_guide
from telemetryd.sinks.emf import prices as _emf_prices
from telemetryd.sinks.emf.catalogue import METRICS
from telemetryd.sinks.emf.config import EmfConfig
from telemetryd.sinks.emf.sink import EmfSink
from telemetryd.testing import context

ROOT = Path(__file__).parents[4]


def problems(**keys: object) -> list[str]:
    return list(msgspec.convert({"type": "emf", **keys}, EmfConfig).problems())


def by_property(name: str, value: str = "x") -> dict[str, object]:
    """Keys with a property that is a dimension."""
    return {"properties": {name: value}, "dimensions": [[name]]}


def test_the_defaults_need_no_permission_and_no_decision() -> None:
    config = EmfConfig(type="emf")
    assert problems() == []
    assert config.delivery == "stdout"
    assert config.types == ("platform",)
    assert config.dimensions == (("function_name",),)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"namespace": "AWS/Lambda"}, "namespace: must not begin with AWS/"),
        ({"namespace": ":mine"}, "namespace: may hold letters"),
        ({"namespace": "größe"}, "namespace: may hold letters"),
        ({"dimensions": [["request_id"]]}, "dimensions: unknown dimension 'request_id'; known: "),
        ({"dimensions": [["function_name", "stage"]]}, "dimensions: unknown dimension 'stage'"),
        ({"dimensions": [["function_name"] * 2]}, "dimensions: a set names each dimension once"),
        (
            {
                "properties": {f"p{i}": "x" for i in range(30)},
                "dimensions": [["function_name", *(f"p{i}" for i in range(30))]],
            },
            "dimensions: a set has at most 30 names, not 31",
        ),
        ({"properties": {f"p{i}": "x" for i in range(31)}}, "properties: at most 30, not 31"),
        ({"properties": {"duration": "x"}}, "properties: 'duration' is the name of another member"),
        ({"properties": {"_aws": "x"}}, "properties: '_aws' is the name of another member"),
        ({"properties": {"logger": "x"}}, "properties: 'logger' is the name of another member"),
        ({"properties": {"": "x"}}, "properties: a name has 1 to 250 characters, not 0"),
        (by_property(":x"), "properties: ':x': a name does not begin with :"),
        (by_property("é"), "properties: '\\xe9': a name is ASCII text"),
        (by_property("x", " "), "properties: x: ' ': a value is ASCII text and not blank"),
        (by_property("x", "y" * 1025), "properties: x: a value has 1 to 1024 characters"),
        ({"namespace": " "}, "namespace: may hold letters"),
        ({"namespace": "a\tb"}, "namespace: may hold letters"),
        ({"metrics": ["errors", "*_latencies"]}, "metrics: unknown metric '*_latencies'; " + DOCS),
        ({"metrics": ["*Errors"]}, "metrics: unknown metric '*Errors'; " + DOCS),
        ({"metrics": ["errors", "invocation"]}, "metrics: unknown metric 'invocation'; " + DOCS),
        (
            {
                "dimensions": [
                    ["function_name", "function_version"],
                    ["function_version", "function_name"],
                ]
            },
            "dimensions: each set may be listed once",
        ),
        (
            {
                "properties": {f"{i:02d}" + '"' * 248: '"' * 1024 for i in range(30)},
                "dimensions": [[f"{i:02d}" + '"' * 248 for i in range(n)] for n in range(21, 31)],
            },
            "dimensions: with the properties they take 204340",
        ),
        ({"endpoint_url": "logs.eu-west-1"}, "endpoint_url: must look like https://host"),
        ({"endpoint_url": "http://host:99999"}, "endpoint_url: must look like https://host"),
        ({"region": "Ireland"}, "region: must be the name of a region, such as eu-west-1"),
        ({"delivery": "logs", "log_group": "a b"}, "log_group: must have 1 to 512 letters"),
        ({"delivery": "logs", "log_group": "aws/x"}, "log_group: must not begin with aws/"),
        ({"delivery": "logs", "log_group": "/{date}"}, "log_group: unknown placeholder {date}"),
        ({"delivery": "logs", "log_stream": "a:b"}, "log_stream: must have 1 to 512 characters"),
        ({"delivery": "logs", "log_stream": ""}, "log_stream: must have 1 to 512 characters"),
    ],
)
def test_what_cloudwatch_would_refuse_is_refused_before(
    keys: dict[str, object], words: str
) -> None:
    (problem,) = problems(**keys)
    assert problem.startswith(words)


@pytest.mark.parametrize(
    "keys",
    [
        {"namespace": "Order Service"},
        {"namespace": "Shop (prod) & more, 50%"},
        {"namespace": "aws/lambda"},
        {"namespace": "a:b"},
        {"properties": {"équipe": "Zürich \U0001f600", ":x": "", "long": "y" * 5000}},
        {"dimensions": [["function_name"], ["function_version"], []]},
        {"region": "local", "endpoint_url": "http://localhost:4566"},
        {"region": "us-isof-south-1"},
        {"region": "eusc-de-east-1"},
        {"delivery": "logs", "log_stream": "a b/[$LATEST]?é", "log_group": "/a.b-c_d#e/1"},
    ],
    ids=repr,
)
def test_what_cloudwatch_takes_is_accepted(keys: dict[str, object]) -> None:
    assert problems(**keys) == []


DEFAULT = {
    "cold_starts", "init_duration", "memory_used_percent", "timeouts", "out_of_memory",
    "init_errors", "estimated_cost", "telemetryd_lines_lost",
}  # fmt: skip
ALL = {info.name for info in METRICS}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, DEFAULT),
        ({"metrics": ["*"]}, ALL),
        ({"metrics": ["telemetryd_*", "duration"]},
         {name for name in ALL if name.startswith("telemetryd_")} | {"duration"}),
        ({"metrics": ["*duration"]}, {name for name in ALL if name.endswith("duration")}),
        ({"metrics": ["errors"]}, {"errors"}),
        ({"count_log_errors": True}, DEFAULT | {"errors"}),
        ({"count_log_errors": False}, DEFAULT),
    ],
    ids=repr,
)  # fmt: skip
def test_metrics_are_chosen_by_name_or_pattern(keys: dict[str, object], expected: set[str]) -> None:
    assert msgspec.convert({"type": "emf", **keys}, EmfConfig).wanted == expected


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, False),
        ({"metrics": ["errors"]}, True),
        ({"metrics": ["*"]}, True),
        ({"metrics": ["*"], "count_log_errors": False}, False),
        ({"count_log_errors": True}, True),
    ],
    ids=repr,
)
def test_who_asks_for_errors_gets_those_of_handlers(
    keys: dict[str, object], expected: bool
) -> None:
    config = msgspec.convert({"type": "emf", **keys}, EmfConfig)
    assert config.reads_log_errors is expected
    assert ("function" in config.types) is expected


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "8 metrics x 1 dimension sets, about 2.40 USD per function and month"),
        ({"self_metrics": False}, "7 metrics x 1 dimension sets, about 2.10 USD"),
        ({"metrics": ["errors"], "dimensions": [["function_name"], []]},
         "1 metrics x 2 dimension sets, about 0.60 USD"),
        ({"price_metric": 0.1}, "about 0.80 USD per function and month (at 0.1 USD"),
        ({"dimensions": [["function_version"]]}, "and again for each version in use"),
    ],
)  # fmt: skip
def test_the_price_of_the_metrics_is_told(keys: dict[str, object], words: str) -> None:
    (remark,) = msgspec.convert({"type": "emf", **keys}, EmfConfig).remarks()
    assert words in remark
    assert ("list price of us-east-1, 20" in remark) is ("price_metric" not in keys)


def test_the_readme_tells_the_price_of_the_default() -> None:
    usd = f"{len(DEFAULT) * _emf_prices.METRIC:.2f}"
    told = (
        f"{len(DEFAULT)} metrics, about {usd} USD per function and month (list price of "
        f"{_emf_prices.REGION}, {_emf_prices.AS_OF};"
    )
    page = (ROOT / "README.md").read_text()
    assert told in page
    assert set(re.findall(r"about (\S+) USD per function", page)) == {usd}


def test_names_at_their_limits_are_accepted() -> None:
    keys = {"namespace": "n" * 255, "properties": {"p" * 250: "v" * 1024},
            "dimensions": [["p" * 250], []]}  # fmt: skip
    assert problems(**keys) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f'namespace = "{"n" * 256}"', "sinks.m.namespace = "),
        ("resolution = 5", "sinks.m.resolution = 5: must be one of 60, 1"),
        ('delivery = "agent"', 'sinks.m.delivery = "agent": must be one of "stdout", "logs"'),
        ("price_request = -1", "sinks.m.price_request = -1: must be"),
        ("dimensions = []", "sinks.m.dimensions = []: must be"),
        ("metrics = []", "sinks.m.metrics = []: must be"),
        ('dimensions = [["nonesuch"]]', "unknown dimension 'nonesuch'"),
    ],
)
def test_the_loader_names_the_key(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "telemetryd.toml"
    path.write_text(f'[sinks.m]\ntype = "emf"\n{line}\n')
    with pytest.raises(ConfigError) as caught:
        load({"TELEMETRYD_CONFIG": str(path)})
    (problem,) = caught.value.problems
    assert words in problem


def test_everything_can_be_set_by_variables() -> None:
    given = {
        "TYPE": "emf",
        "NAMESPACE": "Shop",
        "DIMENSIONS": '[["function_name","stage"],[]]',
        "PROPERTIES": '{"stage":"prod"}',
        "METRICS": "errors,duration",
        "PRICE_ARM64": "0.00002",
        "RESOLUTION": "1",
    }
    environ = {f"TELEMETRYD_SINKS__M__{key}": value for key, value in given.items()}
    config = load(environ, default_paths=()).config.sinks["m"]
    assert isinstance(config, EmfConfig)
    assert config.dimensions == (("function_name", "stage"), ())
    assert config.properties == {"stage": "prod"}
    assert config.metrics == ("errors", "duration")
    assert (config.price_arm64, config.resolution) == (0.00002, 1)


@pytest.mark.parametrize("key", ["forward_emf", "count_log_errors"])
@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (None, ("platform", "function")),
        (("platform.report",), ("platform.report", "function")),
        (("function", "platform"), ("function", "platform")),
        ((), ()),
    ],
)
def test_log_lines_are_routed_where_they_are_read(
    key: str, types: tuple[str, ...] | None, expected: tuple[str, ...]
) -> None:
    keys = {} if types is None else {"types": types}
    assert msgspec.convert({"type": "emf", key: True, **keys}, EmfConfig).types == expected


def test_printing_survives_a_freeze_and_a_conversation_does_not() -> None:
    for delivery, survives in (("stdout", True), ("logs", False)):
        sink = EmfSink(msgspec.convert({"type": "emf", "delivery": delivery}, EmfConfig), context())
        assert sink.survives_freeze is survives


def test_every_metric_is_documented() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert _emf_guide.render() in text, "make docs"
    assert all(f"| `{info.name}` | {info.unit} |" in text for info in METRICS)
