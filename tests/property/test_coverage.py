"""Whatever is lost, and whenever that shows: the last word on its minute never calls it complete."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from coinstream.adapters import CHANNELS, Frame, dialects_of_venue
from coinstream.ingest.stream import MarketStream
from coinstream.market.coverage import LATE_US
from coinstream.messages import MINUTE_US, Coverage, Message, Trade, minute_of, utc

START_US = 1767322980_000000
MILLISECOND = 1_000
TIME_OUT_US = 30_000_000
LATEST_US = 1_900_000
"""How long after a trade its frame may come in this test: just less than coverage allows for."""

steps = st.lists(
    st.tuples(
        st.sampled_from([1, 7, 90, 250, 400, 1_000, 9_000, 20_000]),  # milliseconds since the step before
        st.sampled_from(["sent", "sent", "sent", "sent", "lost", "dead"]),
        st.integers(0, LATEST_US),  # how old the trade is when its frame comes
    ),
    min_size=1,
    max_size=60,
)


class Venue:
    """Sends a trade a step, in frames that may be lost, on connections that may die unnoticed."""

    def __init__(self) -> None:
        self.stream = MarketStream(dialects_of_venue("coinbase")[0].adapter())
        self.told: list[Message] = []
        self.made: list[tuple[int, int]] = []  # trade id, its time
        self.sequence = -1
        self.connections = 0
        self.now_us = START_US
        self.dead_us: int | None = None
        self.stream.subscriptions(["BTC-USD"], CHANNELS)
        self.open()

    def open(self) -> None:
        self.connections += 1
        self.sequence = -1
        self.dead_us = None
        self.stream.receive(Frame(self.now_us, self.name, "wss://x", "ws", b"", opens=True))
        self.send("subscriptions", [{"subscriptions": {"market_trades": ["BTC-USD"]}}])

    @property
    def name(self) -> str:
        return f"ws.{self.connections}"

    def send(self, channel: str, events: list[object]) -> None:
        self.sequence += 1
        body = {"channel": channel, "timestamp": "", "sequence_num": self.sequence, "events": events}
        frame = Frame(self.now_us, self.name, "wss://x", "ws", json.dumps(body).encode())
        self.told += self.stream.receive(frame).messages

    def pass_time(self, until_us: int) -> None:
        """Let the clock tick, and give a silent connection up in time."""
        while self.now_us < until_us:
            self.now_us = min(until_us, self.now_us + 100 * MILLISECOND)
            self.told += self.stream.tick(self.now_us)
            if self.dead_us is not None and self.now_us - self.dead_us > TIME_OUT_US:
                self.stream.closed(self.name, self.now_us)
                self.open()

    def step(self, wait_ms: int, fate: str, age_us: int) -> None:
        self.pass_time(self.now_us + wait_ms * MILLISECOND)
        if fate == "dead" and self.dead_us is None:
            self.dead_us = self.now_us
        trade_id, time_us = len(self.made) + 1, self.now_us - age_us
        self.made.append((trade_id, time_us))
        if self.dead_us is not None:
            return
        if fate == "lost":
            self.sequence += 1
            return
        time = utc(time_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        trade = {"product_id": "BTC-USD", "trade_id": str(trade_id), "price": "1", "size": "1", "side": "BUY"}
        self.send("market_trades", [{"type": "update", "trades": [trade | {"time": time}]}])


@given(st.integers(1, 4_000), steps)
def test_minute_of_a_lost_trade_is_never_called_complete_in_the_end(
    left_ms: int, drawn: list[tuple[int, str, int]]
) -> None:
    venue = Venue()
    venue.step(1, "sent", 0)
    venue.pass_time(START_US + MINUTE_US)
    venue.step(60_000 - left_ms, "sent", 0)  # what matters happens around the ends of minutes
    for wait_ms, fate, age_us in drawn:
        venue.step(wait_ms, fate, age_us)
    venue.pass_time(venue.now_us + 5_000_000)
    venue.told += venue.stream.finish(venue.now_us)

    published = {message.trade_id for message in venue.told if isinstance(message, Trade)}
    last_word = {
        message.minute: message.status
        for message in venue.told
        if isinstance(message, Coverage) and message.channel == "trades"
    }
    lost = [time_us for trade_id, time_us in venue.made if str(trade_id) not in published]
    assert {last_word[minute_of(us)] for us in lost if us >= START_US} <= {"gap", "disconnected"}
    if not lost:
        heard_us = venue.now_us - 5_000_000
        whole = [m for m in last_word if m > START_US and m + MINUTE_US + LATE_US <= heard_us]
        assert {last_word[minute] for minute in whole} <= {"complete"}
