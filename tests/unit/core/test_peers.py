"""Who may be the platform: told apart only where that is safe."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from telemetryd.core.peers import Peers, is_within, plain
from telemetryd.ingest.addresses import is_ours, sandbox_addresses

OURS = {"169.254.100.6", "127.0.0.1"}


def peers(*, api_is_ours: bool = False) -> Peers:
    return Peers("127.0.0.1" if api_is_ours else "169.254.100.1", is_ours=OURS.__contains__)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:169.254.100.6", "169.254.100.6"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
        ("::ffff:0:1", "::ffff:0:1"),
    ],
)
def test_an_address_is_plain(address: str, expected: str) -> None:
    assert plain(address) == expected


@pytest.mark.parametrize(
    ("address", "within"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::ffff:127.0.0.1", True),
        ("::1", True),
        ("169.254.100.6", True),
        ("fe80::1%lo", True),
        ("10.0.0.7", False),
        ("192.168.1.2", False),
        ("128.0.0.1", False),
        ("::ffff:10.0.0.7", False),
        ("2001:db8::1", False),
        ("::11", False),
    ],
)
def test_what_only_this_machine_can_reach(address: str, within: bool) -> None:
    assert is_within(address) is within


def test_where_the_api_is_elsewhere_a_process_of_the_sandbox_is_not_the_platform() -> None:
    subject = peers()
    inside = subject.add(1, "169.254.100.6", early=False)
    outside = subject.add(2, "::ffff:169.254.100.1", early=False)
    again = subject.add(3, "169.254.100.1", early=False)
    assert [(p.inside, p.likely) for p in (inside, outside, again)] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    assert [subject.trusts(source) for source in (1, 2, 3)] == [False, True, True]


def test_one_that_was_early_may_be_the_platform_and_is_not_trusted_from_within() -> None:
    subject = peers()
    assert subject.add(1, "127.0.0.1", early=True).likely
    assert not subject.trusts(1)


def test_where_nothing_can_be_told_the_early_ones_may_be_the_platform() -> None:
    """AWS's emulator: the API and everybody at 127.0.0.1."""
    subject = peers(api_is_ours=True)
    likely = [subject.add(n, "127.0.0.1", early=n < 3).likely for n in range(1, 6)]
    assert likely == [True, True, False, False, False]
    assert subject.likely == 2


def test_where_nobody_was_early_the_first_may_be_the_platform_and_the_one_after_it() -> None:
    subject = peers(api_is_ours=True)
    assert [subject.add(n, "127.0.0.1", early=False).likely for n in (1, 2)] == [True, False]
    assert not subject.remove(2)
    assert subject.remove(1)
    assert subject.add(3, "127.0.0.1", early=False).likely
    assert not subject.remove(9), "no such connection"


def test_the_last_connection_that_ends_may_have_been_the_platforms() -> None:
    subject = peers()
    subject.add(1, "127.0.0.1", early=False)
    assert subject.remove(1)


def test_only_what_is_safely_anothers_is_anothers() -> None:
    """Inside, whatever else is known of it, while a connection from outside is open."""
    subject = peers()
    subject.add(1, "169.254.100.6", early=True)
    subject.add(2, "127.0.0.1", early=False)
    subject.prove(2)
    assert not any(map(subject.is_anothers, (1, 2, 9)))
    subject.add(3, "169.254.100.1", early=False)
    assert [subject.is_anothers(source) for source in (1, 2, 3, 9)] == [True, True, False, False]
    subject.remove(1)
    subject.remove(3)
    assert not subject.is_anothers(2)
    alike = peers(api_is_ours=True)
    alike.add(1, "127.0.0.1", early=True)
    alike.add(2, "127.0.0.1", early=False)
    assert not any(map(alike.is_anothers, (1, 2)))


def test_who_comes_from_elsewhere_than_the_api_while_another_comes_from_there() -> None:
    """As under the local Lambda, where all addresses are this machine's."""
    subject = Peers("127.100.0.1", is_ours=lambda _: True)
    subject.add(1, "127.0.0.1", early=True)
    for source in (2, 3):
        subject.add(source, "127.0.0.1", early=False)
    assert not any(map(subject.is_anothers, (1, 2, 3)))
    subject.add(4, "127.100.0.1", early=False)
    assert [subject.is_anothers(source) for source in (1, 2, 3, 4)] == [False, True, True, False]
    subject.prove(3)
    assert not subject.is_anothers(3)
    subject.remove(4)
    assert not subject.is_anothers(2)
    unknown = Peers("", is_ours=OURS.__contains__)
    for source, address in enumerate(("127.0.0.1", "169.254.100.6", "")):
        unknown.add(source, address, early=False)
    assert not any(map(unknown.is_anothers, range(3)))


def test_platform_start_of_a_known_request_proves_a_connection() -> None:
    subject = peers(api_is_ours=True)
    subject.add(1, "127.0.0.1", early=False)
    late = subject.add(2, "127.0.0.1", early=False)
    assert subject.prove(2) is late
    assert late.likely
    assert subject.prove(2) is None, "known already"
    assert subject.prove(9) is None, "no such connection"
    inside = peers()
    inside.add(1, "127.0.0.1", early=False)
    assert inside.prove(1)
    assert not inside.trusts(1)


def test_in_the_end_everybody_is_believed() -> None:
    subject = peers()
    subject.add(1, "127.0.0.1", early=False)
    subject.trust_all()
    assert subject.trusts(1)
    assert subject.trusts(99)


def test_what_addresses_are_ours() -> None:
    assert is_ours("127.0.0.1")
    assert is_ours("127.9.8.7")
    assert not is_ours("203.0.113.7")
    assert not is_ours("no address")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return
    assert is_ours("::1")
    assert not is_ours("2001:db8::7")


def test_the_sandboxs_addresses_are_those_of_the_hosts_file(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(
        b"127.0.0.1 localhost\n169.254.100.6\tsandbox.localdomain sandbox # ours\n"
        b"# 10.0.0.1 sandbox.localdomain\n\xff\xfe\nfd00::6 other sandbox.localdomain\n"
        b"10.0.0.9 not-sandbox.localdomain\n"
    )
    assert sandbox_addresses(str(hosts)) == ("169.254.100.6", "fd00::6")
    assert sandbox_addresses(str(tmp_path / "none")) == ()


def test_open_connections_are_counted() -> None:
    subject = peers()
    assert subject.open == 0
    subject.add(1, "127.0.0.1", early=False)
    assert subject.open == 1
