"""The demo's own fold of the log: which message of a key wins, and what is newest."""

from __future__ import annotations

import pytest

from coinstream.messages import AssetSnapshot, Coverage, Instrument, Quote, Trade, day_of
from coinstream.operations.fold import RunFold, trade_order

T = 1_700_000_000_000_000
MINUTE = 1_699_999_980_000_000


def trade(trade_id: str, *, price: str = "1", at: int = T) -> Trade:
    return Trade(
        venue="v",
        symbol="A-B",
        trade_id=trade_id,
        price=price,
        size="1",
        aggressor_side="buy",
        event_time_us=at,
        received_time_us=at,
        provenance="live",
    )


def asset(minute: int, received: int, price: str) -> AssetSnapshot:
    return AssetSnapshot(
        source="s", asset_id="a", symbol="A", name="A", price_usd=price, minute=minute, received_time_us=received
    )


@pytest.fixture
def fold() -> RunFold:
    return RunFold()


def test_first_trade_of_an_id_and_day_wins(fold: RunFold) -> None:
    fold.add(trade("1", price="1"))
    fold.add(trade("1", price="2"))
    fold.add(trade("1", price="3", at=T + 86_400_000_000))
    assert [t.price for t in fold.trades.values()] == ["1", "3"]
    assert fold.trades["v", "A-B", "1", day_of(T)].price == "1"
    assert fold.repeats == {"Trade": 1}


def test_last_trade_is_by_time_then_by_id_as_a_number(fold: RunFold) -> None:
    for trade_id, at in (("9", T), ("10", T), ("11", T - 1)):
        fold.add(trade(trade_id, at=at))
    assert fold.last_trades()["v", "A-B"].trade_id == "10"
    assert trade_order(trade("a9")) > trade_order(trade("a10"))


def test_quotes_of_one_moment_are_told_apart_by_sequence(fold: RunFold) -> None:
    for sequence, bid in ((None, "1"), (7, "2"), (None, "3"), (6, "4")):
        fold.add(Quote(venue="v", symbol="A-B", bid=bid, ask="9", sequence=sequence, received_time_us=T))
    assert {key[3]: quote.bid for key, quote in fold.quotes.items()} == {0: "1", 7: "2", 6: "4"}
    assert fold.newest(fold.quotes)["v", "A-B"].bid == "2"


def test_instrument_received_later_wins_and_of_equals_the_later_in_the_log(fold: RunFold) -> None:
    def listed(received: int, tick: str) -> Instrument:
        return Instrument(
            venue="v", symbol="A-B", venue_symbol="AB", base="A", quote="B", tick_size=tick, received_time_us=received
        )

    for received, tick in ((T, "1"), (T, "2"), (T - 1, "3")):
        fold.add(listed(received, tick))
    assert fold.instruments["v", "A-B"].tick_size == "2"


def test_asset_received_later_wins_and_of_equals_the_earlier_in_the_log(fold: RunFold) -> None:
    for received, price in ((T, "1"), (T, "2"), (T - 1, "3")):
        fold.add(asset(MINUTE, received, price))
    fold.add(asset(MINUTE - 60_000_000, T + 5, "4"))
    assert fold.assets["s", "a", MINUTE].price_usd == "1"
    assert fold.latest_assets()["s", "a"].price_usd == "1"


def test_last_coverage_of_a_minute_wins(fold: RunFold) -> None:
    for messages in (3, 1):
        fold.add(Coverage(venue="v", symbol="A-B", channel="trades", minute=MINUTE, status="gap", messages=messages))
    assert fold.coverage["v", "A-B", "trades", MINUTE].messages == 1
