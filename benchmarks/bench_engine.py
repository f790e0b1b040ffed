"""The trading engine: decisions alone, decisions through Kafka's transactions, their latency, and a restart.

Commands are made, and in Kafka, before the clock starts. People do what `coinstream simulate users` has them do:
markets and limits, cancels, a few deposits and mistakes.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from prometheus_client import REGISTRY

from benchmarks.report import Cost, Figure, Result, Target, paragraphs
from benchmarks.servers import Bench
from benchmarks.worker import Clock, serve
from coinstream.cli.processes import tune_for_batches
from coinstream.engine import Accounts, restored_states, run_engine
from coinstream.kafka import Producer
from coinstream.messages import (
    COMMANDS,
    BookSnapshot,
    Command,
    Instrument,
    Message,
    Partition,
)
from coinstream.simulator import run_users
from coinstream.simulator.people import Listed, People
from coinstream.trading import Account, Markets, decide

ACCOUNTS = 10_000
ORDERS = 60_000
LONG_ACCOUNT_COMMANDS = 100_000
RESTORED_ACCOUNTS = 100_000
LATENCY_RATE = 500
LATENCY_S = 20.0
VENUE = "coinbase"
MARKETS = {"BTC-USD": 5_000_000, "ETH-USD": 300_000, "SOL-USD": 15_000}
"""Prices in cents."""


def run(bench: Bench) -> Result:
    """Measure the ways in turn."""

    def part(way: str) -> Any:
        prefix = f"bench{uuid.uuid4().hex[:8]}."

        def take() -> Any:
            arguments = {"way": way, "bootstrap": bench.found.kafka_bootstrap, "prefix": bench.topics(prefix)}
            return bench.child("benchmarks.bench_engine", arguments, roles=["kafka"])

        return take

    ways = ("decide", "long", "kafka", "latency", "restore")
    measured = bench.measure({way: part(way) for way in ways})
    restored = measured.rounds[0].parts["restore"]
    return Result(
        "engine",
        "The trading engine",
        [
            Figure(
                f"pure decisions, {ACCOUNTS:,} accounts, one process",
                "orders/s",
                measured.rate("decide"),
                Target(50_000, at_least=True),
                f"{measured.cpu_us('decide', 'ours').median:.1f} µs an order",
            ),
            Figure(
                f"one account's last 10,000 of {LONG_ACCOUNT_COMMANDS:,} commands, to its first",
                "times as long",
                measured.value("long", "last_to_first"),
                Target(1.2, at_least=False),
                "pure decisions",
            ),
            Figure(
                "orders through Kafka with transactions, one process",
                "orders/s",
                measured.rate("kafka"),
                Target(3_000, at_least=True),
                "produced beforehand",
            ),
            Figure(
                f"command produced to event readable at {LATENCY_RATE} orders/s, p99",
                "ms",
                measured.value("latency", "p99_ms"),
                Target(200, at_least=False),
                f"p50 {measured.value('latency', 'p50_ms').median:.0f} ms, in bursts of 2.5 times the rate",
            ),
            Figure(
                f"restoring {RESTORED_ACCOUNTS:,} accounts",
                "s",
                measured.value("restore", "elapsed_s"),
                Target(15, at_least=False),
                f"{restored.units:,} accounts with a few orders' past each",
            ),
        ],
        [
            Cost("decisions alone", "order", {"ours": measured.cpu_us("decide", "ours")}),
            Cost("engine through Kafka", "order", {n: measured.cpu_us("kafka", n) for n in ("ours", "broker")}),
            Cost("restoring", "account", {n: measured.cpu_us("restore", n) for n in ("ours", "broker")}),
        ],
        paragraphs(
            f"""
            {ACCOUNTS:,} accounts, {ORDERS:,} commands through Kafka. The engine reads, decides and commits events,
            account states and offsets in one Kafka transaction a turn; the clock runs from its first turn with
            commands to the commit of the last. Latency is taken by the load generator, from its handing a command to
            Kafka to its reading the answer as committed, so that both its own turns of 10 ms and the engine's count.
            """
        ),
        measured,
    )


def work(*, way: str, bootstrap: str, prefix: str) -> dict[str, Any]:
    """Measure one way once."""
    if way == "decide":
        return _decide()
    if way == "long":
        return _long()
    ways = {"kafka": _kafka, "latency": _latency, "restore": _restore}
    return ways[way](bootstrap, prefix)


def _decide() -> dict[str, Any]:
    now_us, markets = time.time_ns() // 1000, Markets()
    _take_all(markets, now_us)
    arrivals, orders = _commands(ACCOUNTS, 3 * ORDERS, now_us)
    accounts: dict[str, Account] = {}
    _decide_all(accounts, markets, arrivals, now_us)
    tune_for_batches()
    clock = Clock()
    _decide_all(accounts, markets, orders, now_us)
    return clock.figures(len(orders))


def _long() -> dict[str, Any]:
    now_us, markets = time.time_ns() // 1000, Markets()
    _take_all(markets, now_us)
    arrivals, orders = _commands(1, LONG_ACCOUNT_COMMANDS, now_us)
    accounts: dict[str, Account] = {}
    _decide_all(accounts, markets, arrivals, now_us)
    tune_for_batches()
    clock = Clock()
    times_s = []
    for begin in range(0, len(orders), 10_000):
        began_s = time.process_time()
        _decide_all(accounts, markets, orders[begin : begin + 10_000], now_us)
        times_s.append(time.process_time() - began_s)
    return clock.figures(len(orders), last_to_first=times_s[-1] / times_s[0])


def _decide_all(accounts: dict[str, Account], markets: Markets, commands: list[Command], now_us: int) -> None:
    for command in commands:
        account_id = command.account_id
        decision = decide(accounts.get(account_id), markets, command, key=account_id, now_us=now_us)
        if decision.account is not None:
            accounts[account_id] = decision.account


def _kafka(bootstrap: str, prefix: str) -> dict[str, Any]:
    now_us = time.time_ns() // 1000
    arrivals, orders = _commands(ACCOUNTS, ORDERS, now_us)
    with _live_market(bootstrap, prefix):
        _publish(bootstrap, prefix, arrivals)
        _engine_until(bootstrap, prefix, len(arrivals))
        _publish(bootstrap, prefix, orders)
        return _engine_until(bootstrap, prefix, len(orders))


def _engine_until(bootstrap: str, prefix: str, commands: int) -> dict[str, Any]:
    """Run an engine until it has answered so many; the clock starts with its first turn that brought any."""
    tune_for_batches()
    before = _answered()
    clocks: list[Clock] = []
    first = 0

    def stop() -> bool:
        nonlocal first
        done = _answered() - before
        if done and not clocks:
            clocks.append(Clock())
            first = done
        return done >= commands

    run_engine(stop, bootstrap=bootstrap, topic_prefix=prefix, session_timeout_ms=10_000)
    return clocks[0].figures(commands - first)


def _answered() -> int:
    """Return how many commands the engines of this process have answered."""
    labels = {"store": "engine", "topic": COMMANDS.name}
    return int(REGISTRY.get_sample_value("coinstream_sink_messages_total", labels) or 0)


def _latency(bootstrap: str, prefix: str) -> dict[str, Any]:
    stop = threading.Event()
    engine = threading.Thread(
        target=run_engine,
        args=(stop.is_set,),
        kwargs={"bootstrap": bootstrap, "topic_prefix": prefix, "session_timeout_ms": 10_000},
    )
    tune_for_batches()
    with _live_market(bootstrap, prefix):
        engine.start()
        try:
            options = {"bootstrap": bootstrap, "topic_prefix": prefix, "accounts": 200, "stop": lambda: False}
            run_users(**options, orders_per_second=50, seed=1, duration_s=4)  # type: ignore[arg-type]
            clock = Clock()
            done = run_users(**options, orders_per_second=LATENCY_RATE, seed=2, duration_s=LATENCY_S)  # type: ignore[arg-type]
        finally:
            stop.set()
            engine.join()
    if done.unanswered:
        raise AssertionError(f"{done.unanswered} commands are unanswered")
    return clock.figures(len(done.latencies_us), p50_ms=done.percentile_ms(50), p99_ms=done.percentile_ms(99))


def _restore(bootstrap: str, prefix: str) -> dict[str, Any]:
    now_us, markets = time.time_ns() // 1000, Markets()
    _take_all(markets, now_us)
    arrivals, orders = _commands(RESTORED_ACCOUNTS, 4 * RESTORED_ACCOUNTS, now_us)
    accounts: dict[str, Account] = {}
    _decide_all(accounts, markets, arrivals + orders, now_us)
    _publish(bootstrap, prefix, [account.state() for account in accounts.values()])
    accounts.clear()
    tune_for_batches()
    everything = Accounts(lambda numbers: restored_states(bootstrap, prefix, numbers))
    clock = Clock()
    everything.begins([Partition(f"{prefix}{COMMANDS.name}", number) for number in range(COMMANDS.partitions)])
    figures = clock.figures(RESTORED_ACCOUNTS)
    return figures | {"values": {"elapsed_s": figures["seconds"]}}


def _commands(accounts: int, orders: int, now_us: int) -> tuple[list[Command], list[Command]]:
    """Return what everyone does first, and then."""
    chance = random.Random(1)
    listed = []
    for symbol, cents in MARKETS.items():
        base, quote = symbol.split("-")
        steps = Decimal("0.01"), Decimal("0.00000001")
        listed.append(Listed(VENUE, symbol, base, quote, *steps, Decimal(cents - 1) / 100, Decimal(cents + 1) / 100))
    people = People(accounts, run=f"{now_us:x}", chance=chance)
    return people.arrive(now_us, ["USD"]), [people.act(now_us, chance.choice(listed)) for _ in range(orders)]


def _take_all(markets: Markets, now_us: int) -> None:
    for message in _market(now_us, 1):
        markets.take(message, now_us)  # type: ignore[arg-type]


def _market(now_us: int, sequence: int) -> Iterator[Message]:
    """Every instrument and its book: 50 levels a side, deep enough for everyone."""
    for symbol, cents in MARKETS.items():
        base, quote = symbol.split("-")
        yield Instrument(
            venue=VENUE,
            symbol=symbol,
            venue_symbol=symbol,
            base=base,
            quote=quote,
            tick_size="0.01",
            lot_size="0.00000001",
            minimum_notional="1",
            status="online",
            received_time_us=now_us,
        )
        yield BookSnapshot(
            venue=VENUE,
            symbol=symbol,
            bids=tuple((f"{(cents - step) / 100:.2f}", "20") for step in range(1, 51)),
            asks=tuple((f"{(cents + step) / 100:.2f}", "20") for step in range(1, 51)),
            sequence=sequence,
            received_time_us=now_us,
        )


def _publish(bootstrap: str, prefix: str, messages: list[Any]) -> None:
    producer = Producer(bootstrap, client_id="bench", topic_prefix=prefix)
    for number, message in enumerate(messages):
        producer.publish(message)
        if number % 1000 == 0:
            producer.serve()
    producer.flush(120)
    producer.close()


@contextmanager
def _live_market(bootstrap: str, prefix: str) -> Iterator[None]:
    """Publish the books anew each second until the block ends."""
    producer, stop = Producer(bootstrap, client_id="bench-market", topic_prefix=prefix), threading.Event()

    def publish() -> None:
        sequence = 0
        while not stop.is_set():
            sequence += 1
            for message in _market(time.time_ns() // 1000, sequence):
                producer.publish(message)
            producer.flush(30)
            stop.wait(1.0)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        producer.close()


if __name__ == "__main__":
    serve(work)
