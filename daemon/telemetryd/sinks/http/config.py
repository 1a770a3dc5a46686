"""The configuration of an HTTP sink, and its rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

from msgspec import Meta, field

from telemetryd.sinks._posting import Compression, Place, header_fault, key_problems, place_of
from telemetryd.sinks.base import MIB, Format, SinkConfig
from telemetryd.sinks.http.formats import FormatName
from telemetryd.sinks.http.presets import Preset, PresetName, preset, with_defaults

if TYPE_CHECKING:
    from telemetryd.sinks.aws_needs import AwsNeed

KIB: Final = 1024
PLACEHOLDERS: Final = ("{function}", "{version}", "{instance}")
_SET_BY: Final = {
    "content-encoding": "`compression`",
    "idempotency-key": "the sink",
}
"""Headers that are not the user's, with what sets them. The client refuses more."""


class HttpConfig(SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "http"`."""

    tuning: ClassVar[frozenset[str]] = SinkConfig.tuning | {
        "compression", "connect_timeout_ms", "max_body_bytes", "read_timeout_ms",
    }  # fmt: skip

    linger_ms: Annotated[int, Meta(ge=0, le=60_000)] = 100
    """Milliseconds that a batch waits for more lines until it is full."""

    url: Annotated[str, Meta(max_length=2048)] = ""
    """URL to POST to, such as `https://collector.example.com/v1/lines`. Required, but for the
    preset `cloudwatch`, which finds the endpoint of the region. With `preset`, the address
    alone is enough, such as `https://logs.example.com`: the preset adds the vendor's path."""
    preset: PresetName | None = None
    """A vendor's protocol. It sets path, headers, body and limits, and reads the vendor's answers:
    which lines were refused, and why. `docs/http.md` describes each."""
    labels: dict[str, str] = field(default_factory=dict)
    """With `preset`: what the vendor files lines under, such as `{service_name = "shop"}`.
    `{function}`, `{version}` and `{instance}` are replaced. The preset has defaults for some; an
    empty value sends none. `docs/http.md` lists the names of each preset."""
    token: Annotated[str, Meta(max_length=8192)] = ""
    """Sent as `Authorization: Bearer <token>`, or as the preset says. Empty: none is sent."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of each request, such as `{X-Api-Key = "..."}`. Their values are masked in
    all output."""
    format: Annotated[
        Format, Meta(extra={"must": 'one of "raw", "flat"; the form of a request is `body`'})
    ] = "raw"
    body: FormatName = "ndjson"
    """The body of a request. `ndjson`: the lines, unchanged; `json`: one JSON array of the lines,
    which are not decoded. A line that is not JSON is then lost as `malformed`. Not with
    `preset`."""
    compression: Compression = "none"
    """Compression of the body, named in `Content-Encoding`."""
    max_body_bytes: Annotated[int, Meta(ge=16 * KIB, le=64 * MIB)] | None = None
    """Largest body, before compression. A batch that is larger is sent in several requests. A
    larger line is lost as `too_large`. Not set: 1 MiB, or what the preset says."""
    certificate: Annotated[str, Meta(max_length=4000)] = ""
    """File of certificate authorities to trust. Empty: that of AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE,
    SSL_CERT_FILE or SSL_CERT_DIR, or those of the system."""
    client_certificate: Annotated[str, Meta(max_length=4000)] = ""
    """File with the certificate, in PEM form, that proves to the server who is sending, with
    those above it. Empty: none."""
    client_key: Annotated[str, Meta(max_length=4000)] = ""
    """File with the key of `client_certificate`, without a password. Empty: it is in the same
    file."""
    connect_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 3000
    """Most milliseconds to connect, TLS included."""
    read_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 5000
    """Most milliseconds to wait for the next byte of a response."""

    def problems(self) -> Iterator[str]:
        """Yield faults that types and limits can't express, and missing packages."""
        if not self.url and not self.signs_for:
            yield "url: is required, such as https://collector.example.com/v1/lines"
        elif self.url and place_of(self.url) is None:
            yield (
                "url: must look like https://host/path or http://host:port/path, without a user, "
                "a password or a fragment"
            )
        if self.token and header_fault("Authorization", f"Bearer {self.token}"):
            yield "token: must be visible ASCII, in one line"
        yield from key_problems(self.client_certificate, self.client_key)
        yield from self._header_problems()
        yield from self._preset_problems()
        if self.compression == "zstd":
            from telemetryd_proto.kinesis import zstd_available  # noqa: PLC0415 - for zstd only

            if not zstd_available():
                yield "compression: zstd is not installed; pip install zstandard"

    def facts(self) -> Iterator[str]:
        """Yield what the preset sets, and the vendor's limits."""
        chosen = self.chosen
        if chosen is None:
            return
        place = self.place
        where = "the region's endpoint"
        if place is not None:
            where = f"{place.scheme}://{place.host}:{place.port}{place.target}"
        labels = ", ".join(f"{k} = {v}" for k, v in self.all_labels.items())
        proof = f"token as {chosen.token_header}: {chosen.token_prefix}..."
        yield (
            f"preset {self.preset}: POST {where}; {'signed' if self.signs_for else proof}; "
            f"labels: {labels or 'none'}; body at most {self.body_bytes} bytes"
        )
        yield f"limits of the vendor: {chosen.limits}"
        yield f"duplicates: {chosen.duplicates}"

    @property
    def chosen(self) -> Preset | None:
        """The preset; None without one."""
        return None if self.preset is None else preset(self.preset)

    @property
    def signs_for(self) -> str:
        """The service of AWS that requests are signed for; empty: they are not."""
        chosen = self.chosen
        return "" if chosen is None or self.token else chosen.service

    @property
    def body_bytes(self) -> int:
        """Largest body."""
        chosen = self.chosen
        return self.max_body_bytes or (MIB if chosen is None else chosen.max_body_bytes)

    @property
    def most_line_bytes(self) -> int:
        """The largest line: what fits in a body."""
        return self.body_bytes

    @property
    def batch_becomes(self) -> str:
        """Requests: a batch is one, or a few."""
        return "requests"

    @property
    def most_request_bytes(self) -> int:
        """The largest body."""
        return self.body_bytes

    @property
    def all_labels(self) -> dict[str, str]:
        """The labels that are sent, with their placeholders."""
        chosen = self.chosen
        return {} if chosen is None else with_defaults(chosen, self.labels)

    @property
    def place(self) -> Place | None:
        """The place of requests, with the path of the preset if the URL has none."""
        place, chosen = place_of(self.url), self.chosen
        if place is None or chosen is None or place.target != "/":
            return place
        target = chosen.path
        for name, value in self.all_labels.items():
            target = target.replace(f"{{{name}}}", value)
        return place._replace(target=target)

    def aws_needs(self) -> Iterator[AwsNeed]:
        """Yield what the preset `cloudwatch` needs."""
        if not self.signs_for:
            return
        from telemetryd.sinks.aws_needs import AwsNeed  # noqa: PLC0415 - only for `telemetryd iam`

        labels = self.all_labels
        group = f"log-group:{labels.get('log_group', '')}"
        stream = f"log-stream:{re.sub(r'{[a-z]+}', '*', labels.get('log_stream', ''))}"
        yield AwsNeed(
            actions=("logs:PutLogEvents",),
            resource=f"arn:{{partition}}:logs:{{region}}:{{account}}:{group}:{stream}",
            region=region_of(self.url),
            vpc_endpoint="" if self.url else "logs",
        )

    def _preset_problems(self) -> Iterator[str]:
        chosen = self.chosen
        if chosen is None:
            if self.labels:
                yield "labels: need `preset`; for headers there is `headers`"
            return
        if self.body != "ndjson":
            yield "body: is set by `preset`: leave it out"
        if self.compression not in chosen.compressions:
            known = " or ".join(chosen.compressions)
            yield f"compression: preset {self.preset} takes {known}"
        for name, value in self.labels.items():
            if not chosen.has_free_labels and name not in chosen.labels:
                known = ", ".join(chosen.labels)
                yield f"labels: preset {self.preset} has no label {name[:40]!r}; known: {known}"
            if unknown := _unknown_placeholder(value):
                yield f"labels: {name[:40]}: unknown placeholder {unknown[:40]}"
        yield from (f"labels: {fault}" for fault in chosen.problems(self.all_labels))

    def _header_problems(self) -> Iterator[str]:
        chosen = self.chosen
        ours = "Authorization" if chosen is None else chosen.token_header
        seen = {ours.lower()} if self.token else set()
        for name, value in self.headers.items():
            lowered = name.lower()
            if fault := header_fault(name, value):
                yield f"headers: {fault}"
            elif lowered in _SET_BY:
                yield f"headers: header {name} is set by {_SET_BY[lowered]}: leave it out"
            elif lowered in seen:
                yield f"headers: header {name} would be sent twice: leave one out"
            seen.add(lowered)


def _unknown_placeholder(text: str) -> str:
    for found in re.findall(r"\{[^{}]*\}", text):
        if found not in PLACEHOLDERS:
            return str(found)
    return ""


def region_of(url: str) -> str:
    """Return the region in the host of an endpoint of CloudWatch Logs; empty if there is none."""
    found = re.search(r"\blogs(?:-fips)?\.([a-z]{2,}(?:-[a-z]+)+-[0-9]+)\.", url)
    return found[1] if found else ""


def fill(text: str, *, function: str, version: str, instance: str) -> str:
    """Return `text` with the values of its placeholders."""
    for name, value in zip(PLACEHOLDERS, (function, version, instance), strict=True):
        text = text.replace(name, value)
    return text
