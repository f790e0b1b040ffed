"""The asset sources, asked at the start of each minute.

A source that fails leaves the others alone, and a `Coverage` of its own that says so: a minute
without prices never looks like one in which nobody asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import httpx

from coinstream.adapters import coingecko, coinpaprika
from coinstream.errors import RefusedError, TransientError
from coinstream.ingest.publish import Outlet, Publisher
from coinstream.messages import MINUTE_US, AssetSnapshot, Coverage, CoverageStatus, minute_of
from coinstream.telemetry import POLLS, logger

SOURCES: dict[str, ModuleType] = {coinpaprika.SOURCE: coinpaprika, coingecko.SOURCE: coingecko}
"""Each source's adapter: its `url`, and its `assets` to read a body."""
EVERY_ASSET = "all"
"""The symbol in the `Coverage` of a source, which answers for all of its assets at once."""
ATTEMPTS = 3
TIMEOUT_S = 15.0
RETRY_S = 2.0
MOST_PATIENCE_S = 20.0
"""A source that asks to wait longer than this is asked again in the next minute."""
FLUSH_TIMEOUT_S = 30.0

log = logger("poll")


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    url: str
    read: Callable[..., list[AssetSnapshot | RefusedError]]
    publisher: Publisher


async def run_poll(  # noqa: PLR0913 - all keyword-only, each a matter of its own
    *,
    sources: Mapping[str, str | None],
    producer: Outlet,
    stop: asyncio.Event,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    sleep: Callable[[float], Any] | None = None,
    rounds: int | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> None:
    """Poll at once, then at the start of each minute, until told to stop.

    Args:
        sources: Names of `SOURCES`, each with another base address or ``None`` for the source's own.
        producer: Where snapshots go.
        stop: Ends it; a round that has begun is published and acknowledged first.
        now_us: The clock, microseconds since 1970.
        sleep: Waits so many seconds; by default until then or the stop.
        rounds: Polls to make; ``None``: no end.
        transport: Instead of the network.

    Raises:
        FatalError: Kafka's client cannot go on.
        TransientError: At the end, Kafka did not acknowledge everything in time.
    """

    async def wait(seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)

    nap = sleep or wait
    polled = [_source(name, base, producer, now_us) for name, base in sources.items()]
    made = 0
    async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=True, transport=transport) as client:
        while not stop.is_set() and (rounds is None or made < rounds):
            minute = minute_of(now_us())
            await asyncio.gather(*(_poll(source, client, minute, now_us, nap) for source in polled))
            producer.serve()
            made += 1
            left_us = minute + MINUTE_US - now_us()
            if left_us > 0 and (rounds is None or made < rounds):
                await nap(left_us / 1e6)
    producer.flush(FLUSH_TIMEOUT_S)


def _source(name: str, base: str | None, producer: Outlet, now_us: Callable[[], int]) -> _Source:
    adapter = SOURCES[name]
    url = adapter.url() if base is None else adapter.url(base)
    return _Source(name, url, adapter.assets, Publisher(producer, venue=name, now_us=now_us))


async def _poll(
    source: _Source, client: httpx.AsyncClient, minute: int, now_us: Callable[[], int], nap: Callable[[float], Any]
) -> None:
    """Ask one source, publish what it said and what that is worth."""
    published = 0
    try:
        body = await _fetch(source, client, nap)
        read = source.read(body, minute=minute, received_time_us=now_us())
        snapshots = [entry for entry in read if isinstance(entry, AssetSnapshot)]
        refusals = [entry for entry in read if isinstance(entry, RefusedError)]
        if refusals:
            source.publisher.refuse(body, refusals)
        source.publisher.publish(snapshots)
        published = len(snapshots)
        status: CoverageStatus = "gap" if refusals else "complete"
    except (httpx.HTTPError, TransientError) as error:
        log.warning("not polled", source=source.name, why=str(error) or type(error).__name__, next="the next minute")
        status = "disconnected"
    POLLS.labels(source.name, "failed" if status == "disconnected" else "published").inc()
    with contextlib.suppress(TransientError):  # Kafka is away: the next minute's coverage shows the hole
        source.publisher.publish(
            [
                Coverage(
                    venue=source.name,
                    symbol=EVERY_ASSET,
                    channel="assets",
                    minute=minute,
                    status=status,
                    messages=published,
                )
            ]
        )


async def _fetch(source: _Source, client: httpx.AsyncClient, nap: Callable[[float], Any]) -> bytes:
    """Return a source's answer; a few attempts, and the patience it asks for if that is short.

    Raises:
        httpx.HTTPError: It did not answer well.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = await client.get(source.url)
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            delay_s = _patience_s(error.response)
            if attempt == ATTEMPTS or delay_s is None:
                raise
            await nap(delay_s)
        except httpx.TransportError:
            if attempt == ATTEMPTS:
                raise
            await nap(RETRY_S * attempt)
        else:
            return answer.content
    raise AssertionError("the last attempt returns or raises")


def _patience_s(answer: httpx.Response) -> float | None:
    """Return how long to wait before asking again; ``None``: asking again will not help in this minute."""
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS or answer.is_server_error:
        asked = answer.headers.get("retry-after", "")
        delay_s = float(asked) if asked.isascii() and asked.isdigit() else RETRY_S
        return delay_s if delay_s <= MOST_PATIENCE_S else None
    return None
