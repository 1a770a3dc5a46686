"""Whatever the environment holds, it loads or is refused with a ConfigError, and nothing else."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryd.config import load
from telemetryd.config.schema import Config
from telemetryd.errors import ConfigError
from telemetryd.extension import early

KEYS = sorted(load({}, default_paths=()).origins)
NAMES = st.one_of(
    st.text(max_size=20),
    st.text(alphabet="ABTYPESINK_", max_size=20).map("TELEMETRYD_".__add__),
    st.text(max_size=20).map("TELEMETRYD_".__add__),
    st.sampled_from(KEYS).map(lambda key: "TELEMETRYD_" + key.replace(".", "__").upper()),
    st.sampled_from(["TYPE", "PATH", "OVERFLOW", "KEEP", "COMPRESSION"]).map(
        "TELEMETRYD_SINKS__A__".__add__
    ),
    st.just("TELEMETRYD_CONFIG"),
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.integers().map(str),
    st.sampled_from(
        ["", "true", "platform,function",
         "file", "null", "stdout", "gzip", "zstd", "[", "{}", "[1",
         "ready", "9" * 5000, "\xb2",
         "nan", "1e400", "\udcff", "/", "extension", '{"a": {"b": [1]}}']
    ),
)  # fmt: skip


@given(st.dictionaries(NAMES, TEXTS, max_size=6), st.sampled_from(["listen", "lambda"]))
def test_any_environment_loads_or_is_refused(
    environ: dict[str, str], mode: Literal["listen", "lambda"]
) -> None:
    try:
        loaded = load(environ, default_paths=(), mode=mode)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - both outcomes are right, this is one of them
        assert all(line.isprintable() for line in error.problems)  # noqa: PT017
    else:
        assert isinstance(loaded.config, Config)
        assert set(loaded.origins.values()) <= {
            "default",
            *(f"environment {name}" for name in environ),
        }


@given(st.dictionaries(NAMES, TEXTS, max_size=6))
def test_the_early_part_always_loads(environ: dict[str, str]) -> None:
    settings = early.read(environ, ())
    assert 0 <= settings.port <= 65_535
    assert 25 <= settings.timeout_ms <= 30_000


@given(st.binary(max_size=60))
def test_any_file_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(b"[telemetry]\n" + data)
    try:
        load({}, default_paths=(str(file),))
    except ConfigError as error:
        assert all(str(file) in line for line in error.problems)  # noqa: PT017 - as above
