"""Binance: who listens to which stream, and what each of them is sent when the market moves.

Nothing here waits or reads a clock: the server calls `BinancePublisher.advance` with the time since the start.
"""

from collections import deque
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit

from coinstream.errors import RefusedError
from coinstream.simulator import binance as venue
from coinstream.simulator.binance_instrument import BinanceInstrument, DepthChanges
from coinstream.simulator.binance_routes import spot_reply
from coinstream.simulator.market import MarketEvent
from coinstream.simulator.publisher import Outlet, Reply, Skip, never_skip
from coinstream.simulator.schedule import Schedule

__all__ = ["BinancePublisher", "BinanceSession"]

_MOST_STREAMS = 1024  # on one connection, the venue's
_MOST_MESSAGES_A_SECOND = 5  # from one client, the venue's; it counts pings and pongs too, here only requests count
_FAST_NS, _SLOW_NS = 100_000_000, 1_000_000_000  # how often changes of books are sent: ``@depth@100ms`` and ``@depth``


class BinanceSession:
    """One client's connection.

    Args:
        publisher: Whose streams to listen to.
        outlet: Takes what the client is sent.
        is_combined: Whether events are wrapped with the name of their stream.
    """

    def __init__(self, publisher: "BinancePublisher", outlet: Outlet, *, is_combined: bool) -> None:
        self.is_combined = is_combined
        self.streams: dict[str, None] = {}  # in the order asked for
        self._publisher = publisher
        self._outlet = outlet
        self._heard_ns: deque[int] = deque(maxlen=_MOST_MESSAGES_A_SECOND)

    @property
    def has_subscribed(self) -> bool:
        """Whether the client listens to anything."""
        return bool(self.streams)

    def receive(self, frame: bytes) -> None:
        """Answer a request; who sends more than five a second is hung up on, as the venue does."""
        now_ns, heard = self._publisher.schedule.time_ns, self._heard_ns
        if len(heard) == _MOST_MESSAGES_A_SECOND and now_ns - heard[0] < 1_000_000_000:
            self._outlet.close("Too many requests")
            return
        heard.append(now_ns)
        try:
            request = venue.parse_request(frame)
            answer = venue.answer(self._result(request), request.id)
        except RefusedError as refusal:
            answer = str(refusal).encode()
        self._outlet.send(answer, is_market_data=False)

    def end(self) -> None:
        """Forget the client."""
        self.unsubscribe(list(self.streams))

    def subscribe(self, streams: list[str]) -> None:
        """Listen to streams. Names that the venue does not know are taken, and nothing comes of them.

        Raises:
            RefusedError: They are too many.
        """
        if len(self.streams.keys() | set(streams)) > _MOST_STREAMS:
            raise RefusedError('{"code":2,"msg":"Invalid request: too many streams"}')
        for stream in streams:
            self.streams[stream] = None
            self._publisher.listeners.setdefault(stream, {})[self] = None

    def unsubscribe(self, streams: list[str]) -> None:
        """Listen to these no more."""
        for stream in streams:
            if stream in self.streams:
                del self.streams[stream]
                listeners = self._publisher.listeners[stream]
                del listeners[self]
                if not listeners:
                    del self._publisher.listeners[stream]

    def send(self, stream: str, payload: str) -> None:
        """Send one event."""
        message = venue.combined(stream, payload) if self.is_combined else payload.encode()
        self._outlet.send(message, is_market_data=True)

    def _result(self, request: venue.Request) -> object:
        if request.method == "LIST_SUBSCRIPTIONS":
            return list(self.streams)
        if request.method == "GET_PROPERTY":
            return self.is_combined
        if request.method == "SET_PROPERTY":
            self.is_combined = request.params[1]
        elif request.method == "SUBSCRIBE":
            self.subscribe(list(request.params))
        else:
            self.unsubscribe(list(request.params))
        return None


class BinancePublisher:
    """Tells the sessions how the market moves; see `coinstream.simulator.publisher.Publisher`.

    Streams of each symbol: ``@aggTrade`` and ``@bookTicker``, sent by each call of `advance` that has something of
    them; ``@depth@100ms`` and ``@depth``, which sum up 100 ms and a second. The book that REST shows is that of now:
    the next depth event of a listener joins on to it, or holds it.

    Args:
        schedule: Moves the market.
        skip: How many update ids of a book are left out after a ``@depth@100ms`` event that somebody was sent.

    Attributes:
        instruments: By the venue's spelling.
        listeners: By stream.
    """

    subscribe_timeout_s: float | None = None  # a connection that listens to nothing is left alone

    def __init__(self, schedule: Schedule, *, skip: Skip = never_skip) -> None:
        self.schedule = schedule
        self.listeners: dict[str, dict[BinanceSession, None]] = {}
        self.instruments = {
            venue.spelling(instrument.product): BinanceInstrument(instrument, start_id=schedule.time_us)
            for instrument in schedule.market.instruments.values()
        }
        self._skip = skip
        self._next_ns = {_FAST_NS: _FAST_NS, _SLOW_NS: _SLOW_NS}
        for event in schedule.market.history:
            self._of(event).take(event)
        for instrument in self.instruments.values():  # what was before the start is no news
            instrument.fast.begin_after(instrument.update_id)
            instrument.slow.begin_after(instrument.update_id)
            instrument.has_new_top()

    def accepts(self, target: str) -> bool:
        """Tell whether the venue has a WebSocket there, and lets one connection have so many streams.

        There is ``/ws``, ``/ws/<stream>/<stream>``, ``/stream`` and ``/stream?streams=<stream>/<stream>``.
        """
        streams = _streams_of(target)
        return streams is not None and len(streams) <= _MOST_STREAMS

    def connect(self, target: str, outlet: Outlet) -> BinanceSession:
        """Begin a session with the streams that the address names."""
        session = BinanceSession(self, outlet, is_combined=target.startswith("/stream"))
        session.subscribe(_streams_of(target) or [])
        return session

    def advance(self, elapsed_ns: int) -> None:
        """Let all happen that is due by now, and tell the sessions."""
        moved: dict[str, BinanceInstrument] = {}
        for event in self.schedule.advance(elapsed_ns):
            instrument = self._of(event)
            moved[event.product.symbol] = instrument
            aggregates, stream = instrument.take(event), instrument.streams[0]
            for aggregate in aggregates if stream in self.listeners else ():
                self._send(stream, venue.agg_trade_event(event.product, aggregate, time_us=self.schedule.time_us))
        for instrument in moved.values():
            self._publish_top(instrument)
        if self._is_due(_FAST_NS):
            for instrument in self.instruments.values():
                self._publish_changes(instrument, instrument.fast)
        if self._is_due(_SLOW_NS):
            for instrument in self.instruments.values():
                self._publish_changes(instrument, instrument.slow)

    def reply(self, path: str, query: Mapping[str, str]) -> Reply | None:
        """Answer the public market routes."""
        return spot_reply(path, query, self.instruments, time_us=self.schedule.time_us)

    def _of(self, event: MarketEvent) -> BinanceInstrument:
        return self.instruments[venue.spelling(event.product)]

    def _is_due(self, period_ns: int) -> bool:
        elapsed_ns = self.schedule.elapsed_ns
        if elapsed_ns < self._next_ns[period_ns]:
            return False
        self._next_ns[period_ns] = elapsed_ns - elapsed_ns % period_ns + period_ns
        return True

    def _publish_top(self, instrument: BinanceInstrument) -> None:
        stream, is_new = instrument.streams[1], instrument.has_new_top()
        if is_new and stream in self.listeners:
            product, book = instrument.instrument.product, instrument.instrument.book
            self._send(stream, venue.book_ticker_event(product, book, update_id=instrument.update_id))

    def _publish_changes(self, instrument: BinanceInstrument, changes: DepthChanges) -> None:
        last_id = instrument.update_id
        if changes.name not in self.listeners:
            changes.begin_after(last_id)
            return
        event = changes.take(instrument.instrument, last_id=last_id, time_us=self.schedule.time_us)
        if event is None:
            return
        self._send(changes.name, event)
        if changes is instrument.fast:
            # The ids left out are the book's, so that a snapshot that comes later agrees with what follows it.
            instrument.update_id += self._skip()
            changes.begin_after(instrument.update_id)

    def _send(self, stream: str, payload: str) -> None:
        for session in list(self.listeners.get(stream, ())):
            session.send(stream, payload)


def _streams_of(target: str) -> list[str] | None:
    """Return the streams that an address names, each once, or None where it is none of the venue's."""
    parts = urlsplit(target)
    path = unquote(parts.path)
    if path in ("/stream", "/stream/"):
        names = parse_qs(parts.query).get("streams", [""])[-1]
    elif path == "/ws" or path.startswith("/ws/"):
        names = path.removeprefix("/ws")
    else:
        return None
    return list(dict.fromkeys(name for name in names.split("/") if name))
