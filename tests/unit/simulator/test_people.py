"""People who trade: the same seed does the same, and what they ask is what an instrument takes."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal

from coinstream.messages import Command, Deposit, OpenAccount, PlaceOrder
from coinstream.simulator.people import Listed, People
from coinstream.simulator.users import _Schedule

T = 1_700_000_000_000_000
BTC = Listed(
    "coinbase", "BTC-USD", "BTC", "USD", Decimal("0.01"), Decimal("0.00000001"), Decimal(50_000), Decimal(50_001)
)
TINY = BTC._replace(
    symbol="PEPE-USD",
    base="PEPE",
    tick=Decimal("1e-18"),
    lot=Decimal(1),
    bid=Decimal("0.000000000001"),
    ask=Decimal("0.0000000000011"),
)


def acts(seed: int, number: int, at: Listed = BTC) -> list[Command]:
    people = People(50, run="r", chance=random.Random(seed))
    return [*people.arrive(T, ["USD"]), *(people.act(T, at) for _ in range(number))]


def test_seed_decides_what_is_done() -> None:
    assert acts(1, 500) == acts(1, 500)
    assert acts(1, 500) != acts(2, 500)


def test_everyone_opens_an_account_and_pays_in_first() -> None:
    first = acts(1, 0)
    assert [type(command) for command in first] == [OpenAccount, Deposit] * 50
    assert len({command.account_id for command in first}) == 50


def test_command_ids_are_unique_but_for_what_is_sent_twice() -> None:
    commands = acts(1, 5000)
    ids = Counter(command.command_id for command in commands)
    twice = [number for number in ids.values() if number > 1]
    assert 10 < len(twice) < 120
    assert len(set(commands)) == len(ids)


def test_orders_are_whole_ticks_and_lots_but_for_the_mistakes() -> None:
    for at in (BTC, TINY):
        orders = [command for command in acts(3, 3000, at) if isinstance(command, PlaceOrder)]
        odd = [it for it in orders if it.quantity is not None and Decimal(it.quantity) % at.lot]
        assert 0 < len(odd) < len(orders) / 50
        assert all(Decimal(it.limit_price) % at.tick == 0 for it in orders if it.limit_price is not None)
        assert all("e" not in (it.quantity or "").lower() for it in orders)


def test_few_are_busiest() -> None:
    busy = Counter(command.account_id for command in acts(1, 5000)).most_common()
    assert sum(count for _, count in busy[:13]) > 2000


def test_bursts_come_and_go_and_the_average_is_what_was_asked_for() -> None:
    schedule = _Schedule(100)
    assert [schedule.due(second) for second in (0, 1, 2, 6, 10, 12, 20, 100)] == [
        0,
        250,
        500,
        750,
        1000,
        1500,
        2000,
        10_000,
    ]
