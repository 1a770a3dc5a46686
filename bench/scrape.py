"""Measures one scrape of `/metrics`: its size, and its CPU time, in which nothing else runs.

python -m bench.scrape [--sinks N] [--scrapes N]
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import time

from prometheus_client.registry import CollectorRegistry

from telemetryd.app import Daemon, Identity
from telemetryd.config import load
from telemetryd.exposition.collector import Scrapes
from telemetryd.log import Log

FORMATS = {"text": "", "OpenMetrics": "application/openmetrics-text"}


async def measure(sinks: int, scrapes: int) -> dict[str, tuple[float, int]]:
    """Milliseconds of CPU and bytes, by format, of a daemon with so many sinks."""
    environ = {f"TELEMETRYD_SINKS__S{number}__TYPE": "null" for number in range(sinks)}
    daemon = Daemon(
        load(environ, default_paths=()).config,
        socket.create_server(("127.0.0.1", 0)),
        mode="listen",
        memory_bytes=1 << 26,
        identity=Identity({}),
        log=Log("error", fd=1),
        on_bug=print,
    )
    await daemon.start()
    answers, found = Scrapes(daemon, CollectorRegistry()), {}
    for name, accept in FORMATS.items():
        size = len(answers.answer(accept)[0])
        began = time.process_time()
        for _ in range(scrapes):
            answers.answer(accept)
        found[name] = ((time.process_time() - began) / scrapes * 1000, size)
    daemon.abandon("shutdown")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.scrape", description=__doc__)
    parser.add_argument("--sinks", type=int, default=3)
    parser.add_argument("--scrapes", type=int, default=200)
    options = parser.parse_args()
    for name, (milliseconds, size) in asyncio.run(measure(options.sinks, options.scrapes)).items():
        print(f"{name:<12}{milliseconds:6.2f} ms CPU a scrape {size:8} bytes")


if __name__ == "__main__":
    main()
