"""What is loaded once a line is delivered, and that the rest works when it is needed.

msgspec tries to load `typing_extensions`, which the layer does not have. Here it has one, that
looks around when the sink opens its file.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from helpers.layer_kit import certificate
from helpers.scripted_platform import ScriptedPlatform, file_sink, line

WAITS = """
import sys, threading
def look(event, arguments):
    if event == "open" and arguments[0] == {sink!r} and not done:
        done.append(1)
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()
done = []
def act():
    names = sorted(sys.modules)
    {act}
if not hasattr(sys, "looks"):  # msgspec tries twice
    sys.looks = True
    sys.addaudithook(look)
raise ImportError("there is none")
"""
TELL = """
    import json
    facades = [n for n in names if "_become" in vars(sys.modules[n]) and n != "_become"]
    still = [n for n in facades if "__getattr__" in vars(sys.modules[n])]
    with open({told!r}, "w") as file:
        json.dump({{"names": names, "facades": facades, "still": still}}, file)
"""
USE = """
    import traceback
    try:
        use()
        text = "all well"
    except BaseException:
        text = traceback.format_exc()
    with open({told!r}, "w") as file:
        file.write(text)
def use():
    import asyncio, inspect, logging, selectors, ssl, subprocess, uvloop
    logging.getLogger("some.library").warning("a %s", "warning")
    assert isinstance(logging.NullHandler(1), logging.Handler)
    done = subprocess.run(["/bin/echo", "text"], stdout=subprocess.PIPE)
    assert done.stdout == b"text\\n", done
    assert selectors.DefaultSelector().get_map() is not None
    assert inspect.signature(use).parameters == {{}}
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain({pem!r})
    client_context = ssl.create_default_context(cafile={pem!r})
    async def answer(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
    async def main():
        asyncio.get_running_loop().set_debug(True)
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context)
        writer.write(b"over TLS\\n")
        assert await reader.readline() == b"over TLS\\n"
        writer.close()
        try:
            await asyncio.open_connection("127.0.0.1", port, ssl=True)
        except ssl.SSLCertVerificationError:
            pass
        else:
            raise AssertionError("the certificate is nobody's")
        server.close()
        process = await asyncio.create_subprocess_exec("/bin/echo", "text", stdout=subprocess.PIPE)
        assert (await process.communicate())[0] == b"text\\n"
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(int))
        assert "main" in repr(asyncio.get_running_loop().call_soon(main))
        assert asyncio.current_task().get_stack()
    def run(make_loop):
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(main())
    run(uvloop.new_event_loop)
    run(asyncio.SelectorEventLoop)
"""
LARGE = {
    *("_hashlib", "_ssl", "ast", "asyncio.base_subprocess", "asyncio.selector_events", "base64"),
    *("asyncio.subprocess", "asyncio.taskgroups", "asyncio.unix_events"),
    *("calendar", "dataclasses", "hashlib", "importlib.metadata", "importlib.util", "json"),
    *("locale", "pathlib", "random", "shutil", "string", "tempfile", "textwrap", "tokenize"),
    "urllib.parse",
}
"""Each was loaded at some time, or would be by a careless import, and costs half a millisecond."""
OURS = {
    *("telemetryd.cli", "telemetryd.log_events", "telemetryd.logging_bridge", "telemetryd.replay"),
    *("telemetryd.delivery.dead_letter", "telemetryd.spool.sink_spool"),
    *("telemetryd.unpack", "telemetryd_proto.kinesis", "aiobotocore", "prometheus_client"),
}


def played(launcher: Path, directory: Path, act: str, **values: str) -> tuple[str, list[str]]:
    """One life that delivers a line: what was told of it, and what was logged."""
    opt = shutil.copytree(launcher.parents[1], directory / "opt")
    sink, told = directory / "sink.ndjson", directory / "told"
    plugins = opt / "telemetryd" / "plugins"
    plugins.mkdir()
    acted = act.format(told=str(told), **values).strip()
    (plugins / "typing_extensions.py").write_text(WAITS.format(sink=sink.name, act=acted))
    command = (str(opt / "extensions" / "telemetryd"),)
    with ScriptedPlatform(file_sink(sink), command=command) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        call.shutdown(20.0)
        platform.finish()
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1
        return told.read_text(), platform.printed


def test_what_is_loaded_when_a_line_is_delivered(launcher: Path, tmp_path: Path) -> None:
    """Nothing large, and the facades are still facades."""
    told = json.loads(played(launcher, tmp_path, TELL)[0])
    assert (LARGE | OURS) & {*told["names"]} == set()
    assert told["still"] == told["facades"]
    assert {"asyncio", "inspect", "logging", "ssl", "subprocess"} <= {*told["facades"]}


def test_what_is_not_loaded_at_the_start_works(launcher: Path, tmp_path: Path) -> None:
    """TLS, processes, streams and the debug mode, by uvloop and by asyncio's own loop."""
    pem = certificate(tmp_path)
    told, printed = played(launcher, tmp_path, USE, pem=str(pem))
    assert told == "all well"
    assert any('"library":"some.library"' in text for text in printed)
