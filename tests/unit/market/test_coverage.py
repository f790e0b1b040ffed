"""Coverage where the stream's tests do not reach: silence, reconnects, bounds."""

from __future__ import annotations

from coinstream.market.coverage import LATE_US, MOST_SILENT_MINUTES, MOST_TOLD, MOST_TROUBLES, CoverageFold
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
    made.heard("a", START + 5 * SECOND)
    made.disconnected("a", START + 6 * SECOND)
    made.connected("b", PAIR, START + 7 * SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "disconnected")]
    assert statuses(made.advance(START + 2 * MINUTE)) == [(1, "complete")]


def test_connection_closing_soon_after_a_minute_leaves_that_minute_in_doubt() -> None:
    made = fold()
    assert statuses(made.advance(START + MINUTE)) == [(0, "complete")]
    made.heard("a", START + MINUTE + LATE_US - 1)
    made.disconnected("a", START + MINUTE + 3 * SECOND)
    assert statuses(made.advance(START + MINUTE + 4 * SECOND)) == [(0, "disconnected")]
    assert made.advance(START + MINUTE + 5 * SECOND) == []


def test_other_connection_closing_changes_nothing() -> None:
    made = fold()
    made.disconnected("b", START + SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "complete")]


def test_gap_goes_before_disconnected() -> None:
    made = fold()
    made.gap("trades", "BTC-USD", connection="a", time_us=START + 5 * SECOND)
    made.disconnected("a", START + 6 * SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "gap")]
    assert statuses(made.advance(START + 2 * MINUTE)) == [(1, "disconnected")]


def test_gap_of_a_symbols_own_ids_reaches_back_to_its_last_trade() -> None:
    made = fold()
    for minute in (1, 2, 3):
        made.heard("a", START + minute * MINUTE - SECOND)
        assert statuses(made.advance(START + minute * MINUTE)) == [(minute - 1, "complete")]
    made.gap(
        "trades", "BTC-USD", connection="a", time_us=START + 3 * MINUTE + SECOND, since_us=START + MINUTE + 5 * SECOND
    )
    assert statuses(made.advance(START + 4 * MINUTE)) == [(1, "gap"), (2, "gap"), (3, "gap")]


def test_hole_that_is_filled_makes_its_minutes_backfilled() -> None:
    made = fold()
    made.advance(START + MINUTE)
    made.gap("trades", "BTC-USD", connection="a", time_us=START + MINUTE + SECOND, since_us=START + 30 * SECOND)
    assert statuses(made.advance(START + MINUTE + 2 * SECOND)) == [(0, "gap")]
    made.repaired("trades", "BTC-USD", START + 30 * SECOND, START + MINUTE + SECOND)
    assert statuses(made.advance(START + 2 * MINUTE)) == [(0, "backfilled"), (1, "backfilled")]
    assert statuses(made.advance(START + 3 * MINUTE)) == [(2, "complete")]


def test_hole_that_is_filled_in_part_stays_a_gap() -> None:
    made = fold()
    made.gap("trades", "BTC-USD", connection="a", time_us=START + 10 * SECOND, since_us=START + 5 * SECOND)
    made.gap("trades", "BTC-USD", connection="a", time_us=START + 20 * SECOND, since_us=START + 15 * SECOND)
    made.repaired("trades", "BTC-USD", START + 5 * SECOND, START + 10 * SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "gap")]
    made.repaired("trades", "BTC-USD", START + 15 * SECOND, START + 20 * SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "backfilled")]


def test_time_without_a_connection_is_repaired_like_a_gap() -> None:
    made = fold()
    made.heard("a", START + 10 * SECOND)
    made.disconnected("a", START + 40 * SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "disconnected")]
    made.connected("b", PAIR, START + MINUTE + 5 * SECOND)
    made.repaired("trades", "BTC-USD", START + 9 * SECOND, START + MINUTE + 6 * SECOND)
    assert statuses(made.advance(START + 2 * MINUTE)) == [(0, "backfilled"), (1, "backfilled")]


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


def test_troubles_without_end_are_bounded_and_never_forgotten_too_early() -> None:
    made = fold()
    made.gap("trades", "BTC-USD", connection="a", time_us=START + 5 * SECOND)
    for second in range(6, 6 + 2 * MOST_TROUBLES):
        now_us = START + second * SECOND
        made.advance(now_us)
        made.heard("a", now_us)
        made.gap("trades", "BTC-USD", connection="a", time_us=now_us)
    (pair,) = made._pairs.values()
    assert len(pair.troubles) <= MOST_TROUBLES
    assert all(pair.status(row.minute) == "gap" for row in pair.told if row.minute >= START)


def test_minutes_told_long_ago_are_not_told_again() -> None:
    made = fold()
    for minute in range(1, MOST_TOLD + 3):
        made.advance(START + minute * MINUTE)
    last_us = START + (MOST_TOLD + 2) * MINUTE + SECOND
    made.gap("trades", "BTC-USD", connection="a", time_us=last_us, since_us=START)
    assert [minute for minute, _ in statuses(made.advance(last_us))] == list(range(2, MOST_TOLD + 2))


def test_what_has_not_come_when_the_feed_stops_will_not_come() -> None:
    made = fold()
    made.heard("a", START + MINUTE - SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "complete")]
    assert statuses(made.finish(START + MINUTE + 1)) == [(0, "disconnected"), (1, "disconnected")]


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
