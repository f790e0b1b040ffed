"""Coinbase Advanced Trade: who is subscribed to what, and what each of them is sent when the market moves.

Nothing here waits or reads a clock: the server calls `CoinbasePublisher.advance` with the time since the start.
"""

from collections import deque
from collections.abc import Iterable, Mapping

from coinstream.errors import RefusedError
from coinstream.simulator import coinbase_advanced as venue
from coinstream.simulator.coinbase_routes import product_reply
from coinstream.simulator.market import LevelChange, MarketEvent, SimulatedTrade
from coinstream.simulator.products import Product
from coinstream.simulator.publisher import Outlet, Reply, Skip, never_skip
from coinstream.simulator.schedule import Schedule

__all__ = ["CoinbasePublisher", "CoinbaseSession"]

_RECENT_TRADES = 100  # a product, in the snapshot of a new subscription
_TRADES_PERIOD_NS = 250_000_000  # as documented: trades of 250 ms travel together
_HEARTBEAT_PERIOD_NS = 1_000_000_000
_SUBSCRIBE_TIMEOUT_S = 5.0  # the venue's


class CoinbaseSession:
    """One client's connection: its subscriptions and its sequence.

    The venue counts from 0; here the count begins at the run's start time in microseconds, so that no two
    runs share a quote's or a book's sequence.
    """

    def __init__(self, publisher: "CoinbasePublisher", outlet: Outlet, skip: Skip) -> None:
        self._publisher = publisher
        self._outlet = outlet
        self._skip = skip
        self._sequence = publisher.schedule.start_time_us
        self.subscriptions: dict[str, dict[str, None]] = {}  # channel: its products, in the order asked for

    @property
    def has_subscribed(self) -> bool:
        """Whether the client is subscribed to anything."""
        return bool(self.subscriptions)

    def receive(self, frame: bytes) -> None:
        """Answer a request: snapshots first, then the list of its subscriptions, as the venue does."""
        self._publisher.handle(self, frame)

    def end(self) -> None:
        """Forget the client."""
        self._publisher.sessions.pop(self, None)

    def is_subscribed(self, channel: str, symbol: str) -> bool:
        """Tell whether this client wants a product's messages of a channel."""
        return symbol in self.subscriptions.get(channel, ())

    def send(self, channel: str, events: str, time_ns: int) -> None:
        """Send one message; ``channel`` as subscribed (``level2``)."""
        name = venue.CHANNELS.get(channel, channel)
        is_market_data = channel in venue.MARKET_CHANNELS
        if is_market_data:
            self._sequence += self._skip()
        message = venue.envelope(name, time_ns=time_ns, sequence=self._sequence, events=events)
        self._sequence += 1
        self._outlet.send(message, is_market_data=is_market_data)

    def refuse(self, reason: str) -> None:
        """Answer a bad request."""
        self._outlet.send(venue.error_message(reason), is_market_data=False)


class CoinbasePublisher:
    """Tells the sessions how the market moves; see `coinstream.simulator.publisher.Publisher`.

    One call to `advance` sends, to each client that subscribed:

    - ``level2``: one frame a product whose book changed, with all its changes since the last call;
    - ``ticker``: one frame with one ticker for each product that traded since the last call;
    - ``market_trades``: every 250 ms one frame with all trades of the client's products, newest first;
    - ``heartbeats``: one frame a second.

    Args:
        schedule: Moves the market.
        skip: How many numbers a connection's sequence leaves out before a frame with market data.
    """

    subscribe_timeout_s: float | None = _SUBSCRIBE_TIMEOUT_S

    def __init__(self, schedule: Schedule, *, skip: Skip = never_skip) -> None:
        self.schedule = schedule
        self.market = schedule.market
        self.sessions: dict[CoinbaseSession, None] = {}
        self._skip = skip
        self._next_trades_ns = _TRADES_PERIOD_NS
        self._next_heartbeat_ns = _HEARTBEAT_PERIOD_NS
        self._unsent_trades: list[tuple[Product, SimulatedTrade]] = []  # oldest first
        self._recent_trades: dict[str, deque[SimulatedTrade]] = {
            symbol: deque(maxlen=_RECENT_TRADES) for symbol in self.market.instruments
        }
        for event in self.market.history:
            self._recent_trades[event.product.symbol].extend(event.trades)

    @property
    def _time_ns(self) -> int:
        return self.schedule.time_ns

    def accepts(self, target: str) -> bool:  # noqa: ARG002 (the venue looks at no path)
        """Tell whether the venue has a WebSocket there: everywhere."""
        return True

    def connect(self, target: str, outlet: Outlet) -> CoinbaseSession:  # noqa: ARG002 (the same)
        """Begin a session."""
        session = CoinbaseSession(self, outlet, self._skip)
        self.sessions[session] = None
        return session

    def advance(self, elapsed_ns: int) -> None:
        """Let all happen that is due by now, and tell the sessions."""
        changes, traded = self._sorted(self.schedule.advance(elapsed_ns))
        for symbol, product_changes in changes.items():
            self._publish_level2(self.market.instruments[symbol].product, product_changes)
        if traded:
            self._publish_tickers(traded)
        if elapsed_ns >= self._next_trades_ns:
            self._next_trades_ns = elapsed_ns - elapsed_ns % _TRADES_PERIOD_NS + _TRADES_PERIOD_NS
            self._publish_trades()
        if elapsed_ns >= self._next_heartbeat_ns:
            self._next_heartbeat_ns = elapsed_ns - elapsed_ns % _HEARTBEAT_PERIOD_NS + _HEARTBEAT_PERIOD_NS
            self._publish_heartbeats()

    def reply(self, path: str, query: Mapping[str, str]) -> Reply | None:
        """Answer the public product routes."""
        return product_reply(path, query, self.market.instruments, self.recent_trades)

    def recent_trades(self, symbol: str) -> list[str]:
        """Write a product's last trades that were published, at most 100, newest first."""
        product = self.market.instruments[symbol].product
        return [venue.trade_text(product, trade) for trade in reversed(self._recent_trades[symbol])]

    def handle(self, session: CoinbaseSession, frame: bytes) -> None:
        """Answer a client's request: snapshots first, then the list of its subscriptions, as the venue does."""
        try:
            request = venue.parse_request(frame, known_symbols=self.market.instruments)
        except RefusedError as refusal:
            session.refuse(str(refusal))
            return
        if request.type == "subscribe":
            ids = request.product_ids if request.channel != "heartbeats" else ("heartbeats",)
            session.subscriptions.setdefault(request.channel, {}).update(dict.fromkeys(ids))
            self._send_snapshots(session, request.channel, ids)
        else:
            self._unsubscribe(session, request)
        session.send("subscriptions", venue.subscriptions_event(session.subscriptions), self._time_ns)

    def _unsubscribe(self, session: CoinbaseSession, request: venue.Request) -> None:
        products = session.subscriptions.get(request.channel, {})
        if request.channel == "heartbeats" or not request.product_ids:
            products.clear()
        for symbol in request.product_ids:
            products.pop(symbol, None)
        if not products:
            session.subscriptions.pop(request.channel, None)

    def _send_snapshots(self, session: CoinbaseSession, channel: str, symbols: Iterable[str]) -> None:
        symbols = tuple(dict.fromkeys(symbols))
        instruments = [self.market.instruments[symbol] for symbol in symbols if symbol in self.market.instruments]
        if channel == "level2":
            # Books are current here: what `advance` changes it also sends, before any request is handled.
            for instrument in instruments:
                events = venue.level2_snapshot_event(instrument, event_time_us=self.schedule.time_us)
                session.send(channel, events, self._time_ns)
        elif channel == "ticker":
            tickers = [venue.ticker_text(instrument) for instrument in instruments]
            session.send(channel, venue.ticker_event("snapshot", tickers), self._time_ns)
        elif channel == "market_trades":
            # Trades that still wait for the end of their 250 ms are not in here: they come in the next update.
            newest_first = [text for symbol in symbols for text in self.recent_trades(symbol)]
            session.send(channel, venue.trades_event("snapshot", newest_first), self._time_ns)

    def _sorted(self, events: list[MarketEvent]) -> tuple[dict[str, list[tuple[int, LevelChange]]], set[str]]:
        """Keep the trades until they are due; return the level changes by symbol, and the symbols that traded."""
        changes: dict[str, list[tuple[int, LevelChange]]] = {}
        traded: set[str] = set()
        for event in events:
            symbol = event.product.symbol
            changes.setdefault(symbol, []).extend((event.event_time_us, change) for change in event.changes)
            if event.trades:
                traded.add(symbol)
                self._unsent_trades += [(event.product, trade) for trade in event.trades]
        return changes, traded

    def _publish_level2(self, product: Product, changes: list[tuple[int, LevelChange]]) -> None:
        events: str | None = None
        for session in list(self.sessions):
            if session.is_subscribed("level2", product.symbol):
                events = events if events is not None else venue.level2_event(product, changes)
                session.send("level2", events, self._time_ns)

    def _publish_tickers(self, traded: set[str]) -> None:
        texts: dict[str, str] = {}
        for session in list(self.sessions):
            wanted = [symbol for symbol in session.subscriptions.get("ticker", ()) if symbol in traded]
            for symbol in wanted:
                if symbol not in texts:
                    texts[symbol] = venue.ticker_text(self.market.instruments[symbol])
            if wanted:
                tickers = venue.ticker_event("update", [texts[symbol] for symbol in wanted])
                session.send("ticker", tickers, self._time_ns)

    def _publish_trades(self) -> None:
        if not self._unsent_trades:
            return
        events_for: dict[frozenset[str], str] = {}  # most clients want the same products: write those once
        for session in list(self.sessions):
            wanted = frozenset(session.subscriptions.get("market_trades", ()))
            if wanted not in events_for:
                newest_first = [
                    venue.trade_text(product, trade)
                    for product, trade in reversed(self._unsent_trades)
                    if product.symbol in wanted
                ]
                events_for[wanted] = venue.trades_event("update", newest_first) if newest_first else ""
            if events_for[wanted]:
                session.send("market_trades", events_for[wanted], self._time_ns)
        for product, trade in self._unsent_trades:
            self._recent_trades[product.symbol].append(trade)
        self._unsent_trades.clear()

    def _publish_heartbeats(self) -> None:
        events = venue.heartbeat_event(time_ns=self._time_ns, uptime_ns=self.schedule.elapsed_ns)
        for session in list(self.sessions):
            if "heartbeats" in session.subscriptions:
                session.send("heartbeats", events, self._time_ns)
