"""The ledger balances only when every line is accounted for."""

import pytest

from telemetryd.core.ledger import MAX_REASONS, Count, Ledger, SinkAccount


def account() -> SinkAccount:
    """A page on which 10 lines were offered and each met a different end."""
    page = SinkAccount()
    page.offered.add(10, 1000)
    page.filtered.add(1, 100)
    page.enqueued.add(9, 900)
    page.delivered.add(3, 300)
    page.drop("queue_full", 1, 100)
    page.dead_lettered.add(1, 100)
    page.failed_over.add(1, 100)
    page.spooled.add(1, 100)
    return page


def test_an_account_balances_with_what_is_pending() -> None:
    assert account().is_balanced(Count(2, 200))


@pytest.mark.parametrize("pending", [Count(1, 200), Count(2, 199), Count(3, 300)])
def test_a_line_or_byte_too_many_or_too_few_shows(pending: Count) -> None:
    assert not account().is_balanced(pending)


def test_offered_lines_must_be_filtered_or_enqueued() -> None:
    page = account()
    page.offered.add(1, 1)
    assert not page.is_balanced(Count(2, 200))


def ledger() -> Ledger:
    """Three lines received: two framed, one refused."""
    book = Ledger(("a",))
    book.received.add(3, 30)
    book.framed.add(2, 19)
    book.rejected["too_long"].add(1, 11)
    return book


def test_what_was_received_must_be_framed_or_rejected() -> None:
    book = ledger()
    assert book.is_balanced({"a": Count()})
    book.received.bytes += 1
    assert not book.is_balanced({"a": Count()})
    assert book.is_balanced({"a": Count()}, unfinished_bytes=1)
    book.received.lines += 1
    assert not book.is_balanced({"a": Count()}, unfinished_bytes=1)


def test_one_unbalanced_sink_unbalances_the_ledger() -> None:
    book = ledger()
    book.sinks["a"].offered.add(1, 1)
    assert not book.is_balanced({"a": Count()})


def test_the_statement_has_every_leaf_as_lines_and_bytes() -> None:
    book = ledger()
    book.sinks["a"].offered.add(1, 5)
    book.sinks["a"].enqueued.add(1, 5)
    book.sinks["a"].drop("shutdown", 1, 5)
    none = {"lines": 0, "bytes": 0}
    five = {"lines": 1, "bytes": 5}
    assert book.statement({"a": Count()}) == {
        "received": {"lines": 3, "bytes": 30},
        "framed": {"lines": 2, "bytes": 19},
        "rejected": {
            "empty": none,
            "too_long": {"lines": 1, "bytes": 11},
            "tail_budget": none,
            "truncated": none,
            "malformed_body": none,
            "own_log": none,
            "untrusted": none,
        },
        "upstream_dropped": none,
        "unrouted": none,
        "sinks": {
            "a": {
                "offered": five,
                "filtered": none,
                "sampled": none,
                "enqueued": five,
                "delivered": none,
                "dropped": {"shutdown": five},
                "dead_lettered": none,
                "failed_over": none,
                "recovered": none,
                "spooled": none,
                "damaged_bytes": 0,
                "pending": none,
            }
        },
        "balanced": True,
    }


def test_drop_reasons_are_bounded_and_none_is_lost() -> None:
    page = SinkAccount()
    for number in range(MAX_REASONS + 10):
        page.drop(f"code_{number}", 1, 1)
    assert len(page.dropped) == MAX_REASONS + 1
    assert page.dropped["other"] == Count(10, 10)


def test_a_count_is_shown_as_what_it_is() -> None:
    assert repr(Count(2, 30)) == "Count(lines=2, size=30)"
