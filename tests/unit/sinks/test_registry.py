"""The sink registry: our types by name, others through entry points of installed packages."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from telemetryd.sinks.file.sink import FileSink
from telemetryd.sinks.null import NullSink
from telemetryd.sinks.registry import UnknownSinkType, known_types, sink_class
from telemetryd.sinks.stdout import StdoutSink


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on the path with a distribution that registers sinks, right and wrong."""
    (tmp_path / "thirdparty_sinks.py").write_text(
        textwrap.dedent("""
        from telemetryd.sinks.base import DELIVERED, Sink

        class HttpSink(Sink):
            async def write(self, batch, *, attempt, deadline):
                return DELIVERED

        class NotASink:
            pass

        an_object = HttpSink.__name__
        """)
    )
    (tmp_path / "thirdparty_broken.py").write_text("raise RuntimeError('no such libfoo')\n")
    info = tmp_path / "thirdparty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[telemetryd.sinks]\n"
        "post = thirdparty_sinks:HttpSink\n"
        "file = thirdparty_sinks:HttpSink\n"
        "class = thirdparty_sinks:NotASink\n"
        "object = thirdparty_sinks:an_object\n"
        "missing = thirdparty_sinks:Missing\n"
        "absent = thirdparty_absent:Sink\n"
        "broken = thirdparty_broken:Sink\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("sink_type", "cls"), [("file", FileSink), ("null", NullSink), ("stdout", StdoutSink)]
)
def test_our_own_types(sink_type: str, cls: type) -> None:
    assert sink_class(sink_type) is cls


def test_a_sink_of_another_package_is_found(site: Path) -> None:
    found = sink_class("post")
    assert (found.__module__, found.__name__) == ("thirdparty_sinks", "HttpSink")
    assert {"file", "null", "stdout", "post"} <= set(known_types())
    assert known_types() == sorted(set(known_types()))


def test_no_package_can_take_the_name_of_one_of_ours(site: Path) -> None:
    assert sink_class("file") is FileSink


def test_an_unknown_type_is_told_the_known_ones(site: Path) -> None:
    with pytest.raises(UnknownSinkType, match=r"known types: .*file.*http.*null.*post.*stdout"):
        sink_class("htpp")


@pytest.mark.parametrize(
    ("sink_type", "reason"),
    [
        ("class", "thirdparty_sinks:NotASink is not a telemetryd Sink class"),
        ("object", "thirdparty_sinks:an_object is not a telemetryd Sink class"),
        ("missing", "thirdparty_sinks:Missing can't be loaded: AttributeError"),
        ("absent", "thirdparty_absent:Sink can't be loaded: ModuleNotFoundError"),
        ("broken", "thirdparty_broken:Sink can't be loaded: RuntimeError.*no such libfoo"),
    ],
)
def test_an_entry_point_that_is_no_sink_is_named(site: Path, sink_type: str, reason: str) -> None:
    with pytest.raises(UnknownSinkType, match=reason):
        sink_class(sink_type)


def test_our_own_types_cost_no_reading_of_entry_points() -> None:
    code = (
        "import sys; from telemetryd.sinks.registry import sink_class; sink_class('null');"
        "sys.exit(any(name in sys.modules"
        " for name in ('importlib.metadata', 'telemetryd.sinks.file.sink')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
