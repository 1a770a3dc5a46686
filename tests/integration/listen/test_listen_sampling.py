"""Sampling of one sink, beside one that gets every line; the ledger counts what was left out."""

from __future__ import annotations

import json
from pathlib import Path
from zlib import crc32

from helpers.daemon import Daemon, Settings, file_sink, leaf, leaf_of
from helpers.scrape import until

KEEP = 0.25


def start(request: str) -> bytes:
    return json.dumps({"type": "platform.start", "record": {"requestId": request}}).encode() + b"\n"


def log(level: str, request: str) -> bytes:
    record = {"level": level, "requestId": request, "message": "m"}
    return json.dumps({"type": "function", "record": record}).encode() + b"\n"


def test_a_sink_with_a_sample_beside_one_without(tmp_path: Path) -> None:
    requests = [f"request-{n}" for n in range(100)]
    data = b"".join(
        start(each) + log("INFO", each) * 2 + log("ERROR" if n % 10 == 0 else "WARN", each)
        for n, each in enumerate(requests)
    )
    chosen = {each for each in requests if crc32(each.encode()) < KEEP * 2**32}
    settings: Settings = {
        "METRICS__LISTEN": "127.0.0.1:0",
        **file_sink(tmp_path / "all", "all"),
        **file_sink(
            tmp_path / "part", "part", types="function",
            sample=f'[{{level = "info", keep = 1}}, {{level = "warn", keep = {KEEP}}}]',
        ),
        **file_sink(tmp_path / "few", "few", sample=f"[{{keep = {KEEP}}}]"),
    }  # fmt: skip
    with Daemon(tmp_path, **settings) as daemon:
        port = daemon.wait_for("metrics_served")["port"]
        daemon.send(data)
        until(port, lambda s: s("offered_lines_total", sink="few") == 400)
        scrape = until(port, lambda s: s("sampled_lines_total", sink="few") > 0)
        outcome = daemon.stop()
    assert (tmp_path / "all").read_bytes() == data
    errors = {each for n, each in enumerate(requests) if n % 10 == 0}
    warnings = [each for each in requests if each not in errors]
    part = [json.loads(line) for line in (tmp_path / "part").read_bytes().splitlines()]
    kept = [each["record"]["requestId"] for each in part if each["record"]["level"] == "WARN"]
    assert kept == [each for each in warnings if each in chosen]
    assert {each.get("sample_weight") for each in part if each["record"]["level"] == "WARN"} == {4}
    assert sum(each["record"]["level"] == "INFO" for each in part) == 200
    assert {each["record"]["requestId"] for each in part if each["record"]["level"] == "ERROR"} == (
        errors
    )
    page = outcome.sink("part")
    assert page["filtered"]["lines"] == 100
    assert page["sampled"]["lines"] == len(warnings) - len(kept)
    few = outcome.sink("few")
    assert few["offered"] == leaf_of(data)
    assert few["sampled"]["lines"] == scrape("sampled_lines_total", sink="few")
    delivered = (tmp_path / "few").read_bytes().count(b"\n")
    assert few["delivered"] == leaf(delivered, len(data) - few["sampled"]["bytes"])


def test_a_sample_by_trace_where_no_sink_has_fields(tmp_path: Path) -> None:
    """Invocations of one trace have one fate, whatever their ids are."""
    traces = [f"{n:032x}" for n in range(20)]
    chosen = [each for each in traces if crc32(each.encode()) < KEEP * 2**32]
    data = b"".join(
        traced_start(f"{trace}-{n}", trace) + log("INFO", f"{trace}-{n}")
        for n in range(5)
        for trace in traces
    )
    untraced = start("without-a-trace") + log("INFO", "without-a-trace")
    sample = f'[{{keep = {KEEP}, by = "trace_id"}}]'
    settings = file_sink(tmp_path / "few", "few", types="function", sample=sample)
    with Daemon(tmp_path, **settings) as daemon:
        daemon.send(data + untraced)
        page = daemon.stop().sink("few")
    few = [json.loads(line) for line in (tmp_path / "few").read_bytes().splitlines()]
    kept = [each["record"]["requestId"] for each in few]
    assert kept == [f"{each}-{n}" for n in range(5) for each in chosen] + ["without-a-trace"]
    assert page["sampled"]["lines"] == 5 * (len(traces) - len(chosen))


def traced_start(request: str, trace: str) -> bytes:
    tracing = {"type": "X-Amzn-Trace-Id", "value": f"Root=1-{trace[:8]}-{trace[8:]};Sampled=1"}
    record = {"requestId": request, "tracing": tracing}
    return json.dumps({"type": "platform.start", "record": record}).encode() + b"\n"
