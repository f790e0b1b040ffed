"""Coverage where the stream's tests do not reach: silence, reconnects, bounds."""

from __future__ import annotations

from coinstream.market.coverage import MOST_SILENT_MINUTES, CoverageFold
from coinstream.messages import Coverage, check

START = 1767322980_000000
SECOND = 1_000_000
MINUTE = 60 * SECOND
PAIR = (("trades", "BTC-USD"),)


def fold() -> CoverageFold:
    made = CoverageFold("coinbase")
    made.advance(START - SECOND)
    made.connected("a", (("trades", "BTC-USD"),), START - SECOND)
    made.advance(START)
    return made


def statuses(rows: list[Coverage]) -> list[tuple[int, str]]:
    for row in rows:
        check(row)
    return [((row.minute - START) // MINUTE, row.status) for row in rows]


def test_minute_is_reported_once_when_it_ended() -> None:
    made = fold()
    assert made.advance(START + MINUTE - 1) == []
    assert statuses(made.advance(START + MINUTE)) == [(0, "complete")]
    assert made.advance(START + MINUTE) == []


def test_reconnect_within_a_minute_makes_that_minute_disconnected_alone() -> None:
    made = fold()
    made.disconnected("a", START)
    made.connected("b", (("trades", "BTC-USD"),), START + SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "disconnected")]
    assert statuses(made.advance(START + 2 * MINUTE)) == [(1, "complete")]


def test_other_connection_closing_changes_nothing() -> None:
    made = fold()
    made.disconnected("b", START)
    assert statuses(made.advance(START + MINUTE)) == [(0, "complete")]


def test_gap_goes_before_disconnected() -> None:
    made = fold()
    made.gap("trades", "BTC-USD", START)
    made.disconnected("a", START)
    assert statuses(made.advance(START + MINUTE)) == [(0, "gap")]
    assert statuses(made.advance(START + 2 * MINUTE)) == [(1, "disconnected")]


def test_minutes_that_nobody_listened_to_are_disconnected() -> None:
    made = fold()
    assert statuses(made.advance(START + 3 * MINUTE + SECOND)) == [
        (0, "complete"),
        (1, "disconnected"),
        (2, "disconnected"),
    ]
    assert statuses(made.advance(START + 5 * MINUTE)) == [(3, "disconnected"), (4, "disconnected")]
    assert statuses(made.advance(START + 6 * MINUTE)) == [(5, "complete")]


def test_silence_of_days_is_not_written_out() -> None:
    made = fold()
    assert statuses(made.advance(START + (MOST_SILENT_MINUTES + 2) * MINUTE)) == [(0, "complete")]


def test_open_minute_is_not_complete_when_the_feed_stops() -> None:
    made = fold()
    made.count("trades", "BTC-USD", "7", connection="a", time_us=START + 1)
    (row,) = made.finish(START + MINUTE - 1)
    assert row == Coverage(
        venue="coinbase",
        symbol="BTC-USD",
        channel="trades",
        minute=START,
        status="disconnected",
        first="7",
        last="7",
        messages=1,
    )
