"""The simulator at its worst, read by coinstream's own stream: what is lost is named, what is published is true."""

from __future__ import annotations

import json
import random
from collections import deque

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from coinstream.adapters.coinbase_advanced import AdvancedTradeAdapter
from coinstream.adapters.dialect import Frame
from coinstream.ingest.stream import MarketStream, Received
from coinstream.messages import BookSnapshot, Coverage, Message, Trade, minute_of
from coinstream.simulator.coinbase_publisher import CoinbasePublisher
from coinstream.simulator.faults import FaultKind, FaultPlan, Misbehaviour
from coinstream.simulator.market import Market
from coinstream.simulator.order_book import BookSide
from coinstream.simulator.products import Product
from coinstream.simulator.schedule import Schedule

START_TIME_US = 1_780_000_020_000_000  # the beginning of a minute
SYMBOLS = ["BTC-USD", "SHIB-USD"]
CHANNELS = ("trades", "quotes", "books")
URL = "ws://127.0.0.1"
# A seed does not shrink to anything simpler, and each example is a run of a minute.
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)

Levels = tuple[tuple[str, str], ...]


def top(product: Product, side: BookSide) -> Levels:
    levels = list(side.levels())[:50]
    return tuple((product.price_text(ticks), product.size_text(lots)) for ticks, lots in levels)


class Run:
    """A venue and its reader on one clock, which a test moves; what they say to each other goes through faults.

    Attributes:
        delivered: Frames as the reader got them, with their times.
        books: What the market's books truly were, by symbol and time.
    """

    def __init__(self, seed: int, plan: FaultPlan, *, rate: float = 60) -> None:
        self.misbehaviour = Misbehaviour(plan, seed=seed)
        self.faults = self.misbehaviour.connection()
        self.are_faults_on = False
        market = Market(rng=random.Random(seed), start_time_us=START_TIME_US, symbols=SYMBOLS)
        self.schedule = Schedule(market, start_time_us=START_TIME_US, rate=rate)
        self.publisher = CoinbasePublisher(self.schedule, skip=self._skip)
        self.stream = MarketStream(AdvancedTradeAdapter("coinbase"))
        self.messages: list[Message] = []
        self.delivered: list[tuple[int, bytes, Received]] = []
        self.books: dict[tuple[str, int], tuple[Levels, Levels]] = {}
        self._inbox: deque[bytes] = deque()
        self.session = self.publisher.connect("/", self)

    def send(self, message: bytes, *, is_market_data: bool) -> None:
        at_risk = is_market_data and self.are_faults_on
        self._inbox.extend(self.faults.frames(message, is_market_data=at_risk))

    def close(self, reason: str) -> None:
        raise AssertionError(reason)

    def subscribe(self) -> None:
        self.schedule.advance(1)
        self._remember_books()
        self.stream.receive(Frame(self.schedule.time_us, "ws.1", "wss://x", "ws", b"", opens=True))
        for request in self.stream.subscriptions(SYMBOLS, CHANNELS):
            self.session.receive(request.encode())
        self._read()

    def go_on(self, seconds: int) -> None:
        ticks = self.schedule.elapsed_ns // 100_000_000
        for tick in range(ticks + 1, ticks + 10 * seconds + 1):
            self.publisher.advance(tick * 100_000_000)
            self._remember_books()
            self.messages += self.stream.tick(self.schedule.time_us)  # a live feed's ticks come before and after frames
            self._read()
            self.messages += self.stream.tick(self.schedule.time_us)

    def finish(self) -> None:
        self.messages += self.stream.finish(self.schedule.time_us)

    def of(self, kind: type) -> list:
        return [message for message in self.messages if isinstance(message, kind)]

    def _skip(self) -> int:
        return self.misbehaviour.skip() if self.are_faults_on else 0

    def _remember_books(self) -> None:
        for symbol, instrument in self.schedule.market.instruments.items():
            book, product = instrument.book, instrument.product
            self.books[symbol, self.schedule.time_us] = top(product, book.bids), top(product, book.asks)

    def _read(self) -> None:
        while self._inbox:
            data, now_us = self._inbox.popleft(), self.schedule.time_us
            received = self.stream.receive(Frame(now_us, "ws.1", URL, "ws", data))
            self.delivered.append((now_us, data, received))
            self.messages += received.messages
            for request in received.send:
                self.session.receive(request.encode())


def sequence_of(data: bytes) -> int | None:
    """The number of a frame that can be read."""
    try:
        return json.loads(data)["sequence_num"]
    except json.JSONDecodeError:
        return None


def breaks(run: Run) -> list[int]:
    """The times of the frames whose sequence says that something is amiss; a frame sent twice is not."""
    times, last = [], None
    for time_us, data, _ in run.delivered:
        sequence = sequence_of(data)
        if sequence is None:
            continue
        if last is not None and sequence not in (last, last + 1):
            times.append(time_us)
        last = sequence
    return times


def assert_books_are_true(run: Run) -> None:
    published = run.of(BookSnapshot)
    assert {book.symbol for book in published} == set(SYMBOLS)
    for book in published:
        assert (book.bids, book.asks) == run.books[book.symbol, book.event_time_us]


def assert_trades_are_true_and_single(run: Run) -> None:
    seed_market = run.schedule.market
    live = [trade for trade in run.of(Trade) if trade.provenance == "live"]
    assert len({(trade.symbol, trade.trade_id) for trade in live}) == len(live)
    for symbol in SYMBOLS:
        ids = {int(trade.trade_id) for trade in live if trade.symbol == symbol}
        assert max(ids) < seed_market.instruments[symbol].next_trade_id


per_million = st.integers(min_value=1_000, max_value=60_000)
kinds = st.sampled_from([FaultKind.DROP, FaultKind.DUPLICATE, FaultKind.REORDER, FaultKind.CORRUPT, FaultKind.JUMP])


@settings(max_examples=8, deadline=None, phases=WITHOUT_SHRINKING)
@given(seed=st.integers(), chances=st.dictionaries(kinds, per_million, max_size=5))
def test_every_break_of_the_sequence_is_named_for_each_symbol_and_channel(
    seed: int, chances: dict[FaultKind, int]
) -> None:
    run = Run(seed, FaultPlan(chances))
    run.subscribe()
    run.go_on(2)
    run.are_faults_on = True
    run.go_on(64)
    run.finish()
    everything = {(channel, symbol) for channel in CHANNELS for symbol in SYMBOLS}
    named = []
    for time_us, _, received in run.delivered:
        gaps = [gap for gap in received.gaps if gap.reason.startswith("sequence_num went from")]
        if gaps:
            assert {(gap.channel, gap.symbol) for gap in gaps} == everything
            named.append(time_us)
    assert named == breaks(run)
    minutes = {minute_of(time_us) for time_us in named}
    coverage = run.of(Coverage)
    assert {row.minute for row in coverage} == {START_TIME_US, START_TIME_US + 60_000_000}
    for row in coverage:
        if row.minute in minutes:
            assert row.status == "gap"
    assert_books_are_true(run)
    assert_trades_are_true_and_single(run)


@pytest.mark.parametrize("kind", [FaultKind.DROP, FaultKind.CORRUPT])
def test_every_lost_frame_that_another_follows_breaks_the_sequence(kind: FaultKind) -> None:
    run = Run(8, FaultPlan({kind: 20_000}))
    run.subscribe()
    run.are_faults_on = True
    run.go_on(60)
    run.are_faults_on = False
    run.go_on(2)
    lost = run.misbehaviour.done[kind]
    assert lost > 15
    # frames lost in a row are one break
    sequences = [sequence for _, data, _ in run.delivered if (sequence := sequence_of(data)) is not None]
    missing = set(range(START_TIME_US, max(sequences))) - set(sequences)
    assert len(missing) == lost
    assert len(breaks(run)) == sum(number - 1 not in missing for number in missing)


@settings(max_examples=10, deadline=None, phases=WITHOUT_SHRINKING)
@given(seed=st.integers(), chance=per_million)
def test_every_corrupt_frame_is_refused_once(seed: int, chance: int) -> None:
    run = Run(seed, FaultPlan({FaultKind.CORRUPT: chance}))
    run.subscribe()
    run.are_faults_on = True
    run.go_on(20)
    unreadable = [data for _, data, _ in run.delivered if sequence_of(data) is None]
    refused = [data for _, data, received in run.delivered if received.refusals]
    assert refused == unreadable
    assert len(refused) == run.misbehaviour.done[FaultKind.CORRUPT]


@settings(max_examples=10, deadline=None, phases=WITHOUT_SHRINKING)
@given(seed=st.integers(), chances=st.dictionaries(kinds, per_million, min_size=1, max_size=5))
def test_book_is_whole_again_once_the_faults_are_over(seed: int, chances: dict[FaultKind, int]) -> None:
    """Faults from the very first frame, so that the first snapshots are at risk too."""
    run = Run(seed, FaultPlan(chances))
    run.are_faults_on = True
    run.subscribe()
    run.go_on(20)
    run.are_faults_on = False
    run.go_on(12)  # a lost snapshot is asked for again after five seconds
    run.finish()
    last = {book.symbol: book for book in run.of(BookSnapshot)}
    for symbol, instrument in run.schedule.market.instruments.items():
        product, book = instrument.product, instrument.book
        assert (last[symbol].bids, last[symbol].asks) == (top(product, book.bids), top(product, book.asks))
        assert last[symbol].received_time_us >= run.schedule.time_us - 1_000_000
    assert_books_are_true(run)
