"""The hook `secrets`: serves secrets of AWS Secrets Manager from memory, on loopback.

The function asks http://127.0.0.1:2774/secrets/NAME, with its session token in the header
`X-Aws-Parameters-Secrets-Token`. The token keeps others out who can only make the function fetch a
URL.
"""

from __future__ import annotations

import hmac
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from telemetryd.hook import Hook, HookContext

_PATH = "/secrets/"
_HEADER = "X-Aws-Parameters-Secrets-Token"
_MOST = 100
"""Secrets that are kept."""


class SecretsCache(Hook):
    """Settings: `port`, `ttl_seconds`, and `endpoint_url` for tests."""

    def __init__(self, context: HookContext) -> None:
        super().__init__(context)
        self._port = int(context.settings.get("port", 2774))
        self._ttl = float(context.settings.get("ttl_seconds", 300))
        self._kept: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._client: Any = None

    def on_init(self) -> None:
        """Listen. A function that asks before is refused, and has to ask again."""
        server = ThreadingHTTPServer(("127.0.0.1", self._port), _handler_for(self))
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def secret(self, name: str) -> str:
        """Return a secret from memory, or from AWS. Raises what botocore raises."""
        with self._lock:
            fetched_at, value = self._kept.get(name, (0.0, ""))
            if not fetched_at or time.time() - fetched_at > self._ttl:
                if len(self._kept) >= _MOST:
                    self._kept.clear()
                value = self._fetch(name)
                self._kept[name] = (time.time(), value)
            return value

    def _fetch(self, name: str) -> str:
        if self._client is None:
            from botocore.session import get_session  # noqa: PLC0415 - 200 ms, if it is needed

            endpoint = self.context.settings.get("endpoint_url")
            self._client = get_session().create_client("secretsmanager", endpoint_url=endpoint)
        return str(self._client.get_secret_value(SecretId=name)["SecretString"])


def _handler_for(cache: SecretsCache) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            expected = os.environ.get("AWS_SESSION_TOKEN", "").encode()
            given = self.headers.get(_HEADER, "").encode()
            if not expected or not hmac.compare_digest(given, expected):
                self._answer(403, "the session token is not in " + _HEADER)
                return
            if not self.path.startswith(_PATH):
                self._answer(404, "ask for /secrets/NAME")
                return
            try:
                self._answer(200, cache.secret(unquote(self.path[len(_PATH) :])))
            except Exception as error:  # noqa: BLE001 - whatever it is, the function must know
                self._answer(502, type(error).__name__)

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: the log is telemetryd's."""

    return Handler
