"""One message of every kind that is traded with, for tests of whatever carries or stores them."""

from __future__ import annotations

from typing import Any

from coinstream.messages import (
    NO_HASH,
    AccountOpened,
    AccountState,
    Balance,
    BookEvidence,
    CancelAllOrders,
    CancelOrder,
    CommandRejected,
    Deposit,
    Deposited,
    Entry,
    OpenAccount,
    OpenOrder,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    OrderRejected,
    PlaceOrder,
    TakenDepth,
    TakenLevel,
    Withdraw,
    Withdrawn,
)

T = 1_700_000_000_000_000
BOOK = "b" * 64
_asked: dict[str, Any] = {"account_id": "ann-1", "user_id": "ann", "command_id": "c1", "sent_time_us": T}
_event: dict[str, Any] = _asked | {"account_version": 7, "event_time_us": T + 1, "hash": "a" * 64}
_listed: dict[str, Any] = {"venue": "coinbase", "symbol": "BTC-USD"}
_order: dict[str, Any] = _listed | {"order_id": "ann-1:c1", "order_type": "limit", "side": "buy"}
_priced: dict[str, Any] = {"base": "BTC", "quote": "USD", "limit_price": "100.1", "time_in_force": "gtc"}


def _entry(number: int, holder: Any, amount: str, kind: Any = "deposit") -> Entry:
    return Entry(
        amount=amount,
        bucket="available",
        currency="USD",
        holder=holder,
        kind=kind,
        number=number,
        transaction_id="ann-1:7:1",
    )


TRADING: list[Any] = [
    OpenAccount(**_asked),
    Deposit(**_asked, currency="USD", amount="1000000000000"),
    Withdraw(**_asked, currency="BTC", amount="0.000000000000000001"),
    PlaceOrder(**_asked, **_listed, order_type="market", side="buy", amount="100"),
    CancelOrder(**_asked, order_id="ann-1:c1"),
    CancelAllOrders(**_asked, symbol="BTC-USD"),
    AccountOpened(**_event),
    Deposited(**_event, currency="USD", amount="10", entries=(_entry(1, "account", "10"), _entry(2, "house", "-10"))),
    Withdrawn(**_event, currency="USD", amount="10", entries=(_entry(1, "account", "-10"), _entry(2, "house", "10"))),
    OrderAccepted(**_event, **_order, **_priced, quantity="2", fee_rule="standard/1"),
    OrderRejected(**_event, **_order, quantity="NaN", reason="invalid_amount", detail="quantity: NaN is no amount"),
    OrderFilled(
        **_event,
        **_order,
        **_priced,
        fill_id="ann-1:c1:1",
        price="100.1",
        quantity="0.5",
        notional="50.05",
        fee="0.1001",
        fee_rule="standard/1",
        fee_rate="0.002",
        liquidity="taker",
        remaining="1.5",
        order_status="open",
        evidence=BookEvidence(
            book=BOOK,
            sequence=9,
            received_time_us=T,
            published_time_us=T,
            levels=(TakenLevel(price="100.10", size="1", taken_before="0", taken="0.5"),),
        ),
    ),
    OrderCancelled(
        **_event, **_listed, order_id="ann-1:c1", side="buy", remaining="1.5", reason="requested", detail="as asked"
    ),
    CommandRejected(
        account_id="ann-1",
        user_id="eve",
        account_version=0,
        command_id="c1",
        sent_time_us=T,
        event_time_us=T,
        command="deposit",
        reason="not_the_owner",
        detail="account ann-1 is not eve's",
    ),
    AccountState(
        account_id="ann-1",
        user_id="ann",
        version=7,
        opened_time_us=T,
        event_time_us=T + 1,
        balances={"USD": Balance(available="10.5", held="150.4503")},
        open_orders=(
            OpenOrder(
                **_listed,
                order_id="ann-1:c1",
                command_id="c1",
                side="buy",
                base="BTC",
                quote="USD",
                limit_price="100.1",
                quantity="2",
                remaining="1.5",
                held="150.4503",
                time_in_force="gtc",
                fee_rule="standard/1",
                fills=1,
                accepted_time_us=T,
            ),
        ),
        taken=(TakenDepth(**_listed, book=BOOK, asks={"100.10": "0.5"}),),
        commands=(("c1", T),),
        floor_us=T - 1,
        hash=NO_HASH,
    ),
]
