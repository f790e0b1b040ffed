"""Load that behaves like people: `People`'s commands on a schedule, and what the engine answered them."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from coinstream.errors import FatalError
from coinstream.kafka import Producer, Tail
from coinstream.messages import BY_NAME, EVENTS, BookSnapshot, Command, Event, Instrument, decode_batch
from coinstream.simulator.people import Listed, People
from coinstream.telemetry import logger

__all__ = ["UsersDone", "run_users"]

_TICK_S = 0.01
_BURST_EVERY_S = 10.0
_BURST_S = 2.0
_BURST_SHARE = 0.5
"""Of all that is done, so much falls into the first two of each ten seconds."""
_MARKET_WAIT_S = 60.0
_ANSWER_WAIT_S = 20.0
_TELL_EVERY_S = 10.0
_LEAST_LOT = Decimal(1).scaleb(-18)
_ARRIVALS_PER_TICK = 50
INSTRUMENTS = BY_NAME["market.instruments"]
BOOKS = BY_NAME["market.books"]

log = logger("users")


@dataclass
class UsersDone:
    """What was sent and what came back.

    Attributes:
        commands: Commands sent, by type; one sent twice counts twice.
        answers: Events that answered them, by type.
        rejections: Of those that were rejections, the reasons.
        fills: Fills, whether at once or of resting orders.
        unanswered: Commands without an answer when waiting ended.
        latencies_us: From sending to the answer's being read, of each command answered.
    """

    commands: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    fills: int = 0
    unanswered: int = 0
    latencies_us: list[int] = field(default_factory=list)

    def percentile_ms(self, percent: int) -> float:
        """Return a latency that so many of a hundred commands did not exceed, in milliseconds; 0 without any."""
        ordered = sorted(self.latencies_us)
        return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] / 1000 if ordered else 0.0

    def summary(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "commands": dict(self.commands),
            "answers": dict(self.answers),
            "rejections": dict(self.rejections),
            "fills": self.fills,
            "unanswered": self.unanswered,
            "latency_ms": {f"p{percent}": round(self.percentile_ms(percent), 1) for percent in (50, 99, 100)},
        }


class _Schedule:
    """How many acts are due by a time; bursts come and go, and the average is what was asked for."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second

    def due(self, elapsed_s: float) -> int:
        whole, within = divmod(elapsed_s, _BURST_EVERY_S)
        in_burst = min(within, _BURST_S) / _BURST_S * _BURST_SHARE
        after = max(within - _BURST_S, 0.0) / (_BURST_EVERY_S - _BURST_S) * (1 - _BURST_SHARE)
        return int((whole + in_burst + after) * _BURST_EVERY_S * self._per_second)


class _Watch:
    """Reads what the venues list, their books, and the engine's events."""

    def __init__(self, tail: Tail, done: UsersDone) -> None:
        self._tail = tail
        self._done = done
        self._instruments: dict[tuple[str, str], Instrument] = {}
        self._listed: dict[tuple[str, str], Listed] = {}
        self.waiting: dict[tuple[str, str], int] = {}
        """When each command that has no answer yet was sent."""

    @property
    def listed(self) -> list[Listed]:
        return list(self._listed.values())

    def look(self, wait_s: float) -> None:
        for batch in self._tail.read(20_000, wait_s):
            messages, _ = decode_batch(batch.topic.carries, batch.values)
            now_us = time.time_ns() // 1000
            for message in messages:
                if isinstance(message, Instrument):
                    self._instruments[message.venue, message.symbol] = message
                elif isinstance(message, BookSnapshot):
                    self._price(message)
                elif message is not None and batch.topic is EVENTS:
                    self._answered(message, now_us)  # type: ignore[arg-type]  # of this topic

    def _price(self, book: BookSnapshot) -> None:
        at = self._instruments.get((book.venue, book.symbol))
        if at is None or not (book.bids and book.asks) or at.symbol != f"{at.base}-{at.quote}":
            return
        bid, ask = Decimal(book.bids[0][0]), Decimal(book.asks[0][0])
        tick, lot = Decimal(at.tick_size or "0.00000001"), Decimal(at.lot_size or "0.00000001")
        self._listed[book.venue, book.symbol] = Listed(
            at.venue, at.symbol, at.base, at.quote, tick, max(lot, _LEAST_LOT), bid, ask
        )

    def _answered(self, event: Event, now_us: int) -> None:
        kind = str(event.__struct_config__.tag)
        if kind == "order_filled":
            self._done.fills += 1
        sent_us = self.waiting.pop((event.account_id, event.command_id), None)
        if sent_us is None:
            return
        self._done.answers[kind] += 1
        self._done.latencies_us.append(max(0, now_us - sent_us))
        reason = getattr(event, "reason", None)
        if reason is not None:
            self._done.rejections[reason] += 1


def run_users(  # noqa: PLR0913 - keyword-only, and each of its own kind
    *,
    bootstrap: str,
    topic_prefix: str,
    accounts: int,
    orders_per_second: float,
    seed: int,
    duration_s: float | None,
    stop: Callable[[], bool],
) -> UsersDone:
    """Behave like people until told to stop, or for a time; then wait for what is unanswered.

    Args:
        bootstrap: Kafka's addresses ``host:port``, separated by commas.
        topic_prefix: Stands before every topic's name.
        accounts: How many people, one account each.
        orders_per_second: Commands a second, all together, on average.
        seed: Decides who does what; what the market does meanwhile decides too.
        duration_s: How long; ``None``: until stopped.
        stop: Says whether to end.

    Raises:
        FatalError: Kafka is away, or no venue's book comes within a minute.
        TransientError: Kafka did not answer in time.
    """
    done = UsersDone()
    now_us = time.time_ns() // 1000
    tail = Tail(
        bootstrap,
        whole=[INSTRUMENTS],
        newest=[BOOKS, EVENTS],
        since_us=now_us - 5_000_000,
        client_id="coinstream-users",
        topic_prefix=topic_prefix,
    )
    producer = Producer(bootstrap, client_id="coinstream-users", topic_prefix=topic_prefix)
    chance = random.Random(seed)  # noqa: S311 - a seed's load, not a secret
    load = _Load(People(accounts, run=f"{now_us:x}", chance=chance), _Watch(tail, done), producer, done, stop)
    try:
        load.wait_for_market()
        load.arrive()
        load.live(_Schedule(orders_per_second), chance, duration_s)
        producer.flush(30)
        load.wait_for_answers()
    finally:
        producer.close()
        tail.close()
    return done


class _Load:
    """Sends what people do, and watches what comes of it."""

    def __init__(
        self, people: People, watch: _Watch, producer: Producer, done: UsersDone, stop: Callable[[], bool]
    ) -> None:
        self._people = people
        self._watch = watch
        self._producer = producer
        self._done = done
        self._stop = stop
        self._last: Command | None = None

    def wait_for_market(self) -> None:
        until_s = time.monotonic() + _MARKET_WAIT_S
        while not (self._watch.listed or self._stop()):
            if time.monotonic() > until_s:
                raise FatalError(
                    f"no venue's book came within {_MARKET_WAIT_S:g} s; start `coinstream ingest`, or `coinstream demo`"
                )
            self._watch.look(0.2)

    def arrive(self) -> None:
        quotes = sorted({listed.quote for listed in self._watch.listed})
        for number, command in enumerate(self._people.arrive(time.time_ns() // 1000, quotes)):
            if number % _ARRIVALS_PER_TICK == 0:
                self._watch.look(_TICK_S)
                if self._stop():
                    return
            self._send(command)

    def live(self, schedule: _Schedule, chance: random.Random, duration_s: float | None) -> None:
        began_s = told_s = time.monotonic()
        acts = 0
        while not self._stop():
            elapsed_s = time.monotonic() - began_s
            if duration_s is not None and elapsed_s > duration_s:
                return
            listed = self._watch.listed
            for _ in range(schedule.due(elapsed_s) - acts):
                self._send(self._people.act(time.time_ns() // 1000, chance.choice(listed)))
                acts += 1
            self._producer.serve()
            self._watch.look(_TICK_S)
            if time.monotonic() - told_s > _TELL_EVERY_S:
                told_s = time.monotonic()
                unanswered = len(self._watch.waiting)
                log.info("users", commands=self._done.commands.total(), fills=self._done.fills, unanswered=unanswered)

    def wait_for_answers(self) -> None:
        until_s = time.monotonic() + _ANSWER_WAIT_S
        while self._watch.waiting and time.monotonic() < until_s:
            self._watch.look(0.1)
        self._done.unanswered = len(self._watch.waiting)

    def _send(self, command: Command) -> None:
        if command is not self._last:  # what is sent twice is answered once
            self._watch.waiting[command.account_id, command.command_id] = time.time_ns() // 1000
        self._last = command
        self._producer.publish(command)
        self._done.commands[str(command.__struct_config__.tag)] += 1
