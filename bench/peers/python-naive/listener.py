"""The telemetry listener most people write first: asyncio streams, one JSON object per `readline`.

    python listener.py PORT FILE

Each line is decoded, encoded again and kept until 1,000 are there or 100 ms have passed. Compact
separators, the fastest that `json` offers without another library; no queue between reading and
writing, which would double the work.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import BinaryIO

BATCH_EVENTS = 1000
LINGER_SECONDS = 0.1
LINE_LIMIT = 4 * 1024 * 1024


class Listener:
    """Connections encode events; full or old batches go to the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[str] = []
        self._encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take every event of one connection."""
        while line := await reader.readline():
            self._lines.append(self._encode(json.loads(line)))
            if len(self._lines) >= BATCH_EVENTS:
                self.flush()
        writer.close()

    async def flush_now_and_then(self) -> None:
        """Write what waits for its batch to fill."""
        while True:
            await asyncio.sleep(LINGER_SECONDS)
            self.flush()

    def flush(self) -> None:
        """Write what is there."""
        if self._lines:
            self._lines.append("")
            self._file.write("\n".join(self._lines).encode())
            self._lines.clear()


async def serve(port: int, file: BinaryIO) -> None:
    """Serve until SIGTERM."""
    listener = Listener(file)
    server = await asyncio.start_server(
        listener.receive, "127.0.0.1", port, limit=LINE_LIMIT, backlog=128
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    flusher = asyncio.create_task(listener.flush_now_and_then())
    await ended.wait()
    flusher.cancel()
    server.close()
    listener.flush()


def main(port: int, path: str) -> None:
    """Open the file and serve."""
    with Path(path).open("ab", buffering=0) as file:
        asyncio.run(serve(port, file))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
