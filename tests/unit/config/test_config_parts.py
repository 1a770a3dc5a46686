"""What is said of tables and lists of which a part is refused."""

from pathlib import Path

import pytest

from telemetryd.config import load
from telemetryd.errors import ConfigError

SINK = '[sinks.a]\ntype = "http"\nurl = "http://x/"\n'
OTLP = '[sinks.a]\ntype = "otlp"\nendpoint = "http://x"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[hooks.slow]\nbudget = 3",
            (
                "hooks = {slow = {budget = 3}}: in 'slow': unknown key 'budget'; did you mean "
                "budget_ms?"
            ),
        ),
        (
            "[hooks.slow]\nbudget_ms = 0",
            "hooks = {slow = {budget_ms = 0}}: in 'slow': budget_ms must be 1 to 60000",
        ),
        (
            "hooks = {slow = 3}",
            "hooks = {slow = 3}: in 'slow': must be a table; found a whole number",
        ),
        ('[hooks."A b"]', "hooks = {\"A b\" = {}}: 'A b' is not allowed as a name"),
        (
            'redact = ["email", {name = "A", pattern = "x"}]',
            (
                'redact = ["email", {name = "A", pattern = "x"}]: in item 2: name must be text, '
                "matching ^[a-z][a-z0-9_-]{0,23}$"
            ),
        ),
        ('redact = [{pattern = "x"}]', 'redact = [{pattern = "x"}]: in item 1: name is missing'),
        (
            SINK + "sample = [{keep = 1e-7}]",
            (
                "sinks.a.sample = [{keep = 1e-07}]: in item 1: keep must be 0.000001 to 1 (to keep "
                "none, use `exclude`)"
            ),
        ),
        (
            SINK + "headers = {X-Key = 17}",
            (
                "sinks.a.headers = {X-Key = \"***\"}: must be a table; in 'X-Key': must be text; "
                "found a whole number"
            ),
        ),
        (
            OTLP + 'protocol = "grpc"',
            'sinks.a.protocol = "grpc": must be one of "http/protobuf", "http/json"',
        ),
        (
            SINK + "sample = [{keep = 0.5}]\ntags = {sample_weight = 1}",
            (
                "sinks.a.sample = [{keep = 0.5}]: 'sample_weight' is the name of a tag, but also "
                "of the member that `sample` adds; rename the tag"
            ),
        ),
    ],
)
def test_the_part_is_named(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load({}, default_paths=(str(file),))
    assert caught.value.problems == (f"{file}: {problem}",)


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("".join(f"[hooks.h{n}]\n" for n in range(17)), "at most 16 tables"),
        (f"redact = {['email'] * 65}", "at most 64 names"),
        (SINK + "sample = [" + "{keep = 0.5}, " * 33 + "]", "at most 32 tables"),
    ],
)
def test_too_many_parts_are_told_how_many_there_may_be(
    tmp_path: Path, text: str, most: str
) -> None:
    file = tmp_path / "telemetryd.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load({}, default_paths=(str(file),))
    assert most in caught.value.problems[0]
