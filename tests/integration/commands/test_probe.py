"""`telemetryd check --probe` against real servers, files and the faults of both."""

from __future__ import annotations

import gzip
import io
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest

from helpers.collector_server import CollectorServer, Hang, Raw, Reset, Say, no_proxies
from helpers.fake_logs import FakeLogs, fake_logs
from helpers.http_destination import tls_server
from helpers.kinesis_server import Error, KinesisServer, environment
from helpers.measured import MEASURED
from helpers.otlp_server import OtlpServer
from helpers.vendor_servers import (
    CloudWatchServer,
    DatadogServer,
    ElasticServer,
    HoneycombServer,
    LokiServer,
    NewRelicServer,
    SplunkServer,
    VendorServer,
)
from telemetryd.commands.check import check
from telemetryd.sinks import registry
from telemetryd.sinks.base import Batch, Sink, SinkConfig, WriteResult
from telemetryd.sinks.http.presets import PresetName
from telemetryd.sinks.http.presets import preset as known_preset

PLANTED = "S3cretToken.of-mine"
WEB_PAGE = b"<!DOCTYPE html><html><body>Please sign in to the WLAN</body></html>"
CHUNK = b"1000\r\n%b\r\n" % (b"y" * 4096)
VERDICT = re.compile(r"^#   (\S+) \((\S+)\) +(ok|FAILED) +(.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    no_proxies(monkeypatch)
    environment(monkeypatch)


def run(**settings: object) -> tuple[int, dict[str, str], str]:
    """Status, what was found out about each destination, and all that was printed."""
    out, err = io.StringIO(), io.StringIO()
    environ = {f"TELEMETRYD_SINKS__{key}": str(value) for key, value in settings.items()}
    status = check(environ, out, err, probes=True, default_paths=())
    assert err.getvalue() == ""
    printed = out.getvalue()
    found = {name: f"{verdict} {text}" for name, _, verdict, text in VERDICT.findall(printed)}
    assert PLANTED not in printed
    return status, found, printed


def http(url: str, **more: object) -> tuple[int, str, str]:
    given = {
        "A__TYPE": "http", "A__URL": url, "A__TOKEN": PLANTED, "A__READ_TIMEOUT_MS": 5000,
        "A__HEADERS": f'{{X-Key = "{PLANTED}x"}}', **more,
    }  # fmt: skip
    status, found, printed = run(**given)
    return status, found["sinks.a"], printed


# -- http --------------------------------------------------------------------------------------


def test_a_server_that_takes_a_body_without_lines_is_fine() -> None:
    """It gets no line, and all that a request with lines has: token, headers, the format."""
    with CollectorServer() as server:
        server.token = PLANTED
        status, found, printed = http(server.url)
        (request,) = server.requests
    assert status == 0
    assert found.startswith(f"ok 127.0.0.1:{server.port} is reachable, and accepts")
    assert printed.endswith("# all would take lines\n")
    assert request.body == b""
    assert request.headers["authorization"] == f"Bearer {PLANTED}"
    assert request.headers["x-key"] == f"{PLANTED}x"
    assert server.lines == b""


def test_the_body_has_the_format_of_the_sink() -> None:
    with CollectorServer(form="json") as server:
        assert http(server.url, A__BODY="json", A__COMPRESSION="gzip")[0] == 0
        assert [gzip.decompress(request.body) for request in server.requests] == [b"[]"]
        assert server.violations == []


@pytest.mark.parametrize("answer", [400, 422])
def test_a_server_that_refuses_a_body_without_lines_is_reachable(answer: int) -> None:
    """What it does not prove is said."""
    with CollectorServer() as server:
        server.otherwise = Say(answer)
        status, found, _ = http(server.url)
    assert status == 0
    assert "whether it takes lines is unknown" in found


@pytest.mark.parametrize(
    ("step", "code", "fix"),
    [
        (Say(401), "credentials_refused", "token"),
        (Say(403), "access_denied", "right to write"),
        (Say(404), "not_found", "path of the URL"),
        (Say(405), "refused", "correct the URL"),
        (Say(301, {"Location": "https://elsewhere.example.com/"}), "redirected", "redirects to"),
        (Say(413), "too_large", "correct the URL"),
        (Say(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), "throttled", "try again"),
        (Say(500), "server_error", "try again later"),
        (Say(200, {"Content-Type": "text/html"}, WEB_PAGE), "garbled_answer", "captive portal"),
        (Raw(b"220 mail.example.com ESMTP\r\n\r\n"), "garbled_answer", "correct the URL"),
        (Raw(b""), "connection_lost", "HTTP or HTTPS"),
        (Reset(), "connection_lost", "firewall"),
        (Say(302, {}, WEB_PAGE), "redirected", "redirects to"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_wrong_is_said_with_a_way_to_fix_it(step: Any, code: str, fix: str) -> None:
    with CollectorServer() as server:
        server.otherwise = step
        status, found, printed = http(server.url)
        assert len(server.requests) == 1, "no second attempt"
    assert status == 69
    assert found.startswith(f"FAILED {code}: ")
    (said,) = re.findall(r"^# +fix: (.*)$", printed, re.MULTILINE)
    assert fix in said
    assert printed.endswith("# 1 of 1 failed\n")


def test_an_answer_is_not_quoted() -> None:
    """It may repeat the token."""
    with CollectorServer() as server:
        server.otherwise = Say(401, {}, f"unknown token {PLANTED}".encode())
        assert "unknown token" not in http(server.url)[2]


@pytest.mark.parametrize(
    ("step", "settings"),
    [
        (Hang(), {"A__READ_TIMEOUT_MS": 50}),
        (Hang(), {"A__WRITE_TIMEOUT_MS": 50}),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1", ends=False), {"A__WRITE_TIMEOUT_MS": 50}),  # noqa: E501
    ],
    ids=["silent", "too slow", "incomplete"],
)  # fmt: skip
def test_a_server_that_does_not_answer_costs_a_bounded_time(step: Any, settings: Any) -> None:
    with CollectorServer() as server:
        server.otherwise = step
        status, found, _ = http(server.url, **settings)
    assert status == 69
    assert re.match(r"FAILED (read_timeout|timeout): ", found)


PRESETS: dict[PresetName, tuple[type[VendorServer], str, str]] = {
    "loki": (LokiServer, "refuses a body without lines (422)", "credentials_refused"),
    "splunk_hec": (SplunkServer, "refuses a body without lines (400)", "credentials_refused"),
    "elastic_bulk": (ElasticServer, "refuses a body without lines (400)", "credentials_refused"),
    "honeycomb": (HoneycombServer, "accepts a body without lines (200)", "credentials_refused"),
    "new_relic": (NewRelicServer, "accepts a body without lines (202)", "access_denied"),
    "datadog": (DatadogServer, "accepts a body without lines (202)", "access_denied"),
    "cloudwatch": (
        CloudWatchServer, "refuses a body without lines (400)", "credentials_refused",
    ),
}  # fmt: skip


LABELS: dict[str, dict[str, str]] = {
    "honeycomb": {"A__LABELS": '{dataset = "orders"}'},
    "cloudwatch": {"A__LABELS": '{log_group = "telemetry", log_stream = "orders"}'},
}


def test_each_preset_is_tried() -> None:
    assert PRESETS.keys() == set(get_args(PresetName))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_vendor_is_tried_by_its_protocol(preset: PresetName, compression: str) -> None:
    server_class, says, _ = PRESETS[preset]
    if compression not in known_preset(preset).compressions:
        pytest.skip("the vendor does not take it")
    with server_class() as server:
        server.token = PLANTED
        status, found, _ = http(
            server.url, A__PRESET=preset, A__COMPRESSION=compression, **LABELS.get(preset, {})
        )
        assert (server.stored, server.violations) == ([], [])
    assert status == 0
    assert says in found


@pytest.mark.parametrize("preset", PRESETS)
def test_a_vendor_that_does_not_know_the_token(preset: PresetName) -> None:
    server_class, _, code = PRESETS[preset]
    with server_class() as server:
        server.token = "another"  # noqa: S105 - opens nothing
        status, found, _ = http(server.url, A__PRESET=preset, **LABELS.get(preset, {}))
    assert (status, found.partition(":")[0]) == (69, f"FAILED {code}")


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_an_otlp_endpoint_is_tried_without_a_record(protocol: str) -> None:
    with OtlpServer(as_json=protocol == "http/json") as server:
        status, found, _ = run(O__TYPE="otlp", O__ENDPOINT=server.base, O__PROTOCOL=protocol)
        assert server.violations == []
        assert server.records == []
    assert status == 0
    assert found["sinks.o"].startswith("ok the server takes a request without")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "credentials_refused"),
        (403, "access_denied"),
        (404, "not_found"),
        (503, "server_error"),
    ],
)
def test_an_otlp_endpoint_that_takes_nothing_from_us(status: int, code: str) -> None:
    with OtlpServer() as server:
        server.otherwise = Say(status)
        ended, found, printed = run(O__TYPE="otlp", O__ENDPOINT=server.base, O__TOKEN=PLANTED)
        assert len(server.requests) == 1, "no second attempt"
    assert (ended, found["sinks.o"].partition(":")[0]) == (69, f"FAILED {code}")
    assert "fix: " in printed


@contextmanager
def endless(head: bytes, piece: bytes) -> Iterator[int]:
    """A server whose answer never ends, however fast it is read; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:  # no one came, and the test is over
                return
            with connection:
                try:
                    connection.recv(65536)
                    connection.sendall(head)
                    while True:
                        connection.sendall(piece)
                except OSError:
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNK),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 1000),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    ],
    ids=["body", "chunks", "headers", "interim answers"],
)  # fmt: skip
def test_an_answer_that_never_ends_is_cut_off(head: bytes, piece: bytes) -> None:
    with endless(head, piece) as port:
        status, found, _ = http(f"http://127.0.0.1:{port}/", A__WRITE_TIMEOUT_MS=3000)
    assert status == 69
    assert re.match(r"FAILED (garbled_answer|timeout): ", found)


def test_no_one_listens_on_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    status, found, printed = http(f"http://127.0.0.1:{port}/")
    assert status == 69
    assert found.startswith(f"FAILED unreachable: 127.0.0.1:{port}: ")
    assert "fix: correct the host and port" in printed


def test_a_name_without_an_address() -> None:
    status, found, printed = http("https://no.such.host.invalid/v1")
    assert status == 69
    assert found.startswith("FAILED unreachable: no.such.host.invalid:443: ")
    assert "DNS" in printed


@pytest.mark.parametrize("certificate", ["server", "expired", "elsewhere"])
def test_a_certificate_that_does_not_verify(certificate: str) -> None:
    with tls_listener(tls_server(certificate)) as port:
        status, found, printed = http(f"https://127.0.0.1:{port}/")
    assert status == 69
    assert found.startswith("FAILED tls_certificate: ")
    assert "fix: use the name that is in the certificate, or name the file" in printed


def test_a_port_that_speaks_no_tls() -> None:
    with CollectorServer() as server:
        status, found, printed = http(
            f"https://127.0.0.1:{server.port}/", A__CONNECT_TIMEOUT_MS=500
        )
    assert status == 69
    assert re.match(r"FAILED (tls_error|connection_lost|connect_timeout): ", found)
    assert "fix: " in printed


@contextmanager
def tls_listener(context: ssl.SSLContext) -> Iterator[int]:
    """A port that shakes hands once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                connection, _ = listener.accept()
                with context.wrap_socket(connection, server_side=True):
                    pass
            except OSError:  # the client has hung up, as it should
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


# -- kinesis -----------------------------------------------------------------------------------


def kinesis(server: KinesisServer, client: str, **more: object) -> tuple[int, str, str]:
    status, found, printed = run(
        K__TYPE="kinesis", K__STREAM="telemetry", K__REGION="eu-west-1", K__CLIENT=client,
        K__ENDPOINT_URL=server.url, **more,
    )  # fmt: skip
    return status, found["sinks.k"], printed


@pytest.fixture(params=["lean", "aiobotocore"])
def client(request: pytest.FixtureRequest) -> str:
    """The client of AWS."""
    return str(request.param)


@pytest.fixture
def stream() -> Iterator[KinesisServer]:
    with KinesisServer() as server:
        yield server
        assert server.accepted == [], "nothing may be written"
        assert all("ExplicitHashKey" in each for each in server.violations)


def test_a_stream_is_tried_without_a_record(stream: KinesisServer, client: str) -> None:
    status, found, _ = kinesis(stream, client)
    assert status == 0
    assert (
        found == f"ok {stream.url} is reachable, the stream is ACTIVE, and PutRecords is permitted"
    )
    assert (stream.descriptions, len(stream.requests)) == (1, 1)


def test_what_may_not_be_asked_stays_unknown(stream: KinesisServer, client: str) -> None:
    """The permission that a probe asks for beyond the sink's is optional, and named."""
    stream.state = "AccessDeniedException"
    status, found, _ = kinesis(stream, client)
    assert status == 0
    assert "PutRecords is permitted; whether the stream exists is not certain" in found
    assert "kinesis:DescribeStreamSummary" in found


def test_a_stream_that_is_missing(stream: KinesisServer, client: str) -> None:
    stream.state = "ResourceNotFoundException"
    status, found, printed = kinesis(stream, client)
    assert status == 69
    assert found.startswith("FAILED not_found: ")
    assert "create it" in printed
    assert stream.requests == []


def test_a_stream_that_is_missing_for_those_who_may_not_ask(
    stream: KinesisServer, client: str
) -> None:
    stream.state = "AccessDeniedException"
    stream.otherwise = Error(400, "ResourceNotFoundException")
    status, found, _ = kinesis(stream, client)
    assert (status, found.partition(":")[0]) == (69, "FAILED not_found")


def test_a_stream_that_is_not_ready(stream: KinesisServer, client: str) -> None:
    stream.state = "CREATING"
    status, found, _ = kinesis(stream, client)
    assert (status, found.partition(":")[0]) == (69, "FAILED not_ready")


@pytest.mark.parametrize(
    ("error", "code", "fix"),
    [
        ("AccessDeniedException", "access_denied", "allow kinesis:PutRecords: `telemetryd iam`"),
        ("InvalidSignatureException", "credentials_refused", "access key"),
        ("ProvisionedThroughputExceededException", "throttled", "quota"),
        ("KMSDisabledException", "kms_key_unusable", "KMS key"),
    ],
)
def test_a_stream_that_would_take_no_record(
    stream: KinesisServer, client: str, error: str, code: str, fix: str
) -> None:
    stream.otherwise = Error(400, error)
    status, found, printed = kinesis(stream, client)
    assert (status, found.partition(":")[0]) == (69, f"FAILED {code}")
    assert fix in printed
    assert len(stream.requests) == 1, "no second attempt"


def test_no_one_listens_where_kinesis_should_be(client: str) -> None:
    with KinesisServer() as server:
        pass
    status, found, _ = kinesis(server, client)
    assert (status, found.partition(":")[0]) == (69, "FAILED unreachable")


def test_kinesis_behind_a_captive_portal(client: str) -> None:
    with CollectorServer() as server:
        server.otherwise = Say(200, {"Content-Type": "text/html"}, WEB_PAGE)
        status, found, printed = run(
            K__TYPE="kinesis", K__STREAM="telemetry", K__REGION="eu-west-1", K__CLIENT=client,
            K__ENDPOINT_URL=f"http://127.0.0.1:{server.port}",
        )  # fmt: skip
    assert status == 69
    assert found["sinks.k"].startswith("FAILED garbled_answer: ")
    assert "captive portal" in printed


def test_without_credentials_nothing_is_sent(
    stream: KinesisServer, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    status, found, printed = kinesis(stream, client)
    assert (status, found.partition(":")[0]) == (69, "FAILED no_credentials")
    assert "give the function a role" in printed
    assert (stream.descriptions, stream.requests) == (0, [])


# -- CloudWatch Logs ---------------------------------------------------------------------------


def logs(server: FakeLogs, client: str, **more: object) -> tuple[int, str, str]:
    status, found, printed = run(
        M__TYPE="emf", M__DELIVERY="logs", M__LOG_GROUP="/mine", M__REGION="eu-west-1",
        M__ENDPOINT_URL=server.url, M__CLIENT=client, **more,
    )  # fmt: skip
    assert server.messages() == [], "no event may be kept"
    return status, found["sinks.m"], printed


def test_a_log_group_is_tried_without_an_event(client: str) -> None:
    """The first probe makes a stream, as the sink would; those after it find that."""
    with fake_logs() as server:
        server.groups["/mine"] = {}
        first = logs(server, client)
        second = logs(server, client)
        assert list(server.groups["/mine"]) == ["telemetryd/probe"]
        assert server.calls == ["PutLogEvents", "CreateLogStream", "PutLogEvents"]
    assert (first[0], second[0]) == (0, 0)
    assert "the empty log stream telemetryd/probe was made" in first[1]
    assert second[1].endswith("log group /mine exists, and PutLogEvents is permitted")


def test_a_log_group_that_is_missing_is_not_made(client: str) -> None:
    with fake_logs() as server:
        status, found, _ = logs(server, client)
        assert server.groups == {}
    assert status == 0
    assert "log group /mine does not exist" in found
    assert "logs:CreateLogGroup" in found


@pytest.mark.parametrize("denied", ["PutLogEvents", "CreateLogStream"])
def test_a_log_group_that_takes_nothing_from_us(client: str, denied: str) -> None:
    with fake_logs() as server:
        server.groups["/mine"] = {}
        server.denied = {denied}
        status, found, printed = logs(server, client)
    assert (status, found.partition(":")[0]) == (69, "FAILED access_denied")
    assert denied in found
    assert f"logs:{denied}" in printed
    assert "`telemetryd iam` prints the policy" in printed


def test_a_sink_that_prints_needs_no_server() -> None:
    status, found, _ = run(M__TYPE="emf")
    assert status == 0
    assert found["sinks.m"].startswith("ok documents go to standard output")


# -- file, stdout, null ------------------------------------------------------------------------


def file(path: object, **more: object) -> tuple[int, str, str]:
    status, found, printed = run(F__TYPE="file", F__PATH=path, **more)
    return status, found["sinks.f"], printed


def listing(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_file_is_tried_without_being_made(tmp_path: Path) -> None:
    status, found, _ = file(tmp_path / "new" / "deeper" / "{function}.ndjson")
    assert status == 0
    assert re.match(r"ok \S+/local\.ndjson can be written, and will be made; [\d,]+ MiB", found)
    assert listing(tmp_path) == []


def test_a_file_that_exists_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'"half a li')
    status, found, _ = file(path)
    assert (status, found.partition(";")[0]) == (0, f"ok {path} can be written")
    assert path.read_bytes() == b'"half a li'
    assert listing(tmp_path) == ["lines"]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: path.mkdir(), "not_a_file"),
        (os.mkfifo, "not_a_file"),
        (lambda path: path.symlink_to("/etc/passwd"), "not_a_file"),
    ],
    ids=["directory", "fifo", "link"],
)
def test_what_is_no_file_is_not_written_to(
    tmp_path: Path, make: Callable[[Path], object], code: str
) -> None:
    make(tmp_path / "it")
    status, found, _ = file(tmp_path / "it")
    assert (status, found.partition(":")[0]) == (69, f"FAILED {code}")


def test_a_directory_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, found, _ = file(tmp_path / "file" / "x.ndjson")
    assert status == 69
    assert "Not a directory" in found or "is not a directory" in found


def test_a_file_system_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch would not fit, as far as the file system says."""
    real = os.statvfs

    class Full:
        f_frsize = 4096
        f_bavail = 3

    monkeypatch.setattr(
        os, "statvfs", lambda path: Full if str(path) == str(tmp_path) else real(path)
    )
    status, found, printed = file(tmp_path / "x")
    assert status == 69
    assert (
        found
        == f"FAILED disk_full: {tmp_path}/x: 12,288 bytes are free, a batch has up to 1,048,576"
    )
    assert "fix: free some space" in printed


def test_a_device_that_is_full() -> None:
    status, found, _ = file("/dev/full")
    assert (status, found.partition(":")[0]) == (69, "FAILED not_a_file")


def test_a_directory_that_can_not_be_written_to() -> None:
    status, found, _ = file("/proc/self/x.ndjson")
    assert status == 69
    assert re.match(r"FAILED (io_error|permission): /proc/self/x.ndjson: ", found)


def test_a_file_that_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    code = (
        "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=MEASURED,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        status, found, _ = file(path)
        other.communicate()
    assert (status, found.partition(":")[0]) == (69, "FAILED locked")


def test_spool_and_dead_letter_are_tried(tmp_path: Path) -> None:
    out = io.StringIO()
    environ = {
        "TELEMETRYD_SINKS__N__TYPE": "null",
        "TELEMETRYD_SINKS__N__SPOOL__PATH": str(tmp_path / "spool"),
        "TELEMETRYD_DEAD_LETTER__PATH": "/proc/self/letter",
    }
    status = check(environ, out, io.StringIO(), probes=True, default_paths=())
    found = {name: verdict for name, _, verdict, _ in VERDICT.findall(out.getvalue())}
    assert found == {"sinks.n": "ok", "sinks.n.spool": "ok", "dead_letter": "FAILED"}
    assert status == 69
    assert listing(tmp_path) == []


# -- sinks of other packages -------------------------------------------------------------------


class _Config(SinkConfig, frozen=True, kw_only=True):
    token: str = ""


class _Probed(Sink):
    """As its author made it."""

    Config = _Config
    closed = 0

    async def probe(self) -> str:
        return f"tried, with {self.config.token}"  # type: ignore[attr-defined]

    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        raise AssertionError("a probe writes nothing")

    async def close(self) -> None:
        type(self).closed += 1


class _Unprobed(_Probed):
    probe = Sink.probe
    opened = 0

    async def open(self) -> None:
        type(self).opened += 1


class _Broken(_Probed):
    async def probe(self) -> str:
        raise RuntimeError(f"no one caught this: token={PLANTED}, {PLANTED}")


class _NotMade(_Probed):
    def __init__(self, config: SinkConfig, context: Any) -> None:
        raise ValueError("not today")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Sink]], tuple[int, str, str]]:
    def probe(cls: type[Sink]) -> tuple[int, str, str]:
        monkeypatch.setattr(sys.modules[__name__], "_Chosen", cls, raising=False)
        monkeypatch.setitem(registry.BUILT_IN, "chosen", (__name__, "_Chosen"))
        status, found, printed = run(X__TYPE="chosen", X__TOKEN=PLANTED)
        return status, found["sinks.x"], printed

    return probe


def test_a_sink_says_what_its_probe_proves(foreign: Any) -> None:
    _Probed.closed = 0
    status, found, _ = foreign(_Probed)
    assert (status, found) == (0, "ok tried, with ***")
    assert _Probed.closed == 1


def test_a_sink_without_a_probe_is_opened_and_closed(foreign: Any) -> None:
    _Unprobed.opened = _Unprobed.closed = 0
    status, found, _ = foreign(_Unprobed)
    assert status == 0
    assert found == "ok opened; this type has no probe of its own, so nothing more is known"
    assert (_Unprobed.opened, _Unprobed.closed) == (1, 1)


@pytest.mark.parametrize(("cls", "kind"), [(_NotMade, "ValueError"), (_Broken, "RuntimeError")])
def test_a_probe_that_breaks_fails_alone(foreign: Any, cls: type[Sink], kind: str) -> None:
    status, found, printed = foreign(cls)
    assert status == 69
    assert found.startswith(f"FAILED bug: the sink raised {kind}")
    assert "report it" in printed


# -- the command -------------------------------------------------------------------------------


def test_the_command_fails_where_one_of_many_fails(tmp_path: Path) -> None:
    """And prints a configuration all the same."""
    with CollectorServer() as server:
        server.otherwise = Say(403)
        done = subprocess.run(
            [sys.executable, "-m", "telemetryd", "check", "--probe"],
            env=MEASURED
            | {
                "TELEMETRYD_SINKS__A__TYPE": "http",
                "TELEMETRYD_SINKS__A__URL": server.url,
                "TELEMETRYD_SINKS__A__TOKEN": PLANTED,
                "TELEMETRYD_SINKS__B__TYPE": "file",
                "TELEMETRYD_SINKS__B__PATH": str(tmp_path / "b"),
            },
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (69, "")
    assert "# 1 of 2 failed" in done.stdout
    assert PLANTED not in done.stdout


def test_nothing_is_tried_where_the_configuration_is_wrong() -> None:
    out, err = io.StringIO(), io.StringIO()
    with CollectorServer() as server:
        environ = {
            "TELEMETRYD_SINKS__A__TYPE": "http",
            "TELEMETRYD_SINKS__A__URL": server.url,
            "TELEMETRYD_SINKS__A__WRONG": "1",
        }
        assert check(environ, out, err, probes=True, default_paths=()) == 78
        assert server.connections == 0
    assert "probe" not in out.getvalue()
