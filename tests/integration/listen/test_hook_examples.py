"""The hooks of examples/hooks, installed as their package, beside real servers."""

from __future__ import annotations

import json
import shutil
import threading
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from helpers.daemon import Daemon, file_sink
from helpers.lifecycle import until
from helpers.ports import reserved

EXAMPLES = Path(__file__).parents[3] / "examples" / "hooks"
AWS = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example",
    "AWS_SESSION_TOKEN": "of-the-session", "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}  # fmt: skip


def installed(directory: Path, hooks: Mapping[str, object]) -> dict[str, str]:
    """Environment of the examples' package, installed under `directory`, with these hooks on."""
    info = directory / "hook_examples-1.0.dist-info"
    info.mkdir(parents=True)
    for module in EXAMPLES.glob("*.py"):
        shutil.copy(module, directory)
    project = tomllib.loads((EXAMPLES / "pyproject.toml").read_text())["project"]
    entries = project["entry-points"]["telemetryd.hooks"]
    lines = "".join(f"{name} = {value}\n" for name, value in entries.items())
    (info / "entry_points.txt").write_text(f"[telemetryd.hooks]\n{lines}")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hook-examples\nVersion: 1.0\n")
    return {"PYTHONPATH": str(directory), "TELEMETRYD_HOOKS": json.dumps(hooks)}


@contextmanager
def served(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers every POST with `answer`: its URL, and the bodies it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(url: str, token: str) -> tuple[int, str]:
    """Status and body of an answer."""
    headers = {"X-Aws-Parameters-Secrets-Token": token}
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def is_served(url: str) -> bool:
    try:
        return ask(url, "")[0] == 403
    except OSError:
        return False


def test_secrets_are_fetched_once_and_only_for_the_session(tmp_path: Path) -> None:
    with reserved() as port:
        pass
    secret = json.dumps({"SecretString": "s3cret", "Name": "db/password"}).encode()
    with served(secret) as (url, bodies):
        settings = {"port": port, "endpoint_url": url}
        environment = installed(tmp_path / "p", {"secrets": {"settings": settings}}) | AWS
        with Daemon(tmp_path, foreign=environment, **file_sink(tmp_path / "archive")) as daemon:
            cache = f"http://127.0.0.1:{port}"
            until(lambda: is_served(f"{cache}/secrets/db%2Fpassword"))
            assert ask(f"{cache}/secrets/db%2Fpassword", "guessed")[0] == 403
            assert bodies == []
            for _ in range(2):
                assert ask(f"{cache}/secrets/db%2Fpassword", "of-the-session") == (200, "s3cret")
            assert ask(f"{cache}/else", "of-the-session")[0] == 404
            outcome = daemon.stop()
    assert [json.loads(body)["SecretId"] for body in bodies] == ["db/password"]
    assert outcome.events("hook_off") == []


def test_a_burst_of_errors_is_told_once(tmp_path: Path) -> None:
    with served(b"ok") as (url, bodies):
        settings = {"url": url, "limit": 5, "window_seconds": 3600}
        hook = {"error_bursts": {"budget_ms": 60_000, "settings": settings}}
        environment = installed(tmp_path / "p", hook)
        with Daemon(tmp_path, foreign=environment, **file_sink(tmp_path / "archive")) as daemon:
            error = b'{"type":"function","record":"[ERROR] no stock"}\n'
            info = b'{"type":"function","record":{"level":"INFO","message":"12 errors mended"}}\n'
            daemon.send(error * 4 + info * 10)
            daemon.send(error * 20)
            until(lambda: bodies)
            outcome = daemon.stop()
    (body,) = bodies
    assert json.loads(body) == {"function": "local", "text": "5 errors within 3600 seconds"}
    assert outcome.events("hook_failed") == []
