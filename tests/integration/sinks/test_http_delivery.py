"""The HTTP sink between real processes: to another telemetryd, and from an extension."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helpers.collector_server import CollectorServer, Say
from helpers.daemon import Daemon, Settings, file_sink, leaf_of, sink
from helpers.lifecycle import settings
from helpers.lines import events
from helpers.scripted_platform import NEXT, ScriptedPlatform

PAGE = Path(__file__).parents[3] / "docs" / "http.md"
TOML = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
TOKEN = "s3cret-0815"  # noqa: S105 - opens nothing
LINES = b"".join(b'{"type":"function","record":"line %d"}\n' % number for number in range(20))


def receiver(tmp_path: Path, **keys: object) -> Daemon:
    tmp_path.mkdir()
    http: Settings = {"TELEMETRY__PROTOCOL": "http", "TELEMETRY__TOKEN": TOKEN}
    return Daemon(tmp_path, **(http | file_sink(tmp_path / "out") | keys))


def to(there: Daemon, **keys: object) -> Settings:
    url = f"http://127.0.0.1:{there.port}/any/path"
    return sink("collector", type="http", url=url, token=TOKEN, **keys)


@pytest.mark.parametrize("form", ["ndjson", "json"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_every_line_arrives_at_another_telemetryd(
    tmp_path: Path, form: str, compression: str
) -> None:
    """Unchanged, once and in order; the log of neither shows the token."""
    data = events(20_000, size=290)
    with receiver(tmp_path / "there") as there:
        keys = to(there, body=form, compression=compression)
        with Daemon(tmp_path, **keys) as here:
            here.send(data)
            outcome = here.stop()
        arrived = there.stop()
    assert (tmp_path / "there" / "out").read_bytes() == data
    assert outcome.sink("collector")["delivered"] == leaf_of(data)
    assert arrived.ledger["received"] == arrived.sink()["delivered"] == leaf_of(data)
    assert TOKEN not in str(outcome.log + arrived.log)


def test_lines_without_json_pass_to_another_telemetryd(tmp_path: Path) -> None:
    """As NDJSON, behind an object; a telemetryd that receives looks at the first one."""
    data = events(1) + b"START RequestId\n\xff\n" + events(1, first=1)
    with receiver(tmp_path / "there") as there:
        with Daemon(tmp_path, **to(there)) as here:
            here.send(data)
            here.stop()
        there.stop()
    assert (tmp_path / "there" / "out").read_bytes() == data


def test_a_wrong_token_stops_the_sink_and_the_dead_letter_has_every_line(tmp_path: Path) -> None:
    letters = tmp_path / "letters"
    with receiver(tmp_path / "there") as there:
        keys = to(there) | {"SINKS__COLLECTOR__TOKEN": "wrong-4711", "DEAD_LETTER__PATH": letters}
        with Daemon(tmp_path, **keys) as here:
            here.send(LINES)
            outcome = here.stop()
        there.stop()
    assert outcome.sink("collector")["dead_lettered"] == leaf_of(LINES)
    assert letters.read_text().count("line ") == 20
    assert "credentials_refused" in {facts["code"] for facts in outcome.events("circuit_opened")}
    assert "wrong-4711" not in str(outcome.log)


def test_a_receiver_that_is_down_for_a_while_gets_all(tmp_path: Path) -> None:
    with CollectorServer() as server:
        server.script = [Say(503, {"Retry-After": "0"})] * 3
        keys = sink("collector", type="http", url=server.url)
        with Daemon(tmp_path, **keys) as here:
            here.send(LINES)
            server.wait_for_requests(4)
            outcome = here.stop()
        assert server.lines == LINES
        assert server.violations == []
    assert outcome.sink("collector")["delivered"] == leaf_of(LINES)


def test_an_extension_delivers_and_loads_no_sdk(tmp_path: Path) -> None:
    for name in ("botocore", "aiobotocore", "aiohttp"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'w')\n")
    with CollectorServer() as server:
        server.token = TOKEN
        variables = settings(
            SINKS__C__TYPE="http", SINKS__C__URL=server.url, SINKS__C__TOKEN=TOKEN,
            SINKS__C__HEADERS='{"X-Tenant": "shop"}', FLUSH__MARGIN_MS=1500,
            FLUSH__STRATEGY="continuous",
        )  # fmt: skip
        with ScriptedPlatform(variables | {"PYTHONPATH": str(tmp_path)}) as platform:
            telemetry, following = platform.begin()
            following.invoke("r1")
            telemetry.sendall(LINES)
            server.wait_for_requests(1)
            platform.expect(NEXT).shutdown(3.0)
            platform.finish()
            delivered = platform.ledger()["sinks"]["c"]["delivered"]
            assert TOKEN not in str(platform.printed)
        assert server.lines == LINES
        assert server.violations == []
        assert {request.headers["x-tenant"] for request in server.requests} == {"shop"}
    assert delivered["lines"] == 20
    assert not (tmp_path / "loaded").exists()


def flat(table: dict[str, Any], *path: str) -> Settings:
    """The settings of a TOML table, as variables."""
    found: Settings = {}
    for key, value in table.items():
        here = (*path, key.upper())
        found |= flat(value, *here) if isinstance(value, dict) else {"__".join(here): value}
    return found


def test_the_recipe_on_the_page_works(tmp_path: Path) -> None:
    """Both files, with other places."""
    receives, sends = (flat(tomllib.loads(text)) for text in TOML[-2:])
    receives |= {"SINKS__ARCHIVE__PATH": tmp_path / "out", "TELEMETRY__PORT": 0}
    (tmp_path / "there").mkdir()
    with Daemon(tmp_path / "there", **receives) as there:
        sends |= {"SINKS__COLLECTOR__URL": f"http://127.0.0.1:{there.port}/"}
        with Daemon(tmp_path, **sends) as here:
            here.send(LINES)
            here.stop()
        there.stop()
    assert (tmp_path / "out").read_bytes() == LINES
