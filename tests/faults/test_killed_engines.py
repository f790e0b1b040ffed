"""Engines that are killed and frozen under load: every command has one outcome, and no money appears or goes."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from coinstream.engine import ENGINE_GROUP
from coinstream.kafka import Producer, committed_positions, end_offsets, last_offsets, read_range, start_offsets
from coinstream.messages import (
    ACCOUNTS,
    COMMANDS,
    EVENTS,
    AccountState,
    CancelAllOrders,
    Command,
    Deposit,
    Event,
    Message,
    OpenAccount,
    OrderCancelled,
    OrderFilled,
    PlaceOrder,
    Topic,
    Withdraw,
    decode_batch,
)
from coinstream.trading import fold
from live_books import PRICES, VENUE, live_books, now_us
from pipeline import Pipeline, end

SEED = int(os.environ.get("COINSTREAM_TEST_SEED", "20261125"))
ACCOUNT_IDS = [f"acc-{number}" for number in range(60)]
SECONDS = 45
COMMANDS_PER_S = 150
# What follows from a command besides its one answer.
CONSEQUENCES = (OrderFilled, OrderCancelled)


class Users:
    """Sends what users send, some of it twice, some of it wrong; remembers all of it."""

    def __init__(self, pipeline: Pipeline, seed: int) -> None:
        self.sent: dict[tuple[str, str], Command] = {}
        self._chance = random.Random(seed)
        self._producer = Producer(pipeline.kafka, client_id="test-users", topic_prefix=pipeline.prefix)
        self._number = 0

    def fields(self, account_id: str, command_id: str) -> dict[str, Any]:
        return {"account_id": account_id, "user_id": "ann", "command_id": command_id, "sent_time_us": now_us()}

    def send(self, command: Command) -> None:
        self.sent.setdefault((command.account_id, command.command_id), command)
        for _ in range(self._chance.choice((1, 1, 1, 2, 3))):
            self._producer.publish(command)

    def open_accounts(self) -> None:
        for account_id in ACCOUNT_IDS:
            self.send(OpenAccount(**self.fields(account_id, "open")))
            self.send(Deposit(**self.fields(account_id, "first"), currency="USD", amount="50000"))
        self._producer.flush(30)

    def step(self) -> None:
        self._number += 1
        chance = self._chance
        fields = self.fields(chance.choice(ACCOUNT_IDS), f"c{self._number}")
        roll = chance.random()
        if roll < 0.08:
            amount = chance.choice(("100.12345678", "1e-19", "-0", "0.00000001", "999999999999"))
            self.send(Deposit(**fields, currency="USD", amount=amount))
        elif roll < 0.14:
            self.send(Withdraw(**fields, currency=chance.choice(("USD", "BTC")), amount="10.5"))
        elif roll < 0.20:
            self.send(CancelAllOrders(**fields))
        else:
            self.send(self._order(fields))

    def _order(self, fields: dict[str, Any]) -> PlaceOrder:
        chance = self._chance
        symbol = chance.choice(list(PRICES))
        side = chance.choice(("buy", "buy", "sell"))
        order: dict[str, Any] = {"side": side, "venue": VENUE, "symbol": symbol}
        if chance.random() < 0.5:
            spends = side == "buy" and chance.random() < 0.5
            order |= {"order_type": "market", **({"amount": "250"} if spends else {"quantity": "0.01234567"})}
        else:
            cents = PRICES[symbol] + chance.randint(-PRICES[symbol] // 50, PRICES[symbol] // 50)
            order |= {
                "order_type": "limit",
                "quantity": chance.choice(("0.02", "0.1", "1")),
                "limit_price": f"{cents // 100}.{cents % 100:02}",
                "time_in_force": chance.choice(("gtc", "gtc", "ioc", "post_only")),
            }
        return PlaceOrder(**fields, **order)

    def live(self, stop: threading.Event) -> None:
        began, count = time.monotonic(), 0
        while not stop.wait(0.01):
            while count < (time.monotonic() - began) * COMMANDS_PER_S:
                self.step()
                count += 1
            self._producer.serve()
        self._producer.flush(60)

    def close(self) -> None:
        self._producer.close()


def read(pipeline: Pipeline, topic: Topic) -> Iterator[Message]:
    starts = start_offsets(pipeline.kafka, [topic], topic_prefix=pipeline.prefix)
    ends = last_offsets(pipeline.kafka, starts)
    for batch in read_range(pipeline.kafka, starts, ends, topic_prefix=pipeline.prefix):
        messages, refusals = decode_batch(topic.carries, batch.values)
        assert refusals == []
        yield from (message for message in messages if message is not None)


def wait_until_answered(pipeline: Pipeline, timeout_s: float = 90) -> None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        ends = end_offsets(pipeline.kafka, [COMMANDS], topic_prefix=pipeline.prefix)
        group = pipeline.prefix + ENGINE_GROUP
        done = committed_positions(pipeline.kafka, group, [COMMANDS], topic_prefix=pipeline.prefix)
        behind = [it for it, at in ends.items() if at.next_offset and (it not in done or done[it] != at)]
        if not behind:
            return
        time.sleep(0.3)
    raise AssertionError(f"{len(behind)} partitions have unanswered commands after {timeout_s} s")


def check(pipeline: Pipeline, sent: dict[tuple[str, str], Command]) -> None:
    """Hold what is committed to what was sent: one outcome a command, states that are the fold of whole histories."""
    events: list[Event] = list(read(pipeline, EVENTS))  # type: ignore[arg-type]
    states = {it.account_id: it for it in read(pipeline, ACCOUNTS) if isinstance(it, AccountState)}
    answers = Counter((it.account_id, it.command_id) for it in events if not isinstance(it, CONSEQUENCES))
    cancelled = Counter((it.account_id, it.command_id, it.order_id) for it in events if isinstance(it, OrderCancelled))
    assert set(answers.values()) == set(cancelled.values()) == {1}
    # A cancellation is answered by what it cancelled, or by a rejection where that is nothing.
    cancels = {key for key, command in sent.items() if isinstance(command, CancelAllOrders)}
    by_cancel = cancels & {key[:2] for key in cancelled}
    assert not by_cancel & set(answers)
    assert set(answers) | by_cancel == set(sent)
    of_account: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        of_account[event.account_id].append(event)
    totals: dict[str, Decimal] = defaultdict(Decimal)
    for account_id, its in of_account.items():
        assert [it.account_version for it in its] == list(range(1, len(its) + 1))
        folded = fold(its)
        assert folded is not None
        assert folded.state() == states[account_id]
        for event in its:
            for entry in event.entries:
                totals[entry.currency] += Decimal(entry.amount)
    assert set(totals.values()) == {Decimal(0)}
    assert sum(isinstance(it, OrderFilled) for it in events) > 500


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_engines_killed_and_frozen_under_load_answer_every_command_once(pipeline: Pipeline) -> None:
    print(f"seed {SEED}; replay with COINSTREAM_TEST_SEED={SEED}")
    chance = random.Random(SEED)
    users = Users(pipeline, SEED)
    stop = threading.Event()
    users.open_accounts()
    with live_books(pipeline.kafka, pipeline.prefix, SEED):
        engines = [pipeline.start("engine") for _ in range(2)]
        load = threading.Thread(target=users.live, args=(stop,))
        load.start()
        struck: Counter[str] = Counter()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            time.sleep(chance.uniform(1.5, 4))
            place = chance.randrange(len(engines))
            victim = engines[place]
            if chance.random() < 0.6:
                struck["killed"] += 1
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                engines[place] = pipeline.start("engine")
            else:
                struck["frozen"] += 1
                victim.send_signal(signal.SIGSTOP)
                time.sleep(chance.uniform(7, 14))  # past the group's time-out, and now and then the transaction's
                victim.send_signal(signal.SIGCONT)
        stop.set()
        load.join()
        wait_until_answered(pipeline)
        for engine in engines:
            end(engine)
    users.close()
    print(f"{struck}, {len(users.sent)} commands")
    assert struck["killed"] >= 2
    assert struck["frozen"] >= 1
    check(pipeline, users.sent)
