"""One instrument as Binance numbers it: what its streams have yet to send, and the trades that REST still knows."""

from collections import deque

from coinstream.simulator import binance as venue
from coinstream.simulator.market import InstrumentMarket, LevelChange, MarketEvent, SimulatedTrade

__all__ = ["BinanceInstrument", "DepthChanges"]

_RECENT_AGGREGATES = 20_000  # a symbol, to be had by REST; older ones are forgotten, where the venue remembers all


class DepthChanges:
    """What one depth stream of one symbol has yet to send."""

    def __init__(self, name: str, last_id: int) -> None:
        self.name = name
        self._last_id = last_id
        self._lots_at: dict[tuple[bool, int], int] = {}

    def add(self, change: LevelChange) -> None:
        """Note a level's new total, which stands for those before it."""
        self._lots_at[change.is_bid, change.ticks] = change.lots

    def take(self, instrument: InstrumentMarket, *, last_id: int, time_us: int) -> str | None:
        """Return the event, which follows the one before without a hole, or None when nothing changed."""
        if not self._lots_at:
            return None
        event = venue.depth_event(
            instrument.product,
            first_id=self._last_id + 1,
            last_id=last_id,
            bids=self._side(is_bid=True),
            asks=self._side(is_bid=False),
            time_us=time_us,
        )
        self.begin_after(last_id)
        return event

    def begin_after(self, last_id: int) -> None:
        """Forget what nobody was sent, and let the next event begin after this id."""
        self._lots_at, self._last_id = {}, last_id

    def _side(self, *, is_bid: bool) -> list[tuple[int, int]]:
        levels = [(ticks, lots) for (is_bids, ticks), lots in self._lots_at.items() if is_bids == is_bid]
        return sorted(levels, reverse=is_bid)


class BinanceInstrument:
    """One instrument as this venue numbers it: updates of its book, aggregate trades, single trades.

    All three count up from the start time in microseconds, so that no two runs share a number.

    Attributes:
        update_id: Of the last change of the book; one more for each level that changes.
        aggregates: The newest, oldest first.
    """

    def __init__(self, instrument: InstrumentMarket, *, start_id: int) -> None:
        self.instrument = instrument
        self.update_id = start_id
        self.aggregates: deque[venue.AggregateTrade] = deque(maxlen=_RECENT_AGGREGATES)
        self.streams = tuple(
            f"{venue.spelling(instrument.product).lower()}@{kind}" for kind in ("aggTrade", "bookTicker")
        )
        depth = f"{venue.spelling(instrument.product).lower()}@depth"
        self.fast, self.slow = DepthChanges(f"{depth}@100ms", start_id), DepthChanges(depth, start_id)
        self._next_trade_id = start_id
        self._top: tuple[int, ...] = ()

    def take(self, event: MarketEvent) -> list[venue.AggregateTrade]:
        """Number what happened, keep it for the depth streams, and return the trades."""
        for change in event.changes:
            self.update_id += 1
            self.fast.add(change)
            self.slow.add(change)
        return [self.number(trade) for trade in event.trades]

    def number(self, trade: SimulatedTrade) -> venue.AggregateTrade:
        """Number a trade and those it sums up: between one and three makers, as its size decides."""
        first_id = self._next_trade_id
        self._next_trade_id += 1 + trade.lots % 3
        aggregate = venue.AggregateTrade(trade, first_id, self._next_trade_id - 1)
        self.aggregates.append(aggregate)
        return aggregate

    def has_new_top(self) -> bool:
        """Tell whether the best prices and sizes differ from what they were when this was asked last."""
        bids, asks = self.instrument.book.bids, self.instrument.book.asks
        top = (bids.best_ticks, bids.lots_at[bids.best_ticks], asks.best_ticks, asks.lots_at[asks.best_ticks])
        is_new, self._top = top != self._top, top
        return is_new
