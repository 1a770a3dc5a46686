"""`[tags]` and the tags of a sink: from the file and from variables, and what is refused."""

from pathlib import Path

import pytest

from telemetryd.config import Config, effective_tags, load
from telemetryd.config.load import Loaded
from telemetryd.errors import ConfigError

SINK = '[sinks.archive]\ntype = "null"\n'


def loaded(tmp_path: Path, text: str, **environ: str) -> Loaded:
    file = tmp_path / "telemetryd.toml"
    file.write_text(text)
    return load({"TELEMETRYD_CONFIG": str(file), **environ})


def problems(tmp_path: Path, text: str, **environ: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text, **environ)
    return caught.value.problems


def test_tags_are_a_section_of_text_numbers_and_booleans(tmp_path: Path) -> None:
    text = '[tags]\nstage = "prod"\nbuild = 7\nratio = 0.5\ncanary = true\n' + SINK
    config = loaded(tmp_path, text).config
    assert config.tags == {"stage": "prod", "build": 7, "ratio": 0.5, "canary": True}


def test_a_sink_adds_its_own_tags_and_replaces_others(tmp_path: Path) -> None:
    text = '[tags]\nstage = "prod"\nteam = "shop"\n' + SINK + 'tags = {team = "ops", tier = 1}\n'
    config = loaded(tmp_path, text).config
    assert effective_tags(config, config.sinks["archive"]) == {
        "stage": "prod", "team": "ops", "tier": 1,
    }  # fmt: skip


def test_a_sink_that_makes_metrics_of_lines_gets_no_tags_of_all_sinks(tmp_path: Path) -> None:
    text = '[tags]\nstage = "prod"\n[sinks.m]\ntype = "emf"\n[sinks.o]\ntype = "otlp"\n'
    config = loaded(tmp_path, text + 'endpoint = "http://127.0.0.1:4318"\n').config
    assert [effective_tags(config, sink) for sink in config.sinks.values()] == [{}, {}]


def test_each_tag_may_have_a_variable(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        '[tags]\nstage = "prod"\nbuild = 7\n' + SINK,
        TELEMETRYD_TAGS__STAGE="test",
        TELEMETRYD_TAGS__VERSION="1.10",
        TELEMETRYD_SINKS__ARCHIVE__TAGS__TIER="1",
    )
    config = found.config
    assert config.tags == {"stage": "test", "build": 7, "version": "1.10"}
    assert config.sinks["archive"].tags == {"tier": "1"}
    assert found.origins["tags"] == ("environment TELEMETRYD_TAGS__STAGE, TELEMETRYD_TAGS__VERSION")


def test_all_tags_may_have_one_variable_and_keep_their_types(tmp_path: Path) -> None:
    config = loaded(tmp_path, SINK, TELEMETRYD_TAGS='{"version":"7","build":7}').config
    assert config.tags == {"version": "7", "build": 7}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tags]\nstage = []\n" + SINK, "'stage' must be text, a number, or true or false"),
        ("[tags.stage]\na = 1\n" + SINK, "'stage' must be text, a number, or true or false"),
        ("[tags]\nday = 2026-03-14\n" + SINK, "'day' must be text, a number"),
        ('[tags]\n"a b" = 1\n' + SINK, "'a b' is no name for a tag"),
        ('[tags]\ntype = "x"\n' + SINK, "'type' is a member of every event"),
        ("tags = 5\n" + SINK, "must be a table"),
        (SINK + "tags = {stage = []}\n", "sinks.archive.tags"),
        (
            '[tags]\nversion = "1"\n' + SINK + 'fields = ["version"]\n',
            "sinks.archive.fields = [\"version\"]: 'version' is also the name of a tag",
        ),
        (
            SINK + 'fields = ["region"]\ntags = {region = "x"}\n',
            "'region' is also the name of a tag",
        ),
    ],
)
def test_what_is_no_tag_is_one_clear_line(tmp_path: Path, text: str, expected: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert expected in problem


def test_too_many_tags_are_refused(tmp_path: Path) -> None:
    lines = "".join(f"t{n} = {n}\n" for n in range(33))
    (problem,) = problems(tmp_path, "[tags]\n" + lines + SINK)
    assert "at most 32 tags; found 33" in problem


def test_a_variable_whose_tag_has_no_name_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, SINK, TELEMETRYD_TAGS__9="x")
    assert problem.startswith("environment TELEMETRYD_TAGS__9: tags")
    assert "'9' is no name for a tag" in problem


def test_faulty_tags_cost_no_sink_in_lambda(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, "[tags]\nstage = []\n" + SINK + "tags = {a = []}\n")
    usable = caught.value.usable
    assert isinstance(usable, Config)
    assert usable.tags == usable.sinks["archive"].tags == {}


def test_a_sink_that_reads_events_gets_no_rows(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, '[sinks.m]\ntype = "emf"\nformat = "flat"\n')
    assert 'sinks.m.format = "flat": must be "raw" for a sink of type emf' in problem


def test_the_form_of_a_request_has_another_name(tmp_path: Path) -> None:
    text = '[sinks.h]\ntype = "http"\nurl = "http://127.0.0.1:1"\nformat = "json"\n'
    (problem,) = problems(tmp_path, text)
    assert 'one of "raw", "flat"; the form of a request is `body`' in problem
