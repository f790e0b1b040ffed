"""A live feed: connects, lists the instruments, subscribes, watches, repairs, publishes.

One flow of control does it all, in the order in which things came, so that nothing of one key can
overtake another. While it waits (for a message, a connection, the venue's list) it publishes ten
times a second what is due by the clock.

When Kafka takes no more, the flow stands still: messages wait in the connection up to its bound,
then the socket is not read, and if that lasts the connection is lost and coverage says so. What was
received is published once Kafka is back, before anything newer.
"""

from __future__ import annotations

import asyncio
import difflib
import random
import ssl
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

import httpx

from coinstream.adapters import CHANNELS, Channel, Dialect, Frame, dialect_of, dialects_of_venue
from coinstream.errors import FatalError, TransientError
from coinstream.ingest.connection import Arrived, Backoff, Limits, open_connection
from coinstream.ingest.fetch import FetchError, Patience, fetch, make_client
from coinstream.ingest.publish import Outbox, Publisher
from coinstream.ingest.requests import Requests
from coinstream.ingest.stream import MarketStream
from coinstream.messages import Instrument
from coinstream.telemetry import FRAMES, HEALTHY_UNTIL, RECONNECTS, logger

TICK_S = 0.1
SLICE_MESSAGES = 200
"""After so many the event loop gets its turn: sockets are read, pings are answered."""
KAFKA_FIRST_WAIT_S = 0.05
KAFKA_LAST_WAIT_S = 1.0
FLUSH_TIMEOUT_S = 10.0
HEALTHY_FOR_S = 60.0
"""How long a frame vouches for the connection; venues send something every second."""
"""On stopping: for Kafka to take what waits, and again to acknowledge it."""
LIST_AGAIN_S = 60.0
SIMULATED = "_simulated"

log = logger("ingest")
T = TypeVar("T")


def system_now_us() -> int:
    """Return the time, microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class Link(Protocol):
    """What a feed needs of `Connection`."""

    ended: str | None

    async def wait(self) -> None:
        """Wait until there is something to take or the link is over."""

    def take(self) -> list[Arrived]:
        """Return what has come."""

    def send(self, text: str) -> None:
        """Send a text message."""

    async def close(self, reason: str = "closed by us") -> None:
        """End it."""


@dataclass(frozen=True, slots=True)
class Outside:
    """Clock, chance and network, as a feed finds them; tests put their own in.

    Attributes:
        now_us: The clock, microseconds since 1970, UTC.
        sleep: Waits so many seconds.
        chance: Draws the waits between connections.
        limits: Of a connection.
        patience: With the venue's list of instruments.
        tls: For ``wss``; by default the system's authorities are trusted.
        transport: Stands in for the HTTP network.
    """

    now_us: Callable[[], int] = system_now_us
    sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep
    chance: random.Random = field(default_factory=random.SystemRandom)
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    tls: ssl.SSLContext | None = None
    transport: httpx.AsyncBaseTransport | None = None

    async def connect(self, url: str) -> Link:
        """Open a WebSocket; see `open_connection`."""
        return await open_connection(url, limits=self.limits, now_us=self.now_us, tls=self.tls)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read, and where.

    Attributes:
        symbols: Ours, ``BASE-QUOTE``.
        channels: Of each symbol.
        websocket_url: The feed.
        instruments_url: The venue's list.
    """

    symbols: tuple[str, ...]
    channels: tuple[Channel, ...]
    websocket_url: str
    instruments_url: str


class _StopAskedError(Exception):
    """Unwinds the flow to where it ends in good order."""


class Feed:
    """One venue's feed over one connection at a time.

    Args:
        plan: What to read.
        stream: Folds the frames; it belongs to this feed.
        producer: Takes what comes of them.
        stop: Ends the feed.
        outside: Clock, chance and network.
    """

    def __init__(
        self, plan: Plan, stream: MarketStream, producer: Publisher, *, stop: asyncio.Event, outside: Outside
    ) -> None:
        self._plan = plan
        self._stream = stream
        self._producer = producer
        self._stop = stop
        self._outside = outside
        self._now_us = outside.now_us
        self._venue = stream.adapter.venue
        self._symbols = plan.symbols
        self._outbox = Outbox(producer)
        self._requests = Requests()
        self._backoff = Backoff(outside.chance)
        self._client: httpx.AsyncClient | None = None
        self._listing: asyncio.Task[bytes] | None = None
        self._is_listed = False
        self._list_again_us = 0
        self._link: Link | None = None
        self._name = ""
        self._connections = 0
        self._frames = 0
        self._told = ""

    async def run(self) -> None:
        """Read until told to stop; see `run_feed` for what is raised."""
        HEALTHY_UNTIL.labels("venue").set(0)
        async with make_client(self._outside.patience, transport=self._outside.transport) as self._client:
            try:
                while True:
                    await self._one_connection()
            except _StopAskedError:
                await self._finish()
            finally:
                if self._listing is not None:
                    self._listing.cancel()
                    await asyncio.wait({self._listing})
                await self._hang_up()

    async def _one_connection(self) -> None:
        """Connect, read to the end, and wait before the next."""
        self._ask_for_list()
        if not self._is_listed and not self._list_again_us and self._listing is not None:
            await self._attend(_settled(self._listing))
        requests = self._stream.subscriptions(self._symbols, self._plan.channels)
        lasted_s = 0.0
        try:
            link = await self._attend(self._outside.connect(self._plan.websocket_url))
        except TransientError as error:
            reason = str(error)
        else:
            opened_us = self._now_us()
            self._opened(link, requests, opened_us)
            reason = await self._read(link)
            lasted_s = (self._now_us() - opened_us) / 1_000_000
            await self._hang_up()
        wait_s = self._backoff.next_s(lasted_s=lasted_s)
        RECONNECTS.labels(self._venue).inc()
        tell = log.debug if reason == self._told else log.warning  # a venue that is away for hours is told once
        self._told = reason
        tell("not connected", url=self._plan.websocket_url, why=reason, lasted_s=round(lasted_s), again_in_s=wait_s)
        await self._attend(self._outside.sleep(wait_s))

    def _opened(self, link: Link, requests: Sequence[str], now_us: int) -> None:
        self._connections += 1
        self._link, self._name = link, f"ws.{self._connections}"
        self._stream.opened(self._name, now_us)
        self._requests.begin(requests)
        self._send_due()
        log.info("connected", url=self._plan.websocket_url, connection=self._name, symbols=len(self._symbols))

    async def _read(self, link: Link) -> str:
        """Take messages until the connection is over, and return why it is."""
        while True:
            arrived = link.take()
            if arrived:
                await self._take(arrived)
            elif link.ended is not None:
                if self._told != link.ended:
                    self._told = ""  # it was connected, so the next trouble is news
                return link.ended
            if self._stop.is_set():
                raise _StopAskedError
            if not arrived:
                await self._attend(link.wait())

    async def _take(self, arrived: Sequence[Arrived]) -> None:
        """Work on messages in slices, each published before the next."""
        stream, outbox, venue = self._stream, self._outbox, self._venue
        name, url = self._name, self._plan.websocket_url
        frames = FRAMES.labels(venue)
        for start in range(0, len(arrived), SLICE_MESSAGES):
            part, has_room = arrived[start : start + SLICE_MESSAGES], True
            for received_time_us, data in part:
                frame = Frame(received_time_us, name, url, "ws", data)
                received = stream.receive(frame)
                outbox.take(frame, received, venue=venue)
                if received.send and not self._requests.repair(received.send):
                    has_room = False
            self._frames += len(part)
            frames.inc(len(part))
            HEALTHY_UNTIL.labels("venue").set(self._now_us() / 1_000_000 + HEALTHY_FOR_S)
            await self._tick()
            await asyncio.sleep(0)
            if not has_room and self._link is not None:
                await self._link.close("more books are broken than one connection can repair")
                return

    def _send_due(self) -> None:
        if self._link is not None:
            for text in self._requests.due(self._now_us() / 1_000_000):
                self._link.send(text)

    async def _hang_up(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            self._stream.closed(self._name, self._now_us())
            await link.close()

    async def _attend(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for something, and do meanwhile what is due by the clock; on a stop the work is cancelled."""
        if self._stop.is_set():
            work.close()
            raise _StopAskedError
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            while not task.done():
                await asyncio.wait({task, stopping}, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
                if not task.done() and self._stop.is_set():
                    raise _StopAskedError
                await self._tick()
            return task.result()
        finally:
            for each in (task, stopping):
                each.cancel()
            await asyncio.wait({task, stopping})

    async def _tick(self) -> None:
        """Do what is due by the clock: books, coverage, requests, the list, delivery callbacks."""
        self._outbox.put(self._stream.tick(self._now_us()))
        self._take_list()
        self._send_due()
        await self._publish()

    async def _publish(self) -> None:
        """Publish what waits, however long Kafka makes us wait; after a stop, `FLUSH_TIMEOUT_S` at most."""
        self._producer.serve()
        wait_s = KAFKA_FIRST_WAIT_S
        stopped_us: int | None = None
        began_us = self._now_us()
        while not self._outbox.push():
            if wait_s == KAFKA_FIRST_WAIT_S:
                log.warning("Kafka takes no more", why=self._outbox.reason, next="the feed stands still until it does")
            if self._stop.is_set():
                stopped_us = stopped_us or self._now_us()
                if self._now_us() - stopped_us > FLUSH_TIMEOUT_S * 1_000_000:
                    raise TransientError(
                        f"{len(self._outbox)} messages were not taken by Kafka ({self._outbox.reason})"
                    )
            await self._outside.sleep(wait_s)
            wait_s = min(2 * wait_s, KAFKA_LAST_WAIT_S)
            self._producer.serve()
        if wait_s != KAFKA_FIRST_WAIT_S:
            log.warning("Kafka takes messages again", after_s=(self._now_us() - began_us) / 1_000_000)

    async def _finish(self) -> None:
        """Publish what was received, the last books and the coverage of the open minute, acknowledged."""
        if self._link is not None:
            await self._take(self._link.take())
        self._outbox.put(self._stream.finish(self._now_us()))
        await self._publish()
        self._producer.flush(FLUSH_TIMEOUT_S)
        log.info(
            "feed ended",
            venue=self._venue,
            connections=self._connections,
            frames=self._frames,
            messages=dict(self._outbox.published),
            refused=dict(self._outbox.refused),
            gaps=dict(self._outbox.gaps),
        )

    def _ask_for_list(self) -> None:
        if self._listing is None and self._client is not None:
            url = self._plan.instruments_url
            request = fetch(self._client, url, patience=self._outside.patience, now_us=self._now_us)
            self._listing = asyncio.ensure_future(request)

    def _take_list(self) -> None:
        """Take the venue's list if it has come; ask again later while there is none."""
        if self._listing is None:
            if not self._is_listed and self._connections and self._now_us() >= self._list_again_us:
                self._ask_for_list()
            return
        if not self._listing.done():
            return
        listing, self._listing = self._listing, None
        self._list_again_us = self._now_us() + round(LIST_AGAIN_S * 1_000_000)
        try:
            body = listing.result()
        except FetchError as error:
            going_on = "with the list from before" if self._is_listed else "with symbols as the venue spells them"
            log.warning("no list of instruments", why=str(error), going_on=going_on)
            return
        frame = Frame(self._now_us(), "instruments", self._plan.instruments_url, "http", body)
        received = self._stream.receive(frame)
        self._outbox.take(frame, received, venue=self._venue)
        self._choose([message.symbol for message in received.messages if isinstance(message, Instrument)])

    def _choose(self, listed: Collection[str]) -> None:
        """Keep to the symbols that the venue lists.

        Raises:
            FatalError: It lists none of ours.
        """
        if not listed:
            return
        self._is_listed = True
        known = set(listed)
        missing = [symbol for symbol in self._plan.symbols if symbol not in known]
        self._symbols = tuple(symbol for symbol in self._plan.symbols if symbol in known)
        if not missing:
            return
        near = {symbol: ", ".join(difflib.get_close_matches(symbol, known, n=3)) for symbol in missing}
        hints = "; ".join(f"{symbol} (near: {names})" if names else symbol for symbol, names in near.items())
        if not self._symbols:
            raise FatalError(f"{self._venue} lists none of the symbols asked for: {hints}; name others with --symbols")
        log.warning("not listed", venue=self._venue, symbols=hints, next="going on with the others")


async def _settled(task: asyncio.Task[Any]) -> None:
    """Wait until a task is done, whatever it comes to."""
    await asyncio.wait({task})


async def run_feed(  # noqa: PLR0913 - each is a setting of the command
    *,
    venue: str,
    symbols: Sequence[str],
    producer: Publisher,
    stop: asyncio.Event,
    simulated: bool = False,
    channels: Collection[Channel] = CHANNELS,
    websocket_url: str | None = None,
    rest_url: str | None = None,
    outside: Outside | None = None,
) -> None:
    """Read a venue's feed and publish it until told to stop.

    Args:
        venue: Which venue. The dialect is that of ``websocket_url`` where one is known to be spoken
            there, else the venue's live default.
        symbols: Ours, ``BASE-QUOTE``.
        producer: Where messages go. Its ``queue_wait_s`` should be small: the event loop waits with it.
        stop: Ends the feed: last books and coverage are published and acknowledged first.
        simulated: The addresses are a simulator's: the messages' venue is ``<venue>_simulated``.
        channels: What to subscribe to.
        websocket_url: Instead of the venue's own.
        rest_url: Scheme, host and port instead of those of the venue's REST API.
        outside: Clock, chance and network.

    Raises:
        FatalError: The venue is not known or lists none of the symbols, or Kafka's client cannot go on.
        TransientError: On stopping, Kafka did not take or acknowledge everything in time.
    """
    dialect = _dialect(venue, websocket_url)
    adapter = dialect.adapter(venue=venue + SIMULATED if simulated else None)
    plan = Plan(
        symbols=tuple(dict.fromkeys(symbols)),
        channels=tuple(channel for channel in CHANNELS if channel in channels),
        websocket_url=websocket_url or dialect.websocket_url,
        instruments_url=_moved(dialect.instruments_url, rest_url),
    )
    stream = MarketStream(adapter, provenance="simulated" if simulated else None)
    await Feed(plan, stream, producer, stop=stop, outside=outside or Outside()).run()


def _dialect(venue: str, websocket_url: str | None) -> Dialect:
    dialects = dialects_of_venue(venue)
    if not dialects:
        raise FatalError(f"venue {venue!r} is not known; known is coinbase")
    spoken = dialect_of(websocket_url) if websocket_url else None
    return spoken if spoken in dialects and spoken is not None else dialects[0]


def _moved(url: str, base: str | None) -> str:
    """Return an address with the scheme, host and port of another, below that one's path."""
    if base is None:
        return url
    own, other = urlsplit(url), urlsplit(base)
    return urlunsplit(other._replace(path=other.path.rstrip("/") + own.path, query=own.query))
