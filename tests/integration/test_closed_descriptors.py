"""Started with any of the descriptors 0 to 2 closed: nothing else ever gets their numbers."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.daemon import EXIT_SECONDS, PATIENCE_SECONDS, file_sink, leaf_of, sink
from helpers.lines import events
from helpers.ports import reserved

COMBINATIONS = [
    pytest.param(closed, id="".join(map(str, closed)))
    for size in (1, 2, 3)
    for closed in itertools.combinations((0, 1, 2), size)
]
NO_ANSWER = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def started(
    tmp_path: Path, closed: Sequence[int], arguments: Sequence[str], environment: dict[str, object]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run telemetryd without the descriptors in `closed`; the others are files in `tmp_path`."""

    def close() -> None:
        for number in closed:
            os.close(number)

    with (tmp_path / "1").open("wb") as stdout, (tmp_path / "2").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "telemetryd", *arguments],
            env={name: str(value) for name, value in environment.items()},
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, preexec_fn=close,  # noqa: PLW1509 - there are no threads
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def send_when_it_listens(process: subprocess.Popen[bytes], port: int, data: bytes) -> None:
    while True:
        assert process.poll() is None, process.returncode
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        except ConnectionRefusedError:
            continue
        with connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1) == b""
        return


@pytest.mark.parametrize("closed", COMBINATIONS)
def test_listen_delivers_and_ends_well(tmp_path: Path, closed: tuple[int, ...]) -> None:
    """Lines for standard output are lost by name where it was closed, never delivered elsewhere."""
    archive, data = tmp_path / "archive", events(10)
    with reserved() as port:
        settings = {
            "TELEMETRY__PORT": port,
            "METRICS__LISTEN": "",
            **file_sink(archive),
            **sink("out", type="stdout"),
        }
        environment = {f"TELEMETRYD_{key}": value for key, value in settings.items()}
        with started(tmp_path, closed, ["listen"], environment) as process:
            send_when_it_listens(process, port, data)
            process.send_signal(signal.SIGTERM)
            assert process.wait(EXIT_SECONDS) == 0
    assert archive.read_bytes() == data
    assert (tmp_path / "1").read_bytes() == (b"" if 1 in closed else data)
    log = [json.loads(line) for line in (tmp_path / "2").read_bytes().splitlines()]
    if 2 in closed:
        assert log == []
        return
    assert log[-1]["event"] == "ledger"
    assert log[-1]["balanced"] is True
    page = log[-1]["sinks"]["out"]
    if 1 in closed:
        assert page["dropped"] == {"stdout_closed": leaf_of(data)}
    else:
        assert page["delivered"] == leaf_of(data)


@pytest.mark.parametrize("closed", COMBINATIONS)
def test_the_extension_has_them_before_its_first_socket(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as api:
        api.settimeout(PATIENCE_SECONDS)
        environment: dict[str, object] = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.getsockname()[1]}"
        }
        with started(tmp_path, closed, [], environment) as process:
            connection, _ = api.accept()
            with connection:
                for number in (0, 1, 2):
                    where = Path(f"/proc/{process.pid}/fd/{number}").readlink()
                    expected = tmp_path / str(number)
                    if number in closed or number == 0:
                        expected = Path("/dev/null")
                    assert where == expected
                connection.sendall(NO_ANSWER)
            assert process.wait(PATIENCE_SECONDS) == 1


@pytest.mark.parametrize("closed", COMBINATIONS)
def test_commands_keep_their_exit_status(tmp_path: Path, closed: tuple[int, ...]) -> None:
    for arguments, variable, status in (
        (["check"], {"TELEMETRYD_LOG__LEVEL": "debug"}, 0),
        (["check"], {"TELEMETRYD_LOG__LEVEL": "loud"}, 78),
        (["version"], {}, 0),
        (["no-such-command"], {}, 64),
    ):
        with started(tmp_path, closed, arguments, {**variable}) as process:
            assert process.wait(PATIENCE_SECONDS) == status
        assert b"Traceback" not in (tmp_path / "2").read_bytes()
