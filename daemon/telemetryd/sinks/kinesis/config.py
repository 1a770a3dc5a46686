"""The configuration of a Kinesis sink, and its rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, TypeAlias

from msgspec import Meta

from telemetryd.sinks.aws import client as _aws
from telemetryd.sinks.aws.choice import MISSING, is_available
from telemetryd.sinks.base import MIB, ClientName, SinkConfig
from telemetryd_proto import kinesis

if TYPE_CHECKING:
    from telemetryd.sinks.aws_needs import AwsNeed

PartitionKey: TypeAlias = Literal["instance", "request_id", "random", "function"]

_API: Final = "platform limit, Kinesis API Reference, PutRecords"
_STREAM_NAME: Final = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_STREAM_ARN: Final = re.compile(
    r"arn:aws[a-z-]*:kinesis:(?P<region>[a-z0-9-]+):[0-9]{12}:stream/(?P<name>.+)"
)
_HASH_KEY: Final = re.compile(r"0|[1-9][0-9]{0,38}")


class KinesisConfig(SinkConfig, frozen=True, kw_only=True):
    """`[sinks.<name>]` with `type = "kinesis"`."""

    tuning: ClassVar[frozenset[str]] = SinkConfig.tuning | {
        "client", "compression", "connect_timeout_ms", "max_record_bytes", "max_request_bytes",
        "read_timeout_ms", "record_id", "record_target_bytes",
    }  # fmt: skip

    batch_max_bytes: Annotated[int, Meta(ge=1024, le=64 * MIB)] = 4 * MIB
    """Most bytes of lines in one `write`. It is one API call if they fit."""
    linger_ms: Annotated[int, Meta(ge=0, le=60_000)] = 100
    """Milliseconds that a batch waits for more lines until it is full."""

    stream: Annotated[str, Meta(min_length=1, max_length=2048)]
    """The stream's name, or its ARN."""
    packing: kinesis.Packing = "ndjson"
    """How lines become records. `ndjson`: as many lines as fit; `kpl`: KPL aggregation; `single`:
    one line each."""
    compression: kinesis.Compression = "none"
    """Compression of the data of a record."""
    record_target_bytes: Annotated[int, Meta(ge=1024, le=64 * MIB)] = MIB
    """Bytes of lines, before compression, at which a record is full."""
    record_id: bool = True
    """True if each packed record has an id for deduplication."""
    partition_key: PartitionKey = "instance"
    """Key that selects the shard. `instance`: the process; `request_id`: the request; `random`:
    chance, for each record; `function`: the function."""
    explicit_hash_key: str = ""
    """Decimal number below 2^128 that chooses the shard. Empty: the partition key chooses."""
    max_record_bytes: Annotated[
        int, Meta(ge=1024, le=kinesis.MAX_RECORD_BYTES, extra={"note": _API})
    ] = kinesis.DEFAULT_RECORD_BYTES
    """Largest record that the stream accepts, partition key included."""
    max_request_bytes: Annotated[
        int, Meta(ge=1024, le=kinesis.MAX_REQUEST_BYTES, extra={"note": _API})
    ] = kinesis.DEFAULT_REQUEST_BYTES
    """Largest API call, partition keys included."""
    region: Annotated[str, Meta(max_length=64)] = ""
    """AWS region. Empty: the ARN's, otherwise the environment's."""
    endpoint_url: Annotated[str, Meta(max_length=2048)] = ""
    """URL of the API. Empty: the environment's, such as AWS_ENDPOINT_URL_KINESIS."""
    client: ClientName = "auto"
    """Client of AWS. `lean`: a small client of telemetryd's own, which starts in a few
    milliseconds; `aiobotocore`: AWS's own library, which also reads profiles, SSO and roles to
    assume; `auto`: `lean` in Lambda unless the environment needs the other, `aiobotocore` in
    `listen`."""
    connect_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 1000
    """Most milliseconds to connect."""
    read_timeout_ms: Annotated[int, Meta(ge=50, le=60_000)] = 3000
    """Most milliseconds to wait for the next byte of a response."""

    @property
    def arn_region(self) -> str:
        """The region in the stream's ARN, empty when `stream` is a name."""
        found = _STREAM_ARN.fullmatch(self.stream)
        return found["region"] if found else ""

    @property
    def most_line_bytes(self) -> int:
        """The largest line: a record, with its partition key."""
        return self.max_record_bytes

    @property
    def most_request_bytes(self) -> int:
        """The largest call of PutRecords."""
        return self.max_request_bytes

    @property
    def batch_becomes(self) -> str:
        """One record, unless each line or each request has its own."""
        apart = self.packing == "single" or self.partition_key == "request_id"
        return "PutRecords calls" if apart else "records"

    def facts(self) -> Iterator[str]:
        """Yield what the stream must permit."""
        if self.max_record_bytes > kinesis.DEFAULT_RECORD_BYTES:
            yield (
                f"max_record_bytes is {self.max_record_bytes}: a stream takes records above "
                f"{kinesis.DEFAULT_RECORD_BYTES} bytes only after UpdateMaxRecordSize"
            )

    def problems(self) -> Iterator[str]:
        """Yield broken rules between keys, invalid names, and missing packages."""
        if self.client == "aiobotocore" and not is_available():
            yield f"client: {MISSING}"
        yield from self._packing_problems()
        yield from self._stream_problems()
        yield from _aws.endpoint_problems(self.endpoint_url)
        yield from _aws.region_problems(self.region, self.endpoint_url)
        if self.max_request_bytes < self.max_record_bytes:
            yield (
                f"max_request_bytes: must be at least max_record_bytes, which is "
                f"{self.max_record_bytes}"
            )
        if self.explicit_hash_key and not (
            _HASH_KEY.fullmatch(self.explicit_hash_key)
            and int(self.explicit_hash_key) < kinesis.HASH_KEYS
        ):
            yield f"explicit_hash_key: must be a decimal number from 0 to 2^128-1 ({_API})"

    def aws_client(self) -> ClientName:
        """Return which client of AWS the sink asks for."""
        return self.client

    def aws_needs(self) -> Iterator[AwsNeed]:
        """Yield the need for PutRecords on the stream."""
        from telemetryd.sinks.aws_needs import AwsNeed  # noqa: PLC0415 - only for `telemetryd iam`

        by_arn = self.stream.startswith("arn:")
        name = f"arn:{{partition}}:kinesis:{{region}}:{{account}}:stream/{self.stream}"
        yield AwsNeed(
            actions=("kinesis:PutRecords",),
            resource=self.stream if by_arn else name,
            region=self.region or self.arn_region,
            vpc_endpoint="" if self.endpoint_url else "kinesis-streams",
            remark="if the stream is encrypted with a key of your own: kms:GenerateDataKey on it",
        )
        yield AwsNeed(
            remark="optional, for `telemetryd check --probe` only, to see whether the stream "
            "exists: kinesis:DescribeStreamSummary on it"
        )

    def _packing_problems(self) -> Iterator[str]:
        if self.packing == "kpl" and self.compression != "none":
            yield (
                'compression: must be "none" with packing = "kpl", whose format has none; use '
                'packing = "ndjson" to compress'
            )
        elif self.compression == "zstd" and not kinesis.zstd_available():
            yield "compression: zstd is not installed; pip install zstandard"

    def _stream_problems(self) -> Iterator[str]:
        if not self.stream.startswith("arn:"):
            if not _STREAM_NAME.fullmatch(self.stream):
                yield (
                    "stream: must be 1 to 128 letters, digits, `_`, `.`, `-`, or an ARN "
                    "(platform limit, Kinesis API Reference, CreateStream)"
                )
            return
        found = _STREAM_ARN.fullmatch(self.stream)
        if not found or not _STREAM_NAME.fullmatch(found["name"]):
            yield "stream: an ARN must look like arn:aws:kinesis:<region>:<account>:stream/<name>"
        elif self.region and found["region"] != self.region:
            yield f"region: is not the one in the ARN of the stream, which is {found['region']}"
