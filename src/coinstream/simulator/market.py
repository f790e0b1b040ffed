"""A plausible market, decided by a seed: orders arrive, leave and walk the book, and the price follows their flow.

Pure: chance and times are arguments, prices and sizes are integers (ticks and lots), and the same generator, start
time and event times give the same market to the last digit.
"""

import random
from collections.abc import Sequence
from typing import Literal

import msgspec

from coinstream.simulator.order_book import BookSide, OrderBook
from coinstream.simulator.products import PRODUCTS, Product, select_products

__all__ = ["InstrumentMarket", "LevelChange", "Market", "MarketEvent", "SimulatedTrade"]

# How many of 1,024 events are which: market orders, new limit orders, and the rest cancels. Many more trades than a
# real venue has, on purpose: an event then makes about 0.8 trades, so that the rate asked for is near the trades got.
_MARKET_ORDERS = 512
_LIMIT_ORDERS = 412
# How many levels a market order reaches into, 16 equally likely draws: 1.7 trades an order on average.
_REACH = (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, 5)
_START_LEVELS = 300
_MOST_LEVELS = 400
_FEWEST_LEVELS = 250
# Below this many levels a side takes no market order: it could be emptied.
_SAFE_LEVELS = 10
_PROTECTED_SPACINGS = 12  # how far a market order walks at most, in spacings
_NEAR_LEVELS = 120  # how far behind the best, in spacings, new orders fill the book
_WIDE_SPREAD = 6  # spacings; a spread wider than that is filled before anything else
_WARM_UP_EVENTS = 40  # an instrument's weight of 1; before the start time, so that a first snapshot has trades
_WARM_UP_PERIOD_US = 10_000


class LevelChange(msgspec.Struct, frozen=True, gc=False):
    """A price level's new absolute total; 0 lots: the level is gone."""

    is_bid: bool
    ticks: int
    lots: int


class SimulatedTrade(msgspec.Struct, frozen=True, gc=False):
    """A trade at one level; the maker's order was ``maker_is_bid``, so that the taker sold if it is true."""

    trade_id: int
    ticks: int
    lots: int
    maker_is_bid: bool
    event_time_us: int


class MarketEvent(msgspec.Struct, frozen=True):
    """One order that arrived or left, with all it did to the book of one instrument, in order."""

    product: Product
    kind: Literal["market_order", "limit_order", "cancel"]
    event_time_us: int
    changes: list[LevelChange]
    trades: list[SimulatedTrade]


class InstrumentMarket:
    """One instrument's book and the statistics a ticker shows, all in ticks and lots.

    Attributes:
        next_trade_id: The id of the next trade. Ids count up from the start time in microseconds: two runs share none
            unless an instrument traded a million times a second.
        traded_lots: All lots traded by market orders since the beginning, for checks.
    """

    def __init__(self, product: Product, *, rng: random.Random, start_time_us: int) -> None:
        self.product = product
        self.book = OrderBook()
        self.next_trade_id = start_time_us
        self.last_ticks = product.reference_ticks
        self.open_ticks = product.reference_ticks
        self.low_ticks = product.reference_ticks
        self.high_ticks = product.reference_ticks
        self.traded_lots = 0
        self._momentum = 0
        self._fill_book(rng)

    def advance(self, bits: int, event_time_us: int) -> MarketEvent:
        """Let one order arrive or leave, as 112 random bits decide."""
        kind = bits & 1023
        draw = bits >> 10
        if kind < _MARKET_ORDERS:
            is_buy = self._next_is_buy(draw)
            if len(self.book.side(is_bid=not is_buy)) > _SAFE_LEVELS:
                return self._market_order(draw >> 16, is_buy=is_buy, event_time_us=event_time_us)
        side = self._side_to_tend(draw >> 32)
        wants_limit_order = kind < _MARKET_ORDERS + _LIMIT_ORDERS
        if len(side) < _FEWEST_LEVELS or (wants_limit_order and len(side) < _MOST_LEVELS):
            return self._limit_order(draw >> 42, side, event_time_us)
        return self._cancel(draw >> 42, side, event_time_us)

    def _fill_book(self, rng: random.Random) -> None:
        for side, direction in ((self.book.bids, -1), (self.book.asks, 1)):
            ticks = self.product.reference_ticks
            for _ in range(_START_LEVELS):
                bits = rng.getrandbits(40)
                ticks += direction * (1 + bits % (2 * self.product.spacing_ticks - 1))
                side.change(max(ticks, 1), self._limit_lots(bits >> 20))

    def _next_is_buy(self, draw: int) -> bool:
        # A wandering appetite for buying or selling makes trends; the pull to the reference price bounds the walk.
        self._momentum += (draw & 31) + (draw >> 5 & 1) - 16
        self._momentum = max(-60, min(60, self._momentum))
        reference = self.product.reference_ticks
        pull = max(-250, min(250, (reference - self.last_ticks) * 2048 // reference))
        return (draw >> 6 & 1023) < 512 + self._momentum + pull

    def _side_to_tend(self, draw: int) -> BookSide:
        bids, asks = self.book.bids, self.book.asks
        if abs(len(bids) - len(asks)) > 40:
            return min(bids, asks, key=len)
        return bids if draw & 1 else asks

    def _limit_lots(self, draw: int) -> int:
        # The product of two uniform draws: many small orders, few large ones.
        return 1 + (self.product.typical_lots * (1 + (draw & 1023)) * (1 + (draw >> 10 & 1023)) >> 20)

    def _market_order(self, draw: int, *, is_buy: bool, event_time_us: int) -> MarketEvent:
        side = self.book.side(is_bid=not is_buy)
        reach = self._reach(side, _REACH[draw & 15])
        if reach == 0:
            return self._limit_order(draw, side, event_time_us)
        lots = sum(side.lots_at[side.nth_ticks(position)] for position in range(reach - 1))
        last_level_lots = side.lots_at[side.nth_ticks(reach - 1)]
        lots += 1 + (last_level_lots - 1) * (draw >> 4 & 1023) // 1024
        changes: list[LevelChange] = []
        trades: list[SimulatedTrade] = []
        for fill in self.book.execute(is_buy=is_buy, lots=lots):
            changes.append(LevelChange(not is_buy, fill.ticks, fill.lots_left))
            trades.append(SimulatedTrade(self.next_trade_id, fill.ticks, fill.lots, not is_buy, event_time_us))
            self.next_trade_id += 1
            self.traded_lots += fill.lots
            self.last_ticks = fill.ticks
        self.low_ticks = min(self.low_ticks, self.last_ticks)
        self.high_ticks = max(self.high_ticks, self.last_ticks)
        return MarketEvent(self.product, "market_order", event_time_us, changes, trades)

    def _reach(self, side: BookSide, wanted: int) -> int:
        # Price protection, as venues have: an order stops where the next level is far away. 0: what is left at the
        # best is not worth an order, and nothing near stands behind it.
        best, furthest = side.best_ticks, _PROTECTED_SPACINGS * self.product.spacing_ticks
        for position in range(1, wanted + 1):
            if abs(side.nth_ticks(position) - best) > furthest:
                is_dust = position == 1 and side.lots_at[best] < self.product.typical_lots >> 8
                return 0 if is_dust else position
        return wanted

    def _limit_order(self, draw: int, side: BookSide, event_time_us: int) -> MarketEvent:
        toward = 1 if side.is_bid else -1
        best = side.best_ticks
        spread = abs(self.book.side(is_bid=not side.is_bid).best_ticks - best)
        choice = draw & 1023
        if len(side) < _FEWEST_LEVELS and choice < 256:  # a level beyond the last, so that the book keeps its depth
            ticks = side.worst_ticks - toward * (1 + (draw >> 10 & 0xFFFF) % (2 * self.product.spacing_ticks))
        elif spread > 1 and (
            choice < 700 or spread > _WIDE_SPREAD * self.product.spacing_ticks
        ):  # better than the best, still short of the other side
            ticks = best + toward * (1 + (draw >> 10 & 0xFFFF) % (spread - 1))
        elif choice < 480:
            ticks = best
        else:  # behind it, mostly near
            reach_ticks = self.product.spacing_ticks * _NEAR_LEVELS
            ticks = best - toward * (1 + (reach_ticks * (draw >> 10 & 1023) * (draw >> 20 & 1023) >> 20))
        ticks = max(ticks, 1)
        total = side.change(ticks, self._limit_lots(draw >> 30))
        return MarketEvent(self.product, "limit_order", event_time_us, [LevelChange(side.is_bid, ticks, total)], [])

    def _cancel(self, draw: int, side: BookSide, event_time_us: int) -> MarketEvent:
        if len(side) >= _MOST_LEVELS:
            ticks = side.worst_ticks
        else:
            ticks = side.nth_ticks(len(side) * (draw & 1023) * (draw >> 10 & 1023) >> 20)
        held = side.lots_at[ticks]
        is_whole = len(side) >= _MOST_LEVELS or draw >> 20 & 1
        lots = held if is_whole else 1 + held // 2
        total = side.change(ticks, -min(lots, held))
        return MarketEvent(self.product, "cancel", event_time_us, [LevelChange(side.is_bid, ticks, total)], [])


class Market:
    """Several instruments that one seeded stream of events moves.

    Args:
        rng: Where all chance comes from.
        start_time_us: Time of the start; trade ids count up from it. Some trades are made before it, for the snapshot
            of recent trades that a venue sends first.
        symbols: Which of the products to trade; None for all.
        products: What the venue lists.

    Attributes:
        instruments: By symbol, in the order asked for.
        history: The events from before the start, oldest first.

    Raises:
        SettingsError: A symbol is unknown or named twice.
    """

    def __init__(
        self,
        *,
        rng: random.Random,
        start_time_us: int,
        symbols: Sequence[str] | None = None,
        products: tuple[Product, ...] = PRODUCTS,
    ) -> None:
        self._rng = rng
        self.instruments = {
            product.symbol: InstrumentMarket(product, rng=rng, start_time_us=start_time_us)
            for product in select_products(None if symbols is None else tuple(symbols), products)
        }
        self._by_activity = [
            instrument for instrument in self.instruments.values() for _ in range(instrument.product.activity)
        ]
        warm_up = _WARM_UP_EVENTS * len(self._by_activity)
        self.history = [self.step(start_time_us - (warm_up - index) * _WARM_UP_PERIOD_US) for index in range(warm_up)]

    def step(self, event_time_us: int) -> MarketEvent:
        """Let the next event happen at the time given; times should not go back."""
        bits = self._rng.getrandbits(128)
        instrument = self._by_activity[(bits & 0xFFFF) % len(self._by_activity)]
        return instrument.advance(bits >> 16, event_time_us)
