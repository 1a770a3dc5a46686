"""A scenario: what is sent, to a telemetryd configured how, and what must be true of the outcome.

One TOML file, in `bench/scenarios/` or anywhere else:

    kind          "load", "rate", "invoke" or "coldstart"; the last two have a module of their own
    title         one line for the table
    repeat        runs of each receiver, in turn (default: 5)
    peers         whether peers are measured beside it (default: false)
    [source]      what is sent: see `Source`
    [daemon]      the configuration of telemetryd, as in telemetryd.toml. `{output}` is the file
                  that is compared with what was sent, `{scratch}` an empty directory, `{kinesis}`
                  the URL of a Kinesis server, `{collector}` that of a server that takes POSTs
    config        instead of [daemon]: a telemetryd.toml, its path relative to this file
    watch         "listen" (the default), or "lambda": telemetryd looks for all events of the life
                  cycle, as the extension does
    scanner       "any" (the default), or "python": without the compiled one
    [service]     how that Kinesis server behaves: see `Service`
    [limits]      what the machine grants telemetryd: see `Limits`
    [expect]      what a run must show to count: see `Expect`
    [[variant]]   a row for telemetryd under another `name`, with `source`, `daemon`, `service`,
                  `limits`, `expect`, `watch` or `scanner` of its own
    [[target]]    see `Target`

`kind = "rate"` holds rates for `seconds` each, instead of sending `source.lines`, and looks for the
highest whose p99 latency is below `p99_ms`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

FOLDER: Final = Path(__file__).parents[1] / "scenarios"
OURS: Final = "telemetryd"
"""The row of telemetryd where a scenario has no variants."""

Watch: TypeAlias = Literal["listen", "lambda"]
Scanner: TypeAlias = Literal["any", "python"]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Count: TypeAlias = Annotated[int, Meta(ge=0)]


class Size(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the lines, a share of a mean size."""

    bytes: Annotated[int, Meta(ge=120, le=65_536)]
    """Its newline included."""
    share: Share = 1.0


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[source]`: the lines, and when they are sent."""

    lines: Annotated[int, Meta(ge=1)] = 1_000_000
    """Lines in total, as many by each connection. With `rate`, `seconds` determines the number."""
    sizes: tuple[Size, ...] = (Size(bytes=290),)
    """A mix of sizes; the shares add up to 1."""
    platform_events: Share = 0.06
    """Of all lines; the others are of the function."""
    json_logs: Share = 0.53
    """Of the function's lines; the others are text."""
    seed: int = 1
    connections: Annotated[int, Meta(ge=1, le=64)] = 1
    rate: Count = 0
    """Lines a second, on a schedule that waits for no receiver; 0: as fast as they are taken."""
    seconds: Annotated[float, Meta(gt=0)] = 5.0
    """Seconds for which the rate is held."""
    burst_lines: Count = 0
    """Each connection pauses after so many lines; 0: never."""
    pause_ms: Count = 0
    freeze: bool = False
    """True if telemetryd is stopped (SIGSTOP) in the pauses, as Lambda freezes it."""

    def __post_init__(self) -> None:
        if abs(sum(size.share for size in self.sizes) - 1) > 0.001:
            raise ValueError("the shares of `sizes` do not add up to 1")
        if self.rate and (self.connections > 1 or self.burst_lines):
            raise ValueError("a `rate` goes over one connection, without bursts")
        if self.freeze and not (self.burst_lines and self.pause_ms and self.connections == 1):
            raise ValueError("`freeze` needs `burst_lines`, `pause_ms` and a single connection")

    @property
    def lines_each(self) -> int:
        """Lines that each connection sends."""
        return max(round(self.lines / self.connections), 1)

    @property
    def mean_bytes(self) -> float:
        """Of a line, its newline included."""
        return sum(size.bytes * size.share for size in self.sizes)


class Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[service]`: the Kinesis server."""

    kind: Literal["memory", "moto"] = "memory"
    """One that only answers, or moto with one stream, whose shards throttle."""
    latency_ms: Count = 0
    """Of each answer (`memory`)."""
    error_rate: Share = 0.0
    """Calls that are answered with an internal error (`memory`)."""
    throttle_rate: Share = 0.0
    """Records that are refused, as from a shard above its limit (`memory`)."""
    shards: Annotated[int, Meta(ge=1, le=64)] = 4
    """Of the stream (`moto`)."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[limits]`: a control group's; 0 is none."""

    memory_mb: Count = 0
    cpu_percent: Annotated[float, Meta(ge=0, le=100)] = 0.0
    """Of one core."""


class Expect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[expect]`: what a run must show to count."""

    output: bool = True
    """`{output}` holds every line sent, byte for byte and in order (for each connection)."""
    stream: bool = False
    """The Kinesis server holds every line sent."""
    collected: bool = False
    """The server at `{collector}` holds every line sent."""
    counted: bool = False
    """It holds as many records as lines were sent, where these are no lines any more (OTLP)."""
    metrics: bool = False
    """The output of an `emf` sink must have a duration for each `platform.report` sent."""
    delivered: tuple[str, ...] = ()
    """Sinks whose ledger must say that they delivered every line."""
    drops: tuple[str, ...] = ()
    """Sinks that may drop lines; they are shown."""


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[target]]`: what we want a median to be.

    `measure` of `row`; with `over`, divided by the sum of that of these rows, in pairs of runs made
    one after the other.
    """

    row: str = OURS
    measure: Literal[
        "cpu_us_per_line",
        "lines_per_second",
        "peak_mib",
        "p99_ms",
        "growth_kib_per_s",
        "dropped",
        "records",
        "record_bytes",
    ] = "cpu_us_per_line"
    over: tuple[str, ...] = ()
    at_most: float | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("a target has either `at_most` or `at_least`")

    def met(self, value: float) -> bool:
        """True if the median meets the target."""
        if self.at_most is not None:
            return value <= self.at_most
        assert self.at_least is not None
        return value >= self.at_least


class Variant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[variant]]`: a row of telemetryd's; what it does not say is the scenario's."""

    name: str
    source: Source | None = None
    daemon: dict[str, Any] | None = None
    service: Service | None = None
    limits: Limits | None = None
    expect: Expect | None = None
    watch: Watch | None = None
    scanner: Scanner | None = None


class Load(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="load",
):
    """`kind = "load"`: lines are sent, and what they cost is measured."""

    title: str
    repeat: Annotated[int, Meta(ge=1)] = 5
    peers: bool = False
    source: Source = Source()
    daemon: dict[str, Any] = {}
    config: str = ""
    watch: Watch = "listen"
    scanner: Scanner = "any"
    service: Service = Service()
    limits: Limits = Limits()
    expect: Expect = Expect()
    variant: tuple[Variant, ...] = ()
    target: tuple[Target, ...] = ()

    @property
    def protocol(self) -> str:
        """The protocol of the lines: `tcp`, or `http` as the platform POSTs them."""
        protocol: str = self.daemon.get("telemetry", {}).get("protocol", "tcp")
        return protocol

    def rows(self) -> list[tuple[str, Load]]:
        """Each row of telemetryd's with what is measured for it."""
        if not self.variant:
            return [(OURS, self)]
        found = []
        for variant in self.variant:
            own = {
                name: value
                for name in ("source", "daemon", "service", "limits", "expect", "watch", "scanner")
                if (value := getattr(variant, name)) is not None
            }
            found.append((variant.name, msgspec.structs.replace(self, **own, variant=())))
        return found


class Rate(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="rate",
):
    """`kind = "rate"`: the highest rate with a bounded latency, and latency by load."""

    title: str
    p99_ms: Annotated[float, Meta(gt=0)] = 5.0
    source: Source = Source()
    daemon: dict[str, Any] = {}
    config: str = ""

    def holding(self, rate: int, seconds: float) -> Load:
        """A load that holds `rate` for so long."""
        source = msgspec.structs.replace(self.source, rate=rate, seconds=seconds)
        return Load(title=self.title, source=source, daemon=self.daemon, config=self.config)


class Invoke(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="invoke",
):
    """`kind = "invoke"`: see `bench.invoke`."""

    title: str


class Coldstart(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="coldstart",
):
    """`kind = "coldstart"`: see `bench.coldstart`."""

    title: str


Scenario: TypeAlias = Load | Rate | Invoke | Coldstart


def load(path: Path) -> Scenario:
    """The scenario in a file. Raises OSError, ValueError (TOML), msgspec.ValidationError."""
    with path.open("rb") as file:
        read = tomllib.load(file)
    if "kind" not in read:
        raise ValueError(
            "no `kind`, so no scenario; to load-test a telemetryd.toml, write a scenario with "
            '`kind = "load"` and `config = "telemetryd.toml"`, as bench/README.md shows'
        )
    found = msgspec.convert(read, Scenario)
    if isinstance(found, Load | Rate) and found.config:
        if found.daemon:
            raise ValueError("either `config` or [daemon], not both")
        config = path.parent / found.config
        try:
            with config.open("rb") as file:
                found = msgspec.structs.replace(found, daemon=tomllib.load(file))
        except (OSError, ValueError) as error:
            raise ValueError(f"config {config}: {error}") from error
    return found  # type: ignore[no-any-return]


def names(folder: Path = FOLDER) -> Sequence[str]:
    """The scenarios that come with the harness."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def filled(value: Any, values: dict[str, str]) -> Any:
    """`value` with placeholders replaced in every text of it."""
    if isinstance(value, str):
        for name, text in values.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, dict):
        return {key: filled(inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, values) for inner in value]
    return value
