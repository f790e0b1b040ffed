"""Decisions with figures worked out by hand: fees of 0.1 % (maker) and 0.2 % (taker), dollars of eight places."""

from __future__ import annotations

from typing import Any

import pytest

from coinstream.messages import (
    BookSnapshot,
    CancelAllOrders,
    CancelOrder,
    CommandRejected,
    Deposit,
    Instrument,
    OpenAccount,
    OrderAccepted,
    OrderCancelled,
    OrderRejected,
    PlaceOrder,
    Quote,
    Trade,
    Withdraw,
)
from coinstream.trading import Account, Markets, decide, wake
from coinstream.trading.account import MOST_COMMANDS, MOST_OPEN_ORDERS

T = 1_700_000_000_000_000
S = 1_000_000
BIDS = (("99.5", "2"), ("99", "5"))
ASKS = (("100", "1"), ("100.5", "2"), ("111", "50"))


class Desk:
    """One account at one market, BTC-USD of a venue ``v``."""

    def __init__(self, usd: str | None = "1000", **instrument: Any) -> None:
        self.markets = Markets()
        self.account: Account | None = None
        self.number = 0
        self.now_us = T
        listed = {
            "venue": "v",
            "symbol": "BTC-USD",
            "venue_symbol": "BTCUSD",
            "base": "BTC",
            "quote": "USD",
            "tick_size": "0.01",
            "lot_size": "0.0001",
            "minimum_notional": "10",
            "status": "online",
            "received_time_us": T,
        }
        self.markets.take(Instrument(**(listed | instrument)), T)
        self.book(BIDS, ASKS)
        if usd is not None:
            self.send(OpenAccount)
            self.send(Deposit, currency="USD", amount=usd)

    def send(self, kind: Any, **fields: Any) -> list[Any]:
        """Send a command; returns its events."""
        self.number += 1
        key = fields.pop("key", "ann-1")
        base = {"account_id": "ann-1", "user_id": "ann", "command_id": f"c{self.number}", "sent_time_us": self.now_us}
        decision = decide(self.account, self.markets, kind(**(base | fields)), key=key, now_us=self.now_us)
        self.account = decision.account
        return list(decision.events)

    def order(self, **fields: Any) -> list[Any]:
        """Place an order."""
        base = {"venue": "v", "symbol": "BTC-USD", "order_type": "market", "side": "buy"}
        return self.send(PlaceOrder, **(base | fields))

    def limit(self, **fields: Any) -> list[Any]:
        return self.order(order_type="limit", **fields)

    def book(self, bids: Any, asks: Any) -> list[Any]:
        """Publish a book; returns the events of whatever it woke."""
        return self.market(
            BookSnapshot(venue="v", symbol="BTC-USD", bids=bids, asks=asks, sequence=7, received_time_us=self.now_us)
        )

    def trade(self, price: str, size: str, trade_id: str = "t1", **fields: Any) -> list[Any]:
        base = {
            "venue": "v",
            "symbol": "BTC-USD",
            "aggressor_side": "sell",
            "event_time_us": self.now_us,
            "received_time_us": self.now_us,
            "provenance": "live",
        }
        return self.market(Trade(trade_id=trade_id, price=price, size=size, **(base | fields)))

    def market(self, message: Any) -> list[Any]:
        self.now_us += 1
        market = self.markets.take(message, self.now_us)
        if self.account is None:
            return []
        woken = wake(self.account, market, message, published_time_us=self.now_us, now_us=self.now_us)
        self.account = woken.account
        return list(woken.events)

    def balance(self, currency: str) -> tuple[str, str]:
        """Available and held, in digits."""
        assert self.account is not None
        balance = self.account.state().balances.get(currency)
        return ("0", "0") if balance is None else (balance.available, balance.held)


def rejection(events: list[Any]) -> str:
    (event,) = events
    assert isinstance(event, (OrderRejected, CommandRejected))
    return event.reason


def test_market_buy_takes_the_levels_one_fill_each_and_pays_the_takers_fee() -> None:
    desk = Desk()
    accepted, first, second = desk.order(quantity="2.5")
    assert isinstance(accepted, OrderAccepted)
    assert (first.price, first.quantity, first.notional, first.fee, first.remaining) == (
        "100",
        "1",
        "100",
        "0.2",
        "1.5",
    )
    assert (second.price, second.quantity, second.notional, second.fee) == ("100.5", "1.5", "150.75", "0.3015")
    assert second.order_status == "filled"
    assert [(level.price, level.taken_before, level.taken) for level in second.evidence.levels] == [
        ("100.5", "0", "1.5")
    ]
    assert desk.balance("BTC") == ("2.5", "0")
    assert desk.balance("USD") == ("748.7485", "0")  # 1000 - 100 - 0.2 - 150.75 - 0.3015


def test_market_buy_by_amount_spends_no_more_than_that_fee_included() -> None:
    desk = Desk()
    _, first, second = desk.order(amount="150")
    assert (first.quantity, first.notional, first.fee) == ("1", "100", "0.2")
    # 49.8 left: 49.8 / (100.5 * 1.002) = 0.49453 -> 0.4945 lots: 49.69725 and 0.0993945
    assert (second.quantity, second.notional, second.fee) == ("0.4945", "49.69725", "0.0993945")
    assert second.amount_left == "0.0033555"
    assert desk.balance("USD") == ("850.0033555", "0")


def test_market_sell_is_paid_less_the_fee() -> None:
    desk = Desk()
    desk.send(Deposit, currency="BTC", amount="3")
    *_, first, second = desk.order(side="sell", quantity="2.5")
    assert (first.price, first.quantity, first.notional, first.fee) == ("99.5", "2", "199", "0.398")
    assert (second.price, second.quantity, second.notional, second.fee) == ("99", "0.5", "49.5", "0.099")
    assert desk.balance("USD") == ("1248.003", "0")
    assert desk.balance("BTC") == ("0.5", "0")


def test_market_order_stops_at_the_band_and_the_rest_is_cancelled() -> None:
    desk = Desk()
    *_, cancelled = desk.order(quantity="4")  # middle 99.75, ten percent more is 109.725: not the level at 111
    assert isinstance(cancelled, OrderCancelled)
    assert (cancelled.reason, cancelled.remaining) == ("price_out_of_band", "1")
    assert desk.balance("BTC") == ("3", "0")


def test_resting_buy_holds_price_and_highest_fee_and_gives_back_what_a_maker_does_not_pay() -> None:
    desk = Desk()
    (accepted,) = desk.limit(quantity="2", limit_price="99")
    assert isinstance(accepted, OrderAccepted)
    assert desk.balance("USD") == ("801.604", "198.396")  # 198 and 0.2 % of it
    (fill,) = desk.trade("98.99", "0.5")
    assert (fill.price, fill.quantity, fill.liquidity, fill.fee, fill.remaining) == (
        "99",
        "0.5",
        "maker",
        "0.0495",
        "1.5",
    )
    assert fill.evidence.trade_id == "t1"
    assert desk.balance("USD") == ("801.6535", "148.797")  # 0.099 was held for the fee, 0.0495 is paid
    (cancelled,) = desk.send(CancelOrder, order_id=accepted.order_id)
    assert (cancelled.remaining, cancelled.reason) == ("1.5", "requested")
    assert desk.balance("USD") == ("950.4505", "0")
    assert desk.balance("BTC") == ("0.5", "0")


def test_limit_that_crosses_takes_first_and_rests_with_what_is_left() -> None:
    desk = Desk()
    accepted, fill = desk.limit(quantity="2", limit_price="100")
    assert (fill.price, fill.quantity, fill.liquidity, fill.fee) == ("100", "1", "taker", "0.2")
    assert desk.balance("USD") == ("799.6", "100.2")  # 100.2 paid, 100.2 held
    assert [order.order_id for order in desk.account.state().open_orders] == [accepted.order_id]  # type: ignore[union-attr]


def test_later_book_fills_a_resting_order_up_to_its_depth_at_the_orders_own_price() -> None:
    desk = Desk()
    desk.limit(quantity="3", limit_price="99.7")
    (fill,) = desk.book(BIDS, (("99.6", "0.5"), ("99.7", "1"), ("99.8", "9")))
    assert (fill.price, fill.quantity, fill.liquidity, fill.remaining) == ("99.7", "1.5", "maker", "1.5")
    assert [(level.price, level.taken) for level in fill.evidence.levels] == [("99.6", "0.5"), ("99.7", "1")]


def test_same_book_published_again_gives_nothing_more() -> None:
    desk = Desk()
    desk.limit(quantity="3", limit_price="99.7")
    later = (BIDS, (("99.6", "0.5"),))
    assert len(desk.book(*later)) == 1
    assert desk.book(*later) == []
    assert len(desk.book(BIDS, (("99.6", "0.6"),))) == 1


def test_quantity_of_a_level_is_taken_once_by_an_account() -> None:
    desk = Desk()
    desk.order(quantity="1")
    _, fill = desk.order(quantity="1")
    assert fill.price == "100.5"  # the level at 100 is used up for this account


@pytest.mark.parametrize(
    ("price", "fields"),
    [("99", {}), ("99.01", {}), ("98.99", {"provenance": "backfill"})],
)
def test_trade_at_the_limit_or_from_the_past_fills_nothing(price: str, fields: dict[str, Any]) -> None:
    desk = Desk()
    desk.limit(quantity="1", limit_price="99")
    assert desk.trade(price, "5", **fields) == []


def test_trade_is_used_once() -> None:
    desk = Desk()
    desk.limit(quantity="3", limit_price="99")
    (fill,) = desk.trade("98", "1")
    assert fill.quantity == "1"
    assert desk.trade("98", "1", event_time_us=fill.evidence.event_time_us) == []


def test_immediate_or_cancel_takes_what_is_there_and_cancels_the_rest() -> None:
    desk = Desk()
    _, fill, cancelled = desk.limit(quantity="2", limit_price="100", time_in_force="ioc")
    assert fill.quantity == "1"
    assert (cancelled.reason, cancelled.remaining) == ("immediate_or_cancel", "1")
    assert desk.balance("USD") == ("899.8", "0")


def test_post_only_rests_or_is_rejected() -> None:
    desk = Desk()
    assert rejection(desk.limit(quantity="1", limit_price="100", time_in_force="post_only")) == "post_only_would_take"
    (accepted,) = desk.limit(quantity="1", limit_price="99.99", time_in_force="post_only")
    assert isinstance(accepted, OrderAccepted)
    assert desk.balance("USD") == ("899.91001", "100.08999")  # 99.99 and a maker's fee of 0.09999


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"quantity": "1e-19"}, "invalid_amount"),
        ({"quantity": "-0"}, "invalid_amount"),
        ({"quantity": "NaN"}, "invalid_amount"),
        ({"quantity": "1" * 40}, "invalid_amount"),
        ({"quantity": "0.00005"}, "lot_size"),
        ({"quantity": "0.05"}, "below_minimum"),
        ({"quantity": "3", "symbol": "XYZ-USD"}, "unknown_instrument"),
        ({}, "invalid_order"),
        ({"quantity": "1", "amount": "1"}, "invalid_order"),
        ({"amount": "100", "side": "sell"}, "invalid_order"),
        ({"quantity": "1", "side": "sell"}, "insufficient_funds"),
        ({"amount": "1000.00000001"}, "insufficient_funds"),
        ({"amount": "100.000000001"}, "invalid_amount"),
        ({"order_type": "limit", "quantity": "1", "limit_price": "99.999"}, "tick_size"),
        ({"order_type": "limit", "quantity": "1", "limit_price": "120"}, "price_out_of_band"),
        ({"order_type": "limit", "quantity": "11", "limit_price": "99"}, "insufficient_funds"),
        ({"order_type": "limit", "quantity": "1"}, "invalid_order"),
    ],
)
def test_order_that_cannot_be_is_rejected_with_its_reason(fields: dict[str, Any], reason: str) -> None:
    desk = Desk()
    before = desk.balance("USD")
    assert rejection(desk.order(**fields)) == reason
    assert desk.balance("USD") == before


def test_market_that_is_silent_for_five_seconds_trades_no_more() -> None:
    desk = Desk()
    desk.now_us += 5 * S
    assert isinstance(desk.order(quantity="1")[0], OrderAccepted)
    desk.now_us += 1
    assert rejection(desk.order(quantity="1")) == "market_stale"


def test_quote_sets_the_middle_that_the_band_is_of() -> None:
    desk = Desk()
    desk.market(Quote(venue="v", symbol="BTC-USD", bid="80", ask="82", received_time_us=T))
    assert rejection(desk.order(quantity="1")) == "price_out_of_band"  # 81 and ten percent of it is below 100


def test_perpetual_and_offline_instruments_do_not_trade() -> None:
    assert rejection(Desk(status="offline").order(quantity="1")) == "market_offline"
    desk = Desk(symbol="BTC-USD-PERP")
    assert rejection(desk.order(symbol="BTC-USD-PERP", quantity="1")) == "not_spot"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"user_id": "eve"}, "not_the_owner"),
        ({"key": "other"}, "wrong_key"),
        ({"sent_time_us": T - 86_400 * S - 10}, "command_expired"),
        ({"sent_time_us": T + 61 * S}, "command_expired"),
    ],
)
def test_command_that_is_not_its_account_s_changes_nothing(fields: dict[str, Any], reason: str) -> None:
    desk = Desk()
    before = desk.account
    (rejected,) = desk.send(Withdraw, currency="USD", amount="1", **fields)
    assert (rejected.reason, rejected.account_version, rejected.entries) == (reason, 0, ())
    assert desk.account is before


def test_account_is_opened_first_and_once() -> None:
    desk = Desk(usd=None)
    assert rejection(desk.send(Deposit, currency="USD", amount="1")) == "account_not_opened"
    desk.send(OpenAccount)
    assert rejection(desk.send(OpenAccount)) == "already_open"


def test_command_id_has_no_second_effect_even_with_another_content() -> None:
    desk = Desk()
    assert desk.send(Deposit, currency="USD", amount="1", command_id="c2") == []
    assert desk.balance("USD") == ("1000", "0")


def test_command_older_than_what_is_remembered_is_refused() -> None:
    desk = Desk()
    old_us = desk.now_us
    desk.now_us += 10
    for _ in range(MOST_COMMANDS + 2):
        desk.send(Deposit, currency="USD", amount="1")
    assert desk.account is not None
    assert len(desk.account.commands) == MOST_COMMANDS
    assert rejection(desk.send(Deposit, currency="USD", amount="1", command_id="c2", sent_time_us=old_us - 1)) == (
        "command_expired"
    )


def test_open_orders_are_bounded() -> None:
    desk = Desk(usd="1000000")
    for _ in range(MOST_OPEN_ORDERS):
        assert isinstance(desk.limit(quantity="1", limit_price="99")[0], OrderAccepted)
    assert rejection(desk.limit(quantity="1", limit_price="99")) == "too_many_open_orders"
    assert len(desk.send(CancelAllOrders)) == MOST_OPEN_ORDERS
    assert desk.balance("USD") == ("1000000", "0")
    assert rejection(desk.send(CancelAllOrders)) == "no_open_orders"


@pytest.mark.parametrize("amount", ["0.000000000000000001", "999999999999.000000000000000001"])
def test_least_and_great_amounts_pass_exactly(amount: str) -> None:
    desk = Desk()
    desk.send(Deposit, currency="BTC", amount=amount)
    assert desk.balance("BTC") == (amount, "0")
    (withdrawn,) = desk.send(Withdraw, currency="BTC", amount=amount)
    assert withdrawn.amount == amount
    assert desk.balance("BTC") == ("0", "0")
