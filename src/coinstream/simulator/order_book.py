"""A limit order book in integers: price levels of lots at ticks, and market orders that walk them."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["BookSide", "Fill", "OrderBook"]


class Fill(NamedTuple):
    """What a market order took at one level: the price, the lots taken and the lots that are left there."""

    ticks: int
    lots: int
    lots_left: int


class BookSide:
    """One side of a book: the sum of lots at each tick, best price first.

    Args:
        is_bid: Bids are best when high, asks when low.
    """

    __slots__ = ("_keys", "_sign", "is_bid", "lots_at")

    def __init__(self, *, is_bid: bool) -> None:
        self.is_bid = is_bid
        self.lots_at: dict[int, int] = {}
        self._sign = 1 if is_bid else -1
        self._keys: list[int] = []  # sign * ticks, ascending: the best is last, where pop costs nothing

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def best_ticks(self) -> int:
        """The best price; the side must hold a level."""
        return self._keys[-1] * self._sign

    @property
    def worst_ticks(self) -> int:
        """The price farthest from the touch; the side must hold a level."""
        return self._keys[0] * self._sign

    def nth_ticks(self, position: int) -> int:
        """Return the price ``position`` levels behind the best (0 is the best)."""
        return self._keys[-1 - position] * self._sign

    def levels(self) -> Iterator[tuple[int, int]]:
        """Yield (ticks, lots), best first."""
        for key in reversed(self._keys):
            ticks = key * self._sign
            yield ticks, self.lots_at[ticks]

    def change(self, ticks: int, lots: int) -> int:
        """Add ``lots`` (negative: remove) at a price and return the level's new total; at 0 the level is gone.

        Raises:
            ValueError: More would be removed than the level holds.
        """
        before = self.lots_at.get(ticks, 0)
        after = before + lots
        if after < 0:
            message = f"level {ticks} holds {before} lots, cannot remove {-lots}"
            raise ValueError(message)
        if after == 0:
            if before:
                del self.lots_at[ticks]
                del self._keys[bisect_left(self._keys, ticks * self._sign)]
            return 0
        self.lots_at[ticks] = after
        if not before:
            insort(self._keys, ticks * self._sign)
        return after


class OrderBook:
    """The bids and asks of one instrument. It is the caller's part never to add a price that crosses."""

    __slots__ = ("asks", "bids")

    def __init__(self) -> None:
        self.bids = BookSide(is_bid=True)
        self.asks = BookSide(is_bid=False)

    def side(self, *, is_bid: bool) -> BookSide:
        """Return the bids or the asks."""
        return self.bids if is_bid else self.asks

    def execute(self, *, is_buy: bool, lots: int) -> list[Fill]:
        """Walk the opposite side with a market order of ``lots``, best level first, until it is filled.

        Returns:
            One fill a level; their lots sum to less than ``lots`` only where the side was emptied.
        """
        side = self.asks if is_buy else self.bids
        fills: list[Fill] = []
        while lots > 0 and len(side):
            ticks = side.best_ticks
            taken = min(lots, side.lots_at[ticks])
            fills.append(Fill(ticks, taken, side.change(ticks, -taken)))
            lots -= taken
        return fills
