"""Whatever a feed suffers, no minute with a trade missing is called complete: minutes of it, in virtual time."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coinstream.adapters import CHANNELS, Frame, dialects_of_venue
from coinstream.ingest.stream import MarketStream
from coinstream.market.coverage import LATE_US
from coinstream.messages import MINUTE_US, Coverage, Message, Trade, minute_of
from coinstream.simulator import parse_faults
from coinstream.simulator.coinbase_publisher import CoinbasePublisher
from coinstream.simulator.faults import ConnectionFaults, Misbehaviour
from coinstream.simulator.market import Market, MarketEvent
from coinstream.simulator.schedule import Schedule

SYMBOLS = ("BTC-USD", "ADA-USD")
START_US = 1_780_000_020_000_000  # the start of a minute
SECOND_US = 1_000_000
TICK_US = 50_000
IDLE_US = 30 * SECOND_US
RECONNECT_US = 2 * SECOND_US
RATE = 12.0


class RecordedSchedule(Schedule):
    """Remembers every trade that it made: what really happened."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.made: list[tuple[str, int, int]] = []

    def advance(self, elapsed_ns: int) -> list[MarketEvent]:
        events = super().advance(elapsed_ns)
        self.made += [(e.product.symbol, t.trade_id, t.event_time_us) for e in events for t in e.trades]
        return events


class Wire:
    """One connection: frames arrive in order, each a little later than it was sent, until it falls silent."""

    def __init__(self, name: str, faults: ConnectionFaults, opened_us: int, chance: random.Random) -> None:
        self.name = name
        self.arriving: deque[tuple[int, bytes]] = deque()
        self.heard_us = opened_us
        self.now_us = opened_us
        self._faults = faults
        self._chance = chance
        after_s = faults.silent_after_s
        self._silent_us = None if after_s is None else opened_us + int(after_s * SECOND_US)

    def send(self, message: bytes, *, is_market_data: bool) -> None:
        if self._silent_us is not None and self.now_us >= self._silent_us:
            return
        for frame in self._faults.frames(message, is_market_data=is_market_data):
            arrives_us = self.now_us + self._chance.randrange(1_000, 400_000)
            self.arriving.append((max(arrives_us, self.arriving[-1][0] if self.arriving else 0), frame))

    def close(self, reason: str) -> None:
        raise AssertionError(reason)


class World:
    """An exchange, the way to it, and the feed that listens."""

    def __init__(self, seed: int, faults: list[str], *, cuts: list[int], begins_us: int) -> None:
        self._chance = random.Random(seed)
        market = Market(rng=random.Random(seed), start_time_us=begins_us, symbols=SYMBOLS)
        self.schedule = RecordedSchedule(market, start_time_us=begins_us, rate=RATE)
        self._misbehaviour = Misbehaviour(parse_faults(faults), seed=seed)
        self._publisher = CoinbasePublisher(self.schedule, skip=self._misbehaviour.skip)
        adapter = dialects_of_venue("coinbase")[0].adapter()
        self._stream = MarketStream(adapter, provenance="simulated")
        self._begins_us = begins_us
        self._cuts = cuts
        self._wire: Wire | None = None
        self._session: Any = None
        self._connections = 0
        self._connect_us = begins_us
        self.messages: list[Message] = []

    def run(self, until_us: int) -> None:
        for now_us in range(self._begins_us, until_us, TICK_US):
            if self._wire is not None:
                self._wire.now_us = now_us
            self._publisher.advance((now_us - self._begins_us) * 1000)
            self._listen(now_us)
            self.messages += self._stream.tick(now_us)
        self.messages += self._stream.finish(until_us)

    def _listen(self, now_us: int) -> None:
        if self._wire is None:
            if now_us >= self._connect_us:
                self._connect(now_us)
            return
        wire = self._wire
        while wire.arriving and wire.arriving[0][0] <= now_us:
            arrived_us, data = wire.arriving.popleft()
            wire.heard_us = arrived_us
            received = self._stream.receive(Frame(arrived_us, wire.name, "wss://x", "ws", data))
            self.messages += received.messages
            for text in received.send:
                self._session.receive(text.encode())
        is_cut = bool(self._cuts) and now_us >= self._cuts[0]
        if is_cut or now_us - wire.heard_us >= IDLE_US:
            self._cuts = self._cuts[is_cut:]
            self._session.end()
            self._stream.closed(wire.name, now_us)
            self._wire, self._connect_us = None, now_us + RECONNECT_US

    def _connect(self, now_us: int) -> None:
        self._connections += 1
        self._wire = Wire(f"ws.{self._connections}", self._misbehaviour.connection(), now_us, self._chance)
        self._session = self._publisher.connect("/", self._wire)
        self._stream.receive(Frame(now_us, self._wire.name, "wss://x", "ws", b"", opens=True))
        for text in self._stream.subscriptions(SYMBOLS, CHANNELS):
            self._session.receive(text.encode())


def calls_complete(world: World) -> set[tuple[str, int]]:
    """The symbols and minutes whose trades are complete by the last word on each."""
    words: dict[tuple[str, int], str] = {}
    for message in world.messages:
        if isinstance(message, Coverage) and message.channel == "trades":
            words[message.symbol, message.minute] = message.status
    return {key for key, status in words.items() if status == "complete"}


def missing(world: World) -> list[tuple[str, int, int]]:
    """Trades that were made and never came: symbol, id, time."""
    came = {(message.symbol, int(message.trade_id)) for message in world.messages if isinstance(message, Trade)}
    return [made for made in world.schedule.made if made[:2] not in came]


@settings(max_examples=min(200, settings().max_examples))  # each is minutes of a market
@given(
    seed=st.integers(min_value=0, max_value=2**32),
    faults=st.lists(
        st.sampled_from(["drop=0.01", "duplicate=0.01", "reorder=0.01", "corrupt=0.01", "jump=0.001", "half-open=40"]),
        unique=True,
    ),
    begins_s=st.integers(min_value=0, max_value=59),
    cuts_s=st.lists(st.integers(min_value=1, max_value=200), max_size=2).map(sorted),
)
@example(seed=3, faults=["half-open=40"], begins_s=0, cuts_s=[])
@example(seed=1, faults=["drop=0.2"], begins_s=0, cuts_s=[])
def test_no_minute_with_a_trade_missing_is_called_complete(
    seed: int, faults: list[str], begins_s: int, cuts_s: list[int]
) -> None:
    begins_us = START_US + begins_s * SECOND_US
    world = World(seed, faults, cuts=[begins_us + cut * SECOND_US for cut in cuts_s], begins_us=begins_us)
    world.run(begins_us + 210 * SECOND_US)
    complete = calls_complete(world)
    unnamed = [made for made in missing(world) if (made[0], minute_of(made[2])) in complete]
    assert unnamed == []


@pytest.mark.parametrize("begins_s", [0, 17, 59])
def test_feed_that_suffers_nothing_calls_every_whole_minute_complete(begins_s: int) -> None:
    begins_us = START_US + begins_s * SECOND_US
    world = World(5, [], cuts=[], begins_us=begins_us)
    until_us = begins_us + 210 * SECOND_US
    world.run(until_us)
    whole = [it for it in range(START_US + MINUTE_US, until_us, MINUTE_US) if it + MINUTE_US + LATE_US <= until_us]
    assert len(whole) >= 2
    assert calls_complete(world) == {(symbol, minute) for symbol in SYMBOLS for minute in whole}
