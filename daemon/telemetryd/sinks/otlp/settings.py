"""Where and how an OTLP sink sends: its configuration, and where that is silent the environment.

OpenTelemetry's variables are those of its specification, "OpenTelemetry Protocol Exporter": the
variable of a signal comes before the general one. Our own configuration comes before both. An
function's own SDK may read the same variables, so only those that decide something are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, cast

from telemetryd.sinks._posting import Place, Trust, header_fault, place_of
from telemetryd_proto.otlp.requests import Signal

FormName: TypeAlias = Literal["http/protobuf", "http/json"]
Compressed: TypeAlias = Literal["none", "gzip"]
Temporality: TypeAlias = Literal["cumulative", "delta"]
Auth: TypeAlias = Literal["none", "sigv4"]

TEMPORALITY: Final = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
DEFAULT_TIMEOUT_MS: Final = 10_000
_LEAST_TIMEOUT_MS: Final = 50
_MOST_TIMEOUT_MS: Final = 60_000
_SET_BY: Final = {
    "content-encoding": "`compression`",
    "content-type": "`protocol`",
    "user-agent": "the sink",
}
"""Headers that are not the user's, with what sets them. The client refuses more."""
_SIGNED: Final = frozenset(
    {"authorization", "x-amz-date", "x-amz-security-token", "x-aws-log-group", "x-aws-log-stream"}
)
_HEX: Final = frozenset("0123456789abcdefABCDEF")


class Given(Protocol):
    """The configuration's part: that of `OtlpConfig`."""

    @property
    def endpoint(self) -> str: ...  # noqa: D102 - `OtlpConfig` says it
    @property
    def protocol(self) -> FormName | None: ...  # noqa: D102
    @property
    def token(self) -> str: ...  # noqa: D102
    @property
    def headers(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def compression(self) -> Compressed | None: ...  # noqa: D102
    @property
    def certificate(self) -> str: ...  # noqa: D102
    @property
    def client_certificate(self) -> str: ...  # noqa: D102
    @property
    def client_key(self) -> str: ...  # noqa: D102
    @property
    def auth(self) -> Auth: ...  # noqa: D102
    @property
    def temporality(self) -> Temporality | None: ...  # noqa: D102
    @property
    def read_timeout_ms(self) -> int | None: ...  # noqa: D102


class Settings(NamedTuple):
    """How one signal is sent."""

    place: Place | None
    """None: AWS's own endpoint of the region."""
    protocol: FormName
    headers: dict[str, str]
    """The user's, with the token."""
    compression: Compressed
    trust: Trust
    read_timeout_ms: int


def settings_of(config: Given, signal: Signal, environ: Mapping[str, str]) -> Settings:
    """Return what holds for `signal`. Faults are left out: `problems_of` names them."""
    return _Reader(config, signal, environ).read()


def is_delta(config: Given, environ: Mapping[str, str]) -> bool:
    """True if metrics are to say what was added since the last ones."""
    wanted = config.temporality or environ.get(TEMPORALITY, "").strip().lower()
    return wanted in ("delta", "lowmemory")  # by the latter sums and histograms are deltas too


def problems_of(config: Given, signal: Signal, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the faults of the settings for `signal`, as `"key: text"`."""
    reader = _Reader(config, signal, environ)
    reader.read()
    if signal == "metrics":
        reader.check_temporality()
    yield from reader.problems


_PATHS: Final = ("/v1/logs", "/v1/metrics", "/v1/traces")


class _Reader:
    def __init__(self, config: Given, signal: Signal, environ: Mapping[str, str]) -> None:
        self._config = config
        self._signal = signal
        self._environ = environ
        self.problems: list[str] = []

    def read(self) -> Settings:
        """Return the settings. Faults are in `problems`."""
        return Settings(
            self._place(), self._protocol(), self._headers(), self._compression(),
            self._trust(), self._timeout(),
        )  # fmt: skip

    def check_temporality(self) -> None:
        """Report a preference that is none."""
        value = self._environ.get(TEMPORALITY, "").strip().lower()
        known = ("", "cumulative", "delta", "lowmemory")
        if self._config.temporality is None and value not in known:
            self.problems.append(f"temporality: {TEMPORALITY} must be cumulative or delta")

    def _variable(self, name: str) -> tuple[str, str]:
        """Return the variable that counts and its value, without blanks around; empty if unset."""
        for prefix in (f"{self._signal.upper()}_", ""):
            variable = f"OTEL_EXPORTER_OTLP_{prefix}{name}"
            if value := self._environ.get(variable, "").strip():
                return variable, value
        return f"OTEL_EXPORTER_OTLP_{name}", ""

    def _place(self) -> Place | None:
        config, signal = self._config, self._signal
        own = f"{signal}_endpoint"
        for key, url, is_base in (
            (own, getattr(config, own, ""), False),
            ("endpoint", config.endpoint, True),
        ):
            if url:
                return self._parse(key, "", url, is_base=is_base)
        if config.auth == "sigv4":
            return None
        variable, url = self._variable("ENDPOINT")
        if not url:
            self.problems.append(
                f"endpoint: missing: set it, or {variable}, such as http://localhost:4318"
            )
            return None
        is_base = variable == "OTEL_EXPORTER_OTLP_ENDPOINT"
        return self._parse("endpoint", variable, url, is_base=is_base)

    def _parse(self, key: str, variable: str, url: str, *, is_base: bool) -> Place | None:
        place = place_of(url)
        if place is None:
            self.problems.append(
                f"{key}: {_by(variable)}must look like https://host or http://host:port/path, "
                "without a user, a password or a fragment"
            )
            return None
        if not is_base:
            return place
        path, mark, query = place.target.partition("?")
        if path.rstrip("/").endswith(_PATHS):
            self.problems.append(
                f"{key}: {_by(variable)}ends with the path of a signal, which is added to it; "
                f"leave that out, or set {self._signal}_endpoint"
            )
            return None
        return place._replace(target=f"{path.rstrip('/')}/v1/{self._signal}{mark}{query}")

    def _protocol(self) -> FormName:
        if self._config.protocol is not None:
            return self._config.protocol
        variable, value = self._variable("PROTOCOL")
        if value in ("", "http/protobuf", "http/json"):
            return cast("FormName", value or "http/protobuf")
        if value == "grpc":
            text = 'gRPC is not supported; set protocol = "http/protobuf" and an endpoint for HTTP'
        else:
            text = "must be http/protobuf or http/json"
        self.problems.append(f"protocol: {_by(variable)}{text}")
        return "http/protobuf"

    def _compression(self) -> Compressed:
        if self._config.compression is not None:
            return self._config.compression
        variable, value = self._variable("COMPRESSION")
        if value not in ("", "none", "gzip"):
            self.problems.append(f"compression: {_by(variable)}must be gzip or none")
        return "gzip" if value == "gzip" else "none"

    def _trust(self) -> Trust:
        config = self._config
        authorities = config.certificate or self._variable("CERTIFICATE")[1]
        if config.client_certificate or config.client_key:
            return Trust(authorities, config.client_certificate, config.client_key)
        variable, key = self._variable("CLIENT_KEY")
        certificate = self._variable("CLIENT_CERTIFICATE")[1]
        if key and not certificate:
            self.problems.append(f"client_key: {_by(variable)}needs a client certificate")
        return Trust(authorities, certificate, key)

    def _timeout(self) -> int:
        if self._config.read_timeout_ms is not None:
            return self._config.read_timeout_ms
        variable, value = self._variable("TIMEOUT")
        if not value:
            return DEFAULT_TIMEOUT_MS
        if value.isascii() and value.isdigit() and len(value) < len("1000000"):
            return min(max(int(value), _LEAST_TIMEOUT_MS), _MOST_TIMEOUT_MS)
        self.problems.append(f"read_timeout_ms: {_by(variable)}must be a number of milliseconds")
        return DEFAULT_TIMEOUT_MS

    def _headers(self) -> dict[str, str]:
        config = self._config
        variable, text = self._variable("HEADERS")
        found = {name.lower(): (name, value) for name, value in self._pairs(variable, text)}
        if config.token:
            if fault := header_fault("Authorization", f"Bearer {config.token}"):
                self.problems.append(f"token: {fault}")
            found["authorization"] = ("Authorization", f"Bearer {config.token}")
        ours: set[str] = {"authorization"} if config.token else set()
        for name, value in config.headers.items():
            lowered = name.lower()
            if lowered in ours:
                self.problems.append(f"headers: header {name} would be sent twice: leave one out")
            ours.add(lowered)
            self._check("headers", "", name, value)
            found[lowered] = (name, value)
        return dict(found.values())

    def _pairs(self, variable: str, text: str) -> Iterator[tuple[str, str]]:
        """Yield the headers in `name=value,...`, whose values are percent-encoded."""
        for part in text.split(","):
            name, equals, value = part.partition("=")
            name = name.strip()
            if not part.strip():
                continue
            if not equals or not name:
                self.problems.append(
                    f"headers: {_by(variable)}must look like name=value,name=value"
                )
                continue
            decoded = percent_decode(value.strip())
            if self._check("headers", variable, name, decoded):
                yield name, decoded

    def _check(self, key: str, variable: str, name: str, value: str) -> bool:
        """Report what forbids a header. True if it may be sent."""
        lowered = name.lower()
        fault = header_fault(name, value)
        if not fault and lowered in _SET_BY:
            fault = f"header {name} is set by {_SET_BY[lowered]}: leave it out"
        if not fault and self._config.auth == "sigv4" and lowered in _SIGNED:
            if variable:
                return False  # meant for another destination
            fault = f'header {name} is set by auth = "sigv4": leave it out'
        if fault:
            self.problems.append(f"{key}: {_by(variable)}{fault}")
        return not fault


def _by(variable: str) -> str:
    """Return where a fault comes from, if from the environment."""
    return f"{variable} " if variable else ""


def percent_decode(text: str) -> str:
    """Return `text` without percent-encoding. What is no encoding stays as it is."""
    if "%" not in text:
        return text
    first, *rest = text.encode("utf-8", "replace").split(b"%")
    decoded = [first]
    for part in rest:
        digits = part[:2].decode("ascii", "replace")
        if len(digits) == 2 and _HEX.issuperset(digits):  # noqa: PLR2004 - of a byte
            decoded.append(bytes((int(digits, 16),)) + part[2:])
        else:
            decoded.append(b"%" + part)
    return b"".join(decoded).decode("utf-8", "replace")
