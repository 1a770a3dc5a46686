"""`telemetryd check --probe`: tries each configured destination, and says how to fix what is wrong.

Each sink is made as the daemon makes it, but not opened, and asked once (`Sink.probe`). What a sink
keeps on disk, its spool, and the dead letter are tried as well.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, TextIO

import uvloop

from telemetryd.config import Config, Mode
from telemetryd.config.explain import printable
from telemetryd.errors import SinkError
from telemetryd.log import EventLog
from telemetryd.masking import hide, secrets_of, without_secrets
from telemetryd.sinks._thread import SinkThread
from telemetryd.sinks.base import MIB, SinkConfig, SinkContext
from telemetryd.sinks.file.probe import try_directory, try_file
from telemetryd.sinks.registry import sink_class

MOST_SECONDS: Final = 10.0
"""Most seconds for one destination; less if its `write_timeout_ms` is less."""
_GOODBYE_SECONDS: Final = 1.0
_AT_ONCE: Final = 8
"""Destinations that are tried at a time."""
_MOST_TEXT: Final = 600
_SPOOL_ROOM: Final = MIB
_LETTER_ROOM: Final = MIB

_FIXES: Final = {
    "unreachable": "correct the host and port, and see whether the network (DNS, security group, "
    "VPC endpoint or NAT, proxy) lets this machine reach it",
    "connect_timeout": "see whether a security group, a firewall or a missing VPC endpoint drops "
    "the packets, and whether the host and port are right",
    "proxy_unreachable": "correct HTTPS_PROXY or HTTP_PROXY, or name the host in NO_PROXY",
    "read_timeout": "see whether something else than the destination listens there, and whether "
    "it is overloaded; `read_timeout_ms` is how long it may be silent",
    "timeout": "see whether something else than the destination listens there",
    "connection_lost": "see whether the destination speaks HTTP or HTTPS on this port, as the URL "
    "says, and whether a firewall resets connections",
    "tls_error": "see whether this port speaks TLS; if it does not, the URL begins with http://",
    "tls_certificate": "use the name that is in the certificate, or name the file of its "
    "authority in AWS_CA_BUNDLE or SSL_CERT_FILE",
    "garbled_answer": "something else than the destination answers: a captive portal, a proxy, a "
    "web server; correct the URL",
    "redirected": "use the URL that the destination redirects to",
    "credentials_refused": "correct the token or the header with the key; for AWS, the access key",
    "access_denied": "give this token or key the right to write",
    "not_found": "correct the path of the URL, or the name; create it if it is missing",
    "refused": "correct the URL: what answers there does not take what this sink sends",
    "too_large": "correct the URL: what answers there takes not even an empty body",
    "throttled": "try again later; raise the quota if it stays so",
    "server_error": "try again later: the destination itself has a fault",
    "no_credentials": "give the function a role; on your machine set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "credentials_expired": "renew the credentials",
    "credentials_unavailable": "see whether the source of credentials can be reached",
    "clock_skew": "set the clock of this machine",
    "no_region": "set `region`, or AWS_REGION",
    "not_ready": "wait until the stream is ACTIVE",
    "kms_key_unusable": "enable the KMS key, and allow kms:GenerateDataKey on it",
    "disk_full": "free some space, or choose a directory of another file system",
    "permission": "let this user write there, or choose another path",
    "io_error": "see whether files can be made there",
    "locked": "stop the other process if it is no telemetryd; otherwise all is well, or both need "
    "paths of their own: {instance} in `path`",
    "not_a_file": "choose another path",
    "stdout_closed": "open standard output",
    "bug": "report it to those who made the sink",
}
_OTHER_FIX: Final = "see docs/sinks-reference.md for what this sink needs"


class Outcome(NamedTuple):
    """The result for one destination."""

    name: str
    """Its place in the configuration, such as `sinks.archive`."""
    kind: str
    code: str
    """The reason; empty if it would take lines."""
    text: str
    fix: str = ""


def probe(config: Config, environ: Mapping[str, str], mode: Mode, out: TextIO) -> bool:
    """Try every destination, and print what came of it as comments. True if all would take lines.

    Several at a time, each within MOST_SECONDS. A system call that hangs is left behind.
    """
    outcomes = _run(list(_destinations(config, environ, mode)))
    hidden = set(secrets_of(config, os.environ))
    out.write(f"#\n# probe of {_count(len(outcomes), 'destination')}:\n")
    out.writelines(f"# {line}\n" for line in _report(outcomes, hidden))
    failed = sum(bool(outcome.code) for outcome in outcomes)
    out.write(f"# {failed} of {len(outcomes)} failed\n" if failed else "# all would take lines\n")
    return not failed


def _report(outcomes: Sequence[Outcome], hidden: Collection[str]) -> Iterator[str]:
    width = max(len(f"{each.name} ({each.kind})") for each in outcomes)
    for each in outcomes:
        verdict = "FAILED" if each.code else "ok"
        text = f"{each.code}: {each.text}" if each.code else each.text
        label = f"{each.name} ({each.kind})"
        yield f"  {label:<{width}}  {verdict:<6}  {_clean(text, hidden)}"
        if each.fix:
            yield f"  {'':<{width}}  {'':<6}  fix: {_clean(each.fix, hidden)}"


def _clean(text: str, hidden: Collection[str]) -> str:
    """Return `text` on one line, without any secret of the configuration."""
    return printable(without_secrets(hide(text, hidden)), _MOST_TEXT)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class _Destination(NamedTuple):
    name: str
    kind: str
    attempt: Awaitable[str]
    seconds: float
    actions: tuple[str, ...] = ()
    """Permissions of AWS that it needs."""


def _destinations(config: Config, environ: Mapping[str, str], mode: Mode) -> Iterator[_Destination]:
    for name, sink in config.sinks.items():
        actions = tuple(action for need in sink.aws_needs() for action in need.actions)
        seconds = min(sink.write_timeout_ms / 1000, MOST_SECONDS)
        attempt = _try_sink(sink, _context(name, environ, mode))
        yield _Destination(f"sinks.{name}", sink.type, attempt, seconds, actions)
        if sink.spool is not None:
            path = f"{sink.spool.path}/{name}.{sink.type}"
            attempt = _in_thread(partial(try_directory, path, _SPOOL_ROOM))
            yield _Destination(f"sinks.{name}.spool", "directory", attempt, MOST_SECONDS)
    if path := config.dead_letter.path:
        attempt = _in_thread(partial(try_file, path, _LETTER_ROOM))
        yield _Destination("dead_letter", "file", attempt, MOST_SECONDS)


def _context(name: str, environ: Mapping[str, str], mode: Mode) -> SinkContext:
    return SinkContext(
        name=name,
        function=environ.get("AWS_LAMBDA_FUNCTION_NAME", "local"),
        version=environ.get("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        instance=secrets.token_hex(16),
        salvage=lambda _data, _reason: False,
        log=EventLog(),
        in_lambda=mode == "lambda",
    )


async def _try_sink(config: SinkConfig, context: SinkContext) -> str:
    sink = sink_class(config.type)(config, context)
    try:
        return str(await sink.probe())
    finally:
        with suppress(Exception):  # it has said what there is to say
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await sink.close()


async def _in_thread(call: partial[str]) -> str:
    thread = SinkThread("probe")
    try:
        return await thread.run(call)
    finally:
        thread.close()


def _run(destinations: Sequence[_Destination]) -> list[Outcome]:
    """Try them all, in a loop that does not wait for threads that hang."""
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(_try_all(destinations))
    finally:
        loop.close()


async def _try_all(destinations: Iterable[_Destination]) -> list[Outcome]:
    places = asyncio.Semaphore(_AT_ONCE)

    async def attempt(destination: _Destination) -> Outcome:
        async with places:
            return await _try(destination)

    return list(await asyncio.gather(*map(attempt, destinations)))


async def _try(it: _Destination) -> Outcome:
    limit = asyncio.timeout(it.seconds)
    try:
        async with limit:
            return Outcome(it.name, it.kind, "", await it.attempt)
    except SinkError as error:
        text = error.detail or "no detail"
        return Outcome(it.name, it.kind, error.code, text, _fix(error.code, it.actions))
    except Exception as error:  # noqa: BLE001 - a foreign sink may raise anything
        if limit.expired():
            text = f"no outcome within {it.seconds:g} s"
            return Outcome(it.name, it.kind, "timeout", text, _FIXES["timeout"])
        text = f"the sink raised {type(error).__name__}: {error}"
        return Outcome(it.name, it.kind, "bug", text, _FIXES["bug"])


def _fix(code: str, actions: Sequence[str]) -> str:
    if actions and code == "access_denied":
        return f"allow {', '.join(actions)}: `telemetryd iam` prints the policy"
    if actions and code == "credentials_refused":
        return "correct the access key and its secret; in Lambda, the function's role"
    return _FIXES.get(code, _OTHER_FIX)
