"""A market that is alive while a test trades on it: instruments, and books and trades that move by a seed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from coinstream.kafka import Producer
from coinstream.messages import BookSnapshot, Instrument, Message, Trade

VENUE = "coinbase"
PRICES = {"BTC-USD": 50_000_00, "ETH-USD": 3_000_00, "SOL-USD": 150_00}
"""Where each begins, in cents."""


def now_us() -> int:
    return time.time_ns() // 1000


def listed(symbol: str) -> Instrument:
    """The instrument: cents, a hundred millionth of a coin, one dollar at least."""
    base, quote = symbol.split("-")
    return Instrument(
        venue=VENUE,
        symbol=symbol,
        venue_symbol=symbol,
        base=base,
        quote=quote,
        tick_size="0.01",
        lot_size="0.00000001",
        minimum_notional="1",
        status="online",
        received_time_us=now_us(),
    )


def price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def book(symbol: str, middle: int, *, size: str = "0.5", sequence: int | None = None) -> BookSnapshot:
    """Ten levels a side, a dollar apart, a dollar from the middle (in cents)."""
    steps = range(100, 1100, 100)
    return BookSnapshot(
        venue=VENUE,
        symbol=symbol,
        bids=tuple((price(middle - step), size) for step in steps),
        asks=tuple((price(middle + step), size) for step in steps),
        sequence=sequence,
        received_time_us=now_us(),
    )


def trade(symbol: str, number: int, cents: int, *, size: str = "0.25") -> Trade:
    """A trade at a price in cents."""
    return Trade(
        venue=VENUE,
        symbol=symbol,
        trade_id=str(number),
        price=price(cents),
        size=size,
        aggressor_side="buy",
        event_time_us=now_us(),
        received_time_us=now_us(),
        provenance="simulated",
    )


class LiveBooks:
    """Moves every market a little, ten times a second."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._middles = dict(PRICES)
        self._number = 0

    def step(self) -> Iterator[Message]:
        """The next messages of every market."""
        for symbol, middle in self._middles.items():
            self._number += 1
            width = max(middle // 2000, 50)
            self._middles[symbol] = after = middle + self._chance.randint(-width, width)
            size = format(Decimal(self._chance.randint(1, 40_000)).scaleb(-4), "f")
            yield book(symbol, after, size=size, sequence=self._number)
            yield trade(symbol, self._number, after + self._chance.randint(-width, width))


@contextmanager
def live_books(bootstrap: str, prefix: str, seed: int = 1) -> Iterator[LiveBooks]:
    """Publish a market's life until the block ends; the first books are there when it begins."""
    market, stop = LiveBooks(seed), threading.Event()
    producer = Producer(bootstrap, client_id="test-market", topic_prefix=prefix)
    for symbol in PRICES:
        producer.publish(listed(symbol))

    def publish() -> None:
        for message in market.step():
            producer.publish(message)
        producer.flush(30)

    def live() -> None:
        while not stop.wait(0.1):
            publish()

    publish()
    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield market
    finally:
        stop.set()
        thread.join()
        producer.close()
