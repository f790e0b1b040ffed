"""Orders and money against figures worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from coinstream.messages import (
    BookSnapshot,
    CancelOrder,
    Command,
    Deposit,
    Event,
    Instrument,
    OpenAccount,
    OrderFilled,
    PlaceOrder,
    Trade,
    Withdraw,
)
from coinstream.trading import Account, Decision, Link, Markets, decide, explain, verify_chain, wake

T = 1_700_000_000_000_000
ASKS = (("100.00", "1"), ("100.10", "0.5"), ("120", "9"))
BIDS = (("99.90", "1"), ("99.80", "2"))


class Desk:
    """One account before one market, a millisecond later at each step."""

    def __init__(self, *, lot: str | None = "0.0001", **deposits: str) -> None:
        self.now_us = T
        self.markets = Markets()
        self.account: Account | None = None
        self.events: list[Event] = []
        self.sent = 0
        instrument = Instrument(
            venue="v",
            symbol="BTC-USD",
            venue_symbol="x",
            base="BTC",
            quote="USD",
            tick_size="0.01",
            lot_size=lot,
            minimum_notional="0",
            status="online",
            received_time_us=T,
        )
        self.markets.take(instrument, T)
        self.book()
        self.ask(OpenAccount)
        for currency, amount in deposits.items():
            self.ask(Deposit, currency=currency, amount=amount)

    def book(self, *, bids: Any = BIDS, asks: Any = ASKS) -> list[Event]:
        return self.heard(BookSnapshot(venue="v", symbol="BTC-USD", bids=bids, asks=asks, received_time_us=T))

    def heard(self, message: Any) -> list[Event]:
        self.now_us += 1000
        market = self.markets.take(message, self.now_us)
        if self.account is None:
            return []
        decision = wake(self.account, market, message, published_time_us=self.now_us, now_us=self.now_us)
        return self.said(decision)

    def said(self, decision: Decision) -> list[Event]:
        self.account = decision.account
        self.events += decision.events
        for event in decision.events:
            if isinstance(event, OrderFilled):
                assert explain(event) == []
        return list(decision.events)

    def ask(self, kind: type[Command], **fields: Any) -> list[Event]:
        self.now_us += 1000
        self.sent += 1
        stamps = {"account_id": "a", "user_id": "u", "command_id": f"c{self.sent}", "sent_time_us": self.now_us}
        command = kind(**(stamps | fields))
        return self.said(decide(self.account, self.markets, command, key="a", now_us=self.now_us))

    def order(self, side: str, quantity: str | None = None, **fields: Any) -> list[Event]:
        return self.ask(
            PlaceOrder,
            order_type="limit" if "limit_price" in fields else "market",
            side=side,
            venue="v",
            symbol="BTC-USD",
            quantity=quantity,
            **fields,
        )

    def has(self, currency: str) -> tuple[str, str]:
        assert self.account is not None
        balance = self.account.state().balances.get(currency)
        return ("0", "0") if balance is None else (balance.available, balance.held)


def trade(price: str, size: str, **fields: Any) -> Trade:
    return Trade(
        **(
            {
                "venue": "v",
                "symbol": "BTC-USD",
                "trade_id": "t1",
                "price": price,
                "size": size,
                "aggressor_side": "sell",
                "event_time_us": T,
                "received_time_us": T,
                "provenance": "live",
            }
            | fields
        )
    )


def test_limit_order_takes_then_rests_then_makes_and_holds_what_it_needs() -> None:
    desk = Desk(USD="1000")
    accepted, taken, *_ = desk.order("buy", "2", limit_price="100.10")
    # Held 2 x 100.10 and 0.2 % of it: 200.6004. Taken 1 at 100.00 (100 + 0.2) and 0.5 at 100.10 (50.05 + 0.1001).
    assert [entry.amount for entry in accepted.entries] == ["-200.6004", "200.6004"]
    assert isinstance(taken, OrderFilled)
    assert (taken.price, taken.notional, taken.fee, taken.liquidity) == ("100", "100", "0.2", "taker")
    # 1000 - 100.2 - 50.1501 - what 0.5 still needs (50.05 + 0.1001).
    assert desk.has("USD") == ("799.4998", "50.1501")
    assert desk.has("BTC") == ("1.5", "0")
    assert desk.heard(trade("100.10", "5")) == []  # at the limit is not through it
    (made,) = desk.heard(trade("100.09", "0.2"))
    assert isinstance(made, OrderFilled)
    assert (made.price, made.quantity, made.notional, made.fee) == ("100.1", "0.2", "20.02", "0.02002")
    assert (made.liquidity, made.remaining, made.order_status) == ("maker", "0.3", "open")
    assert desk.heard(trade("100.09", "0.2")) == []  # the same trade again
    assert desk.has("USD") == ("799.51982", "30.09006")
    (cancelled,) = desk.ask(CancelOrder, order_id="a:c3")
    assert cancelled.entries[0].amount == "-30.09006"
    assert desk.has("USD") == ("829.60988", "0")


def test_fill_and_fee_round_once_and_the_house_has_the_difference() -> None:
    desk = Desk(lot="0.00000001", USD="1")
    desk.book(asks=(("33333.33", "1"),), bids=(("33333.32", "1"),))
    _, fill = desk.order("buy", "0.00000001")
    # 0.0003333333 goes up to 0.00033334; its fee 0.0000006666666 up to 0.00000067.
    usd = [(entry.holder, entry.amount, entry.kind) for entry in fill.entries if entry.currency == "USD"]
    assert usd == [
        ("account", "-0.00033334", "trade"),
        ("house", "0.00033333", "trade"),
        ("house", "0.00000001", "rounding"),
        ("account", "-0.00000067", "fee"),
        ("fees", "0.00000066", "fee"),
        ("house", "0.00000001", "rounding"),
    ]
    assert desk.has("USD") == ("0.99966599", "0")


def test_smallest_and_largest_amounts_are_exact() -> None:
    desk = Desk(lot=None, BTC="1000000000000.000000000000000001")
    _, fill = desk.order("sell", "0.000000000000000001")
    assert isinstance(fill, OrderFilled)
    assert (fill.quantity, fill.notional, fill.fee) == ("0.000000000000000001", "0", "0")
    assert desk.has("BTC") == ("1000000000000", "0")


def test_amount_to_spend_is_never_exceeded() -> None:
    desk = Desk(USD="150")
    _, fill = desk.order("buy", amount="100")
    # 100 / (100 x 1.002) is 0.99800..., in lots 0.998: 99.8 and 0.1996.
    assert isinstance(fill, OrderFilled)
    assert (fill.quantity, fill.notional, fill.fee, fill.amount_left) == ("0.998", "99.8", "0.1996", "0.0004")
    assert fill.order_status == "filled"
    assert desk.has("USD") == ("50.0004", "0")


def test_remainder_of_a_market_order_beyond_the_band_is_cancelled_and_no_level_taken_twice() -> None:
    desk = Desk(USD="10000")
    *_, cancelled = desk.order("buy", "3")
    assert (cancelled.reason, cancelled.remaining) == ("price_out_of_band", "1.5")  # 120 is over 109.945
    desk.book()  # published again, the same book
    (rejected,) = desk.order("buy", "1")
    assert rejected.reason == "price_out_of_band"
    desk.book(asks=(("100.00", "1.5"),))
    assert len(desk.order("buy", "1")) == 2


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"quantity": "1e-19"}, "invalid_amount"),
        ({"quantity": "-0"}, "invalid_amount"),
        ({"quantity": "NaN"}, "invalid_amount"),
        ({"quantity": "1" * 40}, "invalid_amount"),
        ({"quantity": "0.00001"}, "lot_size"),
        ({"quantity": "1", "limit_price": "100.001"}, "tick_size"),
        ({"quantity": "1", "limit_price": "109.95"}, "price_out_of_band"),  # the middle is 99.95
        ({"quantity": "1", "limit_price": "100", "time_in_force": "post_only"}, "post_only_would_take"),
        ({"quantity": "1"}, "insufficient_funds"),  # 100.2 of 100
        ({"quantity": "1", "amount": "1"}, "invalid_order"),
        ({"amount": "0.001"}, "below_minimum"),
        ({"quantity": "1", "symbol": "ETH-USD"}, "unknown_instrument"),
    ],
)
def test_order_that_cannot_be_is_rejected_and_changes_no_balance(asked: dict[str, Any], reason: str) -> None:
    desk = Desk(USD="100")
    fields: dict[str, Any] = {"order_type": "limit" if "limit_price" in asked else "market", "symbol": "BTC-USD"}
    (rejected,) = desk.ask(PlaceOrder, side="buy", venue="v", **(fields | asked))
    assert rejected.reason == reason
    assert rejected.entries == ()
    assert desk.has("USD") == ("100", "0")


def test_immediate_or_cancel_takes_what_it_can_at_its_limit() -> None:
    desk = Desk(USD="1000")
    *_, cancelled = desk.order("buy", "2", limit_price="100", time_in_force="ioc")
    assert (cancelled.reason, cancelled.remaining) == ("immediate_or_cancel", "1")
    assert desk.has("USD") == ("899.8", "0")


def test_stale_market_takes_no_order() -> None:
    desk = Desk(USD="1000")
    desk.now_us += 5_000_001
    (rejected,) = desk.order("buy", "1")
    assert rejected.reason == "market_stale"


def test_command_older_than_what_is_remembered_is_expired_and_changes_nothing() -> None:
    desk = Desk(USD="1000")
    first = desk.account
    assert first is not None
    for _ in range(256):
        desk.ask(Withdraw, currency="USD", amount="1")
    assert desk.has("USD") == ("744", "0")
    assert desk.ask(Withdraw, currency="USD", amount="1", command_id="c200") == []
    before = desk.account
    (expired,) = desk.ask(Deposit, currency="USD", amount="1", command_id="c2", sent_time_us=T)
    assert (expired.reason, expired.account_version) == ("command_expired", 0)
    assert desk.account is before


@pytest.mark.parametrize("change", ["amount", "missing", "swapped", "cut off"])
def test_chain_tells_of_every_change(change: str) -> None:
    desk = Desk(USD="1000", BTC="2")
    desk.order("buy", "1")
    desk.order("sell", "0.5")
    assert desk.account is not None
    links = [Link(it.account_version, it.event_time_us, it.entries, it.hash or "") for it in desk.events if it.entries]
    assert verify_chain("a", links, head=desk.account.hash) == []
    if change == "amount":
        links[0] = links[0]._replace(entries=links[1].entries)
    elif change == "missing":
        del links[1]
    elif change == "swapped":
        links[0], links[1] = links[1], links[0]
    else:
        links.pop()
    assert verify_chain("a", links, head=desk.account.hash)
