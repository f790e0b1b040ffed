"""Which resting orders a market message may fill, found by price instead of by asking every account.

A snapshot each second and every trade meet all orders that rest at an instrument; nearly always they reach none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from coinstream.messages import BookSnapshot, Trade
from coinstream.trading.account import Account, Order


class _Place(NamedTuple):
    """Of an order in its list, cheapest first."""

    price: Decimal
    account_id: str
    order_id: str


class Resting:
    """The resting orders of many accounts, by instrument, side and price."""

    def __init__(self) -> None:
        self._orders: dict[tuple[str, str], tuple[list[_Place], list[_Place]]] = {}

    def __len__(self) -> int:
        """How many orders rest."""
        return sum(len(buys) + len(sells) for buys, sells in self._orders.values())

    def replace(self, before: Account | None, after: Account | None) -> None:
        """Take in what an account's orders are now; ``None``: there is no such account here."""
        old = before.orders if before is not None else {}
        new = after.orders if after is not None else {}
        if old.keys() == new.keys():  # a fill changes neither price nor place
            return
        for order_id, order in old.items():
            if order_id not in new and before is not None:
                self._drop(order, before.account_id)
        for order_id, order in new.items():
            if order_id not in old and after is not None:
                self._add(order, after.account_id)

    def reached_by(self, message: BookSnapshot | Trade) -> set[str]:
        """Return the accounts with an order that the message's prices reach.

        Args:
            message: A book reaches what its best level crosses or meets; a trade what it printed strictly through.
        """
        found = self._orders.get((message.venue, message.symbol))
        if found is None:
            return set()
        buys, sells = found
        if isinstance(message, Trade):
            price = Decimal(message.price)
            return _accounts(buys[bisect_right(buys, price, key=_price) :]) | _accounts(
                sells[: bisect_left(sells, price, key=_price)]
            )
        reached: set[str] = set()
        if message.asks:
            reached |= _accounts(buys[bisect_left(buys, Decimal(message.asks[0][0]), key=_price) :])
        if message.bids:
            reached |= _accounts(sells[: bisect_right(sells, Decimal(message.bids[0][0]), key=_price)])
        return reached

    def _side(self, order: Order) -> list[_Place]:
        sides = self._orders.setdefault((order.venue, order.symbol), ([], []))
        return sides[0] if order.terms.side == "buy" else sides[1]

    def _add(self, order: Order, account_id: str) -> None:
        insort(self._side(order), _Place(order.limit_price, account_id, order.order_id))

    def _drop(self, order: Order, account_id: str) -> None:
        side = self._side(order)
        place = _Place(order.limit_price, account_id, order.order_id)
        at = bisect_left(side, place)
        if at == len(side) or side[at] != place:
            raise AssertionError(f"order {order.order_id} rests and is not in the index")
        del side[at]


def _price(place: _Place) -> Decimal:
    return place.price


def _accounts(places: Iterable[_Place]) -> set[str]:
    return {place.account_id for place in places}
