"""What runs in Lambda in spite of a faulty configuration never sends lines elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from telemetryd.config import Config, load
from telemetryd.errors import ConfigError

EMF = {"TYPE": "emf"}
LOGS = {"TYPE": "emf", "DELIVERY": "logs"}
KINESIS = {"TYPE": "kinesis", "STREAM": "telemetry"}
FILE = {"TYPE": "file", "PATH": "/data/x.ndjson"}


def variables(name: str, keys: dict[str, str]) -> dict[str, str]:
    return {f"TELEMETRYD_SINKS__{name.upper()}__{key}": text for key, text in keys.items()}


def repaired(environ: dict[str, str], *, tolerant: bool = True) -> tuple[Config, tuple[str, ...]]:
    """What is left, and the sinks that are not."""
    with pytest.raises(ConfigError) as caught:
        load(environ, default_paths=(), mode="lambda", tolerant=tolerant)
    usable = caught.value.usable
    assert isinstance(usable, Config)
    return usable, caught.value.left_out


ASTRAY = [
    (EMF, "NAMESPACE", "AWS/Lambda"),
    (EMF, "NAMESPACE", ""),
    (EMF, "DIMENSIONS", '[["request_id"]]'),
    (EMF, "DIMENSIONS", "[]"),
    (EMF, "PROPERTIES", '{"duration":"x"}'),
    (EMF, "PROPERTIES", "stage"),
    (EMF, "DELIVERY", "agent"),
    (LOGS, "LOG_GROUP", "a b"),
    (LOGS, "LOG_STREAM", "a:b"),
    (LOGS, "REGION", "Ireland"),
    (LOGS, "ENDPOINT_URL", "logs.example.com"),
    (KINESIS, "STREAM", "tele metry"),
    (KINESIS, "STREAM", "arn:aws:kinesis:eu-west-1:1:stream/x"),
    (KINESIS, "REGION", "Ireland"),
    (KINESIS, "ENDPOINT_URL", "vpce-1.example.com"),
    (KINESIS, "PARTITION_KEY", "order"),
    (KINESIS, "EXPLICIT_HASH_KEY", "-1"),
    (KINESIS, "PACKING", "parquet"),
    (FILE, "PATH", "/data/"),
    (FILE, "EXCLUDE", "("),
    (FILE, "INCLUDE", "["),
    (FILE, "MIN_LEVEL", "loud"),
]


@pytest.mark.parametrize(("sink", "key", "value"), ASTRAY, ids=str)
def test_a_sink_that_would_write_elsewhere_is_left_out(
    sink: dict[str, str], key: str, value: str
) -> None:
    """And the others run on, with no failover to what is not there."""
    environ = variables("bad", sink | {key: value}) | variables("good", FILE)
    usable, left_out = repaired(environ | {"TELEMETRYD_SINKS__GOOD__FAILOVER": "bad"})
    assert (set(usable.sinks), left_out) == ({"good"}, ("bad",))
    assert usable.sinks["good"].failover == ""


@pytest.mark.parametrize(
    ("sink", "key", "value"),
    [
        (EMF, "METRICS", "nonesuch"),
        (EMF, "RESOLUTION", "5"),
        (EMF, "PRICE_REQUEST", "-1"),
        (EMF, "QUEUE_MAX_BYTES", "1"),
        (KINESIS, "COMPRESSION", "rar"),
        (KINESIS, "MAX_RECORD_BYTES", "0"),
        (FILE, "KEEP", "3"),
        (FILE, "ROTATE_BYTES", "-1"),
        (FILE, "LINGER_MS", "never"),
        (FILE, "FAILOVER", "nowhere"),
        (FILE, "FIELDS", "color"),
        (FILE, "SPOOL__MAX_BYTES", "1"),
    ],
    ids=str,
)
def test_a_fault_that_moves_no_line_costs_the_key_only(
    sink: dict[str, str], key: str, value: str
) -> None:
    usable, left_out = repaired(variables("s", sink | {key: value}))
    assert (set(usable.sinks), left_out) == ({"s"}, ())


@pytest.mark.parametrize("key", ["TYPE", "TYPES", "INCLUDE", "EXCLUDE", "SAMPLE", "PATH"])
def test_what_is_not_utf_8_is_a_fault_of_its_key(key: str) -> None:
    """The sink would get lines that it should not get, or write them elsewhere."""
    usable, left_out = repaired(variables("bad", FILE | {key: "\udcff"}) | variables("good", FILE))
    assert (set(usable.sinks), left_out) == ({"good"}, ("bad",))


def test_one_key_twice_is_a_fault_of_it() -> None:
    """It can't be told which of them is meant."""
    twice = variables("s", FILE | {"INCLUDE": "a"}) | {"telemetryd_sinks__s__include": "b"}
    assert repaired(twice)[1] == ("s",)


@pytest.mark.parametrize("key", ["LINGER_MS", "SPOOL__PATH", "UNHEARD_OF"])
def test_what_is_not_utf_8_costs_a_key_that_moves_no_line_only(key: str) -> None:
    usable, left_out = repaired(variables("s", FILE | {key: "\udcff"}))
    assert (set(usable.sinks), left_out) == ({"s"}, ())


def test_a_spool_whose_path_is_wrong_is_left_out_and_its_sink_is_not() -> None:
    usable, left_out = repaired(variables("s", FILE | {"SPOOL__PATH": "spool"}))
    assert left_out == ()
    assert usable.sinks["s"].spool is None


@pytest.mark.parametrize(
    ("sink", "key", "kept"),
    [
        (EMF, "NAMESPCE", False),
        (EMF, "DIMENSION", False),
        (LOGS, "LOGGROUP", False),
        (KINESIS, "END_POINT_URL", False),
        (FILE, "EXCLUDES", False),
        (FILE, "PTAH", True),  # the path is set
        (EMF, "LINGER", True),
        (EMF, "UNHEARD_OF", True),
    ],
)
def test_a_key_misspelt_counts_as_the_one_that_was_meant(
    sink: dict[str, str], key: str, kept: bool
) -> None:
    """A variable too, though unknown variables are otherwise no fault in Lambda."""
    usable, left_out = repaired(variables("s", sink | {key: "x"}), tolerant=False)
    assert ("s" in usable.sinks, "s" in left_out) == (kept, not kept)
    if not kept:
        usable, left_out = repaired(variables("s", sink | {key: "x"}))
        assert left_out == ("s",)


def test_a_key_misspelt_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text('[sinks.m]\ntype = "emf"\nnamespce = "Shop"\n')
    usable, left_out = repaired({"TELEMETRYD_CONFIG": str(file)})
    assert (usable.sinks, left_out) == ({}, ("m",))


@pytest.mark.parametrize("text", ["[sinks.m\n", "sinks = 5\n", "", "[sinks.m]\ntype = 'flie'"])
def test_no_default_sink_stands_in_for_those_that_could_not_be_read(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "telemetryd.toml"
    if text:
        file.write_text(text)
    usable, _ = repaired({"TELEMETRYD_CONFIG": str(file)})
    assert usable.sinks == {}


def test_a_sink_of_others_is_left_out_for_a_fault_in_any_key_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its keys mean is not known here, unless it says so."""
    (tmp_path / "foreign_sink.py").write_text(
        "from typing import ClassVar\n"
        "from telemetryd.sinks.base import DELIVERED, Sink, SinkConfig\n"
        "class Settings(SinkConfig, frozen=True, kw_only=True):\n"
        "    tuning: ClassVar[frozenset[str]] = SinkConfig.tuning | {'seconds'}\n"
        "    seconds: int = 5\n"
        "    topic: str = 'all'\n"
        "    def problems(self):\n"
        "        if self.topic == 'bad': yield 'topic: no such topic'\n"
        "class Foreign(Sink):\n"
        "    Config = Settings\n"
        "    async def write(self, batch, *, attempt, deadline): return DELIVERED\n"
    )
    info = tmp_path / "foreign-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[telemetryd.sinks]\nforeign = foreign_sink:Foreign\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = {"TYPE": "foreign"}
    assert repaired(variables("f", keys | {"TOPIC": "bad"}))[1] == ("f",)
    assert repaired(variables("f", keys | {"SECONDS": "soon"}))[1] == ()


@pytest.mark.parametrize("section", ["sink", "SINKS", "sinkes"])
def test_no_default_sink_stands_in_for_those_of_a_section_misspelt(
    tmp_path: Path, section: str
) -> None:
    path = tmp_path / "telemetryd.toml"
    path.write_text(f'[{section}.metrics]\ntype = "emf"\nnamespace = "Shop"\n')
    assert not repaired({"TELEMETRYD_CONFIG": str(path)})[0].sinks
    if section != "SINKS":  # as variables are written
        name = f"TELEMETRYD_{section.upper()}__METRICS__NAMESPACE"
        assert not repaired({name: "Shop"})[0].sinks


def test_another_unknown_key_leaves_the_default_sink() -> None:
    loaded = load(
        {"TELEMETRYD_OTHER__METRICS__KEY": "x"}, default_paths=(), mode="lambda", tolerant=True
    )
    assert list(loaded.config.sinks) == ["default"]
