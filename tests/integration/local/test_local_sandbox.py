"""Platform and sandbox at two addresses: who listens where gets telemetry, and who does not."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from extensions.local_kit import HANDLER, Record, install, make, write_handler
from telemetryd.local import ConfigError, InvokeResult, LocalConfig, LocalLambda
from telemetryd.local.sandbox import NoNamespaceError, SandboxHosts, listeners, with_sandbox

LIMIT = 120
PLATFORM = "127.100.0.1"
NOT_HERE = "192.0.2.1"
"""An address for documentation, which is no machine's."""


def sandbox_of_its_own() -> str:
    """An address of this machine that no other test listens at."""
    return f"127.{random.randint(101, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


@pytest.fixture
def sandbox() -> str:
    """The address of the sandbox, where the machine lets its name be given to it."""
    address = sandbox_of_its_own()

    async def name() -> None:
        hosts = SandboxHosts(address)
        await hosts.open()
        hosts.close()

    try:
        asyncio.run(name())
    except NoNamespaceError as error:
        pytest.skip(f"no mount namespace for /etc/hosts on this machine: {error}")
    return address


def run(config: LocalConfig, *events: object) -> tuple[list[InvokeResult], LocalLambda]:
    """Invoke with each event; returns the results and the ended environment."""

    async def scenario() -> tuple[list[InvokeResult], LocalLambda]:
        async with LocalLambda(config) as env:
            return [await env.invoke(event) for event in events], env

    return asyncio.run(scenario())


@pytest.mark.parametrize("host", ["0.0.0.0", "its own"])
@pytest.mark.parametrize("protocol", ["TCP", "HTTP"])
def test_who_listens_at_the_sandbox_is_dialled_from_the_platform(
    tmp_path: Path, host: str, protocol: str
) -> None:
    """At all addresses, or at the sandbox's alone."""
    address = sandbox_of_its_own()
    mode = {"protocol": protocol, "host": address if host == "its own" else host}
    config, record = make(
        tmp_path, mode, platform_address=PLATFORM, sandbox_address=address, private_hosts=False
    )
    (result,), _ = run(config, {})
    assert record.records("platform.report")[0]["requestId"] == result.request_id
    (started,) = record.all("started")
    assert started["environment"]["AWS_LAMBDA_RUNTIME_API"].startswith(f"{PLATFORM}:")
    assert started["environment"]["TELEMETRYD_LOCAL"] == "1"
    for entry in record.all("addresses"):
        assert (entry["local"], entry["peer"]) == (address, PLATFORM)
    if protocol == "HTTP":
        hosts = {entry["host"].partition(":")[0] for entry in record.all("telemetry")}
        assert hosts == {"sandbox.localdomain"}


@pytest.mark.parametrize("protocol", ["TCP", "HTTP"])
def test_who_listens_on_loopback_alone_gets_nothing_and_is_told_why(
    tmp_path: Path, protocol: str
) -> None:
    """The function runs on; the warning names the address that is open, and what to do."""
    address = sandbox_of_its_own()
    config, record = make(
        tmp_path,
        {"protocol": protocol, "host": "127.0.0.1"},
        sandbox_address=address,
        private_hosts=False,
    )
    (result,), env = run(config, {})
    assert result.status == "success"
    assert record.telemetry() == []
    (warning,) = [text for text in env.warnings if "gets no telemetry" in text]
    assert "is open at 127.0.0.1 only" in warning
    assert f"sandbox.localdomain, which is {address} here" in warning
    assert "listen on sandbox.localdomain or on 0.0.0.0" in warning
    if protocol == "TCP":
        ((status, body),) = record.calls("/telemetry")
        assert (status, body["errorType"]) == (400, "ValidationError")
        assert f"could not TCP dial provided address {address}:" in body["errorMessage"]
        assert "connection refused" in body["errorMessage"]


def test_extension_and_function_find_the_sandbox_by_its_name(tmp_path: Path, sandbox: str) -> None:
    """In an /etc/hosts of their own, in their working directory; the machine's is as before."""
    before = Path("/etc/hosts").read_bytes()
    code = """
import os, socket
def handler(event, context):
    names = ("sandbox.localdomain", "sandbox")
    return [socket.gethostbyname(name) for name in names] + [os.getcwd()]
"""
    config, record = make(
        tmp_path,
        {"host": "sandbox.localdomain"},
        platform_address=PLATFORM,
        sandbox_address=sandbox,
        **write_handler(tmp_path, code),
    )
    (result,), env = run(config, {})
    found = [sandbox, sandbox, str(tmp_path / "task")]
    assert json.loads(result.payload) == found
    assert [entry["local"] for entry in record.all("addresses")] == [sandbox]
    assert record.records("platform.report")
    assert env.warnings == []
    assert Path("/etc/hosts").read_bytes() == before


def test_without_a_namespace_the_line_to_add_is_named(tmp_path: Path) -> None:
    """On standard error, and the rest works."""
    address = sandbox_of_its_own()
    record = Record(tmp_path / "record.ndjson")
    code = "import sys; from telemetryd.local.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [
            *(sys.executable, "-c", code, "--handler", "app.handler", "--invoke", "1"),
            *("--extension", str(install(tmp_path / "extensions"))),
            *("--env", f"LISTENER_FILE={record.path}"),
            *("--sandbox-address", address, "--no-private-hosts"),
        ],
        cwd=HANDLER,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert f"add to /etc/hosts: {address} sandbox.localdomain sandbox" in warning
    assert record.records("platform.report")


@pytest.mark.parametrize("name", ["platform_address", "sandbox_address"])
def test_an_address_of_another_machine_is_refused(tmp_path: Path, name: str) -> None:
    """Before anything starts."""
    config, record = make(tmp_path, **{name: NOT_HERE})
    with pytest.raises(ConfigError, match=rf"{NOT_HERE}.*127\.0\.0\.0/8"):
        run(config)
    assert not record.path.exists()


@pytest.mark.parametrize("value", ["", "localhost", "::1", "0.0.0.0", "224.0.0.1", "127.0.0.1:80"])
def test_what_is_not_one_address_is_refused(tmp_path: Path, value: str) -> None:
    """When the configuration is built."""
    for name in ("platform_address", "sandbox_address"):
        with pytest.raises(ConfigError, match=name):
            make(tmp_path, **{name: value})


def test_two_at_a_time_do_not_meet(tmp_path: Path) -> None:
    """Each has its own port and its own telemetry, at the same two addresses."""
    address = sandbox_of_its_own()
    places = {"platform_address": PLATFORM, "sandbox_address": address, "private_hosts": False}
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(make(tmp_path / name, **places))

    async def scenario() -> tuple[InvokeResult, InvokeResult]:
        async with LocalLambda(made[0][0]) as one, LocalLambda(made[1][0]) as two:
            assert one.address != two.address
            return await asyncio.gather(one.invoke({}), two.invoke({}))

    results = asyncio.run(scenario())
    for result, (_, record) in zip(results, made, strict=True):
        (report,) = record.records("platform.report")
        assert report["requestId"] == result.request_id


def test_the_hosts_file_is_kept_but_for_the_sandbox() -> None:
    """Comments and other names stay, another sandbox goes."""
    before = "# sandbox of old\n127.0.0.1\tlocalhost # sandbox\n10.0.0.1 sandbox.localdomain x\n\n"
    assert with_sandbox(before, "127.9.9.9") == (
        "# sandbox of old\n127.0.0.1\tlocalhost # sandbox\n\n"
        "127.9.9.9 sandbox.localdomain sandbox\n"
    )


def test_listeners_are_found_at_their_addresses() -> None:
    """As the kernel lists them, IPv4 and IPv6."""
    address = sandbox_of_its_own()
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        assert address in listeners(port)
    assert address not in listeners(port)
