"""Engines on Apache Kafka: each command has one outcome, and what is committed is whole."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest

from coinstream.kafka import read_dead_letters
from coinstream.messages import (
    COMMANDS,
    AccountOpened,
    CancelAllOrders,
    CommandRejected,
    Deposit,
    Deposited,
    OpenAccount,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    OrderRejected,
    PlaceOrder,
)
from coinstream.trading import fold
from live_books import VENUE, book, listed, live_books, now_us, trade
from tests.integration.engine.conftest import Exchange


def of(account: str, command: str, **fields: Any) -> dict[str, Any]:
    return {"account_id": account, "user_id": "ann", "command_id": command, "sent_time_us": now_us(), **fields}


def buy(account: str, command: str, **fields: Any) -> PlaceOrder:
    options = {"order_type": "market", "side": "buy", "venue": VENUE, "symbol": "BTC-USD"}
    return PlaceOrder(**of(account, command, **(options | fields)))


def funded(account: str, amount: str = "100000") -> list[Any]:
    return [
        OpenAccount(**of(account, "open")),
        Deposit(**of(account, "deposit", currency="USD", amount=amount)),
    ]


def test_orders_are_answered_against_the_live_book(exchange: Exchange) -> None:
    with live_books(exchange.bootstrap, exchange.prefix):
        exchange.send(*funded("ann-1"), buy("ann-1", "o1", amount="1000"), buy("ann-1", "o2", quantity="9999999"))
        end = exchange.start()
        exchange.wait_until_answered()
        end()
    kinds = [type(event) for event in exchange.events()]
    assert kinds[:3] == [AccountOpened, Deposited, OrderAccepted]
    assert kinds[-1] is OrderRejected
    filled = [event for event in exchange.events() if isinstance(event, OrderFilled)]
    assert filled
    state = exchange.states()["ann-1"]
    assert fold(exchange.events()).state() == state  # type: ignore[union-attr]
    assert set(state.balances) == {"USD", "BTC"}


def test_command_sent_ten_times_across_restarts_has_one_effect_and_one_answer(exchange: Exchange) -> None:
    opening, deposit = funded("ann-1", "100")
    end = exchange.start()
    exchange.send(opening, *[deposit] * 5)
    exchange.wait_until_answered()
    end()
    exchange.send(*[deposit] * 4)
    end = exchange.start()
    exchange.send(deposit, opening)
    exchange.wait_until_answered()
    end()
    counts = Counter(type(event) for event in exchange.events())
    assert counts[Deposited] == 1
    assert counts[AccountOpened] == 1
    assert exchange.states()["ann-1"].balances["USD"].available == "100"


def test_what_cannot_be_read_is_a_dead_letter_and_its_neighbours_are_answered(exchange: Exchange) -> None:
    opening, deposit = funded("ann-1")
    exchange.send(opening)
    client = exchange.producer._client
    client.produce(exchange.prefix + COMMANDS.name, b'{"type":"deposit","amount":1e-19}', "ann-1")
    client.produce(exchange.prefix + COMMANDS.name, b"\xff\x00", "ann-1")
    exchange.send(deposit)
    end = exchange.start()
    exchange.wait_until_answered()
    end()
    assert [type(event) for event in exchange.events()] == [AccountOpened, Deposited]
    letters = list(read_dead_letters(exchange.bootstrap, topic_prefix=exchange.prefix, topics=[COMMANDS.name]))
    assert [letter.value for letter in letters] == [b'{"type":"deposit","amount":1e-19}', b"\xff\x00"]
    assert all(letter.stage == "engine" for letter in letters)


def test_amounts_that_are_none_are_rejected_with_the_reason(exchange: Exchange) -> None:
    amounts = ["1e-19", "-0", "NaN", "0", "1" * 40, "", "0." + "0" * 18 + "1", " 1"]
    deposits = [Deposit(**of("ann-1", f"d{n}", currency="USD", amount=it)) for n, it in enumerate(amounts)]
    end = exchange.start()
    exchange.send(funded("ann-1")[0], *deposits)
    exchange.wait_until_answered()
    end()
    rejected = [event for event in exchange.events() if isinstance(event, CommandRejected)]
    assert [event.command_id for event in rejected] == [deposit.command_id for deposit in deposits]
    assert {event.reason for event in rejected} == {"invalid_amount"}
    assert exchange.states()["ann-1"].balances == {}


def fills_after(exchange: Exchange, number: int) -> None:
    until = time.monotonic() + 20
    while sum(isinstance(event, OrderFilled) for event in exchange.events()) < number:
        assert time.monotonic() < until, f"not {number} fills in twenty seconds"
        time.sleep(0.1)


def test_resting_order_is_filled_by_the_market_that_comes_to_it(exchange: Exchange) -> None:
    market = exchange.producer
    market.publish(listed("BTC-USD"))
    market.publish(book("BTC-USD", 50_000_00))
    exchange.send(*funded("ann-1"))
    end = exchange.start()
    rests = {"order_type": "limit", "quantity": "0.4", "limit_price": "49990"}
    exchange.send(buy("ann-1", "by-trade", **rests), buy("ann-1", "by-book", **rests | {"limit_price": "49800"}))
    exchange.wait_until_answered()
    assert len(exchange.states()["ann-1"].open_orders) == 2
    market.publish(trade("BTC-USD", 1, 49_989_99))  # strictly through the first, a quarter of a coin
    market.flush(10)
    fills_after(exchange, 1)
    market.publish(book("BTC-USD", 49_795_00))  # crosses both
    market.flush(10)
    fills_after(exchange, 3)
    end()
    fills = [event for event in exchange.events() if isinstance(event, OrderFilled)]
    assert [(it.command_id, it.quantity, it.price, it.liquidity) for it in fills] == [
        ("by-trade", "0.25", "49990", "maker"),
        ("by-trade", "0.15", "49990", "maker"),
        ("by-book", "0.4", "49800", "maker"),
    ]
    assert [it.evidence.__struct_config__.tag for it in fills] == ["trade", "book", "book"]
    assert fold(exchange.events()).state() == exchange.states()["ann-1"]  # type: ignore[union-attr]


def test_engine_without_a_market_says_so_and_takes_money_all_the_same(exchange: Exchange) -> None:
    exchange.send(*funded("ann-1"), buy("ann-1", "o1", amount="10"))
    end = exchange.start()
    exchange.wait_until_answered()
    end()
    *_, rejected = exchange.events()
    assert isinstance(rejected, OrderRejected)
    assert rejected.reason == "unknown_instrument"


@pytest.mark.slow
def test_accounts_move_between_engines_as_they_come_and_go(exchange: Exchange) -> None:
    accounts = [f"acc-{number}" for number in range(40)]
    stop = threading.Event()

    def trade_on() -> None:
        number = 0
        while not stop.wait(0.01):
            number += 1
            account = accounts[number % len(accounts)]
            exchange.producer.publish(buy(account, f"o{number}", amount="10"))
            if number % 7 == 0:
                exchange.producer.publish(CancelAllOrders(**of(account, f"c{number}")))
            exchange.producer.serve()

    for account in accounts:
        exchange.send(*funded(account))
    with live_books(exchange.bootstrap, exchange.prefix):
        user = threading.Thread(target=trade_on)
        user.start()
        first = exchange.start()
        time.sleep(3)
        second = exchange.start()
        time.sleep(6)
        first()
        time.sleep(3)
        stop.set()
        user.join()
        exchange.producer.flush(10)
        exchange.wait_until_answered()
        second()
    events = exchange.events()
    answers = Counter((it.account_id, it.command_id) for it in events if isinstance(it, (OrderAccepted, OrderRejected)))
    assert set(answers.values()) == {1}
    assert len(answers) > 500
    states = exchange.states()
    assert set(states) == set(accounts)
    for account in accounts:
        folded = fold([event for event in events if event.account_id == account])
        assert folded is not None
        assert folded.state() == states[account]
    assert not [it for it in events if isinstance(it, OrderCancelled) and it.reason == "requested"]
