"""The polled sources: each minute's answer, and what a bad one leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from coinstream.errors import FatalError, TransientError
from coinstream.ingest.fetch import Patience
from coinstream.ingest.poll import PollOutside, run_poll
from coinstream.messages import AssetSnapshot, Coverage
from outlets import KeptOutlet

SECOND = 1_000_000
MINUTE = 60 * SECOND
START = 1_699_999_980 * SECOND  # the start of a minute
GECKO = b'[{"id":"bitcoin","symbol":"btc","name":"Bitcoin","current_price":64000.123456789012,"market_cap_rank":1}]'
PAPRIKA = b'[{"id":"btc-bitcoin","name":"Bitcoin","symbol":"BTC","rank":1,"quotes":{"USD":{"price":1e-18}}}]'
Answer = Callable[[httpx.Request], httpx.Response]


class World:
    """A clock that only sleeping moves, and a network that answers as it is told.

    Args:
        answer: The network.
        seconds: When the poll is stopped, from its start 15 seconds into a minute.
        sources: Which are polled.
    """

    def __init__(self, answer: Answer, *, seconds: float, sources: tuple[str, ...] = ("coingecko",)) -> None:
        self.outlet = KeptOutlet()
        self.asked: list[tuple[str, float]] = []
        self._answer = answer
        self._end_us = START + round((15 + seconds) * SECOND)
        self._sources = sources
        self.now_us = START + 15 * SECOND

    def run(self) -> World:
        async def scenario() -> None:
            stop = asyncio.Event()

            async def sleep(seconds: float) -> None:
                self.now_us += round(seconds * SECOND)
                if self.now_us >= self._end_us:
                    stop.set()
                    await asyncio.Event().wait()
                await asyncio.sleep(0)

            outside = PollOutside(
                now_us=lambda: self.now_us,
                sleep=sleep,
                patience=Patience(sleep=sleep, deadline_s=40, first_wait_s=0.1),
                transport=httpx.MockTransport(self._ask),
            )
            sources = {name: f"http://{name}.test" for name in self._sources}
            await run_poll(sources=sources, producer=self.outlet, stop=stop, outside=outside)

        asyncio.run(asyncio.wait_for(scenario(), 20))
        return self

    def _ask(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.host.removesuffix(".test"), (self.now_us - START) / SECOND))
        return self._answer(request)

    @property
    def coverage(self) -> list[tuple[str, int, str, int]]:
        return [(c.venue, (c.minute - START) // MINUTE, c.status, c.messages) for c in self.outlet.of(Coverage)]


def good(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=GECKO if "gecko" in request.url.host else PAPRIKA)


def test_prices_are_exact_and_stand_in_the_minute_of_the_poll() -> None:
    world = World(good, seconds=1, sources=("coinpaprika", "coingecko")).run()
    assert {(m.source, m.price_usd, m.minute) for m in world.outlet.of(AssetSnapshot)} == {
        ("coingecko", "64000.123456789012", START),
        ("coinpaprika", "0.000000000000000001", START),
    }
    assert set(world.coverage) == {("coingecko", 0, "complete", 1), ("coinpaprika", 0, "complete", 1)}
    assert {(c.symbol, c.channel) for c in world.outlet.of(Coverage)} == {("all", "assets")}
    assert world.outlet.flushed == len(world.outlet.messages) == 4


def test_polls_are_at_once_and_then_two_seconds_into_each_minute() -> None:
    world = World(good, seconds=130).run()
    assert world.asked == [("coingecko", 15), ("coingecko", 62), ("coingecko", 122)]
    assert world.coverage == [("coingecko", minute, "complete", 1) for minute in range(3)]


def test_source_that_fails_leaves_the_other_alone_and_a_hole_with_a_name() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404) if "gecko" in request.url.host else good(request)

    world = World(answer, seconds=1, sources=("coinpaprika", "coingecko")).run()
    assert set(world.coverage) == {("coingecko", 0, "disconnected", 0), ("coinpaprika", 0, "complete", 1)}
    assert world.outlet.letters == []


def test_unreachable_source_is_tried_a_few_times_each_minute() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    world = World(answer, seconds=60).run()
    assert len(world.asked) == 6
    assert world.coverage == [("coingecko", 0, "disconnected", 0), ("coingecko", 1, "disconnected", 0)]


def test_source_that_asks_for_patience_is_left_alone_for_so_long_over_minutes() -> None:
    answers = [httpx.Response(429, headers={"Retry-After": "100"})]
    world = World(lambda request: answers.pop() if answers else good(request), seconds=180).run()
    assert world.asked == [("coingecko", 15), ("coingecko", 122), ("coingecko", 182)]
    assert [status for _, _, status, _ in world.coverage] == ["disconnected", "disconnected", "complete", "complete"]


def test_garbage_is_dead_lettered_with_its_raw_bytes_and_the_minute_is_a_gap() -> None:
    world = World(lambda _: httpx.Response(200, content=b"<html>"), seconds=1).run()
    assert [(letter.key, letter.value) for letter in world.outlet.letters] == [(b"coingecko", b"<html>")]
    assert world.coverage == [("coingecko", 0, "gap", 0)]


def test_one_bad_asset_is_dead_lettered_and_its_neighbours_are_published() -> None:
    body = GECKO[:-1] + b',{"id":"worthless","symbol":"w","name":"W","current_price":-1}]'
    world = World(lambda _: httpx.Response(200, content=body), seconds=1).run()
    assert [m.asset_id for m in world.outlet.of(AssetSnapshot)] == ["bitcoin"]
    (letter,) = world.outlet.letters
    assert letter.value == body
    assert letter.reason.startswith("[1].price_usd")
    assert world.coverage == [("coingecko", 0, "gap", 1)]


def test_empty_list_is_a_gap_not_a_complete_minute() -> None:
    assert World(lambda _: httpx.Response(200, content=b"[]"), seconds=1).run().coverage == [("coingecko", 0, "gap", 0)]


def test_minutes_that_passed_while_kafka_was_away_are_covered_afterwards() -> None:
    world = World(good, seconds=200)
    world.outlet.room = 0
    away = world.outlet.publish

    def publish(message: AssetSnapshot | Coverage) -> None:
        if world.now_us > START + 130 * SECOND:
            world.outlet.room = None
        away(message)

    world.outlet.publish = publish  # type: ignore[method-assign, assignment]
    world.run()
    assert world.coverage == [
        ("coingecko", 0, "complete", 1),
        ("coingecko", 1, "disconnected", 0),
        ("coingecko", 2, "disconnected", 0),
        ("coingecko", 3, "complete", 1),
    ]


def test_unknown_source_is_fatal_and_says_which_are_known() -> None:
    with pytest.raises(FatalError, match="'coinmarket' is not known; known are coinpaprika, coingecko"):
        World(good, seconds=1, sources=("coinmarket",)).run()


def test_fatal_error_of_the_producer_ends_the_poll() -> None:
    world = World(good, seconds=500)

    def serve() -> None:
        raise FatalError("fenced")

    world.outlet.serve = serve  # type: ignore[method-assign]
    with pytest.raises(FatalError, match="fenced"):
        world.run()


def test_what_kafka_does_not_acknowledge_at_the_end_is_an_error() -> None:
    world = World(good, seconds=1)

    def flush(timeout_s: float) -> None:
        raise TransientError(f"not within {timeout_s}")

    world.outlet.flush = flush  # type: ignore[method-assign]
    with pytest.raises(TransientError):
        world.run()
