"""`telemetryd health`: asks the daemon on this machine for its health, for probes without a shell.

The address is `metrics.listen` of the configuration that the daemon was started with.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Final, TextIO

from telemetryd.config import DEFAULT_PATHS, effective_metrics, load, parse_address
from telemetryd.errors import EXIT_CONFIG, EXIT_OK, EXIT_UNAVAILABLE

SECONDS: Final = 2.0
"""The limit for connecting, and for each part of the response."""
_MOST_BYTES: Final = 64 * 1024
_WELL: Final = 200


def health(
    environ: Mapping[str, str],
    out: TextIO,
    err: TextIO,
    *,
    alive: bool,
    default_paths: Sequence[str] = DEFAULT_PATHS,
) -> int:
    """Print what `/healthz` says to `out`; the exit status: 0 if all is well, 69 otherwise.

    `alive`: any answer is good enough. Raises ConfigError.
    """
    config = load(environ, default_paths=default_paths, mode="listen").config
    address = parse_address(effective_metrics(config, "listen"))
    if address is None or not address[1]:
        err.write(
            "telemetryd health: metrics.listen has no port; set it, for example to 127.0.0.1:9464\n"
        )
        return EXIT_CONFIG
    host, port = address
    try:
        status, body = _ask(host, port)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        err.write(f"telemetryd health: no answer from {host}:{port}: {reason}\n")
        return EXIT_UNAVAILABLE
    out.write(body)
    return EXIT_OK if alive or status == _WELL else EXIT_UNAVAILABLE


def _ask(host: str, port: int) -> tuple[int, str]:
    """Return status and body. It uses a socket, because loading an HTTP library takes longer."""
    with socket.create_connection((host, port), SECONDS) as connection:
        connection.sendall(f"GET /healthz HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = b""
        while len(answer) < _MOST_BYTES and (data := connection.recv(_MOST_BYTES)):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():  # noqa: PLR2004
        raise ValueError("what listens there does not speak HTTP")
    return int(words[1]), body.decode("utf-8", "replace")
