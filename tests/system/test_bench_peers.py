"""Each peer of the load test writes what it is sent: else its figures would mean nothing.

A peer whose programs are not on this machine is skipped, by name. Those of Rust, Go, Python and C
are built; the builds are kept in the user's cache.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Collection
from functools import partial
from pathlib import Path

import pytest

from bench.kit.lines import block_of_lines
from bench.load.send import batches, post
from bench.peers.catalog import BUILD_SECONDS, Peer, PeerAbsentError, load
from bench.peers.verify import Counted, differences
from extensions.local_kit import HANDLER, wait_for
from helpers.lifecycle import UNHURRIED
from telemetryd.local import InvokeResult, LocalConfig, LocalLambda

ROOT = Path(__file__).parents[2]
PEERS = load()
LINES = 4000
CHUNK = 7919  # bytes: no line ends where a write does
WAIT_SECONDS = 60

pytestmark = [pytest.mark.system, pytest.mark.timeout(BUILD_SECONDS + 120)]


def named(names: Collection[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("peer", [PEERS[name] for name in names], ids=list(names))


@pytest.fixture
def built(peer: Peer) -> Peer:
    """The peer, built; a skip with the reason where that is not possible."""
    try:
        peer.prepare()
    except PeerAbsentError as error:
        pytest.skip(f"{peer.name} is absent: {error}")
    return peer


def has_lines(counted: Counted, wanted: int) -> bool:
    return counted.lines() >= wanted


def telemetry() -> list[bytes]:
    """Some thousand lines, one of them long."""
    lines = block_of_lines(290, LINES * 290).splitlines(keepends=True)
    event = json.loads(next(line for line in lines if b'"message"' in line))
    event["record"]["message"] = "x" * 200_000
    lines.insert(len(lines) // 2, json.dumps(event, separators=(",", ":")).encode() + b"\n")
    return lines


@named([name for name, peer in PEERS.items() if peer.spec.protocol == "tcp"])
def test_a_tcp_peer_writes_the_bytes_it_is_sent(built: Peer, tmp_path: Path) -> None:
    """In order, whatever the size of the writes, and again after a second connection."""
    output = tmp_path / "out.ndjson"
    lines = telemetry()
    data = b"".join(lines)
    with built.running(output) as (_, port):
        counted = Counted(output)
        for connection in (1, 2):
            with socket.create_connection(("127.0.0.1", port)) as sock:
                for start in range(0, len(data), CHUNK):
                    sock.sendall(data[start : start + CHUNK])
            wanted = connection * len(lines)
            wait_for(partial(has_lines, counted, wanted), WAIT_SECONDS)
    assert differences("tcp", lines, output) is None
    assert output.stat().st_size == 2 * len(data)


@named([name for name, peer in PEERS.items() if peer.spec.protocol == "http"])
def test_an_http_peer_has_written_what_it_answered_when_it_ends(
    built: Peer, tmp_path: Path
) -> None:
    """It is told to end right after the last answer."""
    output = tmp_path / "out.ndjson"
    lines = telemetry()
    with built.running(output) as (process, port):
        post(port, batches(lines))
    assert process.returncode is not None
    assert differences("http", lines, output) is None
    assert Counted(output).lines() == len(lines)


@named([name for name, peer in PEERS.items() if peer.spec.extension])
def test_a_peer_runs_as_a_lambda_extension(built: Peer, tmp_path: Path) -> None:
    """It registers, subscribes, follows the invocations and ends at SHUTDOWN by itself."""
    output = tmp_path / "out.ndjson"
    extension = built.extension()
    assert extension is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = LocalConfig(
        handler="app.handler",
        task_root=HANDLER,
        extensions=[extension],
        extension_env={"PEER_OUTPUT": str(output), "PEER_PORT": str(port)},
        **UNHURRIED,
        flush_at_shutdown=True,
    )

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            return [await env.invoke(event) for event in ({"print": 50}, {})], env

    results, env = asyncio.run(scenario())
    assert [result.status for result in results] == ["success", "success"]
    events = [json.loads(line) for line in output.read_text().splitlines()]
    starts = [event["record"]["requestId"] for event in events if event["type"] == "platform.start"]
    assert starts == [result.request_id for result in results]
    printed = [event["record"] for event in events if event["type"] == "function"]
    accepted = [line for line in printed if line.startswith("order accepted")]
    assert [int(line.rpartition("=")[2]) for line in accepted] == [*range(50), 0]
    (ended,) = [item for item in env.exits if item.role == "extension"]
    assert not ended.at_deadline


def test_a_lost_a_changed_and_a_doubled_line_are_found(tmp_path: Path) -> None:
    """What proves the peers honest must itself notice."""
    output = tmp_path / "out.ndjson"
    lines = telemetry()

    def judge(protocol: str, written: list[bytes]) -> str | None:
        output.write_bytes(b"".join(written))
        return differences(protocol, lines, output)

    for protocol in ("tcp", "http"):
        assert judge(protocol, lines * 2) is None
        assert judge(protocol, lines[:-1]) is not None
        assert judge(protocol, lines[:100] + lines[101:]) is not None
        assert judge(protocol, [lines[0], *lines]) is not None
        assert judge(protocol, []) is not None
        assert judge(protocol, [*lines[:5], lines[5].replace(b"INFO", b"WARN"), *lines[6:]])


def test_every_peer_says_what_it_does_and_is_in_the_readme() -> None:
    """A row without its words would be read as more than it is."""
    readme = (ROOT / "bench" / "peers" / "README.md").read_text()
    for name, peer in PEERS.items():
        assert peer.spec.does
        assert peer.spec.does_not
        assert f"`{name}`" in readme
