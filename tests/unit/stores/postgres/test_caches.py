"""What a connection remembers, and its bounds."""

from __future__ import annotations

from coinstream.messages.times import DAY_US
from coinstream.stores.postgres.caches import RecentIds
from postgres_database import NOW_US, a_trade

BTC = ("coinbase", "BTC-USD")


def test_remembered_trade_is_dropped_and_another_day_of_its_id_is_not() -> None:
    recent = RecentIds()
    first = a_trade("1")
    recent.remember(BTC, [first])
    other_day = a_trade("1", event_time_us=NOW_US - DAY_US)
    fresh = a_trade("2")
    assert recent.drop_repeats(BTC, [first, fresh, other_day, fresh, other_day]) == [fresh, other_day]
    assert recent.drop_repeats(("coinbase", "ETH-USD"), [first]) == [first]


def test_at_least_the_latest_ids_are_remembered_and_at_most_twice_as_many() -> None:
    recent = RecentIds(each=100)
    trades = [a_trade(f"r{number}") for number in range(1000)]
    for trade in trades:
        recent.remember(BTC, [trade])
        assert len(recent) <= 200
    assert recent.drop_repeats(BTC, trades[-100:]) == []
    assert recent.drop_repeats(BTC, trades[:700]) == trades[:700]


def test_batch_larger_than_the_memory_leaves_its_latest() -> None:
    recent = RecentIds(each=10)
    trades = [a_trade(f"b{number}") for number in range(50)]
    recent.remember(BTC, trades)
    assert len(recent) == 10
    assert recent.drop_repeats(BTC, trades) == trades[:40]


def test_silent_instruments_are_forgotten_first() -> None:
    recent = RecentIds(each=100, of_all=25)
    trades = [a_trade(f"s{number}") for number in range(10)]
    for symbol in ("A", "B", "A", "C"):
        recent.remember(("v", symbol), trades)
    assert len(recent) <= 25
    assert recent.drop_repeats(("v", "B"), trades) == trades
    assert recent.drop_repeats(("v", "A"), trades) == []
    assert recent.drop_repeats(("v", "C"), trades) == []
