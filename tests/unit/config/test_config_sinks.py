"""Sink sections: names, types, required keys, rules of their own, and sinks of other packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from telemetryd.config import load
from telemetryd.core.sample import By
from telemetryd.errors import ConfigError
from telemetryd.sinks.base import SampleRule
from telemetryd.sinks.registry import BUILT_IN

ACME = '''
"""A package of somebody else."""

from typing import Annotated

import msgspec

from telemetryd.sinks.base import DELIVERED, Sink, SinkConfig


class Retry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    times: Annotated[int, msgspec.Meta(ge=1, le=9)] = 3


class AcmeConfig(SinkConfig, frozen=True, kw_only=True):
    url: str
    api_key: str = ""
    ratio: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    headers: dict[str, str] = {}
    proxy: str | None = None
    retry: Retry = Retry()

    def __post_init__(self):
        if self.url == "broken":
            raise ValueError("this url is broken")

    def problems(self):
        if not self.url.startswith("https://"):
            yield "url: must start with https://"
        if self.url == "crash":
            raise RuntimeError("a bug of theirs")
        if self.url == "http://twice":
            yield "url: must not be twice"
        if self.ratio > 100:
            yield "all in all: too much"


class AcmeSink(Sink):
    Config = AcmeConfig

    async def write(self, batch, *, attempt, deadline):
        return DELIVERED


class OddConfig(SinkConfig, frozen=True, kw_only=True):
    key: "a name that does not exist" = 1


class OddSink(AcmeSink):
    Config = OddConfig


not_a_sink = 5
'''
OURS = ", ".join(sorted(BUILT_IN))
ENTRY_POINTS = """
[telemetryd.sinks]
acme = acme_sink:AcmeSink
odd = acme_sink:OddSink
number = acme_sink:not_a_sink
gone = acme_gone:Sink
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package that registers sinks by entry point, for one test."""
    info = tmp_path / "acme_sink-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-sink\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "acme_sink.py").write_text(ACME)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("acme_sink", None)


def sink_variables(**values: str) -> dict[str, str]:
    return {f"TELEMETRYD_SINKS__A__{key.upper()}": value for key, value in values.items()}


def problems_of(environ: dict[str, str], *, file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ, default_paths=(str(file),) if file else ())
    return list(caught.value.problems)


@pytest.mark.parametrize("name", ["a", "a1", "my_archive", "a" * 40])
def test_names_a_sink_may_have(tmp_path: Path, name: str) -> None:
    file = tmp_path / "t.toml"
    file.write_text(f"[sinks.{name}]\ntype = 'null'\n")
    # Each of them can be named by a variable as well.
    environ = {f"TELEMETRYD_SINKS__{name.upper()}__LINGER_MS": "7"}
    assert load(environ, default_paths=(str(file),)).config.sinks[name].linger_ms == 7


@pytest.mark.parametrize(
    "name", ["", "1a", "A", "my-archive", "a__b", "a_", "_a", "a b", "é", "a" * 41, "a.b"]
)
def test_names_a_sink_may_not_have(tmp_path: Path, name: str) -> None:
    file = tmp_path / "t.toml"
    file.write_text(f'[sinks."{name}"]\ntype = "null"\n')
    (problem,) = problems_of({}, file=file)
    assert problem.startswith(f"{file}: sinks.{name}: a sink's name must be 1 to 40 lower-case")


def test_a_bad_name_in_a_variable_is_reported_once() -> None:
    environ = {"TELEMETRYD_SINKS__1A__TYPE": "null", "TELEMETRYD_SINKS__1A__LINGER_MS": "x"}
    (problem,) = problems_of(environ)
    assert problem.startswith("environment TELEMETRYD_SINKS__1A__TYPE: sinks.1a: a sink's name")


def test_the_type_is_required_wherever_the_sink_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("[sinks.b]\n")
    problems = problems_of(sink_variables(path="/data/x"), file=file)
    rest = f": required and not set; must be one of {OURS}"
    assert problems == [
        f"{file}: sinks.b.type{rest}",
        f"environment TELEMETRYD_SINKS__A__PATH: sinks.a.type{rest}",
    ]


def test_an_unknown_type_is_named_with_the_nearest() -> None:
    (problem,) = problems_of(sink_variables(type="flie", path="/data/x"))
    origin = "environment TELEMETRYD_SINKS__A__TYPE"
    assert problem.startswith(f'{origin}: sinks.a.type = "flie": no sink has this type')
    assert problem.endswith(f"known types: {OURS}; did you mean file?")


def test_a_type_is_text(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text("[sinks.a]\ntype = 5\n")
    assert problems_of({}, file=file) == [f"{file}: sinks.a.type = 5: must be text: one of {OURS}"]


def test_a_required_key_is_asked_for() -> None:
    assert problems_of(sink_variables(type="file")) == [
        "environment TELEMETRYD_SINKS__A__TYPE: sinks.a.path: required and not set; must be text"
    ]


def test_rules_of_a_sink_between_its_keys() -> None:
    (problem,) = problems_of(sink_variables(type="file", path="/data/x", keep="3"))
    assert problem.startswith('environment TELEMETRYD_SINKS__A__KEEP: sinks.a.keep = "3": needs ')


@pytest.mark.usefixtures("acme")
def test_a_sink_of_another_package_is_configured_like_ours(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text(
        """
        [sinks.a]
        type = "acme"
        url = "https://example.com"
        proxy = "none"
        [sinks.a.headers]
        accept = "text/plain"
        [sinks.a.retry]
        times = 5
        """
    )
    environ = sink_variables(ratio="0.5", headers='{"accept": "*/*"}')
    loaded = load(environ, default_paths=(str(file),))

    sink = loaded.config.sinks["a"]
    assert type(sink).__name__ == "AcmeConfig"
    values = {name: getattr(sink, name) for name in ("url", "ratio", "headers", "proxy")}
    assert values == {
        "url": "https://example.com",
        "ratio": 0.5,
        "headers": {"accept": "*/*"},
        "proxy": "none",
    }
    assert loaded.origins["sinks.a.retry.times"] == str(file)
    assert loaded.origins["sinks.a.headers"] == "environment TELEMETRYD_SINKS__A__HEADERS"


@pytest.mark.usefixtures("acme")
def test_nested_keys_of_another_package_by_variable() -> None:
    good = sink_variables(type="acme", url="https://x")
    load({**good, **sink_variables(retry__times="9")}, default_paths=())
    assert problems_of({**good, **sink_variables(retry__times="10")}) == [
        'environment TELEMETRYD_SINKS__A__RETRY__TIMES: sinks.a.retry.times = "10": must be 1 to 9'
    ]


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"url": "ftp://x"}, 'A__URL: sinks.a.url = "ftp://x": must start with https://'),
        ({"url": "broken"}, "A__TYPE: sinks.a: ValueError: this url is broken"),
        ({"url": "crash"}, "A__TYPE: sinks.a: RuntimeError: a bug of theirs"),
        ({"url": "https://x", "ratio": "0"}, 'A__RATIO: sinks.a.ratio = "0": must be more than 0'),
        (
            {"url": "https://x", "ratio": "x"},
            'A__RATIO: sinks.a.ratio = "x": must be a number, more than 0',
        ),
        ({"url": "https://x", "ratio": "101"}, "A__TYPE: sinks.a: all in all: too much"),
        (
            {"url": "https://x", "headers": "x"},
            'A__HEADERS: sinks.a.headers = "***": must be a table, such as {"name": "value"}',
        ),
    ],
)
def test_what_another_package_refuses_is_a_problem(values: dict[str, str], problem: str) -> None:
    assert problems_of(sink_variables(type="acme", **values)) == [
        f"environment TELEMETRYD_SINKS__{problem}"
    ]


@pytest.mark.usefixtures("acme")
def test_two_rules_about_one_key_are_both_reported() -> None:
    assert len(problems_of(sink_variables(type="acme", url="http://twice"))) == 2


@pytest.mark.usefixtures("acme")
@pytest.mark.parametrize(
    ("sink_type", "reason"),
    [
        ("number", "is not a telemetryd Sink class"),
        ("gone", "can't be loaded"),
        ("odd", "its Config can't be used"),
        ("acm", "; did you mean acme?"),
    ],
)
def test_a_package_that_is_broken_is_a_problem(sink_type: str, reason: str) -> None:
    (problem,) = problems_of(sink_variables(type=sink_type, url="https://x"))
    assert reason in problem


@pytest.mark.usefixtures("acme")
def test_secrets_never_reach_a_problem_line() -> None:
    values = {"url": "https://user:hunter2@x", "api_key": "hunter2", "retry": "hunter2"}
    environ = sink_variables(type="acme", linger_ms="-1", **values)
    text = "\n".join(problems_of(environ))
    assert "hunter2" not in text
    wrong = {"url": "http://user:hunter2@example.com/", "headers": '{"Authorization": 5}'}
    text = "\n".join(problems_of(sink_variables(type="acme", **wrong)))
    assert '"http://***@example.com/": must start with https://' in text
    assert 'sinks.a.headers = {Authorization = "***"}: must be a table' in text


def test_the_ids_that_sampling_goes_by_are_those_of_the_core() -> None:
    assert set(get_args(By)) == set(get_args(SampleRule.__annotations__["by"]))
