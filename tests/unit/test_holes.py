"""Trades that are missing, and whether coverage names the minutes in which they may lie."""

from __future__ import annotations

from coinstream.messages import MINUTE_US, Coverage, CoverageStatus, Trade
from coinstream.operations import Hole, find_holes, unnamed_holes

START = 1767322980_000000
SECOND = 1_000_000


def trade(number: int, time_us: int, symbol: str = "BTC-USD") -> Trade:
    return Trade(
        venue="v",
        symbol=symbol,
        trade_id=str(number),
        price="1",
        size="1",
        aggressor_side="buy",
        event_time_us=time_us,
        received_time_us=time_us,
        provenance="simulated",
    )


def coverage(*statuses: CoverageStatus, channel: str = "trades") -> dict[tuple[str, str, str, int], Coverage]:
    words = [
        Coverage(venue="v", symbol="BTC-USD", channel=channel, minute=START + n * MINUTE_US, status=it, messages=0)
        for n, it in enumerate(statuses)
    ]
    return {(word.venue, word.symbol, word.channel, word.minute): word for word in words}


def test_ids_without_a_break_have_no_hole_whatever_their_order_and_repeats() -> None:
    assert find_holes([trade(3, START), trade(1, START), trade(2, START), trade(2, START)]) == []
    assert find_holes([]) == []


def test_hole_may_lie_in_every_minute_between_its_neighbours() -> None:
    found = find_holes([trade(98, START + 59 * SECOND), trade(101, START + 61 * SECOND), trade(102, START)])
    assert found == [Hole("v", "BTC-USD", 98, 101, 2, (START, START + MINUTE_US))]


def test_each_market_counts_for_itself() -> None:
    (hole,) = find_holes([trade(1, START), trade(2, START, "ETH-USD"), trade(4, START), trade(3, START, "ETH-USD")])
    assert (hole.symbol, hole.missing, hole.minutes) == ("BTC-USD", 2, (START,))


def test_hole_is_named_by_a_gap_or_a_disconnection_of_all_its_minutes() -> None:
    holes = find_holes([trade(1, START), trade(3, START + MINUTE_US)])
    assert unnamed_holes(holes, coverage("gap", "disconnected")) == []
    assert unnamed_holes(holes, coverage("complete", "gap")) == holes
    assert unnamed_holes(holes, coverage("gap", "complete")) == holes
    assert unnamed_holes(holes, coverage("gap")) == holes
    assert unnamed_holes(holes, coverage("gap", "gap", channel="quotes")) == holes
