"""The order book: levels keyed by value, in the venue's digits, and the rule of when to publish it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from decimal import Decimal

from coinstream.messages import Level, is_zero

DEPTH = 50
"""How many levels a side a published snapshot holds."""
LEAST_INTERVAL_US = 1_000_000
"""A book is published at most this often …"""
UNCHANGED_INTERVAL_US = 2_000_000
"""… and at least this often, so that a reader can tell a quiet market from a dead feed."""


class _Side:
    """One side: levels by price, and the prices in ascending order.

    A list and bisection: a removal moves at most some ten thousand pointers, 1 to 2 µs, and the best
    50 are one slice. Decimal keys make ``1.50`` and ``1.5`` one level.
    """

    __slots__ = ("levels", "prices")

    def __init__(self) -> None:
        self.prices: list[Decimal] = []
        self.levels: dict[Decimal, Level] = {}

    def replace(self, levels: Iterable[Level]) -> None:
        self.levels = {}
        for level in levels:
            price = Decimal(level[0])
            if is_zero(level[1]):
                self.levels.pop(price, None)
            else:
                self.levels[price] = level
        self.prices = sorted(self.levels)

    def apply(self, levels: Iterable[Level]) -> None:
        for level in levels:
            price = Decimal(level[0])
            known = price in self.levels
            if not is_zero(level[1]):
                self.levels[price] = level
                if not known:
                    self.prices.insert(bisect_left(self.prices, price), price)
            elif known:
                del self.levels[price]
                del self.prices[bisect_left(self.prices, price)]


class OrderBook:
    """All levels that a venue has sent of one symbol.

    A level's digits are those last received for it. Removing a level that is not there is no error:
    venues do it after a snapshot of limited depth.
    """

    __slots__ = ("_asks", "_bids")

    def __init__(self) -> None:
        self._bids = _Side()
        self._asks = _Side()

    def replace(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Forget every level and take these; any order, a later one of a price wins."""
        self._bids.replace(bids)
        self._asks.replace(asks)

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Set levels to their new absolute sizes, in order; a size of zero by value removes the level."""
        self._bids.apply(bids)
        self._asks.apply(asks)

    @property
    def is_crossed(self) -> bool:
        """Whether the best bid is at or above the best ask, which no matching engine leaves standing."""
        bids, asks = self._bids.prices, self._asks.prices
        return bool(bids and asks) and bids[-1] >= asks[0]

    @property
    def depth(self) -> tuple[int, int]:
        """The number of bids and of asks."""
        return len(self._bids.prices), len(self._asks.prices)

    def best(self, depth: int = DEPTH) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        """Return the best bids and asks, best first, at most ``depth`` of each."""
        bids, asks = self._bids, self._asks
        return (
            tuple([bids.levels[price] for price in _last(bids.prices, depth)]),
            tuple([asks.levels[price] for price in asks.prices[:depth]]),
        )


def _last(prices: Sequence[Decimal], count: int) -> Sequence[Decimal]:
    return prices[: -count - 1 : -1]


def is_due(*, now_us: int, published_us: int | None, has_changed: bool) -> bool:
    """Return whether a book is to be published now.

    Args:
        now_us: The time.
        published_us: When it was published last; ``None``: never, or not since it was resynchronised,
            which makes it due at once.
        has_changed: It was updated since.
    """
    if published_us is None:
        return True
    return now_us - published_us >= (LEAST_INTERVAL_US if has_changed else UNCHANGED_INTERVAL_US)
