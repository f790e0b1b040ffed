"""Coinbase Advanced Trade's feed: ``market_trades``, ``ticker``, ``l2_data``; the live default.

Sources:
    https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels,
    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/websocket/market-trades and
    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/public/list-public-products.

Whose side: ``market_trades`` publishes the maker's, as the Exchange feed of the same engine does (the
channel's own specification: "the maker's side"), so the aggressor is the opposite. It agrees with data:
a trade printed at the best ask has ``side`` ``SELL``.

Sequence: ``sequence_num`` counts every message of a connection whatever its channel, heartbeats and
answers included; errors have none. A jump says that something was lost, not of which product.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from coinstream.adapters.coinbase import AGGRESSOR_OF_MAKER, SYMBOLS, VENUE
from coinstream.adapters.coinbase_products import read_advanced_products
from coinstream.adapters.dialect import BookUpdate, Dialect, Event, Fetch, Frame, Gap, Subscribed
from coinstream.adapters.fields import (
    UNREADABLE,
    convert,
    decode_exactly,
    not_json,
    positive,
    time_us,
    time_us_or_none,
    unsigned,
    unsigned_or_none,
)
from coinstream.adapters.listing import Listing
from coinstream.errors import FieldError, RefusedError
from coinstream.market.candle import trade_id_order
from coinstream.market.coverage import Channel
from coinstream.messages import Provenance, Quote, Trade
from coinstream.messages.market import Count, Name

WEBSOCKET_URL = "wss://advanced-trade-ws.coinbase.com"
INSTRUMENTS_URL = "https://api.coinbase.com/api/v3/brokerage/market/products"
HOSTS = frozenset({"advanced-trade-ws.coinbase.com", "advanced-trade-ws-user.coinbase.com", "api.coinbase.com"})

_SUBSCRIBE: dict[Channel, str] = {"trades": "market_trades", "quotes": "ticker", "books": "level2"}
_CHANNEL_OF: dict[str, Channel] = {
    "market_trades": "trades",
    "ticker": "quotes",
    "ticker_batch": "quotes",
    "l2_data": "books",
    "level2": "books",
}
"""Subscribed as ``level2``, the frames of that channel come as ``l2_data``."""
_WITHOUT_MESSAGES = frozenset({"heartbeats", "status", "candles", "user", "futures_balance_summary"})
_KNOWN = frozenset(_CHANNEL_OF) | _WITHOUT_MESSAGES | {"subscriptions"}
_INTEGERS = frozenset({"sequence_num"})


class _Trade(Struct, gc=False):
    product_id: str
    trade_id: Name
    price: str
    size: str
    time: str
    side: str


class _Ticker(Struct, gc=False):
    product_id: str
    best_bid: str | None = None
    best_ask: str | None = None
    best_bid_quantity: str | None = None
    best_ask_quantity: str | None = None


class _Level(Struct, gc=False):
    side: str
    price_level: str
    new_quantity: str


class _Event(Struct):
    type: str = ""
    product_id: str = ""
    trades: list[_Trade] = []
    tickers: list[_Ticker] = []
    updates: list[_Level] = []
    subscriptions: dict[str, list[str]] = {}


class _Message(Struct):
    channel: str = ""
    sequence_num: Count | None = None
    timestamp: str | None = None
    events: list[_Event] = []
    type: str = ""
    message: str = ""


class _LooseMessage(_Message):
    """The same where something in the events broke its type: they are read one by one."""

    events: list[Any] = []


_decode = msgspec.json.Decoder(_Message).decode


class AdvancedTradeAdapter:
    """Reads one feed of Coinbase Advanced Trade; see `VenueAdapter`."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.instruments_url = INSTRUMENTS_URL
        self.live: Provenance = "live"
        self._listing = Listing()
        self._last: dict[str, tuple[int, bytes]] = {}  # of a connection: its last sequence, and that frame

    def subscriptions(self, symbols: Sequence[str], channels: Collection[Channel]) -> list[str]:
        """Return a ``subscribe`` frame a channel, and one for ``heartbeats``, without which quiet ones are closed."""
        names = [name for channel, name in _SUBSCRIBE.items() if channel in channels]
        if not names or not symbols:
            return []
        heartbeats = msgspec.json.encode({"type": "subscribe", "channel": "heartbeats"}).decode()
        return [heartbeats, *(self._request("subscribe", symbols, name) for name in names)]

    def resubscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Return what leaves and joins the books' channel: the venue then sends new snapshots."""
        name = _SUBSCRIBE["books"]
        return [self._request("unsubscribe", symbols, name), self._request("subscribe", symbols, name)]

    def book_fetches(self, symbols: Sequence[str]) -> list[Fetch]:  # noqa: ARG002 - the protocol's signature
        """Return nothing: the WebSocket brings the books."""
        return []

    def _request(self, kind: str, symbols: Sequence[str], name: str) -> str:
        product_ids = [self._listing.theirs(symbol) for symbol in symbols]
        return msgspec.json.encode({"type": kind, "product_ids": product_ids, "channel": name}).decode()

    def receive(self, frame: Frame) -> list[Event]:
        """Return what a frame says; a jump of the sequence comes first, as a `Gap` of the connection."""
        if frame.opens:
            self._last.pop(frame.connection, None)
            return []
        if frame.transport == "http":
            return read_advanced_products(frame, self.venue, self._listing)
        try:
            message = _decode(frame.data)
        except msgspec.ValidationError:
            return self._receive_untyped(frame)
        except UNREADABLE as error:
            return [not_json(error)]  # the sequence of the next frame tells that this one is missing
        events = self._in_sequence(message, frame)
        for event in message.events:
            self._read(message, event, frame, events)
        return in_order(events) if len(events) > 1 and message.channel == "market_trades" else events

    def _receive_untyped(self, frame: Frame) -> list[Event]:
        """Read a frame in which something broke its type, so that its neighbours in the frame still count."""
        try:
            message = convert(decode_exactly(frame.data, integers=_INTEGERS), _LooseMessage)
        except RefusedError as error:
            return [error]
        events = self._in_sequence(message, frame)
        for value in message.events:
            self._read(message, self._salvaged(value, message.channel, frame, events), frame, events)
        return in_order(events)

    def _salvaged(self, value: Any, channel: str, frame: Frame, events: list[Event]) -> _Event:
        """Return an event without the entries that break their type, which are refused."""
        fields = dict(value) if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            events.append(FieldError("events", "must be objects", value))
        for name, kind in (("trades", _Trade), ("tickers", _Ticker), ("updates", _Level)):
            entries, kept = fields.pop(name, []), []
            for entry in entries if isinstance(entries, list) else [entries]:
                try:
                    kept.append(convert(entry, kind))
                except RefusedError as error:
                    events.append(error)
                    product_id = entry.get("product_id") if isinstance(entry, dict) else None
                    self._lose(product_id or fields.get("product_id"), channel, frame, events)
            fields[name] = kept
        try:
            event: _Event = convert(fields, _Event)
        except RefusedError as error:
            events.append(error)
            event = _Event()
        return event

    def _lose(self, product_id: object, channel: str, frame: Frame, events: list[Event]) -> None:
        """Note that a refused entry leaves a hole, where it can be told whose."""
        if isinstance(product_id, str) and channel in _CHANNEL_OF:
            try:
                symbol = self._listing.ours(product_id)
            except FieldError:
                return
            gap = Gap(frame.connection, _CHANNEL_OF[channel], symbol, "an entry was refused")
            if gap not in events:
                events.append(gap)

    def _in_sequence(self, message: _Message, frame: Frame) -> list[Event]:
        """Return what the message's envelope says: a gap before it, or that it is of no use.

        The events of such a message are dropped here: an error has none, a type that nobody knows
        cannot be read, and a frame that is repeated whole was already taken.
        """
        events: list[Event] = []
        sequence = message.sequence_num
        if sequence is not None:
            last = self._last.get(frame.connection)
            self._last[frame.connection] = sequence, frame.data
            if last is not None and sequence != last[0] + 1:
                if sequence != last[0]:
                    events.append(Gap(frame.connection, None, None, f"sequence_num went from {last[0]} to {sequence}"))
                elif frame.data == last[1]:
                    message.events = []
                    return events
        if message.channel not in _KNOWN:
            message.events = []
            if message.type == "error":
                events.append(RefusedError(f"the venue says: {message.message}"))
            else:
                events.append(FieldError("channel", "must be a channel that is known", message.channel or message.type))
        return events

    def _read(self, message: _Message, event: _Event, frame: Frame, events: list[Event]) -> None:
        channel = message.channel
        if channel == "market_trades":
            self._trades(event, frame, events)
        elif channel in ("l2_data", "level2"):
            self._book(message, event, frame, events)
        elif channel in ("ticker", "ticker_batch"):
            self._quotes(message, event, frame, events)
        elif channel == "subscriptions":
            events.append(self._subscribed(event, frame))

    def _trades(self, event: _Event, frame: Frame, events: list[Event]) -> None:
        """Read trades, which come newest first; `in_order` turns a whole frame's round.

        ``{"type":"update","trades":[{"trade_id":"72","product_id":"BTC-USD","price":"101.25","size":"0.5",
        "side":"SELL","time":"2026-01-02T03:04:05.678901Z"}]}``: a buyer took 0.5 from the asks. The
        ``snapshot`` on subscribing holds recent trades: backfill.
        """
        provenance: Provenance = "backfill" if event.type == "snapshot" else self.live
        for item in reversed(event.trades):
            try:
                side = AGGRESSOR_OF_MAKER.get(item.side)
                if side is None:
                    raise FieldError("side", "must be BUY or SELL", item.side)
                if not item.trade_id.isprintable():
                    raise FieldError("trade_id", "must be printable", item.trade_id)
                events.append(
                    Trade(
                        venue=self.venue,
                        symbol=self._listing.ours(item.product_id),
                        trade_id=item.trade_id,
                        price=positive(item.price, "price"),
                        size=positive(item.size, "size"),
                        aggressor_side=side,
                        event_time_us=time_us(item.time, "time"),
                        received_time_us=frame.received_time_us,
                        provenance=provenance,
                    )
                )
            except FieldError as error:
                events.append(error)
                self._lose(item.product_id, "market_trades", frame, events)

    def _quotes(self, message: _Message, event: _Event, frame: Frame, events: list[Event]) -> None:
        """Read tickers; one without a best bid and ask (before 2024, or both ``""``) is no quote.

        ``{"type":"update","tickers":[{"type":"ticker","product_id":"BTC-USD","best_bid":"101.24",
        "best_ask":"101.26","best_bid_quantity":"2","best_ask_quantity":"1.5",…}]}``. A ticker has no time
        of its own: the message's is its event time.
        """
        for item in event.tickers:
            if not item.best_bid and not item.best_ask:
                continue
            try:
                events.append(
                    Quote(
                        venue=self.venue,
                        symbol=self._listing.ours(item.product_id),
                        bid=unsigned(item.best_bid or "0", "best_bid"),
                        ask=unsigned(item.best_ask or "0", "best_ask"),
                        bid_size=unsigned_or_none(item.best_bid_quantity, "best_bid_quantity"),
                        ask_size=unsigned_or_none(item.best_ask_quantity, "best_ask_quantity"),
                        sequence=message.sequence_num,
                        event_time_us=time_us_or_none(message.timestamp, "timestamp"),
                        received_time_us=frame.received_time_us,
                    )
                )
            except FieldError as error:
                events.append(error)
                self._lose(item.product_id, "ticker", frame, events)

    def _book(self, message: _Message, event: _Event, frame: Frame, events: list[Event]) -> None:
        """Read a book (``snapshot``) or its changes; quantities are absolute, ``0`` removes the level.

        ``{"type":"update","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"2026-…Z",
        "price_level":"101.24","new_quantity":"0"}]}``. A level's ``event_time`` may be 1970 and goes to
        and fro between levels, so the message's ``timestamp`` is the book's event time.
        """
        try:
            symbol = self._listing.ours(event.product_id)
        except FieldError as error:
            events.append(error)
            return
        bids: list[tuple[str, str]] = []
        asks: list[tuple[str, str]] = []
        try:
            for level in event.updates:
                side = bids if level.side == "bid" else asks
                if side is asks and level.side not in ("offer", "ask"):
                    raise FieldError("side", "must be bid or offer", level.side)
                side.append((positive(level.price_level, "price_level"), unsigned(level.new_quantity, "new_quantity")))
            event_time_us = time_us_or_none(message.timestamp, "timestamp")
        except FieldError as error:
            events.append(error)
            self._lose(event.product_id, "l2_data", frame, events)
            return
        is_snapshot = event.type == "snapshot"
        events.append(BookUpdate(symbol, is_snapshot, bids, asks, message.sequence_num, event_time_us))

    def _subscribed(self, event: _Event, frame: Frame) -> Subscribed:
        pairs: list[tuple[Channel, str]] = []
        for name, product_ids in event.subscriptions.items():
            channel = _CHANNEL_OF.get(name)
            if channel:
                pairs.extend((channel, symbol) for symbol in self._listing.listed(product_ids))
        return Subscribed(frame.connection, tuple(pairs))


def in_order(events: list[Event]) -> list[Event]:
    """Return a frame's events with its trades oldest first, after everything else.

    Trades of one microsecond are ordered by symbol, symbols as they came, and by id.
    """
    trades = [event for event in events if type(event) is Trade]
    if len(trades) < 2:
        return events
    places: dict[str, int] = {}
    for trade in trades:
        places.setdefault(trade.symbol, len(places))
    trades.sort(key=lambda trade: (trade.event_time_us, places[trade.symbol], trade_id_order(trade.trade_id)))
    return [*(event for event in events if type(event) is not Trade), *trades]


DIALECT = Dialect(
    venue=VENUE,
    name="advanced",
    hosts=HOSTS,
    websocket_url=WEBSOCKET_URL,
    instruments_url=INSTRUMENTS_URL,
    make_adapter=AdvancedTradeAdapter,
    symbols=SYMBOLS,
    recognises=lambda data: data.startswith((b'{"channel":', b'{"products":')),
)
