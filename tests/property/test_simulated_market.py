"""The simulated market keeps a book's laws, whatever the seed; and what it publishes folds to its own book."""

import json
import random
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coinstream.adapters.coinbase_advanced import AdvancedTradeAdapter
from coinstream.adapters.dialect import Frame
from coinstream.messages import Trade
from coinstream.simulator.coinbase_publisher import CoinbasePublisher
from coinstream.simulator.market import Market, MarketEvent
from coinstream.simulator.products import BINANCE_PRODUCTS, PRODUCTS, Product
from coinstream.simulator.routes import reply_to
from coinstream.simulator.schedule import Schedule

START_TIME_US = 1_780_000_000_000_000

seeds = st.integers(min_value=0, max_value=2**64)


def lists_of(products: tuple[Product, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from([product.symbol for product in products]), min_size=1, max_size=3, unique=True)


symbol_lists = lists_of(PRODUCTS)


def events_of(seed: int, symbols: list[str], steps: int) -> tuple[Market, list[MarketEvent]]:
    market = Market(rng=random.Random(seed), start_time_us=START_TIME_US, symbols=symbols)
    return market, [market.step(START_TIME_US + 1000 * number) for number in range(steps)]


@settings(deadline=None)  # how long an example takes depends on who else uses the machine
@given(seed=seeds, symbols=symbol_lists, steps=st.integers(min_value=0, max_value=400))
def test_same_seed_start_and_steps_make_the_same_market(seed: int, symbols: list[str], steps: int) -> None:
    first_market, first = events_of(seed, symbols, steps)
    second_market, second = events_of(seed, symbols, steps)
    assert first_market.history + first == second_market.history + second
    for symbol in symbols:
        one, other = first_market.instruments[symbol].book, second_market.instruments[symbol].book
        assert (list(one.bids.levels()), list(one.asks.levels())) == (
            list(other.bids.levels()),
            list(other.asks.levels()),
        )


@settings(deadline=None)
@given(seed=seeds, symbols=symbol_lists, steps=st.integers(min_value=1, max_value=1500))
def test_book_is_never_crossed_nor_shallow_and_prices_stay_positive(seed: int, symbols: list[str], steps: int) -> None:
    assert_book_keeps_its_laws(Market(rng=random.Random(seed), start_time_us=START_TIME_US, symbols=symbols), steps)


@settings(deadline=None)
@given(seed=seeds, symbols=lists_of(BINANCE_PRODUCTS), steps=st.integers(min_value=1, max_value=1500))
def test_book_of_coarse_lots_keeps_the_same_laws(seed: int, symbols: list[str], steps: int) -> None:
    market = Market(rng=random.Random(seed), start_time_us=START_TIME_US, symbols=symbols, products=BINANCE_PRODUCTS)
    assert_book_keeps_its_laws(market, steps)


def assert_book_keeps_its_laws(market: Market, steps: int) -> None:
    for number in range(steps):
        book = market.instruments[market.step(START_TIME_US + number).product.symbol].book
        assert 0 < book.bids.best_ticks < book.asks.best_ticks
    for instrument in market.instruments.values():
        assert instrument.book.bids.worst_ticks > 0
        assert len(instrument.book.bids) >= 100
        assert len(instrument.book.asks) >= 100
        assert min(instrument.book.bids.lots_at.values()) > 0


@settings(deadline=None)
@given(seed=seeds, symbols=symbol_lists)
def test_market_orders_take_from_the_book_exactly_what_they_trade(seed: int, symbols: list[str]) -> None:
    market = Market(rng=random.Random(seed), start_time_us=START_TIME_US, symbols=symbols)
    for number in range(300):
        before = {
            symbol: (dict(instrument.book.bids.lots_at), dict(instrument.book.asks.lots_at))
            for symbol, instrument in market.instruments.items()
        }
        event = market.step(START_TIME_US + number)
        book = market.instruments[event.product.symbol].book
        bids, asks = before[event.product.symbol]
        removed = sum(bids.values()) + sum(asks.values())
        removed -= sum(book.bids.lots_at.values()) + sum(book.asks.lots_at.values())
        assert (event.kind == "market_order") == bool(event.trades)
        if event.trades:
            assert removed == sum(trade.lots for trade in event.trades)
        for trade in event.trades:  # each took from the best level there was, on the maker's side
            side = bids if trade.maker_is_bid else asks
            assert trade.ticks == (max(side) if trade.maker_is_bid else min(side))
            side[trade.ticks] -= trade.lots
            if side[trade.ticks] == 0:
                del side[trade.ticks]


@settings(deadline=None)
@given(seed=seeds, symbols=symbol_lists)
def test_trade_ids_count_up_from_the_start_time_without_holes(seed: int, symbols: list[str]) -> None:
    market, events = events_of(seed, symbols, 500)
    for symbol in symbols:
        trades = [
            trade for event in market.history + events if event.product.symbol == symbol for trade in event.trades
        ]
        assert [trade.trade_id for trade in trades] == list(range(START_TIME_US, START_TIME_US + len(trades)))
        times = [trade.event_time_us for trade in trades]
        assert times == sorted(times)


class CalledOutlet:
    """Calls a function with each message."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive

    def send(self, message: bytes, *, is_market_data: bool) -> None:  # noqa: ARG002
        self._receive(message)

    def close(self, reason: str) -> None:
        raise AssertionError(reason)


def fold(books: dict[str, dict[str, dict[str, str]]], message: dict[str, Any]) -> None:
    """Keep books as a client would: plain dicts of the venue's texts."""
    for event in message["events"] if message["channel"] == "l2_data" else []:
        if event["type"] == "snapshot":
            books[event["product_id"]] = {"bid": {}, "offer": {}}
        for update in event["updates"]:
            side = books[event["product_id"]][update["side"]]
            if update["new_quantity"] == "0":
                side.pop(update["price_level"], None)
            else:
                side[update["price_level"]] = update["new_quantity"]


@settings(deadline=None)
@given(seed=seeds, symbols=symbol_lists, joins_at_ms=st.integers(min_value=0, max_value=300))
def test_snapshot_and_updates_fold_to_the_servers_own_book(seed: int, symbols: list[str], joins_at_ms: int) -> None:
    market = Market(rng=random.Random(seed), start_time_us=START_TIME_US, symbols=symbols)
    publisher = CoinbasePublisher(Schedule(market, start_time_us=START_TIME_US, rate=2000))
    books: dict[str, dict[str, dict[str, str]]] = {}
    sequences: list[int] = []

    def receive(message: bytes) -> None:
        decoded = json.loads(message)
        sequences.append(decoded["sequence_num"])
        fold(books, decoded)

    session = publisher.connect("/", CalledOutlet(receive))
    publisher.advance(joins_at_ms * 1_000_000)
    session.receive(json.dumps({"type": "subscribe", "channel": "level2", "product_ids": symbols}).encode())
    for elapsed_ms in range(joins_at_ms + 20, joins_at_ms + 300, 20):
        publisher.advance(elapsed_ms * 1_000_000)
    for symbol in symbols:
        instrument = market.instruments[symbol]
        product = instrument.product
        for name, side in (("bid", instrument.book.bids), ("offer", instrument.book.asks)):
            expected = {product.price_text(ticks): product.size_text(lots) for ticks, lots in side.levels()}
            assert books[symbol][name] == expected
    assert sequences == list(range(START_TIME_US, START_TIME_US + len(sequences)))


@settings(deadline=None)
@given(seed=seeds, symbols=symbol_lists)
def test_adapter_reads_back_exactly_the_trades_that_the_market_made(seed: int, symbols: list[str]) -> None:
    market = Market(rng=random.Random(seed), start_time_us=START_TIME_US, symbols=symbols)
    publisher = CoinbasePublisher(Schedule(market, start_time_us=START_TIME_US, rate=1000))
    adapter = AdvancedTradeAdapter("coinbase")
    received: list[Any] = []

    def receive(data: bytes, url: str = "wss://advanced-trade-ws.coinbase.com", connection: str = "ws.1") -> None:
        transport = "ws" if connection == "ws.1" else "http"
        received.extend(adapter.receive(Frame(publisher.schedule.time_us, connection, url, transport, data)))

    products = "/api/v3/brokerage/market/products"
    receive(reply_to(products, publisher).body, f"https://api.coinbase.com{products}", "http.1")
    session = publisher.connect("/", CalledOutlet(receive))
    for request in adapter.subscriptions(symbols, ["trades", "quotes", "books"]):
        session.receive(request.encode())
    for elapsed_ms in range(50, 501, 50):
        publisher.advance(elapsed_ms * 1_000_000)
    assert not [event for event in received if isinstance(event, Exception)]

    replay = Market(rng=random.Random(seed), start_time_us=START_TIME_US, symbols=symbols)
    events = replay.history + [replay.step(START_TIME_US + 1000 * number) for number in range(1, 501)]
    for symbol in symbols:
        made = [
            (
                str(trade.trade_id),
                event.product.price_text(trade.ticks),
                event.product.size_text(trade.lots),
                "sell" if trade.maker_is_bid else "buy",
                trade.event_time_us,
            )
            for event in events
            if event.product.symbol == symbol
            for trade in event.trades
        ]
        read = [
            (trade.trade_id, trade.price, trade.size, trade.aggressor_side, trade.event_time_us)
            for trade in received
            if isinstance(trade, Trade) and trade.symbol == symbol
        ]
        assert read == made[len(made) - len(read) :]  # the snapshot shows the last 100 from before the start
        live = [trade for trade in received if isinstance(trade, Trade) and trade.provenance == "live"]
        assert len(live) == sum(len(event.trades) for event in events[len(replay.history) :])
