"""The figures that a sink gets: growth since it last asked, and the whole as JSON."""

import os

import msgspec

from telemetryd.core.figures import FiguresReader, Usage
from telemetryd.core.ledger import Ledger
from telemetryd.core.stats import DaemonStats
from telemetryd.exposition.guide import FIGURES
from telemetryd.usage import usage

MIB = 1024 * 1024


class Process:
    """Stats and books of a process with sinks `a` and `b`, and who reads them."""

    def __init__(self) -> None:
        self.stats = DaemonStats(("a", "b"))
        self.ledger = Ledger(("a", "b"))
        for sink in self.stats.sinks.values():
            sink.queue_capacity_bytes = 1000
        self.cpu = 0.0
        self.read = self.reader()

    def reader(self) -> FiguresReader:
        """One more reader."""
        return FiguresReader(
            self.stats, self.ledger, lambda: Usage(self.cpu, 64 * MIB, 9.0), lambda: 100.0,
            lambda now: now - 97.5,
        )  # fmt: skip


def test_a_reading_tells_what_is_new() -> None:
    process = Process()
    process.ledger.sinks["a"].drop("queue_full", 3, 300)
    process.ledger.sinks["b"].drop("shutdown", 2, 200)
    process.stats.sinks["b"].count_delivery(0.5, 10)
    process.stats.sinks["a"].queue_peak.note(250)
    process.stats.count_wait(0.2)
    process.stats.count_wait(0.1)
    process.cpu = 1.5
    first = process.read()
    assert (first.lost_lines, first.cpu_seconds, first.invocations) == (5, 1.5, 2)
    assert (first.delivery_seconds, first.added_seconds, first.queue_fraction) == (0.5, 0.2, 0.25)
    assert first.peak_rss_bytes == 64 * MIB
    process.ledger.sinks["a"].drop("queue_full", 1, 100)
    process.stats.count_wait(0.0)
    second = process.read()
    assert (second.lost_lines, second.cpu_seconds, second.invocations) == (1, 0, 1)
    assert second.added_seconds == 0.0, "an invocation that did not wait"
    assert second.delivery_seconds is None
    assert second.queue_fraction == 0
    assert process.read().added_seconds is None


def test_two_readers_do_not_take_from_each_other() -> None:
    process = Process()
    other = process.reader()
    process.stats.sinks["a"].count_delivery(2.0, 1)
    process.ledger.sinks["a"].drop("bug", 1, 1)
    assert process.read().lost_lines == 1
    reading = other()
    assert (reading.lost_lines, reading.delivery_seconds) == (1, 2.0)


def test_the_facts_are_json_and_of_all_time() -> None:
    process = Process()
    process.read()
    process.stats.start_seconds["up"] = 0.0251
    process.stats.invocations = 1
    process.stats.count_wait(0.0125)
    process.stats.pauses.change(98.0, paused=True)
    process.stats.sinks["a"].count_failure("permanent", "denied")
    process.stats.sinks["a"].count_delivery(0.25, 4)
    process.stats.sinks["a"].count_delivery(0.75, 4)
    facts = process.read().facts
    assert msgspec.json.decode(msgspec.json.encode(facts)) == facts
    assert facts["start_ms"] == {"up": 25.1}
    assert (facts["added_ms_max"], facts["added_ms_mean"]) == (12.5, 12.5)
    assert (facts["paused_ms"], facts["pauses"]) == (2000, 1)
    sink = facts["sinks"]["a"]
    assert (sink["delivery_ms_max"], sink["delivery_ms_mean"]) == (750, 500)
    assert sink["errors"] == {"permanent.denied": 1}


def test_what_this_process_uses() -> None:
    """Of the kernel's own word; more memory than an interpreter needs, less than there is."""
    before = usage(0.0)
    ballast = bytearray(32 * MIB)
    ballast[::4096] = b"x" * len(ballast[::4096])
    after = usage(0.0)
    assert after.peak_rss_bytes >= before.peak_rss_bytes
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 20 * MIB < after.peak_rss_bytes < installed
    assert after.cpu_seconds >= before.cpu_seconds > 0
    assert after.uptime_seconds >= before.uptime_seconds > 0


def test_every_member_is_documented() -> None:
    """In docs/metrics.md, by the names it has there."""
    process = Process()
    process.stats.invocations = 1
    facts = process.read().facts
    own: set[str] = set()
    of_sinks: set[str] = set()
    for row in FIGURES:
        names = own
        for name in row.split(", "):
            if name.startswith("sinks.NAME."):
                names = of_sinks
            names.add(name.removeprefix("sinks.NAME."))
    assert own == facts.keys() - {"sinks"}
    assert of_sinks == facts["sinks"]["a"].keys()


def test_documents_tell_where_lines_went_and_why() -> None:
    """No one sees the ledger before the end, which in Lambda may be hours away."""
    process = Process()
    ledger = process.ledger
    ledger.received.add(9, 900)
    ledger.rejected["too_long"].add(1, 100)
    ledger.upstream_dropped.add(7, 700)
    a, b = ledger.sinks["a"], ledger.sinks["b"]
    a.enqueued.add(8, 800)
    a.delivered.add(3, 300)
    a.drop("queue_full", 1, 100)
    a.drop("throttled", 2, 200)
    b.recovered.add(5, 500)
    b.spooled.add(4, 400)
    b.failed_over.add(1, 100)
    facts = process.read().facts
    assert facts["oldest_ms"] == 2500
    assert facts["lines"] == {"received": 9, "rejected": {"too_long": 1}, "upstream_dropped": 7}
    assert facts["sinks"]["a"]["lines"] == {
        "delivered": 3, "dropped": {"queue_full": 1, "throttled": 2}, "pending": 2,
    }  # fmt: skip
    assert facts["sinks"]["b"]["lines"] == {"recovered": 5, "spooled": 4, "failed_over": 1}
