"""The measurement of short lives lives real ones, and notices what was lost."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from bench import short_life
from bench.cli import main
from bench.kit.errors import AbsentError
from bench.kit.limits import groups, set_share
from bench.load.scenario import Limits
from bench.short_life import authority, measure_all, report, service
from bench.short_life.result import Result, find_losses
from bench.short_life.service import Service
from bench.short_life.settings import ALONE, LIVES, OURS, Life, Settings, Share
from bench.short_life.stage import Figures, Reaped, environment, output_of
from bench.short_life.subjects import Subject, ours

REAL = Path(sys.prefix, "bin", "telemetryd")
WHOLE = Share.parse("100")
BRIEF = Life(name="brief", title="", calls=2, lines=3)


@contextmanager
def serve(folder: Path, delay_ms: float = 0.0) -> Iterator[Service]:
    try:
        made = authority.make(folder)
    except AbsentError as error:
        pytest.skip(str(error))
    with (folder / "log").open("wb") as said, service.serving(made, said, [], delay_ms) as found:
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The strict service, with an authority of its own."""
    with serve(tmp_path_factory.mktemp("service")) as found:
        yield found


def live(
    subject: Subject,
    tmp_path: Path,
    served: Service | None = None,
    extra: Mapping[str, str] | None = None,
    life: Life = BRIEF,
) -> Figures:
    """One brief life, without a limit."""

    async def scenario() -> Figures:
        entered = environment(
            subject, life, WHOLE, scratch=tmp_path, name="one", group=None, service=served,
            reaped=Reaped(), extra=extra, shutdown_seconds=60,
        )  # fmt: skip
        async with entered as stage:
            for _ in range(life.calls):
                await stage.call()
            await stage.end()
            return stage.judge(output_of(tmp_path, "one"), "one", served)

    return asyncio.run(scenario())


@pytest.mark.parametrize("sink", ["file", "emf", "kinesis", "logs", "http", "otlp"])
def test_a_life_is_read_back_from_where_it_was_delivered_to(
    sink: str, tmp_path: Path, served: Service
) -> None:
    """Lines, or the figures of each invocation; with what it cost."""
    found = live(ours(sink, REAL), tmp_path, served)
    assert not found.failed
    printed = 2 if sink in ("emf", "logs") else 1 + 2 * 3 + 11
    assert (found.lines.printed, found.lines.arrived, found.lines.lost) == (printed, printed, 0)
    assert found.lines.doubled == 0
    assert found.ended
    assert found.ledger
    assert found.init_ms > 0
    assert found.first_ms > 0
    assert found.later_ms > 0
    assert found.cpu_ms > 10
    assert 10 < found.rss_mb < 200


def test_a_service_that_is_far_away_gets_everything(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    with serve(tmp_path / "service", delay_ms=5) as far:
        found = live(ours("kinesis", REAL), tmp_path, far)
    assert (found.failed, found.lines.lost, found.lines.doubled) == ("", 0, 0)


def test_what_is_killed_has_what_was_delivered_before(tmp_path: Path) -> None:
    """All but the report that comes after the freeze."""
    found = live(ours("file", REAL), tmp_path, life=LIVES["killed"])
    assert found.lines.printed == 1 + 10 + 7
    assert found.lines.arrived > 0
    assert (found.ended, found.ledger) == (False, False)


LOSSY = {
    "no function lines": ({"TELEMETRYD_SINKS__OUT__TYPES": "platform"}, 1 + 2 * 3),
    "no platform events": ({"TELEMETRYD_SINKS__OUT__TYPES": "function"}, 11),
    "nothing": ({"TELEMETRYD_SINKS__OUT__PATH": "/dev/null/below"}, 1 + 2 * 3 + 11),
}


@pytest.mark.parametrize("how", LOSSY)
def test_what_did_not_arrive_is_lost(how: str, tmp_path: Path) -> None:
    """Whatever the ledger says."""
    extra, lost = LOSSY[how]
    assert live(ours("file", REAL), tmp_path, extra=extra).lines.lost == lost


def test_a_service_that_gets_nothing_loses_everything(tmp_path: Path, served: Service) -> None:
    """A sink that trusts another authority never sends."""
    found = live(ours("kinesis", REAL), tmp_path, served, {"AWS_CA_BUNDLE": str(tmp_path / "none")})
    assert found.lines.lost == found.lines.printed


def test_a_signature_of_another_is_refused_and_told(tmp_path: Path, served: Service) -> None:
    """So that a client which signs badly does not pass for one that delivers."""
    found = live(ours("kinesis", REAL), tmp_path, served, {"AWS_SECRET_ACCESS_KEY": "no"})
    assert found.lines.lost == found.lines.printed
    assert found.failed == "the service refused: the signature does not match"


def test_a_post_without_the_token_is_refused_and_told(tmp_path: Path, served: Service) -> None:
    extra = {"TELEMETRYD_SINKS__OUT__TOKEN": "another"}
    found = live(ours("http", REAL), tmp_path, served, extra)
    assert found.lines.lost == found.lines.printed
    assert found.failed == "the service refused: no token"


def test_the_service_refuses_what_is_not_signed(served: Service) -> None:
    context = ssl.create_default_context(cafile=served.variables["AWS_CA_BUNDLE"])
    url = served.variables["AWS_ENDPOINT_URL_KINESIS"]
    request = urllib.request.Request(url, b"{}", {"X-Amz-Target": "Kinesis_20131202.PutRecords"})
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    with pytest.raises(HTTPError) as caught:
        opener.open(request)
    assert msgspec.json.decode(caught.value.read())["__type"] == "InvalidSignatureException"
    assert served.read("any").refused == ["no signature of version 4"]


def extension(folder: Path, program: str) -> Path:
    path = folder / "telemetryd"
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    return path


def test_an_extension_without_a_ledger_is_told(tmp_path: Path) -> None:
    found = live(ours("file", extension(tmp_path, f"exec {REAL} 2>/dev/null")), tmp_path)
    assert (found.lines.lost, found.ended, found.ledger) == (0, True, False)


def test_an_extension_that_crashes_fails_the_function(tmp_path: Path) -> None:
    """Its life counts, as lost."""
    found = live(ours("file", extension(tmp_path, "exit 3")), tmp_path)
    assert "Extension.Crash" in found.failed
    assert not found.ended


STEPS: list[tuple[int, int, str]] = []
"""What the measurement below showed of how far it was."""


@pytest.fixture(scope="module")
def measured() -> Result:
    """Telemetryd of this Python and no extension, once, without limits."""
    settings = Settings(
        runs=1, lives=("1", "busy"), shares=(WHOLE,), sinks=("file",), only=(ALONE, OURS)
    )
    return measure_all(settings, executable=REAL, show=lambda *step: STEPS.append(step))


def test_every_subject_has_the_lives_that_were_asked_for(measured: Result) -> None:
    assert [each.life for each in measured.conditions] == ["1", "busy"]
    for condition in measured.conditions:
        assert [row.name for row in condition.rows] == [ALONE, f"{OURS}-file"]
        assert [len(row.runs) for row in condition.rows] == [1, 1]
        (found,) = condition.rows[1].runs
        life = LIVES[condition.life]
        assert found.lines.printed == 1 + life.calls * life.lines + 5 + 3 * life.calls
        assert found.lines.lost == 0
    assert list(find_losses(measured)) == []


@pytest.mark.usefixtures("measured")
def test_a_measurement_shows_how_far_it_is() -> None:
    """Steps that are done never become fewer, and how many there are is known from the start."""
    assert [done for done, _, _ in STEPS] == sorted(done for done, _, _ in STEPS)
    assert len({total for _, total, _ in STEPS}) == 1
    assert 0 < STEPS[-1][0] < STEPS[-1][1]
    assert "telemetryd, file" in STEPS[-1][2]


def test_results_read_back(measured: Result, tmp_path: Path) -> None:
    report.write(measured, tmp_path)
    assert report.read(tmp_path / "short-life.json") == measured
    assert (tmp_path / "short-life.md").read_text() == report.markdown(measured)
    assert "telemetryd, file" in (tmp_path / "short-life.svg").read_text()


def test_what_is_unknown_is_told_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["short-life", "--sink", "nowhere"]) == 64
    assert "nowhere: there is file, emf, kinesis, logs, http, otlp" in capsys.readouterr().err
    assert main(["short-life", "--share", "150"]) == 64
    assert main(["short-life", "--set", "nothing"]) == 64


def test_without_a_layer_there_is_nothing_to_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["short-life", "--layer", str(tmp_path / "none.zip")]) == 69
    assert "`make layer` builds it" in capsys.readouterr().err


def test_cpu_of_a_process_that_ended_is_its_own() -> None:
    """Not that of what ended before."""
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    reaped = Reaped()
    subprocess.run(["true"], check=True)
    small = reaped.note()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert reaped.note() > small


def test_groups_beside_each_other_have_their_own_share() -> None:
    """Rare lives are lived at the same time."""
    try:
        with (
            groups(Limits(cpu_percent=100), "-a") as one,
            groups(Limits(cpu_percent=50), "-b") as two,
        ):
            assert one != two
            set_share(one[0], 7.25)
            settings = [
                (group / name).read_text().split()[0]
                for group in (one[0], two[0])
                for name in ("cpu.max", "cpu.cfs_quota_us")
                if (group / name).exists()
            ]
            assert settings == ["1450", "10000"]
        assert not one[0].exists()
    except AbsentError as error:
        pytest.skip(str(error))


def test_a_machine_that_grants_no_share_is_measured_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And it is told which shares have no figures."""

    @contextmanager
    def refuse(limits: Limits, suffix: str = "") -> Iterator[list[Path]]:
        if limits.cpu_percent:
            raise AbsentError("needs root")
        yield []

    monkeypatch.setattr(short_life, "groups", refuse)
    shares = (WHOLE, Share.parse("7.25"))
    settings = Settings(runs=1, lives=("1",), shares=shares, only=(ALONE,))
    found = measure_all(settings)
    assert [each.share for each in found.conditions] == [WHOLE]
    assert found.absent == {"7.25 % of a CPU": "needs root"}
