"""The asset sources, asked at the start of each minute.

Each source has its own loop: one that is slow or away leaves the others alone. Every minute gets a
`Coverage` a source, so that a minute without prices never looks like one in which nobody asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import httpx

from coinstream.adapters import Frame, coingecko, coinpaprika
from coinstream.errors import FatalError, RefusedError
from coinstream.ingest.fetch import FetchError, Patience, fetch, make_client
from coinstream.ingest.publish import Outbox, Publisher
from coinstream.messages import MINUTE_US, AssetSnapshot, Coverage, CoverageStatus, minute_of
from coinstream.telemetry import FRAMES, POLLS, logger

SOURCES: dict[str, ModuleType] = {coinpaprika.SOURCE: coinpaprika, coingecko.SOURCE: coingecko}
"""Each source's adapter: its `url`, and its `assets` to read a body."""
EVERY_ASSET = "all"
"""The symbol in a source's `Coverage`, which answers for all of its assets at once."""
OFFSET_US = 2_000_000
"""After the start of the minute, when the sources have renewed their figures."""
MOST_MISSED_MINUTES = 60
"""After a longer sleep of this process the minutes between are not spoken of."""
SERVE_EVERY_S = 1.0
KAFKA_WAIT_S = 0.2
FLUSH_TIMEOUT_S = 10.0

log = logger("ingest")


@dataclass(frozen=True, slots=True)
class PollOutside:
    """Clock, waiting and network, as the poll finds them; tests put their own in.

    Attributes:
        now_us: The clock, microseconds since 1970, UTC.
        sleep: Waits so many seconds; a stop cancels it.
        patience: With each source, each minute; its deadline leaves room before the next.
        transport: Stands in for the HTTP network.
    """

    now_us: Callable[[], int] = lambda: time.time_ns() // 1000
    sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep
    patience: Patience = field(default_factory=lambda: Patience(timeout_s=15.0, deadline_s=40.0))
    transport: httpx.AsyncBaseTransport | None = None


async def run_poll(
    *,
    sources: Mapping[str, str | None],
    producer: Publisher,
    stop: asyncio.Event,
    outside: PollOutside | None = None,
) -> None:
    """Poll at once, then shortly after the start of each minute, until told to stop.

    Args:
        sources: Names of `SOURCES`, each with another base address or ``None`` for the source's own.
        producer: Where snapshots go.
        stop: Ends it; a request under way is given up.
        outside: Clock, waiting and network.

    Raises:
        FatalError: A source is not known, or Kafka's client cannot go on.
        TransientError: At the end, Kafka did not acknowledge everything in time.
    """
    unknown = [name for name in sources if name not in SOURCES]
    if unknown:
        raise FatalError(f"source {unknown[0]!r} is not known; known are {', '.join(SOURCES)}")
    world = outside or PollOutside()
    async with make_client(world.patience, transport=world.transport) as client:
        polls = [
            asyncio.ensure_future(_SourcePoll(name, base, client, producer, world).run())
            for name, base in sources.items()
        ]
        stopping = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait({stopping, *polls}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()  # a poll ends by itself only by an error
        finally:
            for task in (stopping, *polls):
                task.cancel()
            await asyncio.wait({stopping, *polls})
    producer.flush(FLUSH_TIMEOUT_S)


class _SourcePoll:
    """The loop of one source."""

    def __init__(
        self, name: str, base: str | None, client: httpx.AsyncClient, producer: Publisher, outside: PollOutside
    ) -> None:
        adapter = SOURCES[name]
        self._name = name
        self._url: str = adapter.url() if base is None else adapter.url(base)
        self._read: Callable[..., list[AssetSnapshot | RefusedError]] = adapter.assets
        self._client = client
        self._producer = producer
        self._outside = outside
        self._outbox = Outbox(producer)
        self._not_before_us = 0
        self._covered: int | None = None
        self._is_well = True

    async def run(self) -> None:
        """Poll for ever."""
        now_us = self._outside.now_us
        while True:
            await self._poll(minute_of(now_us()))
            due_us = minute_of(now_us()) + MINUTE_US + OFFSET_US
            while (left_us := due_us - now_us()) > 0:
                self._producer.serve()
                await self._outside.sleep(min(left_us / 1_000_000, SERVE_EVERY_S))

    async def _poll(self, minute: int) -> None:
        """Ask once, and publish what was said and what that is worth."""
        self._cover_missed(minute)
        status: CoverageStatus = "disconnected"
        published = 0
        if self._outside.now_us() >= self._not_before_us:
            try:
                body = await fetch(
                    self._client, self._url, patience=self._outside.patience, now_us=self._outside.now_us
                )
            except FetchError as error:
                self._not_before_us = self._outside.now_us() + round(error.not_before_s * 1_000_000)
                self._tell(str(error))
            else:
                status, published = self._take(body, minute)
        POLLS.labels(self._name, "failed" if status == "disconnected" else "published").inc()
        self._cover(minute, status, published)
        await self._publish()

    def _take(self, body: bytes, minute: int) -> tuple[CoverageStatus, int]:
        received_time_us = self._outside.now_us()
        FRAMES.labels(self._name).inc()
        read = self._read(body, minute=minute, received_time_us=received_time_us)
        snapshots = [entry for entry in read if isinstance(entry, AssetSnapshot)]
        refusals = [entry for entry in read if isinstance(entry, RefusedError)]
        if refusals:
            frame = Frame(received_time_us, "poll", self._url, "http", body)
            self._outbox.refuse(frame, refusals, venue=self._name)
        self._outbox.put(snapshots)
        if snapshots and not self._is_well:
            log.info("source answers again", source=self._name)
            self._is_well = True
        return "complete" if snapshots and not refusals else "gap", len(snapshots)

    def _tell(self, reason: str) -> None:
        (log.warning if self._is_well else log.debug)("not polled", source=self._name, why=reason, next="asked again")
        self._is_well = False

    def _cover_missed(self, minute: int) -> None:
        """Say of the minutes since the last poll that nobody asked."""
        if self._covered is not None:
            missed = range(self._covered + MINUTE_US, minute, MINUTE_US)
            for each in missed if len(missed) <= MOST_MISSED_MINUTES else ():
                self._cover(each, "disconnected", 0)

    def _cover(self, minute: int, status: CoverageStatus, messages: int) -> None:
        self._covered = minute
        coverage = Coverage(
            venue=self._name, symbol=EVERY_ASSET, channel="assets", minute=minute, status=status, messages=messages
        )
        self._outbox.put((coverage,))

    async def _publish(self) -> None:
        """Publish however long Kafka makes us wait; minutes missed meanwhile are covered afterwards."""
        has_waited = False
        self._producer.serve()
        while not self._outbox.push():
            if not has_waited:
                log.warning("Kafka takes no more", why=self._outbox.reason, next="the poll waits")
            has_waited = True
            await self._outside.sleep(KAFKA_WAIT_S)
            self._producer.serve()
