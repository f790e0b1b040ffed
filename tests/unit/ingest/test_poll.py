"""The polled sources: each minute's answer, and what a bad one leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx

from coinstream.ingest import run_poll
from coinstream.messages import AssetSnapshot, Coverage
from outlets import KeptOutlet

MINUTE = 1_699_999_980_000_000
GECKO = b'[{"id":"bitcoin","symbol":"btc","name":"Bitcoin","current_price":64000.123456789012,"market_cap_rank":1}]'
PAPRIKA = b'[{"id":"btc-bitcoin","name":"Bitcoin","symbol":"BTC","rank":1,"quotes":{"USD":{"price":1e-18}}}]'


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_us = MINUTE + 15_000_000
        self.naps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now_us += round(seconds * 1_000_000)


def polled(answer: Callable[[httpx.Request], httpx.Response], *, rounds: int = 1) -> tuple[KeptOutlet, Clock]:
    outlet, clock = KeptOutlet(), Clock()
    asyncio.run(
        run_poll(
            sources={"coinpaprika": "http://paprika.test", "coingecko": "http://gecko.test"},
            producer=outlet,
            stop=asyncio.Event(),
            now_us=lambda: clock.now_us,
            sleep=clock.sleep,
            rounds=rounds,
            transport=httpx.MockTransport(answer),
        )
    )
    return outlet, clock


def both(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=GECKO if request.url.host == "gecko.test" else PAPRIKA)


def coverage(outlet: KeptOutlet) -> dict[tuple[str, int], str]:
    return {(m.venue, m.minute): m.status for m in outlet.messages if isinstance(m, Coverage)}


def test_both_sources_are_published_with_exact_prices_and_the_minute() -> None:
    outlet, _ = polled(both)
    prices = {m.source: (m.price_usd, m.minute) for m in outlet.messages if isinstance(m, AssetSnapshot)}
    assert prices == {
        "coingecko": ("64000.123456789012", MINUTE),
        "coinpaprika": ("0.000000000000000001", MINUTE),
    }
    assert coverage(outlet) == {("coingecko", MINUTE): "complete", ("coinpaprika", MINUTE): "complete"}
    assert outlet.flushed == len(outlet.messages) == 4


def test_next_poll_is_at_the_start_of_the_next_minute() -> None:
    outlet, clock = polled(both, rounds=2)
    assert clock.naps == [45.0]
    assert {minute for _, minute in coverage(outlet)} == {MINUTE, MINUTE + 60_000_000}


def test_source_that_fails_leaves_the_other_alone_and_a_hole_with_a_name() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404) if request.url.host == "gecko.test" else both(request)

    outlet, _ = polled(answer)
    assert coverage(outlet) == {("coingecko", MINUTE): "disconnected", ("coinpaprika", MINUTE): "complete"}


def test_too_many_requests_are_answered_with_the_patience_asked_for() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "gecko.test" and asked.count("gecko.test") == 1:
            return httpx.Response(429, headers={"retry-after": "7"})
        return both(request)

    outlet, clock = polled(answer)
    assert clock.naps == [7.0]
    assert coverage(outlet)["coingecko", MINUTE] == "complete"


def test_source_that_asks_for_much_patience_is_left_until_the_next_minute() -> None:
    _, clock = polled(lambda _: httpx.Response(429, headers={"retry-after": "3600"}))
    assert clock.naps == []


def test_unreachable_source_is_tried_a_few_times() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        raise httpx.ConnectError("refused")

    outlet, _ = polled(answer)
    assert asked.count("gecko.test") == asked.count("paprika.test") == 3
    assert set(coverage(outlet).values()) == {"disconnected"}


def test_garbage_is_dead_lettered_with_its_raw_bytes() -> None:
    outlet, _ = polled(lambda _: httpx.Response(200, content=b"<html>"))
    assert [letter.value for letter in outlet.letters] == [b"<html>", b"<html>"]
    assert {letter.key for letter in outlet.letters} == {b"coingecko", b"coinpaprika"}
    assert set(coverage(outlet).values()) == {"gap"}
