"""A live feed: connects, lists the instruments, subscribes, watches, repairs, publishes, records.

One flow of control does it all, in the order in which things came, so that nothing of one key can
overtake another. While it waits (for a message, a connection, the venue's list) it publishes ten
times a second what is due by the clock. What is read by HTTP (`fetches`) comes into the same flow as a
frame, when it is there; it is never waited for. A venue that spreads its channels over several addresses
has a feed for each, and they have nothing in common but the producer.

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

from coinstream.adapters import CHANNELS, VENUES, Channel, Dialect, Frame, Route, dialect_of, dialects_of_venue
from coinstream.errors import FatalError, TransientError
from coinstream.ingest.connection import Arrived, Backoff, Limits, open_connection
from coinstream.ingest.fetch import FetchError, Patience, fetch, make_client
from coinstream.ingest.fetches import Fetcher, moved
from coinstream.ingest.publish import Outbox, Publisher
from coinstream.ingest.record import Recorder
from coinstream.ingest.requests import SPACING_S, Requests
from coinstream.ingest.stream import MarketStream, Received
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
        rest_url: Scheme, host and port instead of the venue's own, for what the adapter fetches.
        spacing_s: Least time between two frames that we send.
        name: Of the feed, where a venue has several: connections are ``ws.<name>.1`` and so on.
    """

    symbols: tuple[str, ...]
    channels: tuple[Channel, ...]
    websocket_url: str
    instruments_url: str
    rest_url: str | None = None
    spacing_s: float = SPACING_S
    name: str = ""


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
        recorder: Keeps every frame.
    """

    def __init__(
        self,
        plan: Plan,
        stream: MarketStream,
        producer: Publisher,
        *,
        stop: asyncio.Event,
        outside: Outside,
        recorder: Recorder | None = None,
    ) -> None:
        self._plan = plan
        self._recorder = recorder
        self._stream = stream
        self._producer = producer
        self._stop = stop
        self._outside = outside
        self._now_us = outside.now_us
        self._venue = stream.adapter.venue
        self._symbols = plan.symbols
        self._outbox = Outbox(producer)
        self._requests = Requests(plan.spacing_s)
        self._fetcher = Fetcher(self._venue, plan.rest_url, outside.patience, outside.now_us)
        self._answers = 0
        self._is_taking = False
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
                await self._fetcher.close()
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
        self._link, self._name = link, self._connection("ws", self._connections)
        if self._recorder is not None:
            self._recorder.turned(now_us, self._name, self._plan.websocket_url, "open")
        self._requests.begin(requests)
        received = self._stream.opened(self._name, now_us, self._plan.websocket_url)
        self._outbox.put(received.messages)
        self._fetcher.ask(received.fetches)
        self._send_due()
        log.info("connected", url=self._plan.websocket_url, connection=self._name, symbols=len(self._symbols))

    def _connection(self, transport: str, number: int) -> str:
        return ".".join(part for part in (transport, self._plan.name, str(number)) if part)

    def _hand_on(self, frame: Frame, received: Received) -> bool:
        """Pass on what came of a frame; return whether there was room for the repairs it asks for."""
        self._outbox.take(frame, received, venue=self._venue)
        if received.fetches:
            self._fetcher.ask(received.fetches)
        return not received.send or self._requests.repair(received.send)

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
        receive, recorder, fetcher = self._stream.receive, self._recorder, self._fetcher
        name, url = self._name, self._plan.websocket_url
        frames = FRAMES.labels(self._venue)
        for start in range(0, len(arrived), SLICE_MESSAGES):
            part, has_room = arrived[start : start + SLICE_MESSAGES], True
            for received_time_us, data in part:
                if received_time_us >= fetcher.ready_us:
                    self._take_answer()
                frame = Frame(received_time_us, name, url, "ws", data)
                if recorder is not None:
                    recorder.received(frame)
                has_room = self._hand_on(frame, receive(frame)) and has_room
            self._frames += len(part)
            frames.inc(len(part))
            self._is_taking = start + SLICE_MESSAGES < len(arrived)
            HEALTHY_UNTIL.labels("venue").set(self._now_us() / 1_000_000 + HEALTHY_FOR_S)
            await self._tick()
            await asyncio.sleep(0)
            if not has_room and self._link is not None:
                self._is_taking = False
                await self._link.close("more books are broken than one connection can repair")
                return

    def _send_due(self) -> None:
        if self._link is not None:
            now_us = self._now_us()
            for text in self._requests.due(now_us / 1_000_000):
                self._link.send(text)
                if self._recorder is not None:
                    self._recorder.sent(now_us, self._name, self._plan.websocket_url, text)

    async def _hang_up(self) -> None:
        if self._link is not None:
            link, self._link = self._link, None
            now_us = self._now_us()
            if self._recorder is not None and not self._stop.is_set():  # else the recording ends where the feed does
                self._recorder.turned(now_us, self._name, self._plan.websocket_url, "close")
            self._stream.closed(self._name, now_us)
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
        """Do what is due by the clock: books, coverage, requests, the list, fetches, delivery callbacks."""
        if not self._is_taking:  # else frames wait that were here before the answer
            self._take_answer()
        self._outbox.put(self._stream.tick(self._now_us()))
        self._take_list()
        self._send_due()
        if self._client is not None:
            self._fetcher.begin(self._client)
        if self._recorder is not None:
            self._recorder.tick(self._now_us())
        await self._publish()

    def _take_answer(self) -> None:
        """Take what was fetched, if it is here, as a frame of its own."""
        answer = self._fetcher.take()
        if answer is None:
            return
        self._answers += 1
        frame = Frame(answer.received_time_us, self._connection("http", self._answers), answer.url, "http", answer.body)
        if self._recorder is not None:
            self._recorder.received(frame)
        self._hand_on(frame, self._stream.receive(frame))

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
        if self._recorder is not None:
            self._recorder.received(frame)
        received = self._stream.receive(frame)
        self._hand_on(frame, received)
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
    recorder: Recorder | None = None,
) -> None:
    """Read a venue's feed and publish it until told to stop.

    Args:
        venue: Which venue. The dialect is that of ``websocket_url`` where one is known to be spoken
            there, else the venue's live default.
        symbols: Ours, ``BASE-QUOTE``; none: those that the dialect reads where nobody says what.
        producer: Where messages go. Its ``queue_wait_s`` should be small: the event loop waits with it.
        stop: Ends the feed: last books and coverage are published and acknowledged first. Set by the
            feed itself where it fails and has several connections.
        simulated: The addresses are a simulator's: the messages' venue is ``<venue>_simulated``.
        channels: What to subscribe to.
        websocket_url: Instead of the venue's own; it carries all channels, where the venue has an
            address for each group of them. One without a path is taken to speak below the venue's own.
        rest_url: Scheme, host and port instead of those of the venue's REST API.
        outside: Clock, chance and network.
        recorder: Keeps every frame.

    Raises:
        FatalError: The venue is not known or lists none of the symbols, or Kafka's client cannot go on.
        TransientError: On stopping, Kafka did not take or acknowledge everything in time.
    """
    dialect = _dialect(venue, websocket_url)
    if outside is None:
        outside = Outside(limits=Limits(idle_timeout_s=dialect.silence_s))
    routes = (
        dialect.routes
        if websocket_url is None and dialect.routes
        else (Route("", _websocket(websocket_url, dialect), frozenset(CHANNELS)),)
    )
    feeds = []
    for route in routes:
        adapter = dialect.adapter(venue=venue + SIMULATED if simulated else None)
        plan = Plan(
            symbols=tuple(dict.fromkeys(symbols or dialect.symbols)),
            channels=tuple(channel for channel in CHANNELS if channel in channels and channel in route.channels),
            websocket_url=route.websocket_url,
            instruments_url=moved(dialect.instruments_url, rest_url),
            rest_url=rest_url,
            spacing_s=dialect.spacing_s,
            name=route.name,
        )
        stream = MarketStream(adapter, provenance="simulated" if simulated else None)
        if plan.channels:
            feeds.append(Feed(plan, stream, producer, stop=stop, outside=outside, recorder=recorder))
    await _run_together(feeds, stop)


async def _run_together(feeds: Sequence[Feed], stop: asyncio.Event) -> None:
    """Run feeds until all have ended; where one fails, the others are stopped in good order first."""
    tasks = {asyncio.ensure_future(feed.run()) for feed in feeds}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if any(task.exception() is not None for task in done):
            stop.set()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if outcome is not None:
                raise outcome
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _dialect(venue: str, websocket_url: str | None) -> Dialect:
    dialects = dialects_of_venue(venue)
    if not dialects:
        raise FatalError(f"venue {venue!r} is not known; known are {', '.join(VENUES)}")
    spoken = dialect_of(websocket_url) if websocket_url else None
    return spoken if spoken in dialects and spoken is not None else dialects[0]


def _websocket(url: str | None, dialect: Dialect) -> str:
    """Return the address to connect to: the dialect's own, or another, with the own path where that has none."""
    if url is None:
        return dialect.websocket_url
    other = urlsplit(url)
    path = other.path if other.path not in ("", "/") or other.query else urlsplit(dialect.websocket_url).path
    return urlunsplit(other._replace(path=path))
