"""The launcher in the interpreter's place: what it asks, what it waits for, what it hands over."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.launcher_kit import install
from helpers.lifecycle import Stage, TimesOut, play, settings, statuses, until
from helpers.ports import reserved
from helpers.scripted_platform import (
    IDENTIFIER,
    NEXT,
    REGISTER,
    TELEMETRY,
    Call,
    ScriptedPlatform,
    file_sink,
    line,
    runtime_done,
)
from telemetryd.config.prepared import prepare
from telemetryd.local import LocalLambda

PATIENT = settings(FLUSH__MAX_ADDED_MS=10_000)
"""`lambda.start` has its default, `auto`."""
SMALL = {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128"}
ALWAYS_SMALL = ("SPIN_US=0", "NAP_US=0", "STALL_US=0")
"""What the launcher measures then is a small share."""
BROKEN = "not a program"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher with this Python for an interpreter, and a small share of a CPU."""
    return install(tmp_path_factory.mktemp("layer"), defines=ALWAYS_SMALL)


@pytest.fixture(scope="session")
def broken(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The launcher with an interpreter that can't start."""
    place = tmp_path_factory.mktemp("broken")
    shutil.copytree(installed.parents[1], place, dirs_exist_ok=True)
    (place / "telemetryd" / "telemetryd").write_text(BROKEN)
    return place / "extensions" / "telemetryd"


def run(
    launcher: Path, variables: Mapping[str, str] | None = None, **more: Any
) -> ScriptedPlatform:
    given = PATIENT | SMALL | dict(variables or {})
    return ScriptedPlatform(given, command=(str(launcher),), **more)


def is_parked(platform: ScriptedPlatform, launcher: Path) -> bool:
    """Whether the process still is the launcher."""
    return Path(f"/proc/{platform.process.pid}/exe").resolve() == launcher.resolve()


def event(kind: str, **record: object) -> bytes:
    """One line of telemetry, as compact as the platform's."""
    body = {"time": "2026-03-14T10:15:30.123Z", "type": kind, "record": record}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def start(request_id: str) -> bytes:
    return event("platform.start", requestId=request_id, version="$LATEST")


INIT = (
    event("platform.initStart", initializationType="on-demand", phase="init")
    + event("platform.telemetrySubscription", name="telemetryd", state="Subscribed", types=[])
    + event("platform.initRuntimeDone", status="success")
    + event("platform.extension", name="telemetryd", state="Ready", events=["INVOKE"])
    + event("platform.initReport", status="success")
)


def finish(platform: ScriptedPlatform, call: Call, seconds: float = 15.0) -> dict[str, Any]:
    """Shut down; the ledger."""
    call.shutdown(seconds)
    platform.finish()
    return platform.ledger()


# -- the calls, and the wait -----------------------------------------------------------------------


def test_it_makes_the_interpreters_calls_and_leaves_the_end_to_it(
    installed: Path, tmp_path: Path
) -> None:
    """What waits until the function has ended is delivered before the next `next`."""
    with run(installed, file_sink(tmp_path / "f")) as platform:
        assert platform.register().json() == {"events": ["INVOKE", "SHUTDOWN"]}
        call = platform.expect(TELEMETRY)
        wanted = call.json()
        assert wanted["destination"].pop("port") > 0
        assert call.method == "PUT"
        assert wanted == {
            "schemaVersion": "2025-01-29",
            "types": ["platform", "function"],
            "buffering": {"maxItems": 10_000, "maxBytes": 1_048_576, "timeoutMs": 25},
            "destination": {"protocol": "TCP"},
        }
        telemetry = platform.dial(call)
        call.accept()
        call = platform.expect(NEXT)
        assert (call.method, call.body) == ("GET", b"")
        assert is_parked(platform, installed)
        telemetry.sendall(INIT)
        call.invoke("a")
        telemetry.sendall(start("a") + line(1) + line(2) + runtime_done("a"))
        call = platform.expect(NEXT)
        assert (tmp_path / "f").read_bytes().endswith(line(1) + line(2) + runtime_done("a"))
        ledger = finish(platform, call)
        assert platform.log("started")[0]["parked"] is True
        assert ledger["sinks"]["file"]["delivered"]["lines"] == ledger["received"]["lines"] == 9
        assert ledger["figures"]["invocations"] == 1


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (None, "210987654321"),
        (b'{\n  "handler": "\xc3\xa9 = 1",\n  "accountId" : "210987654321"\n}\n', "210987654321"),
        (b'{"by":{"accountId":"111122223333"}}', None),
        (b'{"accountId":"21098765432x"}', None),
        (b'{"handler":"\xff', None),
        (b'{"handler":"\0","accountId":"210987654321"}', None),
        (b"", None),
    ],
)
def test_it_hands_over_the_account_that_it_was_told(
    installed: Path, tmp_path: Path, answer: bytes | None, known: str | None
) -> None:
    """Whatever the function's variables say, and not what is no account."""
    variables = file_sink(tmp_path / "f") | settings(
        SINKS__FILE__FIELDS="account", REGISTERED='{"accountId":"111122223333"}'
    )
    with run(installed, variables, account="210987654321") as platform:
        telemetry, call = platform.begin(answer)
        telemetry.sendall(INIT)
        call.invoke("a")
        telemetry.sendall(start("a") + line(1) + runtime_done("a"))
        finish(platform, platform.expect(NEXT))
        assert platform.log("started")[0]["parked"] is True
        assert platform.log("configuration_invalid") == []
        assert platform.log("configuration_warning") == []
    lines = [json.loads(each) for each in (tmp_path / "f").read_bytes().splitlines()]
    assert lines[0]["type"] == "platform.initStart"
    assert [each.get("account") for each in lines] == [known] * 8


def test_an_answer_in_chunks_is_the_interpreters(installed: Path, tmp_path: Path) -> None:
    """Which can put the chunks together."""
    variables = file_sink(tmp_path / "f") | settings(SINKS__FILE__FIELDS="account")
    with run(installed, variables) as platform:
        call = platform.expect(REGISTER)
        head = f"Lambda-Extension-Identifier: {IDENTIFIER}\r\nTransfer-Encoding: chunked"
        body = b'9\r\n{"account\r\n14\r\nId": "210987654321"}\r\n0\r\n\r\n'
        call.accept_with(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)
        telemetry = platform.subscribe()
        call = platform.expect(NEXT)
        telemetry.sendall(line(1))
        finish(platform, call)
        assert platform.log("started")[0]["parked"] is False
    assert json.loads((tmp_path / "f").read_bytes())["account"] == "210987654321"


def close(telemetry: socket.socket) -> None:
    telemetry.sendall(start("a") + line(1))
    telemetry.close()


def drop(telemetry: socket.socket) -> None:
    record = {"droppedRecords": 1, "droppedBytes": 9, "reason": "x"}
    telemetry.sendall(start("a") + line(1) + event("platform.logsDropped", **record))


def cut(telemetry: socket.socket) -> None:
    telemetry.sendall(start("a") + line(1) + runtime_done("a")[:-9])


def flood(telemetry: socket.socket) -> None:
    telemetry.sendall(start("a") + line(1) * 3000)


def fall_silent(telemetry: socket.socket) -> None:
    telemetry.sendall(start("a") + line(1))


def say_nothing(_: socket.socket) -> None:
    """Not even `platform.start`."""


@pytest.mark.parametrize("trouble", [close, drop, cut, flood, fall_silent, say_nothing])
def test_each_bound_of_the_wait_starts_the_interpreter(
    installed: Path, tmp_path: Path, trouble: Callable[[socket.socket], None]
) -> None:
    """The function may run for 15 minutes: that the interpreter starts is what is shown."""
    variables = file_sink(tmp_path / "f") | settings(FLUSH__MAX_SILENCE_MS=200)
    with run(installed, variables) as platform:
        telemetry, call = platform.begin()
        call.invoke("a", 900)
        trouble(telemetry)
        until(lambda: platform.log("started"))
        ledger = finish(platform, platform.expect(NEXT))
        if trouble is not say_nothing:
            assert (tmp_path / "f").read_bytes().startswith(start("a") + line(1))
        assert ledger["figures"]["invocations"] == 1


def test_a_kernel_that_takes_no_more_starts_it(tmp_path: Path) -> None:
    """Far below what the launcher waits for, where the system grants small buffers only."""
    launcher = install(tmp_path / "layer", defines=("RECEIVE_BUFFER=32768",))
    with run(launcher, file_sink(tmp_path / "f")) as platform:
        telemetry, call = platform.begin()
        call.invoke("a", 900)
        for number in range(4000):
            telemetry.sendall(line(number))
        until(lambda: platform.log("started"))
        telemetry.sendall(runtime_done("a"))
        ledger = finish(platform, platform.expect(NEXT))
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 4001


def test_without_a_connection_it_starts_too(installed: Path) -> None:
    """Subscribed, but never connected to."""
    with run(installed) as platform:
        platform.register()
        platform.expect(TELEMETRY).accept()
        platform.expect(NEXT).invoke("a", 900)
        until(lambda: platform.log("started"))
        finish(platform, platform.expect(NEXT))


def test_a_signal_starts_it_and_ends_it_with_a_ledger(installed: Path, tmp_path: Path) -> None:
    """The signal is handed over as well."""
    with run(installed, file_sink(tmp_path / "f")) as platform:
        telemetry, _ = platform.begin()
        telemetry.sendall(line(1))
        platform.process.send_signal(signal.SIGTERM)
        platform.finish()
        assert platform.log("stopping")[0]["signal"] == "SIGTERM"
        assert platform.ledger()["sinks"]["file"]["delivered"]["lines"] == 1


def test_a_text_that_looks_like_an_end_is_none(installed: Path, tmp_path: Path) -> None:
    """What a function prints is escaped; by the time of the next call it was looked at."""
    text = json.dumps({"type": "platform.runtimeDone"}) + '"platform.logsDropped"'
    printed = json.dumps({"time": "t", "type": "function", "record": text}).encode() + b"\n"
    with run(installed, file_sink(tmp_path / "f")) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(start("a") + printed)
        call.invoke("a", 3)
        call = platform.expect(NEXT)
        assert is_parked(platform, installed)
        ledger = finish(platform, call)
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 2


def test_an_invocation_with_little_time_is_not_kept(installed: Path, tmp_path: Path) -> None:
    """`next` comes before the deadline, from the launcher; the end starts the interpreter later."""
    with run(installed, file_sink(tmp_path / "f")) as platform:
        telemetry, call = platform.begin()
        call.invoke("a", 1)
        telemetry.sendall(start("a") + line(1))
        call = platform.expect(NEXT)
        assert is_parked(platform, installed)
        telemetry.sendall(runtime_done("a"))
        until(lambda: platform.log("started"))
        until(
            lambda: (tmp_path / "f").exists() and runtime_done("a") in (tmp_path / "f").read_bytes()
        )
        call.invoke("b")
        telemetry.sendall(start("b") + runtime_done("b"))
        ledger = finish(platform, platform.expect(NEXT))
        assert ledger["figures"]["invocations"] == 2
        assert ledger["figures"]["unknown_requests"] == 0


@pytest.mark.parametrize("seconds", [1, 900])
def test_after_one_lost_end_no_other_is_waited_for(
    installed: Path, tmp_path: Path, seconds: int
) -> None:
    """The next invocation starts the interpreter, whether it leaves time for that or not."""
    variables = file_sink(tmp_path / "f") | settings(FLUSH__MAX_SILENCE_MS=900_000)
    with run(installed, variables) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(start("a") + line(1))
        call.invoke("a", 1)
        call = platform.expect(NEXT)
        assert is_parked(platform, installed)
        telemetry.sendall(start("b"))
        call.invoke("b", seconds)
        until(lambda: platform.log("started"))
        telemetry.sendall(line(2) + runtime_done("b"))
        ledger = finish(platform, platform.expect(NEXT))
        assert ledger["figures"]["invocations"] == 2
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 5


def test_an_answer_in_pieces_is_waited_for(installed: Path, tmp_path: Path) -> None:
    """INVOKE, cut in the middle of its deadline."""
    body = json.dumps({"eventType": "INVOKE", "deadlineMs": 9_999_999_999_999, "requestId": "a"})
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    with run(installed, file_sink(tmp_path / "f")) as platform:
        telemetry, call = platform.begin()
        call.raw(answer[:3])
        call.raw(answer[3:-30])
        telemetry.sendall(start("a"))
        call.raw(answer[-30:])
        telemetry.sendall(line(1) + runtime_done("a"))
        call = platform.expect(NEXT)
        assert runtime_done("a") in (tmp_path / "f").read_bytes()
        call.answer(403, b"over")
        platform.finish()
        assert platform.ledger()["figures"]["invocations"] == 1


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"?\r\n\r\n"]
)
def test_an_answer_that_makes_no_sense_is_the_interpreters(installed: Path, answer: bytes) -> None:
    """It knows what to make of it."""
    with run(installed) as platform:
        _, call = platform.begin()
        call.raw(answer)
        call = platform.expect(NEXT)
        until(lambda: platform.log("started"))
        finish(platform, call)


def test_who_connected_when_is_handed_over(installed: Path, tmp_path: Path) -> None:
    """Only who was there when the subscription was answered is trusted."""
    variables = file_sink(tmp_path / "f") | settings(TELEMETRY__TRUST="platform")
    with run(installed, variables) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        first = platform.dial(call)
        call.accept()
        following = platform.expect(NEXT)
        late = platform.dial(call)
        late.sendall(event("platform.report", requestId="x", status="success"))
        following.invoke("a")
        first.sendall(start("a") + line(1) + runtime_done("a"))
        ledger = finish(platform, platform.expect(NEXT))
        assert ledger["rejected"]["untrusted"]["lines"] == 1
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 3


# -- when it does not park -------------------------------------------------------------------------


def not_parked(platform: ScriptedPlatform) -> None:
    """The interpreter starts by itself, and knows that the launcher did not wait in its place."""
    telemetry, call = platform.begin()
    until(lambda: platform.log("started"))
    telemetry.sendall(line(1))
    finish(platform, call)
    assert platform.log("started")[0]["parked"] is False


@pytest.mark.parametrize(
    "variables",
    [
        {"TELEMETRYD_LAMBDA__START": "init"},
        {"TELEMETRYD_LAMBDA__START": "sometime"},
        {"TELEMETRYD_HOOKS": '{"good": {}}'},
        {"TELEMETRYD_SYSTEM__METRICS": "true"},
        {"TELEMETRYD_REDACT": "email"},
        {"TELEMETRYD_LAMBDA__NEXT": "ready"},
        {"TELEMETRYD_FAIL_CLOSED": "false"},
        {"TELEMETRYD_FLUSH__STRATEGY": "continuous"},
        {"TELEMETRYD_FLUSH__STRATEGY": "interval"},
        {"TELEMETRYD_FLUSH__MAX_ADDED_MS": "24"},
        {"TELEMETRYD_TELEMETRY__TYPES": "function"},
        {"TELEMETRYD_TELEMETRY__TYPES": '["platform"]'},
        {"TELEMETRYD_TELEMETRY__BUFFERING__TIMEOUT_MS": "soon"},
        {"TELEMETRYD_TELEMETRY__BUFFERING__TIMEOUT_MS": "24"},
        {"TELEMETRYD_TELEMETRY__SCHEMA_VERSION": "2022-12-13"},
        {"TELEMETRYD_TELEMETRY__PROTOCOL": "no"},
        {"TELEMETRYD_TELEMETRY__HOST": "localhost"},
        {"telemetryd_telemetry__port": "0"},
        {"TELEMETRYD_METRICS__LISTEN": "127.0.0.1:0"},
        {"AWS_LAMBDA_INITIALIZATION_TYPE": "provisioned-concurrency"},
        {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"},
    ],
    ids=lambda variables: "=".join(*variables.items()),
)
def test_what_it_can_not_judge_is_the_interpreters(
    installed: Path, variables: dict[str, str]
) -> None:
    """So are environments that no caller waits for."""
    with run(installed, variables) as platform:
        not_parked(platform)


def test_a_file_is_the_interpreters(installed: Path, tmp_path: Path) -> None:
    """Whatever it says."""
    (tmp_path / "t.toml").write_text("")
    with run(installed, {"TELEMETRYD_CONFIG": str(tmp_path / "t.toml")}) as platform:
        not_parked(platform)


def test_a_file_may_be_named_in_lower_case(installed: Path, tmp_path: Path) -> None:
    """Its events are the interpreter's to register."""
    (tmp_path / "t.toml").write_text('[lambda]\nevents = "shutdown"\n')
    with run(installed, {"telemetryd_config": str(tmp_path / "t.toml")}) as platform:
        assert platform.register().json() == {"events": ["SHUTDOWN"]}
        platform.subscribe()
        finish(platform, platform.expect(NEXT))


@pytest.mark.parametrize("kind", ["lambda-managed-instances", ""])
def test_on_managed_instances_nothing_is_parked(installed: Path, kind: str) -> None:
    """Told by the environment, or by the refusal of INVOKE."""
    with run(installed, {"AWS_LAMBDA_INITIALIZATION_TYPE": kind}) as platform:
        if not kind:
            platform.expect(REGISTER).answer(403, b'{"errorType":"Extension.InvalidEventType"}')
        assert platform.register().json() == {"events": ["SHUTDOWN"]}
        platform.subscribe()
        call = platform.expect(NEXT)
        until(lambda: platform.log("started"))
        finish(platform, call)


def test_a_refused_name_is_the_interpreters_to_report(installed: Path) -> None:
    """It reads the answer that the launcher has only looked at."""
    with run(installed) as platform:
        platform.expect(REGISTER).answer(403, b"Extension.InvalidExtensionName")
        platform.finish(status=1)
        assert platform.log("register_failed")


@pytest.mark.parametrize("status", [202, 400, 403, 500])
def test_a_refused_subscription_is_the_interpreters(installed: Path, status: int) -> None:
    """It asks for itself, and says what it was told."""
    with run(installed) as platform:
        platform.register()
        platform.expect(TELEMETRY).answer(status, b"no")
        platform.expect(TELEMETRY).answer(status, b"no")
        if status == 400:
            platform.expect(TELEMETRY).answer(status, b"no")
        finish(platform, platform.expect(NEXT))
        assert platform.log("subscription_refused")[0]["status"] == status


def test_http_is_the_interpreters(installed: Path) -> None:
    """By configuration, or where the platform refuses TCP."""
    with run(installed, settings(TELEMETRY__PROTOCOL="http")) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        assert call.json()["destination"]["protocol"] == "HTTP"
        call.answer(200, b'"OK"')
        finish(platform, platform.expect(NEXT))
        assert platform.log("started")[0]["parked"] is False
    with run(installed, settings(TELEMETRY__PROTOCOL="auto")) as platform:
        platform.register()
        asked = [platform.expect(TELEMETRY) for _ in range(1)]
        while asked[-1].json()["destination"]["protocol"] == "TCP":
            asked[-1].answer(400, b"no")
            asked.append(platform.expect(TELEMETRY))
        asked[-1].answer(200, b'"OK"')
        finish(platform, platform.expect(NEXT))
        assert len(asked) > 2


def test_a_port_that_is_taken(installed: Path) -> None:
    """Any free one is used instead, by the interpreter, which says so."""
    with (
        reserved() as number,
        socket.create_server(("127.0.0.1", number)),
        run(installed, settings(TELEMETRY__PORT=number)) as platform,
    ):
        not_parked(platform)
        assert platform.log("port_not_available")


def test_it_listens_where_it_is_told(installed: Path, tmp_path: Path) -> None:
    """At one address, and its settings are in the subscription."""
    variables = file_sink(tmp_path / "f") | settings(
        TELEMETRY__HOST="127.0.0.1",
        TELEMETRY__TYPES="platform,extension",
        TELEMETRY__BUFFERING__MAX_ITEMS=1000,
        TELEMETRY__BUFFERING__MAX_BYTES=262144,
        TELEMETRY__BUFFERING__TIMEOUT_MS=50,
    )
    with run(installed, variables) as platform:
        platform.register()
        call = platform.expect(TELEMETRY)
        assert call.json()["types"] == ["platform", "extension"]
        buffering = {"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 50}
        assert call.json()["buffering"] == buffering
        telemetry = platform.dial(call)
        call.accept()
        call = platform.expect(NEXT)
        telemetry.sendall(start("a") + runtime_done("a"))
        call.invoke("a")
        ledger = finish(platform, platform.expect(NEXT))
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 2


@pytest.mark.parametrize(
    "variables",
    [
        {"TELEMETRYD_FLUSH__STRATEGY": "invocation"},
        {"TELEMETRYD_FLUSH__STRATEGY": "auto"},
        {"TELEMETRYD_LAMBDA__NEXT": "early"},
        {"TELEMETRYD_CONFIG": ""},
        {"TELEMETRYD_TAGS": '{"stage": "prod"}'},
        {"TELEMETRYD_TAGS__STAGE": "prod"},
    ],
    ids=lambda variables: "=".join(*variables.items()),
)
def test_settings_that_it_can_judge_let_it_park(installed: Path, variables: dict[str, str]) -> None:
    """Though they are set: they say what it does."""
    with run(installed, variables) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(INIT)
        ledger = finish(platform, call)
        assert ledger["parked"] is True
        assert ledger["printed"]["lines"] == INIT.count(b"\n")


# -- auto ------------------------------------------------------------------------------------------


@contextmanager
def held_up(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process is stopped for most of the time, as a group that has used up its share is."""
    over = threading.Event()

    def hold_up() -> None:
        while not over.wait(0.005):
            process.send_signal(signal.SIGSTOP)
            over.wait(0.05)
            process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=hold_up)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_with_a_small_share_of_a_cpu_auto_parks(tmp_path: Path) -> None:
    """It is measured once `register` was answered, which is when the function's runtime starts."""
    launcher = install(tmp_path / "layer", defines=("ROUNDS=20000",))
    with run(launcher, file_sink(tmp_path / "f")) as platform:
        platform.register()
        with held_up(platform.process):
            call = platform.expect(TELEMETRY)
        assert is_parked(platform, launcher)
        telemetry = platform.dial(call)
        call.accept()
        call = platform.expect(NEXT)
        assert is_parked(platform, launcher)
        call.invoke("a", 900)
        telemetry.sendall(start("a") + line(1) + runtime_done("a"))
        ledger = finish(platform, platform.expect(NEXT))
        assert platform.log("started")[0]["parked"] is True
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 3


NEVER_STALLED = ("STALL_US=1000000000L",)


@pytest.mark.parametrize("memory", ["128", "512", "3008", "much", ""])
def test_with_a_large_share_auto_starts_in_the_init(tmp_path: Path, memory: str) -> None:
    """Measured, or not worth it: with so much memory a function has enough of one. Or not known."""
    rounds = "ROUNDS=10" if memory == "128" else "ROUNDS=1000000000L"
    launcher = install(tmp_path / "layer", defines=(*NEVER_STALLED, rounds))
    variables = {
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": memory,
        "TELEMETRYD_LARGE_SHARE": "whatever the function says",
        "TELEMETRYD_PARKED": "the same",
    }
    with run(launcher, variables) as platform:
        not_parked(platform)
        assert platform.log("configuration_invalid") == []


# -- settings that were prepared with the layer ----------------------------------------------------


@pytest.fixture
def prepared(installed: Path, tmp_path: Path) -> Path:
    """A launcher with a file sink at `tmp_path / "baked"`, and `park`, from a prepared file."""
    place = tmp_path / "layer"
    shutil.copytree(installed.parents[1], place)
    file = tmp_path / "telemetryd.toml"
    file.write_text(
        '[lambda]\nstart = "park"\n[flush]\nmax_added_ms = 10000\n'
        '[telemetry]\ntypes = ["platform", "function"]\n'
        f'[sinks.file]\ntype = "file"\npath = "{tmp_path / "baked"}"\n'
    )
    (place / "telemetryd" / "prepared").write_bytes(prepare(str(file))[0])
    return place / "extensions" / "telemetryd"


def deliver(platform: ScriptedPlatform) -> bool:
    """One invocation with a line, to the end; whether the launcher was parked."""
    telemetry, call = platform.begin()
    call.invoke("a", 900)
    telemetry.sendall(start("a") + line(1) + runtime_done("a"))
    ledger = finish(platform, platform.expect(NEXT))
    assert ledger["received"]["lines"] == 3
    assert platform.log("configuration_invalid") == []
    parked: bool = platform.log("started")[0]["parked"]
    return parked


def test_prepared_settings_are_in_effect(prepared: Path, tmp_path: Path) -> None:
    """The launcher can judge them, so it parks."""
    with ScriptedPlatform({}, command=(str(prepared),)) as platform:
        assert deliver(platform)
        assert line(1) in (tmp_path / "baked").read_bytes()


@pytest.mark.parametrize("upper", [True, False])
def test_a_variable_overrides_what_was_prepared(
    prepared: Path, tmp_path: Path, *, upper: bool
) -> None:
    """In any case of its letters, though those that the launcher can't judge end the parking."""
    name, path = "TELEMETRYD_SINKS__FILE__PATH", tmp_path / "own"
    variables = {name if upper else name.lower(): str(path)}
    with ScriptedPlatform(variables, command=(str(prepared),)) as platform:
        assert deliver(platform) is upper
        assert line(1) in path.read_bytes()
        assert not (tmp_path / "baked").exists()


def test_a_named_file_stands_in_its_place(prepared: Path, tmp_path: Path) -> None:
    """All of it: the sink of the prepared one is none of its sinks."""
    file = tmp_path / "other.toml"
    file.write_text(f'[sinks.other]\ntype = "file"\npath = "{tmp_path / "other"}"\n')
    variables = settings(FLUSH__MAX_ADDED_MS=10_000) | {"TELEMETRYD_CONFIG": str(file)}
    with ScriptedPlatform(variables, command=(str(prepared),)) as platform:
        assert not deliver(platform)
        assert list(platform.ledger()["sinks"]) == ["other"]
        assert line(1) in (tmp_path / "other").read_bytes()


def test_what_was_prepared_counts_for_the_command_line_too(prepared: Path, tmp_path: Path) -> None:
    """`check` says what is in effect."""
    done = subprocess.run([prepared, "check"], env={}, capture_output=True, text=True, check=False)
    assert str(tmp_path / "baked") in done.stdout


def test_prepared_settings_that_are_damaged_are_reported(prepared: Path) -> None:
    """What is no variable is left out, and the rest is checked as usual."""
    damaged = b"nonsense\0\0=\0TELEMETRYD_TELEMETRY__PORT=many\0TELEMETRYD_LAMBDA__START=park"
    (prepared.parents[1] / "telemetryd" / "prepared").write_bytes(damaged)
    command = ("env", "-u", "TELEMETRYD_TELEMETRY__PORT", str(prepared))
    with reserved(), ScriptedPlatform({}, command=command) as platform:
        _, call = platform.begin()
        finish(platform, call)
        assert "telemetry.port" in json.dumps(platform.log("configuration_invalid"))


# -- the end while parked --------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [b"", INIT], ids=["nothing", "init"])
def test_what_the_platform_says_of_the_init_is_printed(
    installed: Path, tmp_path: Path, waiting: bytes
) -> None:
    """Without an interpreter; the books are in the ledger's form."""
    variables = file_sink(tmp_path / "f")
    with run(installed, variables, stdout=subprocess.PIPE) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(waiting)
        ledger = finish(platform, call)
        assert platform.process.stdout is not None
        assert platform.process.stdout.read() == waiting
        assert ledger["parked"] is True
        size = {"lines": waiting.count(b"\n"), "bytes": len(waiting)}
        assert ledger["received"] == ledger["printed"] == size
        assert not (tmp_path / "f").exists()


def test_a_functions_lines_are_delivered_at_the_end(installed: Path, tmp_path: Path) -> None:
    """There is time for a start: by the interpreter, which reads SHUTDOWN as well."""
    with run(installed, file_sink(tmp_path / "f")) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(INIT[: INIT.index(b"\n") + 1] + line(1))
        ledger = finish(platform, call)
        assert platform.log("stopping")[0]["reason"] == "spindown"
        assert ledger["sinks"]["file"]["delivered"]["lines"] == 2


@pytest.mark.parametrize("seconds", [1, 0, -1])
def test_without_time_for_a_start_they_are_printed(
    installed: Path, tmp_path: Path, seconds: float
) -> None:
    """So they are in the platform's log, and counted; though the time be up."""
    variables = file_sink(tmp_path / "f")
    with run(installed, variables, stdout=subprocess.PIPE) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1) + line(2)[:-9])
        ledger = finish(platform, call, seconds)
        assert platform.process.stdout is not None
        assert platform.process.stdout.read() == line(1) + line(2)[:-9] + b"\n"
        assert ledger["received"] == ledger["printed"]
        assert ledger["received"]["lines"] == 2


def test_a_function_that_printed_in_its_init_is_not_left_waiting(
    installed: Path, tmp_path: Path
) -> None:
    """After the init, without an invocation, the interpreter starts for it."""
    with run(installed, file_sink(tmp_path / "f")) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1) + INIT)
        until(lambda: (tmp_path / "f").exists() and (tmp_path / "f").read_bytes() == line(1) + INIT)
        finish(platform, call)


# -- without an interpreter ------------------------------------------------------------------------


def test_an_interpreter_that_can_not_start(broken: Path) -> None:
    """One clear line; `next` is served, and what waited and what comes is counted."""
    with run(broken) as platform:
        telemetry, call = platform.begin()
        call.invoke("a")
        telemetry.sendall(start("a") + line(1) + runtime_done("a"))
        call = platform.expect(NEXT)
        call.invoke("b")
        call = platform.expect(NEXT)
        telemetry.sendall(line(2) + line(3)[:-5])
        ledger = finish(platform, call)
        (failed,) = platform.log("interpreter_not_started")
        assert "Exec format error" in failed["error"]
        assert ledger["degraded"] is True
        assert ledger["received"]["lines"] == ledger["unrouted"]["lines"] == 5
        assert ledger["printed"]["lines"] == 0


def test_without_an_interpreter_a_platform_that_left_is_the_end(broken: Path) -> None:
    """No busy loop, and a ledger."""
    with run(broken) as platform:
        telemetry, call = platform.begin()
        telemetry.sendall(line(1))
        platform.leave()
        call.drop()
        telemetry.close()
        platform.finish(status=1)
        assert platform.log("platform_gone")
        assert platform.ledger()["unrouted"]["lines"] == 1


# -- all together ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["park", "auto"])
def test_on_the_local_lambda_nothing_is_lost(installed: Path, tmp_path: Path, how: str) -> None:
    """Invocations, each with a flush at its end; whatever `auto` measures."""
    stage = Stage(tmp_path)
    variables = PATIENT | settings(LAMBDA__START=how)
    config = stage.config(variables, extensions=[installed], memory_mb=128)
    results, env = play(config, {"a": 1}, {"b": 2}, {"c": 3})
    assert statuses(results) == ["success"] * 3
    stage.assert_nothing_lost(env)
    stage.assert_clean_exits(env)


def test_frozen_while_parked_and_at_each_end(installed: Path, tmp_path: Path) -> None:
    """After the init, and after the invocation in which the interpreter has started."""
    stage = Stage(tmp_path)
    config = stage.config(PATIENT, extensions=[installed], memory_mb=128)

    async def scenario() -> LocalLambda:
        async with LocalLambda(config) as env:
            for number in range(3):
                await env.freeze()
                await env.thaw()
                assert (await env.invoke({"print": number})).status == "success"
        return env

    stage.assert_nothing_lost(asyncio.run(scenario()))


def test_after_a_reset_it_parks_again(installed: Path, tmp_path: Path) -> None:
    """A function that times out: all processes start again, and each leaves a ledger."""
    stage = Stage(tmp_path)
    config = stage.config(PATIENT, extensions=[installed], memory_mb=128)
    results, env = play(config, {}, TimesOut({"sleep": 60}), {})
    assert statuses(results) == ["success", "timeout", "success"]
    assert len(stage.ledgers()) == 2
    stage.assert_clean_exits(env, processes=2)
