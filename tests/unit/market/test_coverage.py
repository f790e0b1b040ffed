"""Coverage where the stream's tests do not reach: silence, reconnects, bounds."""

from __future__ import annotations

from coinstream.market.coverage import MOST_SILENT_MINUTES, MOST_TROUBLES, CoverageFold
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


def test_hole_that_was_filled_before_its_minute_ended_makes_the_minute_backfilled() -> None:
    made = fold()
    made.gap("trades", "BTC-USD", START + 20 * SECOND)
    assert made.repaired("trades", "BTC-USD", START + 10 * SECOND, START + 20 * SECOND) == []
    assert statuses(made.advance(START + MINUTE)) == [(0, "backfilled")]
    assert statuses(made.advance(START + 2 * MINUTE)) == [(1, "complete")]


def test_minutes_that_were_told_already_are_told_again_once_their_hole_is_filled() -> None:
    made = fold()
    made.count("trades", "BTC-USD", "7", connection="a", time_us=START + 10 * SECOND)
    made.disconnected("a", START + 30 * SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "disconnected")]
    assert statuses(made.advance(START + 2 * MINUTE)) == [(1, "disconnected")]
    made.connected("b", PAIR, START + 2 * MINUTE + SECOND)
    until_us = START + 2 * MINUTE + 5 * SECOND
    made.gap("trades", "BTC-USD", until_us)
    again = made.repaired("trades", "BTC-USD", START + 10 * SECOND, until_us)
    assert statuses(again) == [(0, "backfilled"), (1, "backfilled")]
    assert [(row.first, row.messages) for row in again] == [("7", 1), (None, 0)]
    assert statuses(made.advance(START + 3 * MINUTE)) == [(2, "backfilled")]
    assert made.repaired("trades", "BTC-USD", START, START + 3 * MINUTE) == []


def test_minute_with_another_hole_stays_a_gap() -> None:
    made = fold()
    for second in (20, 40):
        made.gap("trades", "BTC-USD", START + second * SECOND)
    made.repaired("trades", "BTC-USD", START + 10 * SECOND, START + 20 * SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "gap")]
    again = made.repaired("trades", "BTC-USD", START + 30 * SECOND, START + 40 * SECOND)
    assert statuses(again) == [(0, "backfilled")]


def test_minute_in_which_the_feed_began_is_not_backfilled_by_a_later_hole() -> None:
    made = CoverageFold("binance")
    made.expect(PAIR)
    made.advance(START)
    made.connected("a", PAIR, START + 5 * SECOND)
    made.gap("trades", "BTC-USD", START + 20 * SECOND)
    made.repaired("trades", "BTC-USD", START + 10 * SECOND, START + 20 * SECOND)
    assert statuses(made.advance(START + MINUTE)) == [(0, "gap")]


def test_minute_that_nobody_heard_is_not_backfilled_by_a_hole_beside_it() -> None:
    made = fold()
    assert statuses(made.advance(START + 3 * MINUTE)) == [(0, "complete"), (1, "disconnected"), (2, "disconnected")]
    again = made.repaired("trades", "BTC-USD", START + 3 * MINUTE, START + 3 * MINUTE + SECOND)
    assert again == []


def test_connection_that_is_still_gone_is_not_backfilled() -> None:
    made = fold()
    made.disconnected("a", START + 10 * SECOND)
    assert made.repaired("trades", "BTC-USD", START, START + 20 * SECOND) == []
    assert statuses(made.advance(START + MINUTE)) == [(0, "disconnected")]


def test_quotes_and_books_cannot_be_backfilled() -> None:
    made = CoverageFold("binance")
    made.advance(START - SECOND)
    made.connected("a", (("books", "BTC-USD"),), START - SECOND)
    made.advance(START)
    made.gap("books", "BTC-USD", START + SECOND)
    made.repaired("books", "BTC-USD", START, START + MINUTE)
    assert statuses(made.advance(START + MINUTE)) == [(0, "gap")]


def test_many_troubles_are_remembered_as_a_long_one() -> None:
    made = fold()
    for number in range(3 * MOST_TROUBLES):
        made.gap("trades", "BTC-USD", START + number)
    made.repaired("trades", "BTC-USD", START + 2 * MOST_TROUBLES, START + MINUTE)  # the newest of them
    assert statuses(made.advance(START + MINUTE)) == [(0, "gap")]
