"""A runtime in the standard library only: answers with its environment, in a streamed response."""

from __future__ import annotations

import http.client
import json
import os
import signal
from typing import Any

API = os.environ["AWS_LAMBDA_RUNTIME_API"]
PREFIX = "/2018-06-01/runtime/invocation"


def request(method: str, path: str, body: Any = None, **headers: str) -> Any:
    """One call; returns the answer and its body."""
    connection = http.client.HTTPConnection(API)
    connection.request(method, path, body, headers, encode_chunked=not isinstance(body, bytes))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def main() -> None:
    """Poll and answer, until killed."""
    if os.environ.get("BOOTSTRAP_IGNORE_TERM"):
        signal.signal(signal.SIGTERM, lambda *_: print("bootstrap: still here", flush=True))
    while True:
        answer, event = request("GET", f"{PREFIX}/next")
        request_id = answer.headers["Lambda-Runtime-Aws-Request-Id"]
        document = {
            "event": json.loads(event),
            "headers": dict(answer.headers.items()),
            "environment": dict(os.environ),
        }
        streaming = {
            "Lambda-Runtime-Function-Response-Mode": "streaming",
            "Transfer-Encoding": "chunked",
        }
        half = json.dumps(document).encode()
        parts = iter((half[:10], half[10:]))
        first, _ = request("POST", f"{PREFIX}/{request_id}/response", parts, **streaming)
        again, _ = request("POST", f"{PREFIX}/{request_id}/response", b"{}")
        print(f"bootstrap: {first.status} then {again.status}", flush=True)


if __name__ == "__main__":
    main()
