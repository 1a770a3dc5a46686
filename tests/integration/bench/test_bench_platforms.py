"""The platforms of the benchmarks: a raw extension goes through its life under each."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from bench.coldstart.platform import Platform
from telemetryd.local.api.server import EXIT_ERROR, NEXT, REGISTER, TELEMETRY

ROOT = Path(__file__).parents[3]
STUB = ROOT / "bench" / "peers" / "platform_stub.py"
EXTENSION = f"""
import http.client, json, os, sys
def call(method, path, body=None, **headers):
    client.request(method, path, body, {{k.replace("_", "-"): v for k, v in headers.items()}})
    answer = client.getresponse()
    said.append([answer.status, json.loads(answer.read())])
    return answer
said = []
client = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=60)
answer = call("POST", {REGISTER!r}, '{{"events":["INVOKE"]}}', Lambda_Extension_Name="peer")
identity = {{"Lambda_Extension_Identifier": answer.getheader("Lambda-Extension-Identifier")}}
call("PUT", {TELEMETRY!r}, "{{}}", **identity)
call("POST", {EXIT_ERROR!r}, "{{}}", Lambda_Extension_Function_Error_Type="Extension.Bad", **identity)
call("GET", {NEXT!r}, **identity)
print(json.dumps([said, os.environ["PEER_PORT"], os.environ["PEER_OUTPUT"], os.getpid()]))
"""  # noqa: E501 - a line of the program


def test_a_peer_has_a_platform_that_answers_as_lambda_does() -> None:
    """The extension is the process that was started; its platform ends after it."""
    command = [sys.executable, str(STUB), "4242", "out", sys.executable, "-c", EXTENSION]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(timeout=60)  # the child holds stdout: it has ended as well
    said, port, output, pid = json.loads(out)
    assert (port, output, pid) == ("4242", "out", process.pid)
    function = {"functionName": "bench", "functionVersion": "$LATEST", "handler": "app.handler"}
    assert said[:3] == [[200, function], [200, "OK"], [202, {"status": "OK"}]]
    assert said[3][0] == 403  # `next`, after an exit error
    assert said[3][1]["errorType"] == "Extension.InvalidExtensionState"


class Client:
    """An extension in this process, over one connection."""

    def __init__(self, address: str) -> None:
        self._http = http.client.HTTPConnection(address, timeout=60)
        self.identifier = ""

    def ask(self, method: str, path: str, body: str | None = None) -> None:
        """Send a call."""
        headers = {"Lambda-Extension-Name": "e", "Lambda-Extension-Identifier": self.identifier}
        self._http.request(method, path, body, headers)

    def answer(self) -> tuple[int, Any]:
        """Return status and body; note the identifier."""
        answer = self._http.getresponse()
        self.identifier = answer.getheader("Lambda-Extension-Identifier") or self.identifier
        return answer.status, json.loads(answer.read())

    def close(self) -> None:
        """Hang up."""
        self._http.close()


def test_the_cold_starts_platform_stamps_each_call_and_holds_next() -> None:
    """Telemetry comes after the answer to the subscription, SHUTDOWN when it is told to."""
    with Platform() as platform, socket.create_server(("127.0.0.1", 0)) as telemetry:
        client = Client(platform.address)
        platform.watch(os.getpid())
        client.ask("POST", REGISTER, '{"events":["INVOKE","SHUTDOWN"]}')
        assert client.answer() == (
            200,
            {"functionName": "f", "functionVersion": "1", "handler": "app.handler"},
        )
        port = telemetry.getsockname()[1]
        client.ask("PUT", TELEMETRY, json.dumps({"destination": {"protocol": "TCP", "port": port}}))
        assert client.answer() == (200, "OK")
        with telemetry.accept()[0] as connection:
            assert json.loads(connection.recv(65536))["type"] == "function"
        client.ask("GET", NEXT)
        asked = threading.Thread(target=platform.shut_down)
        asked.start()
        status, event = client.answer()
        asked.join()
        assert (status, event["eventType"], event["shutdownReason"]) == (
            200, "SHUTDOWN", "spindown",
        )  # fmt: skip
        stamps = [platform.stamps[name].at for name in ("register", "subscribe", "next")]
        assert stamps == sorted(stamps)
        client.close()
