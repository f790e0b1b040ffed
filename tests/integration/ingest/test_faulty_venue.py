"""The feed over real sockets against a simulated exchange that misbehaves: it goes on, and says what it missed."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coinstream.ingest import run_feed
from coinstream.ingest.connection import Limits
from coinstream.ingest.feed import Outside
from coinstream.ingest.fetch import Patience
from coinstream.messages import BookSnapshot, Coverage, Instrument, Trade
from coinstream.simulator import Done, FaultKind, SimulatorAddresses, parse_faults, serve
from coinstream.simulator.market import Market
from outlets import KeptOutlet

pytestmark = pytest.mark.slow

SYMBOLS = ["BTC-USD", "DOGE-USD"]
SEED, RATE = 21, 487.0
CHANNELS = {(channel, symbol) for channel in ("trades", "quotes", "books") for symbol in SYMBOLS}

Condition = Callable[[KeptOutlet, Done], Any]


class Soon(random.Random):
    """Draws the shortest wait between connections there is."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002
        return a


async def until(is_true: Callable[[], Any], *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.02)


def fed(faults: Sequence[str], condition: Condition, *, limits: Limits | None = None) -> tuple[KeptOutlet, Done, int]:
    """Read the faulty exchange until a condition holds; return what came, what was done, and the market's start."""
    outlet, done = KeptOutlet(), Done()
    start_time_us = time.time_ns() // 1000

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    async def scenario() -> None:
        ready: asyncio.Future[SimulatorAddresses] = asyncio.get_running_loop().create_future()
        stop, over = asyncio.Event(), asyncio.Event()
        exchange = asyncio.ensure_future(
            serve(
                seed=SEED,
                rate=RATE,
                start_time_us=start_time_us,
                symbols=SYMBOLS,
                faults=parse_faults(faults),
                on_ready=ready.set_result,
                stop=over,
                done=done,
            )
        )
        addresses = await ready
        outside = Outside(chance=Soon(), limits=limits or Limits(), patience=Patience(sleep=no_wait))
        feed = asyncio.ensure_future(
            run_feed(
                venue="coinbase",
                symbols=SYMBOLS,
                producer=outlet,
                stop=stop,
                simulated=True,
                websocket_url=addresses.websocket_url,
                rest_url=addresses.http_url,
                outside=outside,
            )
        )
        try:
            await until(lambda: condition(outlet, done) or feed.done())
        finally:
            stop.set()
            await asyncio.gather(feed)
            over.set()
            assert await exchange is done

    asyncio.run(scenario())
    return outlet, done, start_time_us


def books_of_run(start_time_us: int, events: int) -> dict[str, set[tuple[Any, Any]]]:
    """All states of the best 50 levels that the market's books went through: the same market, made once more.

    What an event does depends on the seed and its number; its time, which a busy machine may shift, is in no book.
    """
    market = Market(rng=random.Random(SEED), start_time_us=start_time_us, symbols=SYMBOLS)
    states: dict[str, set[tuple[Any, Any]]] = {symbol: set() for symbol in SYMBOLS}

    def note(symbol: str) -> None:
        instrument = market.instruments[symbol]
        bids, asks = (
            tuple(
                (instrument.product.price_text(ticks), instrument.product.size_text(lots))
                for ticks, lots in list(side.levels())[:50]
            )
            for side in (instrument.book.bids, instrument.book.asks)
        )
        states[symbol].add((bids, asks))

    for symbol in SYMBOLS:
        note(symbol)
    for number in range(1, events + 1):
        note(market.step(start_time_us + int(number * 1_000_000 / RATE)).product.symbol)
    return states


def assert_true_to_the_market(outlet: KeptOutlet, done: Done, start_time_us: int) -> None:
    states = books_of_run(start_time_us, done.events)
    books = outlet.of(BookSnapshot)
    assert {book.symbol for book in books} == set(SYMBOLS)
    for book in books:
        assert (book.bids, book.asks) in states[book.symbol]
    trades = [(trade.symbol, trade.trade_id) for trade in outlet.of(Trade) if trade.provenance == "simulated"]
    assert len(set(trades)) == len(trades) > 0


def gaps_of(outlet: KeptOutlet) -> set[tuple[str, str]]:
    return {(row.channel, row.symbol) for row in outlet.of(Coverage) if row.status == "gap"}


def has_books_after(outlet: KeptOutlet, seconds: float) -> bool:
    """Whether both books were published so long after the first."""
    books = outlet.of(BookSnapshot)
    late = {book.symbol for book in books if book.received_time_us > books[0].received_time_us + seconds * 1_000_000}
    return late == set(SYMBOLS)


@pytest.mark.parametrize("kind", [FaultKind.DROP, FaultKind.REORDER, FaultKind.CORRUPT, FaultKind.JUMP])
def test_feed_names_what_it_missed_on_every_channel_and_goes_on(kind: FaultKind) -> None:
    outlet, done, start_time_us = fed(
        [f"{kind}=0.01"], lambda outlet, done: done.faults.get(kind, 0) >= 3 and has_books_after(outlet, 2)
    )
    assert gaps_of(outlet) == CHANNELS
    assert done.connections == 1
    assert_true_to_the_market(outlet, done, start_time_us)
    if kind is not FaultKind.CORRUPT:
        assert outlet.letters == []


def test_feed_dead_letters_corrupt_frames_with_their_bytes() -> None:
    outlet, done, _ = fed(["corrupt=0.02"], lambda _, done: done.faults.get(FaultKind.CORRUPT, 0) >= 5)
    # what the exchange sent last may still have been on its way
    assert 5 <= len(outlet.letters) <= done.faults[FaultKind.CORRUPT]
    for letter in outlet.letters:
        assert b'{"channel":"'.startswith(letter.value[:12]) or b"\x01" in letter.value
        with pytest.raises(json.JSONDecodeError):
            json.loads(letter.value)


def test_feed_takes_a_frame_that_comes_twice_once() -> None:
    outlet, done, start_time_us = fed(
        ["duplicate=0.5"],
        lambda outlet, done: done.faults.get(FaultKind.DUPLICATE, 0) >= 50 and outlet.of(BookSnapshot),
    )
    assert gaps_of(outlet) == set()
    assert outlet.letters == []
    assert_true_to_the_market(outlet, done, start_time_us)


def test_feed_leaves_a_half_open_connection_and_connects_again() -> None:
    outlet, done, start_time_us = fed(
        ["half-open=1"],
        lambda outlet, done: done.connections >= 3 and has_books_after(outlet, 2),
        limits=Limits(ping_after_s=0.3, pong_timeout_s=0.3),
    )
    assert done.faults[FaultKind.HALF_OPEN] >= 2
    assert {row.status for row in outlet.of(Coverage)} == {"disconnected"}
    assert outlet.letters == []
    assert_true_to_the_market(outlet, done, start_time_us)


def test_feed_asks_again_for_the_list_that_was_refused() -> None:
    outlet, done, _ = fed(["too-many-requests=0.5"], lambda outlet, _: outlet.of(Instrument) and outlet.of(Trade))
    assert {instrument.symbol for instrument in outlet.of(Instrument)} == set(SYMBOLS)
    assert done.requests == done.faults[FaultKind.TOO_MANY_REQUESTS] + 1 >= 2


def test_feed_does_without_the_list_that_is_always_refused() -> None:
    outlet, done, start_time_us = fed(["too-many-requests=1"], lambda outlet, _: has_books_after(outlet, 1))
    assert outlet.of(Instrument) == []
    assert done.requests == done.faults[FaultKind.TOO_MANY_REQUESTS] == 3
    assert_true_to_the_market(outlet, done, start_time_us)


def test_feed_lives_through_everything_at_once() -> None:
    faults = ["drop=0.01", "duplicate=0.01", "reorder=0.01", "corrupt=0.01", "jump=0.01", "half-open=4"]
    outlet, done, start_time_us = fed(
        [*faults, "too-many-requests=0.3"],
        lambda outlet, done: (
            all(done.faults.get(FaultKind(fault.partition("=")[0])) for fault in faults) and has_books_after(outlet, 5)
        ),
        limits=Limits(ping_after_s=0.3, pong_timeout_s=0.3),
    )
    assert gaps_of(outlet) == CHANNELS
    assert_true_to_the_market(outlet, done, start_time_us)
