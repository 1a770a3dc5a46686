"""The configuration file that a layer is built with: checked before anything is built."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from layer import prepared
from layer.problem import BuildError


def test_a_valid_file_becomes_variables(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A warning is passed on, and does not end the build."""
    file = tmp_path / "telemetryd.toml"
    file.write_text("[telemetry]\nidle_seconds = 60\n")
    assert prepared.read(file) == b"TELEMETRYD_TELEMETRY__IDLE_SECONDS=60\0"
    assert "telemetry.idle_seconds" in capfd.readouterr().err


def test_a_fault_ends_the_build_with_its_place(tmp_path: Path) -> None:
    """In telemetryd's words, all of them at once."""
    file = tmp_path / "telemetryd.toml"
    file.write_text('x = 1\n[sinks.a]\ntype = "fil"\n')
    with pytest.raises(BuildError) as refused:
        prepared.read(file)
    for told in (f"{file}: x: unknown key", "did you mean file"):
        assert told in str(refused.value)


def test_without_telemetryd_it_says_what_to_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other builds need nothing installed, and so no virtual environment."""
    monkeypatch.setattr(prepared, "_MODULE", "telemetryd_is_not_here")
    with pytest.raises(BuildError, match="make layer CONFIG=FILE"):
        prepared.read(tmp_path / "telemetryd.toml")
