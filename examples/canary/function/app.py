"""The canary's function: the event chooses what happens; `report` returns what was recorded.

{"canary": "rest", "seconds": 1}    sleep
{"canary": "flood", "lines": 50000} print so many lines of 200 bytes, as fast as it goes
{"canary": "surrogate"}             print half of a surrogate pair, as JSON encoders write it
{"canary": "refuse"}                print the line that the HTTP recorder refuses once with 503
{"canary": "raise"}                 raise
{"canary": "report"}                the records of both recorders, and telemetryd's metrics
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from typing import Any

PADDING = "x" * 170
BASE_PORT = 14391
METRICS = os.environ.get("TELEMETRYD_METRICS__LISTEN", "")


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Do what the event says."""
    action = event.get("canary")
    if action == "report":
        return _report()
    if action == "flood":
        lines = min(int(event.get("lines", 50_000)), 500_000)
        for number in range(lines):
            print(f"canary flood {number:09d} {PADDING}")
        return {"printed": lines}
    if action == "surrogate":
        print('{"level": "INFO", "message": "canary surrogate \\ud83d"}')
        print("canary surrogate as text: " + json.dumps("\ud83d"))
    elif action == "refuse":
        print("canary: refuse this batch once")
    elif action == "raise":
        raise RuntimeError("canary: raised on purpose")
    else:
        print("canary: rest")
        time.sleep(min(float(event.get("seconds", 0)), 60))
    return {"done": action}


def _report() -> dict[str, Any]:
    base = int(os.environ.get("CANARY_BASE_PORT") or BASE_PORT)
    return {
        "tcp": json.loads(_get(f"http://127.0.0.1:{base + 2}/") or "{}"),
        "http": json.loads(_get(f"http://127.0.0.1:{base + 3}/") or "{}"),
        "telemetryd": _get(f"http://{METRICS}/metrics") if METRICS else "",
    }


def _get(url: str) -> str:
    """The body of a page on loopback; empty where it is not served."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            return str(answer.read(4_000_000).decode())
    except OSError as error:
        print(f"canary: {url}: {error}")
        return ""
