"""Lines of every kind, for hypothesis, and their rows in the flat format."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from telemetryd.core.fields import RequestTracker
from telemetryd.core.flat import FlatReader, Flattener
from telemetryd.core.line_filter import LineFilter
from telemetryd.core.router import RouteRules, merge, open_pieces, reader_for
from telemetryd_proto.flat import COLUMNS
from telemetryd_proto.framing import Block

IDENTITY = {"function": "shop", "version": "7", "instance": "ab" * 16}
NOW = "2026-11-30T12:00:00.000Z"
WALL = 1796040000.0
TYPES: dict[str, type] = {
    **dict.fromkeys(COLUMNS, str),
    **dict.fromkeys(("duration_ms", "billed_ms", "init_ms"), float),
    **dict.fromkeys(("memory_mb", "max_memory_mb"), int),
}
TEXTS = st.text(st.characters(codec=None), max_size=12)
SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
IDS = st.sampled_from(("r-1", "r-2", "5e0f8c2a-1111-4222-8333-944455566677"))
LAYOUTS = st.sampled_from(
    (
        "[INFO]\t2026-03-14T10:15:29.012Z\t%s\thello\n",
        "2026-03-14T10:15:29.012Z\t%s\tERROR\thello \\n",
        "[error]\t%s\tx\ty",
        '[WARN]\tt\t%s\t{"level":"debug"}',
        "RequestId: %s ends\\",
        "%s\n\n",
    )
)  # fmt: skip
METRICS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs"),
        SCALARS | st.sampled_from((5, 5.0, "5", "5.5", 2**63, -(2**63), 1e300, "1e999")),
    ),
)
RECORDS = (
    VALUES
    | st.tuples(LAYOUTS, IDS).map(lambda each: each[0] % each[1])
    | st.fixed_dictionaries(
        {},
        optional={
            "level": st.sampled_from(("INFO", "warn", "odd", 30)) | VALUES,
            "message": TEXTS | VALUES,
            "requestId": IDS | VALUES,
            "errorType": TEXTS | VALUES,
            "status": TEXTS | VALUES,
            "metrics": METRICS | VALUES,
            "timestamp": st.just("2026-03-14T10:15:29.012Z") | VALUES,
        },
    )
)
KINDS = ("function", "extension", "platform.start", "platform.report", "platform.new", "access")
TIMES = st.sampled_from(
    ("2026-03-14T10:15:29.012Z", "2026-03-14T10:15:29Z", "2026-03-14T10:15:29.012345678Z",
     "2026-03-14T12:15:29+02:00", "2026-13-14T10:15:29.012Z", "0000-01-01T00:00:00.000Z",
     "9999-12-31T23:59:59.999-11:00", "2026-03-14")
)  # fmt: skip
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "time": TIMES | VALUES,
        "type": st.sampled_from(KINDS) | VALUES,
        "record": RECORDS,
        "msg": TEXTS,
        "extra": VALUES,
    },
)
LINES = st.tuples(EVENTS, st.booleans(), st.sampled_from((b"%b", b" %b", b"%b\r"))).map(
    lambda each: each[2] % dumped(each[0], ascii_only=each[1])
) | st.binary(min_size=1).map(lambda line: line.replace(b"\n", b" ").strip(b"\r") or b"x")
USUAL_EVENTS = st.builds(
    lambda kind, record: dumped({"time": NOW, "type": kind, "record": record}, ascii_only=True),
    st.sampled_from(("platform.start", "platform.runtimeDone", "platform.report")),
    st.fixed_dictionaries(
        {"requestId": IDS},
        optional={
            "status": st.just("success"), "metrics": METRICS, "tenantId": TEXTS,
            "errorType": TEXTS,
        },
    ),
)  # fmt: skip
"""Events of each invocation."""
TAGS = st.sampled_from(({}, {"stage": "prod", "build": 7}))


def dumped(value: Any, *, ascii_only: bool) -> bytes:
    """JSON, in which half a surrogate pair may be bytes that are no UTF-8."""
    text = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def flat_rows(
    lines: list[bytes], tags: dict[str, str | int], *, one_at_a_time: bool = True
) -> tuple[list[bytes], list[dict[str, Any]]]:
    """The rows of lines, as bytes and as objects."""
    data = b"".join(line + b"\n" for line in lines)
    reader = FlatReader(IDENTITY, lambda: WALL)
    rules = RouteRules(LineFilter(), Flattener(reader, (), IDENTITY, tags))
    tracker = RequestTracker(one_at_a_time=one_at_a_time)
    block = Block(data, len(lines), 1, 0, 0.0)
    pieces = open_pieces(block, tracker, reader_for([rules]), reader)
    part = merge(block, [piece.select(rules) for piece in pieces]).wanted
    assert part is not None
    assert (part.lines, part.size) == (len(lines), len(data))
    rows = part.data.splitlines(keepends=True)
    return rows, [json.loads(row) for row in rows]
