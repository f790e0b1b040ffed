import random

import pytest

from coinstream.simulator.market import Market
from coinstream.simulator.products import PRODUCTS

START_TIME_US = 1_780_000_000_000_000


@pytest.fixture(scope="module")
def market_and_events() -> tuple[Market, list]:
    market = Market(rng=random.Random(42), start_time_us=START_TIME_US)
    return market, [market.step(START_TIME_US + 50 * number) for number in range(20_000)]


def test_event_makes_about_eight_tenths_of_a_trade(market_and_events: tuple[Market, list]) -> None:
    _, events = market_and_events
    assert 0.72 * len(events) < sum(len(event.trades) for event in events) < 0.85 * len(events)


def test_some_market_orders_walk_through_several_levels(market_and_events: tuple[Market, list]) -> None:
    _, events = market_and_events
    walks = [event.trades for event in events if len(event.trades) > 2]
    assert len(walks) > 500
    for trades in walks:
        prices = [trade.ticks for trade in trades]
        assert len(set(prices)) == len(prices)
        assert prices == sorted(prices, reverse=trades[0].maker_is_bid)
        assert len({trade.event_time_us for trade in trades}) == 1


def test_every_instrument_trades_and_both_sides_take(market_and_events: tuple[Market, list]) -> None:
    _, events = market_and_events
    seen = {(event.product.symbol, trade.maker_is_bid) for event in events for trade in event.trades}
    assert seen == {(product.symbol, is_bid) for product in PRODUCTS for is_bid in (True, False)}


def test_price_wanders_without_leaping(market_and_events: tuple[Market, list]) -> None:
    market, events = market_and_events
    last: dict[str, int] = {}
    for event in events:
        for trade in event.trades:
            before = last.get(event.product.symbol, trade.ticks)
            assert abs(trade.ticks - before) * 20 < before  # under 5 % from trade to trade
            last[event.product.symbol] = trade.ticks
    for symbol, instrument in market.instruments.items():
        assert instrument.low_ticks < instrument.high_ticks
        assert instrument.high_ticks < 2 * instrument.low_ticks, symbol


def test_history_is_over_when_the_market_starts() -> None:
    market = Market(rng=random.Random(1), start_time_us=START_TIME_US, symbols=["BTC-USD"])
    times = [event.event_time_us for event in market.history]
    assert times == sorted(times)
    assert times[-1] == START_TIME_US - 10_000
    assert market.instruments["BTC-USD"].next_trade_id == START_TIME_US + sum(
        len(event.trades) for event in market.history
    )


def test_two_runs_share_no_trade_id() -> None:
    ids = []
    for start_time_us in (START_TIME_US, START_TIME_US + 5_000_000):
        market = Market(rng=random.Random(1), start_time_us=start_time_us, symbols=["BTC-USD"])
        events = market.history + [market.step(start_time_us + number) for number in range(5000)]
        ids.append({trade.trade_id for event in events for trade in event.trades})
    assert len(ids[0]) > 3000
    assert ids[0].isdisjoint(ids[1])
