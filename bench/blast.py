"""Sends pre-encoded lines over TCP as fast as the other side takes them.

    python -m bench.blast PORT LINES MEAN_BYTES CONNECTIONS [BURST_LINES PAUSE_MS]

With the last two, each connection pauses after about so many lines. Prints the lines and bytes
sent, as JSON. Everything is encoded before the first byte goes out.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

from bench.lines import block_of_lines


def main(
    port: int, lines: int, mean_bytes: int, connections: int, burst: int = 0, pause_ms: int = 0
) -> None:
    """Send about `lines` lines of `mean_bytes` in all, over `connections` connections."""
    block = block_of_lines(mean_bytes)
    rounds = max(1, round(lines / block.count(b"\n") / connections))
    blocks = max(1, round(burst / block.count(b"\n"))) if burst else rounds
    socks = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]

    def send(sock: socket.socket) -> None:
        for number in range(rounds):
            if number and number % blocks == 0:
                time.sleep(pause_ms / 1000)
            sock.sendall(block)
        sock.close()

    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()  # the starting signal
    threads = [threading.Thread(target=send, args=(sock,)) for sock in socks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = rounds * connections
    print(json.dumps({"lines": block.count(b"\n") * times, "bytes": len(block) * times}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:7]))
