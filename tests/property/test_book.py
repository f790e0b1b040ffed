"""The order book equals a dict that is sorted anew at every look."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from coinstream.market.book import OrderBook

cents = st.integers(min_value=1, max_value=40)
prices = st.builds(lambda n, zeros: f"{n // 10}.{n % 10}" + "0" * zeros, cents, st.integers(0, 2))
sizes = st.sampled_from(["0", "0.00", "1", "1.0", "2.5", "0.000000000000000001"])
levels = st.lists(st.tuples(prices, sizes), max_size=12)
steps = st.lists(st.tuples(st.booleans(), levels, levels), max_size=12)

Model = dict[Decimal, tuple[str, str]]


def change(model: Model, changes: list[tuple[str, str]]) -> None:
    for price, size in changes:
        if Decimal(size) == 0:
            model.pop(Decimal(price), None)
        else:
            model[Decimal(price)] = (price, size)


@given(steps, st.integers(1, 50))
def test_book_equals_a_sorted_dict_after_any_updates(
    updates: list[tuple[bool, list[tuple[str, str]], list[tuple[str, str]]]], depth: int
) -> None:
    book, bids, asks = OrderBook(), Model(), Model()
    for is_snapshot, bid_changes, ask_changes in updates:
        if is_snapshot:
            bids.clear()
            asks.clear()
            book.replace(bid_changes, ask_changes)
        else:
            book.apply(bid_changes, ask_changes)
        change(bids, bid_changes)
        change(asks, ask_changes)
        assert book.best(depth) == (
            tuple(bids[price] for price in sorted(bids, reverse=True)[:depth]),
            tuple(asks[price] for price in sorted(asks)[:depth]),
        )
        assert book.depth == (len(bids), len(asks))
        assert book.is_crossed == (bool(bids and asks) and max(bids) >= min(asks))
