"""Who is subscribed to what, and what each of them is sent when the market moves.

Nothing here waits or reads a clock: the server calls `Publisher.advance` with the time since the start.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

import structlog

from coinstream.errors import RefusedError
from coinstream.simulator import coinbase_advanced as venue
from coinstream.simulator.market import LevelChange, Market, SimulatedTrade
from coinstream.simulator.products import Product

__all__ = ["Publisher", "Session"]

_log = structlog.get_logger(__name__)

_RECENT_TRADES = 100  # a product, in the snapshot of a new subscription
_TRADES_PERIOD_NS = 250_000_000  # as documented: trades of 250 ms travel together
_HEARTBEAT_PERIOD_NS = 1_000_000_000
_MOST_BEHIND_S = 1  # further behind than this (an overload, a laptop that slept), events are skipped, not made up for
_BURST_S = 0.25  # at most this much of the schedule is worked off at once, so that connections are served in between


class Outlet(Protocol):
    """Where a session's messages go: a WebSocket, or a list in a test."""

    def __call__(self, message: bytes) -> None:
        """Send one message; it must not block."""


class Session:
    """One client's connection: its subscriptions and its sequence.

    Args:
        send: Takes each message for this client.
    """

    def __init__(self, send: Outlet) -> None:
        self._send = send
        self._sequence = 0
        self.subscriptions: dict[str, dict[str, None]] = {}  # channel: its products, in the order asked for

    def is_subscribed(self, channel: str, symbol: str) -> bool:
        """Tell whether this client wants a product's messages of a channel."""
        return symbol in self.subscriptions.get(channel, ())

    def send(self, channel: str, events: str, time_ns: int) -> None:
        """Send one message; ``channel`` as subscribed (``level2``)."""
        name = venue.CHANNELS.get(channel, channel)
        self._send(venue.envelope(name, time_ns=time_ns, sequence=self._sequence, events=events))
        self._sequence += 1

    def refuse(self, reason: str) -> None:
        """Answer a bad request."""
        self._send(venue.error_message(reason))


class Publisher:
    """Moves the market by an absolute schedule and tells the sessions.

    The n-th event happens n / rate seconds after the start, whenever it is worked off: timing errors do not add up, and
    the market of a run depends on seed, start time and rate alone (unless events had to be skipped). One call to
    `advance` sends, to each client that subscribed:

    - ``level2``: one frame a product whose book changed, with all its changes since the last call;
    - ``ticker``: one frame with one ticker for each product that traded since the last call;
    - ``market_trades``: every 250 ms one frame with all trades of the client's products, newest first;
    - ``heartbeats``: one frame a second.

    Args:
        market: What to move.
        start_time_us: The time that elapsed time counts from.
        rate: Market events a second, all instruments together. An event is one order that arrives or leaves: it
            changes one level or more, and half of them are market orders, so that an event makes 0.8 trades on average.
    """

    def __init__(self, market: Market, *, start_time_us: int, rate: float) -> None:
        self.market = market
        self.sessions: dict[Session, None] = {}
        self.events_published = 0
        self.events_skipped = 0
        self._start_time_us = start_time_us
        self._rate = rate
        self._elapsed_ns = 0
        self._next_trades_ns = _TRADES_PERIOD_NS
        self._next_heartbeat_ns = _HEARTBEAT_PERIOD_NS
        self._unsent_trades: list[tuple[Product, SimulatedTrade]] = []  # oldest first
        self._recent_trades: dict[str, deque[SimulatedTrade]] = {
            symbol: deque(maxlen=_RECENT_TRADES) for symbol in market.instruments
        }
        for event in market.history:
            self._recent_trades[event.product.symbol].extend(event.trades)

    @property
    def time_us(self) -> int:
        """The time of the last call to `advance`."""
        return self._time_ns // 1000

    @property
    def _time_ns(self) -> int:
        return self._start_time_us * 1000 + self._elapsed_ns

    def advance(self, elapsed_ns: int) -> None:
        """Let all happen that is due by now.

        Args:
            elapsed_ns: Nanoseconds since the start, by a clock that never goes back.
        """
        self._elapsed_ns = elapsed_ns
        changes, traded = self._move_market()
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

    def recent_trades(self, symbol: str) -> list[str]:
        """Write a product's last trades that were published, at most 100, newest first."""
        product = self.market.instruments[symbol].product
        return [venue.trade_text(product, trade) for trade in reversed(self._recent_trades[symbol])]

    def handle(self, session: Session, frame: bytes) -> None:
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

    def _unsubscribe(self, session: Session, request: venue.Request) -> None:
        products = session.subscriptions.get(request.channel, {})
        if request.channel == "heartbeats" or not request.product_ids:
            products.clear()
        for symbol in request.product_ids:
            products.pop(symbol, None)
        if not products:
            session.subscriptions.pop(request.channel, None)

    def _send_snapshots(self, session: Session, channel: str, symbols: Iterable[str]) -> None:
        symbols = tuple(dict.fromkeys(symbols))
        instruments = [self.market.instruments[symbol] for symbol in symbols if symbol in self.market.instruments]
        if channel == "level2":
            # Books are current here: what `advance` changes it also sends, before any request is handled.
            for instrument in instruments:
                events = venue.level2_snapshot_event(instrument, event_time_us=self.time_us)
                session.send(channel, events, self._time_ns)
        elif channel == "ticker":
            tickers = [venue.ticker_text(instrument) for instrument in instruments]
            session.send(channel, venue.ticker_event("snapshot", tickers), self._time_ns)
        elif channel == "market_trades":
            # Trades that still wait for the end of their 250 ms are not in here: they come in the next update.
            newest_first = [text for symbol in symbols for text in self.recent_trades(symbol)]
            session.send(channel, venue.trades_event("snapshot", newest_first), self._time_ns)

    def _move_market(self) -> tuple[dict[str, list[tuple[int, LevelChange]]], set[str]]:
        due = int(self._elapsed_ns * self._rate / 1_000_000_000)
        done = self.events_published + self.events_skipped
        if due - done > max(self._rate * _MOST_BEHIND_S, 1):
            skipped = due - done - 1
            self.events_skipped += skipped
            done += skipped
            _log.warning("simulator.behind", events_skipped=skipped, rate=self._rate)
        due = min(due, done + max(int(self._rate * _BURST_S), 1))
        changes: dict[str, list[tuple[int, LevelChange]]] = {}
        traded: set[str] = set()
        for number in range(done + 1, due + 1):
            event = self.market.step(self._start_time_us + int(number * 1_000_000 / self._rate))
            symbol = event.product.symbol
            event_changes = changes.setdefault(symbol, [])
            event_changes += [(event.event_time_us, change) for change in event.changes]
            if event.trades:
                traded.add(symbol)
                self._unsent_trades += [(event.product, trade) for trade in event.trades]
        self.events_published += due - done
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
        events = venue.heartbeat_event(time_ns=self._time_ns, uptime_ns=self._elapsed_ns)
        for session in list(self.sessions):
            if "heartbeats" in session.subscriptions:
                session.send("heartbeats", events, self._time_ns)
