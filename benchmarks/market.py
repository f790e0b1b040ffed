"""The input: a simulated market's frames in Coinbase Advanced Trade's protocol, decided by a seed.

Shapes, because they decide the figures. Ten symbols on one connection, 50 orders that come or go a
second, which is a busy hour: every 250 ms one ``market_trades`` frame with 10 trades on average; a
``ticker`` frame with one ticker whenever a symbol traded within 20 ms, 6 for each frame of trades;
``l2_data`` frames with 2 changed levels each, books of some 300 levels a side. A venue that sends
each trade in a frame of its own costs more a trade; one that batches more, less.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from coinstream.adapters import Frame
from coinstream.adapters.coinbase_advanced import WEBSOCKET_URL
from coinstream.ingest.normalise import normalise
from coinstream.messages import Message, Trade
from coinstream.simulator.coinbase_publisher import CoinbasePublisher
from coinstream.simulator.market import Market
from coinstream.simulator.schedule import Schedule

START_US = 1_760_000_400_000_000
"""2025-10-09 09:00:00 UTC."""
EVENTS_PER_S = 50
STEP_NS = 20_000_000
CONNECTION = "ws.1"


class Kept:
    """An outlet that keeps what a session is sent."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def send(self, message: bytes, *, is_market_data: bool) -> None:  # noqa: ARG002 - nothing is lost on this way
        """Keep a message."""
        self.messages.append(message)

    def close(self, reason: str) -> None:
        """Fail: nothing here breaks a rule of the venue."""
        raise AssertionError(reason)


def frames(channels: Sequence[str], *, seconds: int, seed: int = 1, rate: float = EVENTS_PER_S) -> Iterator[Frame]:
    """Yield the frames of a market, from the moment of subscribing on.

    Args:
        channels: As subscribed: ``market_trades``, ``ticker``, ``level2``.
        seconds: Of the market's time.
        seed: Decides everything.
        rate: Orders that come or go a second, all symbols together.
    """
    market = Market(rng=random.Random(seed), start_time_us=START_US)
    schedule = Schedule(market, start_time_us=START_US, rate=rate)
    publisher = CoinbasePublisher(schedule)
    kept = Kept()
    session = publisher.connect("/", kept)
    for channel in channels:
        request = {"type": "subscribe", "channel": channel, "product_ids": list(market.instruments)}
        session.receive(msgspec.json.encode(request))
    yield Frame(START_US, CONNECTION, WEBSOCKET_URL, "ws", b"", opens=True)
    for elapsed_ns in range(STEP_NS, seconds * 1_000_000_000, STEP_NS):
        for data in kept.messages:
            yield Frame(schedule.time_us, CONNECTION, WEBSOCKET_URL, "ws", data)
        kept.messages.clear()
        publisher.advance(elapsed_ns)


def write_recording(path: Path, some: Iterator[Frame]) -> int:
    """Write frames as a recording; return how many were received."""
    encode = msgspec.json.Encoder().encode
    received = 0
    with path.open("wb") as lines:
        for frame in some:
            line = {
                "time": frame.received_time_us,
                "direction": "in",
                "transport": frame.transport,
                "connection": frame.connection,
                "url": frame.url,
                "data": frame.data.decode(),
            }
            if frame.opens:
                line |= {"direction": "out", "event": "open"}
            received += not frame.opens
            lines.write(encode(line) + b"\n")
    return received


def messages(some: Iterator[Frame]) -> Iterator[Message]:
    """Yield what an ingest process would publish of frames, coverage and all."""
    return normalise(some, kinds=("trades", "quotes", "books", "instruments", "coverage"))


def trades(*, seconds: int, seed: int = 1) -> list[Trade]:
    """Return a market's trades alone."""
    return [
        message for message in messages(frames(["market_trades"], seconds=seconds, seed=seed)) if type(message) is Trade
    ]
