"""The index of resting orders finds what a market message may fill, and nothing else."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.messages import BookSnapshot, Side, Trade
from coinstream.trading import Account, Resting
from coinstream.trading.account import Order
from coinstream.trading.money import STANDARD, Terms

T = 1_700_000_000_000_000
Asked = tuple[str, Side, str]
"""Account, side, limit price."""


def order(number: int, side: Side, price: str, symbol: str = "BTC-USD") -> Order:
    terms = Terms(side, "BTC", "USD", Decimal(price), "gtc", STANDARD)
    one = Decimal(1)
    return Order(f"o{number}", f"c{number}", "coinbase", symbol, terms, one, one, one, 0, T)


def account(account_id: str, *orders: Order) -> Account:
    it = Account(account_id, "ann")
    it.orders = {order.order_id: order for order in orders}
    return it


def book(bid: str | None, ask: str | None, symbol: str = "BTC-USD") -> BookSnapshot:
    return BookSnapshot(
        venue="coinbase",
        symbol=symbol,
        bids=() if bid is None else ((bid, "1"),),
        asks=() if ask is None else ((ask, "1"),),
        received_time_us=T,
    )


def trade(price: str, symbol: str = "BTC-USD") -> Trade:
    return Trade(
        venue="coinbase",
        symbol=symbol,
        trade_id="1",
        price=price,
        size="1",
        aggressor_side="buy",
        event_time_us=T,
        received_time_us=T,
        provenance="live",
    )


def test_book_reaches_what_its_best_levels_meet() -> None:
    resting = Resting()
    resting.replace(None, account("a", order(1, "buy", "100")))
    resting.replace(None, account("b", order(2, "buy", "99.5")))
    resting.replace(None, account("c", order(3, "sell", "101")))
    assert resting.reached_by(book("99", "100")) == {"a"}
    assert resting.reached_by(book("101", "102")) == {"c"}
    assert resting.reached_by(book("100.99", "100.01")) == set()
    assert resting.reached_by(book(None, "1")) == {"a", "b"}
    assert resting.reached_by(book("9e3", None)) == {"c"}
    assert resting.reached_by(book(None, None)) == set()
    assert resting.reached_by(book("200", "1", "ETH-USD")) == set()


def test_trade_reaches_only_what_it_printed_strictly_through() -> None:
    resting = Resting()
    resting.replace(None, account("a", order(1, "buy", "100")))
    resting.replace(None, account("b", order(2, "sell", "101")))
    assert resting.reached_by(trade("100")) == set()
    assert resting.reached_by(trade("99.99")) == {"a"}
    assert resting.reached_by(trade("101")) == set()
    assert resting.reached_by(trade("101.01")) == {"b"}


def test_order_that_ended_is_reached_no_more() -> None:
    resting = Resting()
    before = account("a", order(1, "buy", "100"), order(2, "buy", "100"))
    after = account("a", order(2, "buy", "100"))
    resting.replace(None, before)
    resting.replace(before, after)
    assert len(resting) == 1
    assert resting.reached_by(trade("1")) == {"a"}
    resting.replace(after, None)
    assert len(resting) == 0
    assert resting.reached_by(trade("1")) == set()


def test_order_that_is_not_in_the_index_is_an_error_and_no_silence() -> None:
    with pytest.raises(AssertionError, match="not in the index"):
        Resting().replace(account("a", order(1, "buy", "100")), None)


prices = st.integers(1, 60).map(lambda halves: str(Decimal(halves) / 2))
asked = st.tuples(st.sampled_from("abcde"), st.sampled_from(["buy", "sell"]), prices)


@given(st.lists(asked, max_size=30), st.lists(st.integers(0, 29), max_size=10), prices)
def test_index_agrees_with_asking_every_order(orders: list[Asked], ended: list[int], at: str) -> None:
    resting = Resting()
    accounts = {account_id: account(account_id) for account_id in "abcde"}
    for number, (account_id, side, limit) in enumerate(orders):
        before = accounts[account_id]
        accounts[account_id] = account(account_id, *before.orders.values(), order(number, side, limit))
        resting.replace(before, accounts[account_id])
    for number in ended:
        for account_id, before in accounts.items():
            left = [it for it in before.orders.values() if it.order_id != f"o{number}"]
            accounts[account_id] = account(account_id, *left)
            resting.replace(before, accounts[account_id])
    through, crossed = set(), set()
    for account_id, it in accounts.items():
        for resting_order in it.orders.values():
            limit, price = resting_order.limit_price, Decimal(at)
            is_buy = resting_order.terms.side == "buy"
            if limit > price if is_buy else limit < price:
                through.add(account_id)
            if limit >= price if is_buy else limit <= price:
                crossed.add(account_id)
    assert resting.reached_by(trade(at)) == through
    assert resting.reached_by(book(at, at)) == crossed
