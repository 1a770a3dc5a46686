"""The Sink contract: what a destination must do, and nothing about queues, retries or metrics.

A sink is simple on purpose. The delivery worker around it keeps the queue, forms batches, retries
with back-off under a deadline, counts, and settles every line exactly once:

    open -> (pack -> write, write failed items again, ...)* -> flush -> close

`telemetryd.testing.SinkContract` tests these rules for every sink:

* A constructor does no I/O. `open` precedes writes and may be called again after it failed.
* `write` is one attempt, without sleeping, looping or retrying. It returns when the destination has
  accepted, returns the refused items by index, or raises a SinkError for the whole batch.
* A cancelled `write` has an unknown outcome. Its batch is written again or dropped, never counted
  as delivered. Delivery is at-least-once; `Batch.key` is the same in every attempt.
* `write_direct`, where there is one, writes all of its lines or none, and never waits.
* `flush` makes accepted lines as durable as the sink can. `close` may be called twice or unopened.
"""

# No `from __future__ import annotations`: it leaves texts, which msgspec compiles at every start.
import abc
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta, field

from telemetryd.clock import SYSTEM, Clock
from telemetryd.core.fields import Field
from telemetryd.core.figures import Figures
from telemetryd.core.patterns import validate
from telemetryd.core.stats import Derived, DerivedOutcome
from telemetryd_proto.framing import Block

if TYPE_CHECKING:
    from telemetryd.log import EventLog
    from telemetryd.sinks.aws_needs import AwsNeed

_KEEP: Final = "0.000001 to 1 (to keep none, use `exclude`)"
_SAMPLE: Final = (
    'a list of at most 32 tables {keep = 0.1, type = "function", level = "info", match = '
    '"healthy", by = "request_id", "trace_id" or "line"}; keep is '
    f"{_KEEP}, the others may be "
    "left out"
)
ClientName: TypeAlias = Literal["auto", "lean", "aiobotocore"]
Format: TypeAlias = Literal["raw", "flat"]
Overflow: TypeAlias = Literal["drop_oldest", "drop_newest", "block"]

MIB: Final = 1024 * 1024


class SpoolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[sinks.<name>.spool]`: keeps lines on disk that can't be delivered now. Off unless set.

    The spool is used while the circuit is open or the queue is nearly full. It is also used when
    the process ends before the environment (a timeout or failure of the function). This process or
    the next one delivers the lines in order when the sink recovers. With a spool, `drop_oldest` and
    `drop_newest` write lines to disk when the queue is full.
    """

    tuning: ClassVar[frozenset[str]] = frozenset({"max_bytes", "max_age_ms"})
    """Like that of the sink: a fault in `path` turns the spool off."""

    path: Annotated[str, Meta(min_length=1, max_length=4000)] = "/tmp/telemetryd"  # noqa: S108
    """Directory for the spools of all sinks. It is created if it does not exist, and only its owner
    can read it. In Lambda `/tmp` lasts as long as the environment."""
    max_bytes: Annotated[int, Meta(ge=MIB, le=1024 * 1024 * MIB)] = 64 * MIB
    """Most bytes on disk. Beyond them, and on a full disk, the oldest lines are dropped."""
    max_age_ms: Annotated[int, Meta(ge=1000, le=30 * 86_400_000)] = 6 * 3_600_000
    """Milliseconds after which a spooled line is dropped."""

    def problems(self) -> Iterator[str]:
        """Yield faults of the path."""
        if "\0" in self.path:
            yield "path: must not contain a NUL character"
        elif not self.path.startswith("/"):
            yield "path: must begin with /: the next process may have another working directory"


class SampleRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table in `sample` of a sink."""

    keep: Annotated[float, Meta(ge=1e-6, le=1, extra={"must": _KEEP})]
    """Part of the ids that is kept, with all their lines. There are 2^32 hashes, so that a smaller
    part would be inexact, or nothing."""
    type: Annotated[str, Meta(max_length=64)] = ""
    """Event type, or its part before the first dot. Empty: all but platform events."""
    level: str = ""
    """Most severe level that the rule applies to. Empty: any, and lines without a level."""
    match: Annotated[str, Meta(max_length=1000)] = ""
    """Regular expression that the line matches, as in `include`."""
    by: Literal["request_id", "trace_id", "line"] = "request_id"
    """The id that decides, so that lines with the same id have the same fate."""


def _sample_problems(rules: Iterable[SampleRule]) -> Iterator[str]:
    for rule in rules:
        if rule.level:
            yield from _level_problems("sample", rule.level)
        try:
            validate(rule.match)
        except re.error as error:
            yield f"sample: {rule.match!r} is not a regular expression: {error}"


def _level_problems(key: str, level: str) -> Iterator[str]:
    from telemetryd.core.log_level import LEVELS, rank_of  # noqa: PLC0415 - only where asked for

    if rank_of(level) is None:
        yield f"{key}: a level must be one of {', '.join(level.lower() for level in LEVELS)}"


def _tag_problems(tags: dict[str, Any]) -> Iterator[str]:
    from telemetryd.core.tags import tag_faults  # noqa: PLC0415 - only where there are tags

    yield from (f"tags: {fault}" for fault in tag_faults(tags))


class SinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of every `[sinks.<name>]` section. A sink's own `Config` extends it."""

    tuning: ClassVar[frozenset[str]] = frozenset(
        {
            "batch_max_bytes", "failover", "fields", "format", "linger_ms", "overflow",
            "queue_max_bytes", "retry_max_elapsed_ms", "tags", "write_timeout_ms",
        }
    )  # fmt: skip
    """Keys that decide neither where lines go nor which lines. In Lambda, where telemetryd runs in
    spite of a faulty configuration, their defaults stand in for values that are refused. A fault in
    any other key leaves the sink out: its data must not go elsewhere."""

    lets_lines_through: ClassVar[bool] = True
    """False for a sink that makes something of its own of the lines: `[tags]` is not added."""

    type: str
    types: tuple[str, ...] = ()
    """Event types the sink gets, such as `function`, `platform.report`, or `platform` for all
    platform events. Empty: every line, undecoded. Lines without a type, from other senders, pass
    unless all listed types are platform events."""
    min_level: str = ""
    """Least severe log lines the sink gets: trace, debug, info, warn, error or fatal. Empty: all.
    telemetryd knows the level names and numbers of all usual loggers. Lines without a level pass.
    Platform events are not filtered."""
    include: tuple[str, ...] = ()
    """Regular expressions. The sink gets lines that match at least one. Empty: all. They run on
    google-re2, in linear time. Patterns that it can't run, such as look-around, run on Python's
    `re`, which sees the first 4 KiB of a line and can block. In the Lambda layer all
    run on `re` but those of text, `|` and `.*`. `telemetryd check` names patterns on `re`."""
    exclude: tuple[str, ...] = ()
    """Regular expressions. The sink gets no line that matches one."""
    sample: Annotated[tuple[SampleRule, ...], Meta(max_length=32, extra={"must": _SAMPLE})] = ()
    """Rules that keep a part of the log lines, such as `[{level = "info", keep = 0.1}]`; the first
    that applies to a line decides. All lines of an invocation have the same fate, error lines are
    kept besides, and a line that was chosen has a member `sample_weight`. See
    [sampling.md](sampling.md)."""
    fields: tuple[Field, ...] = ()
    """Members to add to each line that is a JSON object, such as `function`, `region`, `request_id`
    or `trace_id`: [fields.md](fields.md) has the source of each. One that is unknown is left
    out."""
    tags: dict[str, Any] = field(default_factory=dict)
    """Members of your own, added to each line that is a JSON object. They are added to those of
    `[tags]`, and replace those of the same name. See [fields.md](fields.md#tags)."""
    format: Format = "raw"
    """Shape of the lines. `raw`: as they came; `flat`: a row of one schema for each line, whatever
    the line is ([flat.md](flat.md))."""
    failover: str = ""
    """Name of the sink that gets the lines that this one can't deliver. Its filters do not apply to
    them. It gets its own lines as well, unless it has `exclude = ["^"]`."""
    overflow: Overflow | None = None
    """Policy when the queue is full. Not set: `block` in `listen`, `drop_oldest` in Lambda.
    `block` stops reading, so it delays every sink. With the others a slow or dead sink delays no
    other. For a sink that delivers 10 MB/s, reading may pause during a burst, at most 100 ms in any
    two seconds."""
    queue_max_bytes: Annotated[int, Meta(ge=64 * 1024, le=8192 * MIB)] = 16 * MIB
    """Most bytes of lines, waiting or in flight, bookkeeping included."""
    batch_max_bytes: Annotated[int, Meta(ge=1024, le=64 * MIB)] = MIB
    """Most bytes of lines in one `write`. A larger block is a batch of its own."""
    linger_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    """Milliseconds that a batch waits for more lines until it is full."""
    write_timeout_ms: Annotated[int, Meta(ge=10, le=600_000)] = 10_000
    """Most milliseconds of one attempt."""
    retry_max_elapsed_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 30_000
    """Milliseconds to retry a batch. Then it goes to the dead letter or is dropped."""

    spool: SpoolConfig | None = None
    """Keeps lines on disk that can't be delivered now; see `[sinks.<name>.spool]`."""

    def shared_problems(self) -> Iterator[str]:
        """Yield the problems in the keys that all sinks have, as `"key: text"`.

        A sink's `Config` has a method `problems` of the same kind for rules of its own.
        """
        if self.min_level:
            yield from _level_problems("min_level", self.min_level)
        for key in ("include", "exclude"):
            for pattern in getattr(self, key):
                try:
                    validate(pattern)
                except re.error as error:
                    yield f"{key}: {pattern!r} is not a regular expression: {error}"
        if self.tags:
            yield from _tag_problems(self.tags)
        if self.sample:
            yield from _sample_problems(self.sample)
        if self.format != "raw" and not self.lets_lines_through:
            yield f'format: must be "raw" for a sink of type {self.type}, which reads events'

    def remarks(self) -> Iterator[str]:
        """Yield remarks that `telemetryd check --lambda` prints, such as the sink's price."""
        return iter(())

    def system_remarks(self) -> Iterator[str]:
        """Yield more such remarks, where `[system]` has figures measured."""
        return iter(())

    def facts(self) -> Iterator[str]:
        """Yield what `telemetryd check` says besides the values, such as a vendor's limits."""
        return iter(())

    @property
    def most_line_bytes(self) -> int:
        """The largest line that the sink can deliver, for `telemetryd check`; 0: any."""
        return 0

    @property
    def most_request_bytes(self) -> int:
        """The largest request, for `telemetryd check`: a larger batch takes several; 0: any."""
        return 0

    @property
    def batch_becomes(self) -> str:
        """The unit that a batch becomes at the destination, in the plural, such as `requests`.

        `telemetryd check --lambda` says how many of them `linger_ms` makes. Empty: nothing that
        costs something.
        """
        return ""

    def aws_client(self) -> ClientName | None:
        """Return which client of AWS the sink asks for; None if it has none."""
        return None

    def aws_needs(self) -> "Iterator[AwsNeed]":
        """Yield the permissions and endpoints that the sink needs, for `telemetryd iam`.

        The default is none. The method is never called while the sink runs, so import inside.
        """
        return iter(())


class Item(msgspec.Struct, frozen=True, gc=False):
    """The unit that a sink accepts or refuses: bytes for the destination, and their lines."""

    payload: bytes
    lines: int
    size: int
    """Bytes of the item's input lines (newlines included), not of `payload`."""
    source: int = 0
    """Number of the connection the first line came from."""
    offset: int = 0
    """Position of the first line in the stream of its connection."""
    received_at: float = 0.0
    """Monotonic seconds when the first line was read; 0: when the batch's first block was."""


class Batch(msgspec.Struct, frozen=True, gc=False):
    """The items of one `write` attempt. After a partial failure the next attempt has the rest."""

    batch_id: str
    items: tuple[Item, ...]
    numbers: tuple[int, ...] = ()
    """The number of each item: its place in the first attempt, whatever was delivered since.
    Empty: this is the first."""

    def key(self, index: int) -> str:
        """Return the key of the item at `index`: unique, and the same in every attempt.

        A destination that deduplicates must use this, not the place of an item, which changes
        after a partial failure.
        """
        return f"{self.batch_id}-{self.numbers[index] if self.numbers else index}"

    def part(self, indices: Sequence[int]) -> "Batch":
        """Return the items at `indices`, with their numbers."""
        numbers = self.numbers or range(len(self.items))
        return Batch(
            self.batch_id,
            tuple(self.items[index] for index in indices),
            tuple(numbers[index] for index in indices),
        )


class Failure(msgspec.Struct, frozen=True, gc=False):
    """One refused item of a batch, by its index in `Batch.items`."""

    index: int
    code: str
    retryable: bool
    part: Item | None = None
    """The refused lines, as an item of their own, where they are not all of the item. An item can
    have several such failures, of different lines. Its other lines are delivered."""


class WriteResult(msgspec.Struct, frozen=True, gc=False):
    """The outcome of an acknowledged attempt. Items without a failure are delivered."""

    failures: tuple[Failure, ...] = ()

    def refuses_all_of(self, batch: Batch) -> bool:
        """True if every item of `batch` is refused as a whole."""
        return sum(failure.part is None for failure in self.failures) >= len(batch.items)


DELIVERED: Final = WriteResult()


def _count_nothing(_kind: Derived, _outcome: DerivedOutcome, _number: int, /) -> None:
    """Count nothing, where no one reads it."""


class SinkContext(msgspec.Struct, frozen=True, kw_only=True):
    """The facts and tools that a sink gets from its process."""

    name: str
    """The `<name>` of its `[sinks.<name>]` section."""
    function: str
    """Name of the function; `local` outside Lambda."""
    version: str
    """Version of the function; `$LATEST` if unknown."""
    instance: str
    """Random 128-bit id of this process, 32 hex digits."""
    salvage: Callable[[bytes, str], bool]
    """`salvage(data, reason)` writes bytes that are damaged at the destination to the dead letter.
    Returns False without a dead letter; then the sink must keep them."""
    log: "EventLog[str]"
    """Writes structured lines, rate-limited: `log.info(event, **facts)`, and so for each level."""
    clock: Clock = SYSTEM
    """The time, of every kind."""
    in_lambda: bool = False
    """True in a Lambda extension, where starting is dear and the process is frozen at any time."""
    account: str = ""
    """The function's account, if Lambda told it to the extension when it registered."""
    figures: Callable[[], Figures] | None = None
    """Returns telemetryd's own figures since the last call, for sinks that report them. A call
    takes a few microseconds and reads /proc, so do not call it for every batch."""
    system: Callable[[], Sequence[tuple[str, float]]] | None = None
    """Returns names and values of what the environment has used since the last call, for sinks that
    make metrics of invocations. None: not configured. A call takes 40 microseconds."""
    count_derived: Callable[[Derived, DerivedOutcome, int], None] = _count_nothing
    """`count_derived(kind, outcome, number)` counts what the sink makes of lines besides: they have
    a metric of their own, because the ledger counts only lines."""


class Sink(abc.ABC):
    """Base class of every destination. Override `write`; the rest has working defaults."""

    Config: ClassVar[type[SinkConfig]] = SinkConfig
    item_type: ClassVar[type[Item]] = Item
    """The type of all items that `pack` makes. A spool stores it, and a later process loads it. It
    must be Item or a subclass with fields that MessagePack supports, each with a default."""
    survives_freeze: ClassVar[bool] = False
    """True if a write may be in flight while Lambda freezes the process. Right for local files;
    a server will have closed the connection by the thaw."""
    needs_flush: bool = True
    """False if `flush` has nothing to do with these settings. Then the end of an invocation does
    not call it where nothing else is to be done."""

    def __init__(self, config: SinkConfig, context: SinkContext) -> None:
        self.config: SinkConfig = config
        self.context: SinkContext = context

    async def open(self) -> None:  # noqa: B027 - optional
        """Prepare the destination. Raises SinkError; the worker retries later."""

    async def reopen(self) -> None:  # noqa: B027 - optional
        """Reopen files by name, which may have been renamed (SIGHUP).

        A write may be in flight. Raises SinkError; the next write retries.
        """

    def on_restore(self, instance: str) -> None:
        """Renew ids: the process continues from a snapshot that others may share (SnapStart).

        Random ids are no longer unique. `instance` replaces `context.instance`.
        """
        self.context = msgspec.structs.replace(self.context, instance=instance)

    def pack(self, blocks: Sequence[Block]) -> Iterable[Item]:
        """Turn a batch of blocks into items, in order; by default each block is one item.

        If this takes milliseconds, make it a generator, so that the loop runs between items. It is
        run to its end before the next `pack`, or stopped if the batch is given up.
        """
        return [Item(b.data, b.lines, b.size, b.source, b.offset, b.received_at) for b in blocks]

    def own_items(self, end: str) -> Sequence[Item]:
        """Return the sink's own items, which stand for no line (`lines` and `size` are 0).

        It is called once, when everything else is delivered. `end` is the reason of the process's
        end: `spindown`, `timeout`, `failure` (Extensions API, Shutdown), or `signal`.
        """
        return ()

    def unpack(self, item: Item) -> bytes | None:
        """Return the item's lines, for the failover or the dead letter; None if they are gone."""
        return item.payload

    @abc.abstractmethod
    async def write(self, batch: Batch, *, attempt: int, deadline: float) -> WriteResult:
        """Make one attempt to deliver `batch`.

        `attempt` counts from 1. `deadline` is the loop time in seconds at which the attempt is
        cancelled. Raises TransientSinkError or PermanentSinkError for the whole batch.
        """

    async def probe(self) -> str:
        """Try the destination for `telemetryd check --probe`; return what that proves, in a clause.

        It is called alone, on a sink that is not open, and followed by `close`. It makes a few
        requests at most, and leaves nothing that a reader would take for a line.
        Say also what remains unknown, such as "reachable; whether it takes lines is unknown".
        Raises SinkError where lines could not be delivered. By default it calls `open`.
        """
        await self.open()
        return "opened; this type has no probe of its own, so nothing more is known"

    @property
    def awaits_answer(self) -> bool:
        """True if all of a `write` is sent, and only the answer of the destination is missing.

        Before a freeze the answer then has some 100 ms more: what is cut off is sent twice. By
        default False.
        """
        return False

    def write_direct(self, data: bytes) -> bool:
        """Write the whole lines `data` at once, for a sink that is instant, such as a local file.

        It saves the hand-overs of a delivery that comes alone. True: they are delivered. False:
        nothing of them was, and `write` gets them. It is called between other calls of the sink
        only. The event loop stands still until it returns: it must not wait, for a lock, a server
        or a reader. `pack` is not called. By default False.
        """
        return False

    async def flush(self, *, deadline: float) -> None:  # noqa: B027 - optional
        """Make all accepted lines as durable as possible."""

    async def close(self) -> None:  # noqa: B027 - optional
        """Release everything that `open` acquired. Safe to call twice, and without `open`."""
