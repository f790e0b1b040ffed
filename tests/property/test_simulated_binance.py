"""Binance's documented rule for a local book, followed by the letter: it leads to the simulator's own book."""

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from coinstream.simulator.binance import fixed_text, spelling
from coinstream.simulator.binance_publisher import BinancePublisher
from coinstream.simulator.faults import FaultKind, FaultPlan, Misbehaviour
from coinstream.simulator.market import Market
from coinstream.simulator.products import BINANCE_PRODUCTS
from coinstream.simulator.routes import reply_to
from coinstream.simulator.schedule import Schedule

START_TIME_US = 1_780_000_000_000_000

seeds = st.integers(min_value=0, max_value=2**64)
symbols = st.sampled_from([product.symbol for product in BINANCE_PRODUCTS])
Sides = tuple[dict[str, str], dict[str, str]]


class LocalBook:
    """A client that does what the venue's page tells it to do, step by step.

    Attributes:
        levels: Bids and asks, texts as sent; None while it waits for a snapshot that joins.
        restarts: How often it had to begin anew.
    """

    def __init__(self) -> None:
        self.levels: Sides | None = None
        self.restarts = 0
        self._last_id = 0
        self._buffer: list[dict[str, Any]] = []

    def take(self, event: dict[str, Any]) -> None:
        if self.levels is None:
            self._buffer.append(event)
        elif event["u"] <= self._last_id:
            return
        elif event["U"] > self._last_id + 1:
            self.levels, self._buffer = None, [event]
            self.restarts += 1
        else:
            self._apply(event)

    def join(self, snapshot: dict[str, Any]) -> None:
        """Take a snapshot, unless it is older than the first event that is held."""
        if self._buffer and snapshot["lastUpdateId"] + 1 < self._buffer[0]["U"]:
            return
        self.levels = dict(snapshot["bids"]), dict(snapshot["asks"])
        self._last_id = snapshot["lastUpdateId"]
        held, self._buffer = self._buffer, []
        for event in held:
            self.take(event)

    def _apply(self, event: dict[str, Any]) -> None:
        assert self.levels is not None
        for levels, changes in zip(self.levels, (event["b"], event["a"]), strict=True):
            for price, size in changes:
                if not size.strip("0."):
                    levels.pop(price, None)
                else:
                    levels[price] = size
        self._last_id = event["u"]


class Run:
    """One symbol's depth stream and its snapshots, with faults between if wanted."""

    def __init__(self, seed: int, symbol: str, stream: str, plan: FaultPlan) -> None:
        self.misbehaviour = Misbehaviour(plan, seed=seed)
        self.faults = self.misbehaviour.connection()
        self.are_faults_on = True
        market = Market(
            rng=random.Random(seed), start_time_us=START_TIME_US, symbols=[symbol], products=BINANCE_PRODUCTS
        )
        self.schedule = Schedule(market, start_time_us=START_TIME_US, rate=300)
        self.publisher = BinancePublisher(self.schedule, skip=self._skip)
        self.instrument = market.instruments[symbol]
        self.spelling = spelling(self.instrument.product)
        self.local = LocalBook()
        self.unreadable = 0
        self.publisher.connect(f"/ws/{self.spelling.lower()}@{stream}", self)

    def send(self, message: bytes, *, is_market_data: bool) -> None:
        for frame in self.faults.frames(message, is_market_data=is_market_data and self.are_faults_on):
            try:
                self.local.take(json.loads(frame))
            except json.JSONDecodeError:
                self.unreadable += 1

    def close(self, reason: str) -> None:
        raise AssertionError(reason)

    def go_on(self, milliseconds: int) -> None:
        done_ms = self.schedule.elapsed_ns // 1_000_000
        for elapsed_ms in range(done_ms + 20, done_ms + milliseconds + 1, 20):
            self.publisher.advance(elapsed_ms * 1_000_000)

    def snapshot(self) -> dict[str, Any]:
        return json.loads(reply_to(f"/api/v3/depth?symbol={self.spelling}&limit=5000", self.publisher).body)

    def own_book(self) -> Sides:
        product = self.instrument.product
        bids, asks = (
            {
                fixed_text(ticks, product.price_decimals): fixed_text(lots, product.size_decimals)
                for ticks, lots in side.levels()
            }
            for side in (self.instrument.book.bids, self.instrument.book.asks)
        )
        return bids, asks

    def _skip(self) -> int:
        return self.misbehaviour.skip() if self.are_faults_on else 0


@settings(deadline=None)
@given(
    seed=seeds,
    symbol=symbols,
    stream=st.sampled_from(["depth@100ms", "depth"]),
    asks_ms=st.integers(0, 75).map(lambda ticks: ticks * 20),
    waits_ms=st.integers(0, 30).map(lambda ticks: ticks * 20),
)
def test_snapshot_taken_at_any_moment_joins_the_changes_to_the_servers_own_book(
    seed: int, symbol: str, stream: str, asks_ms: int, waits_ms: int
) -> None:
    """The snapshot is made at one moment and comes at a later one; what was held between joins on to it."""
    run = Run(seed, symbol, stream, FaultPlan())
    run.go_on(asks_ms)
    snapshot = run.snapshot()
    run.go_on(waits_ms)
    run.local.join(snapshot)
    left_ms = 3000 - asks_ms - waits_ms
    run.go_on(left_ms)  # both streams have just sent all there is
    assert run.local.levels == run.own_book()
    assert run.local.restarts == 0


@settings(deadline=None, max_examples=25)
@given(
    seed=seeds,
    symbol=symbols,
    chances=st.dictionaries(
        st.sampled_from([FaultKind.DROP, FaultKind.DUPLICATE, FaultKind.REORDER, FaultKind.CORRUPT, FaultKind.JUMP]),
        st.integers(20_000, 300_000),
        min_size=1,
    ),
)
def test_book_that_lost_changes_notices_and_a_new_snapshot_mends_it(
    seed: int, symbol: str, chances: dict[FaultKind, int]
) -> None:
    run = Run(seed, symbol, "depth@100ms", FaultPlan(chances))
    run.local.join(run.snapshot())
    for _ in range(60):
        run.go_on(100)
        if run.local.levels is None:
            run.local.join(run.snapshot())
    run.are_faults_on = False
    for _ in range(3):
        run.go_on(100)
        if run.local.levels is None:
            run.local.join(run.snapshot())
    assert run.local.levels == run.own_book()
    done = run.misbehaviour.done
    assert run.unreadable >= done[FaultKind.CORRUPT]  # one that was doubled came twice
    if set(+done) == {FaultKind.DROP}:
        assert 1 <= run.local.restarts <= done[FaultKind.DROP]
    if set(+done) <= {FaultKind.DUPLICATE}:
        assert run.local.restarts == 0
