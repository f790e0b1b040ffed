"""A live feed: connects, lists the instruments, subscribes, watches, repairs, publishes.

Memory is bounded by working on each frame as it comes: when Kafka's queue is full the connection is
dropped, what is at hand waits until Kafka takes it again, and coverage says what was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from urllib.parse import urlsplit, urlunsplit

import httpx

from coinstream.adapters import CHANNELS, Channel, Frame, dialects_of_venue
from coinstream.errors import FatalError, TransientError
from coinstream.ingest.connection import IDLE_TIMEOUT_S, Send, keep_connected
from coinstream.ingest.publish import Outlet, Publisher
from coinstream.ingest.stream import MarketStream
from coinstream.messages import Instrument, Message
from coinstream.telemetry import RECONNECTS, logger

TICK_S = 0.1
LIST_TIMEOUT_S = 10.0
LIST_ATTEMPTS = 3
FLUSH_TIMEOUT_S = 30.0
KAFKA_RETRY_S = 1.0
SIMULATED = "_simulated"

log = logger("ingest")


class Feed:
    """One venue's live feed over one connection.

    Args:
        stream: Folds the frames.
        publisher: Takes what comes of them.
        symbols: Ours, ``BASE-QUOTE``.
        channels: What to subscribe to.
        now_us: The clock, microseconds since 1970.

    Attributes:
        url: The address of the connections.
    """

    def __init__(
        self,
        stream: MarketStream,
        publisher: Publisher,
        *,
        symbols: Sequence[str],
        channels: Collection[Channel],
        now_us: Callable[[], int],
    ) -> None:
        self._stream = stream
        self._publisher = publisher
        self._symbols = tuple(symbols)
        self._channels = channels
        self._now_us = now_us
        self._connections = 0
        self._name = ""
        self.url = ""
        self._send: Send | None = None
        self._waiting: deque[Message] = deque()

    def listed(self, body: bytes, url: str) -> None:
        """Take the venue's list of instruments: publish them, and say which symbols it lacks.

        Raises:
            FatalError: The venue lists none of the symbols.
        """
        frame = Frame(self._now_us(), "instruments", url, "http", body)
        received = self._stream.receive(frame)
        self._publisher.take(frame, received)
        known = {message.symbol for message in received.messages if isinstance(message, Instrument)}
        if not known:
            return
        missing = [symbol for symbol in self._symbols if symbol not in known]
        if missing:
            log.warning("not listed", venue=self._stream.adapter.venue, symbols=missing, next="going on without")
        self._symbols = tuple(symbol for symbol in self._symbols if symbol in known)
        if not self._symbols:
            raise FatalError(
                f"{self._stream.adapter.venue} lists none of {', '.join(missing)}; name others (--symbols)"
            )

    def connects_to(self, url: str) -> None:
        """Note the address of the connections that follow."""
        self.url = url

    def opened(self, send: Send) -> None:
        """Subscribe on a new connection."""
        self._connections += 1
        self._name = f"ws.{self._connections}"
        self._send = send
        self._stream.opened(self._name, self._now_us())
        for text in self._stream.subscriptions(self._symbols, self._channels):
            send(text)

    def received(self, data: bytes, time_us: int) -> None:
        """Take a message.

        Raises:
            TransientError: Kafka does not take what came of it; that waits for `drain`.
        """
        frame = Frame(time_us, self._name, self.url, "ws", data)
        received = self._stream.receive(frame)
        self._waiting.extend(received.messages)
        self._publisher.take(frame, received._replace(messages=[]))
        self.drain()
        if self._send is not None:
            for text in received.send:
                self._send(text)

    def closed(self, reason: str) -> None:
        """Note that the connection is gone."""
        self._send = None
        self._stream.closed(self._name, self._now_us())
        log.info("closed", connection=self._name, why=reason)

    def drain(self) -> None:
        """Publish what waits, in order.

        Raises:
            TransientError: Kafka's queue is full; the rest still waits.
        """
        while self._waiting:
            self._publisher.publish((self._waiting[0],))
            self._waiting.popleft()

    def tick(self) -> None:
        """Publish the books that are due and the coverage of minutes that ended."""
        self._waiting.extend(self._stream.tick(self._now_us()))
        self.drain()

    def counts(self) -> dict[str, object]:
        """Return what the feed published, refused and missed, for the log."""
        publisher = self._publisher
        return {
            "messages": dict(publisher.messages),
            "refused": dict(publisher.refused),
            "gaps": dict(publisher.gaps),
            "connections": self._connections,
        }

    def finish(self) -> None:
        """Publish each book's last state and the coverage of the minute that is still open."""
        self._waiting.extend(self._stream.finish(self._now_us()))
        self.drain()


async def run_feed(  # noqa: PLR0913 - all keyword-only, each a matter of its own
    *,
    venue: str,
    symbols: Sequence[str],
    producer: Outlet,
    stop: asyncio.Event,
    simulated: bool = False,
    channels: Collection[Channel] = CHANNELS,
    websocket_url: str | None = None,
    rest_url: str | None = None,
    idle_timeout_s: float = IDLE_TIMEOUT_S,
    chance: random.Random | None = None,
) -> None:
    """Read a venue's feed and publish it until told to stop.

    Args:
        venue: Which venue; its first dialect is spoken.
        symbols: Ours, ``BASE-QUOTE``.
        producer: Where messages go.
        stop: Ends the feed: last books and coverage are published and acknowledged first.
        simulated: The addresses are a simulator's: its venue is ``<venue>_simulated``.
        channels: What to subscribe to.
        websocket_url: Instead of the venue's own.
        rest_url: Scheme, host and port instead of those of the venue's REST API.
        idle_timeout_s: Connect anew when no frame came for so long.
        chance: Draws the waits between attempts.

    Raises:
        FatalError: The venue is not known or lists none of the symbols, or Kafka's client cannot go on.
        TransientError: At the end, Kafka did not acknowledge everything in time.
    """
    dialects = dialects_of_venue(venue)
    if not dialects:
        raise FatalError(f"venue {venue!r} is not known; see `coinstream ingest --help`")
    dialect = dialects[0]
    adapter = dialect.adapter(venue=venue + SIMULATED if simulated else None)
    stream = MarketStream(adapter, provenance="simulated" if simulated else None)
    feed = Feed(
        stream,
        Publisher(producer, venue=adapter.venue, now_us=_now_us),
        symbols=symbols,
        channels=channels,
        now_us=_now_us,
    )
    list_url = dialect.instruments_url if rest_url is None else _moved(dialect.instruments_url, rest_url)
    feed.connects_to(websocket_url or dialect.websocket_url)
    stopping = asyncio.ensure_future(_tick(feed, producer, stop))
    try:
        while not stop.is_set():
            try:
                await keep_connected(
                    feed.url,
                    feed,
                    before=lambda: _list_instruments(feed, list_url),
                    stop=stop,
                    chance=chance or random.SystemRandom(),
                    on_retry=RECONNECTS.labels(adapter.venue).inc,
                    idle_timeout_s=idle_timeout_s,
                )
            except TransientError as error:
                log.warning("waiting for Kafka", why=str(error), next="the connection is closed until it answers")
                await _until_kafka_answers(feed, producer, stop)
    finally:
        stop.set()
        await stopping
    feed.finish()
    producer.flush(FLUSH_TIMEOUT_S)
    log.info("ended", venue=adapter.venue, **feed.counts())


async def _tick(feed: Feed, producer: Outlet, stop: asyncio.Event) -> None:
    """Publish what is due by the clock, and run the producer's callbacks."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), TICK_S)
        try:
            feed.tick()
            producer.serve()
        except TransientError as error:
            # What is due waits; the next frame meets the same full queue and closes the connection.
            log.debug("not published yet", why=str(error))


async def _until_kafka_answers(feed: Feed, producer: Outlet, stop: asyncio.Event) -> None:
    while not stop.is_set():
        try:
            producer.serve()
            feed.drain()
        except TransientError:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), KAFKA_RETRY_S)
        else:
            return


async def _list_instruments(feed: Feed, url: str) -> None:
    """Fetch the venue's list; without one, symbols are taken as the venue spells them."""
    async with httpx.AsyncClient(timeout=LIST_TIMEOUT_S, follow_redirects=True) as client:
        for attempt in range(1, LIST_ATTEMPTS + 1):
            try:
                answer = await client.get(url)
                answer.raise_for_status()
            except httpx.HTTPError as error:
                log.warning("no list of instruments", url=url, attempt=attempt, why=str(error) or type(error).__name__)
            else:
                feed.listed(answer.content, url)
                return
    log.warning("going on without the list of instruments", url=url, next="asked again at the next connection")


def _moved(url: str, base: str) -> str:
    """Return a URL with the scheme, host and port of another."""
    path = urlsplit(url)
    return urlunsplit(urlsplit(base)._replace(path=path.path, query=path.query))


def _now_us() -> int:
    return time.time_ns() // 1000
