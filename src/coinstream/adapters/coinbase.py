"""Coinbase Exchange's feed (once GDAX, then Pro): ``match``, ``snapshot``, ``l2update``, ``ticker``.

Sources:
    https://docs.cdp.coinbase.com/exchange/websocket-feed/channels and
    https://docs.cdp.coinbase.com/exchange/reference/exchangerestapi_getproducts. What they do not say
    was read off a recording of 2021: ids of a product's trades are contiguous, from ``last_match`` on,
    and a book's updates carry no sequence.

Whose side: ``match.side`` is the maker's order side ("a sell indicates an up-tick"), so the aggressor
is the opposite. ``ticker.side`` is the taker's and is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from coinstream.adapters.coinbase_products import read_exchange_products
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
from coinstream.market.coverage import Channel
from coinstream.messages import Provenance, Quote, Side, Trade
from coinstream.messages.market import Count

VENUE = "coinbase"
SYMBOLS = ("BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD", "DOGE-USD", "LTC-USD", "ADA-USD")
WEBSOCKET_URL = "wss://ws-feed.exchange.coinbase.com"
INSTRUMENTS_URL = "https://api.exchange.coinbase.com/products"
HOSTS = frozenset(
    {"ws-feed.exchange.coinbase.com", "ws-feed.pro.coinbase.com", "api.exchange.coinbase.com", "api.pro.coinbase.com"}
)
AGGRESSOR_OF_MAKER: dict[str, Side] = {"buy": "sell", "sell": "buy", "BUY": "sell", "SELL": "buy"}
"""Both dialects publish the maker's side, this one in lower case, Advanced Trade in upper."""

_SUBSCRIBE: dict[Channel, str] = {"trades": "matches", "quotes": "ticker", "books": "level2_batch"}
"""``level2_batch`` is ``level2`` in batches of 50 ms, and public; ``level2`` wants a login since 2023."""
_CHANNEL_OF: dict[str, Channel] = {
    "matches": "trades",
    "ticker": "quotes",
    "ticker_batch": "quotes",
    "level2": "books",
    "level2_batch": "books",
}
_CHANNEL_OF_TYPE: dict[object, Channel] = {
    "match": "trades",
    "last_match": "trades",
    "ticker": "quotes",
    "snapshot": "books",
    "l2update": "books",
}
_INTEGERS = frozenset({"trade_id", "sequence", "last_trade_id"})


class _Match(Struct, tag_field="type", tag="match", gc=False):
    product_id: str
    trade_id: Count
    price: str
    size: str
    side: Literal["buy", "sell"]
    time: str


class _LastMatch(_Match, tag_field="type", tag="last_match", gc=False):
    pass


class _Ticker(Struct, tag_field="type", tag="ticker", gc=False):
    product_id: str
    best_bid: str | None = None
    best_ask: str | None = None
    best_bid_size: str | None = None
    best_ask_size: str | None = None
    sequence: Count | None = None
    time: str | None = None


class _Snapshot(Struct, tag_field="type", tag="snapshot"):
    product_id: str
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    time: str | None = None


class _L2Update(Struct, tag_field="type", tag="l2update"):
    product_id: str
    changes: list[tuple[Literal["buy", "sell"], str, str]]
    time: str | None = None


class _ChannelEntry(Struct):
    name: str
    product_ids: list[str] = []


class _Subscriptions(Struct, tag_field="type", tag="subscriptions"):
    channels: list[_ChannelEntry]


class _Heartbeat(Struct, tag_field="type", tag="heartbeat"):
    pass


class _Status(Struct, tag_field="type", tag="status"):
    pass


class _Error(Struct, tag_field="type", tag="error"):
    message: str = ""
    reason: str | None = None


_AnyFrame = _Match | _LastMatch | _Ticker | _Snapshot | _L2Update | _Subscriptions | _Heartbeat | _Status | _Error
_decode = msgspec.json.Decoder(_AnyFrame).decode


class ExchangeAdapter:
    """Reads one feed of Coinbase Exchange; see `VenueAdapter`."""

    def __init__(self, venue: str) -> None:
        self.venue = venue
        self.instruments_url = INSTRUMENTS_URL
        self.live: Provenance = "live"
        self._listing = Listing()
        self._last_trade: dict[str, tuple[int, int]] = {}  # of a symbol: the last id, and when it was received
        self._readers: dict[type[Any], Callable[[Any, str, Frame], list[Event]]] = {
            _Match: self._trade,
            _LastMatch: self._trade,
            _Ticker: self._quote,
            _Snapshot: self._snapshot,
            _L2Update: self._changes,
        }

    def subscriptions(self, symbols: Sequence[str], channels: Collection[Channel]) -> list[str]:
        """Return one ``subscribe`` frame for all channels, ``heartbeat`` with them so that no feed is idle."""
        names = [name for channel, name in _SUBSCRIBE.items() if channel in channels]
        return [self._request("subscribe", symbols, [*names, "heartbeat"])] if names and symbols else []

    def resubscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Return what leaves and joins the books' channel: the venue then sends new snapshots."""
        names = [_SUBSCRIBE["books"]]
        return [self._request("unsubscribe", symbols, names), self._request("subscribe", symbols, names)]

    def book_fetches(self, symbols: Sequence[str]) -> list[Fetch]:  # noqa: ARG002 - the protocol's signature
        """Return nothing: the WebSocket brings the books."""
        return []

    def _request(self, kind: str, symbols: Sequence[str], names: list[str]) -> str:
        product_ids = [self._listing.theirs(symbol) for symbol in symbols]
        return msgspec.json.encode({"type": kind, "product_ids": product_ids, "channels": names}).decode()

    def receive(self, frame: Frame) -> list[Event]:
        """Return what a frame says; trade ids that jump come as a `Gap` before the trade."""
        if frame.opens:
            return []
        if frame.transport == "http":
            return read_exchange_products(frame, self.venue, self._listing)
        try:
            message = _decode(frame.data)
        except msgspec.ValidationError:
            return self._receive_untyped(frame)
        except UNREADABLE as error:
            return self._unreadable(not_json(error), frame)
        return self._read(message, frame)

    def _unreadable(self, error: RefusedError, frame: Frame) -> list[Event]:
        """Refuse a frame that nobody can read: no sequence tells what it was, so all is in doubt."""
        return [error, Gap(frame.connection, None, None, "a frame could not be read", is_certain=False)]

    def _receive_untyped(self, frame: Frame) -> list[Event]:
        """Read a frame that broke its type: numbers without quotes are taken as text, the rest is refused."""
        try:
            value = decode_exactly(frame.data, integers=_INTEGERS)
        except RefusedError as error:
            return self._unreadable(error, frame)
        try:
            message = convert(value, _AnyFrame)
        except RefusedError as error:
            return [error, *self._gap_of_refused(value, frame.connection)]
        return self._read(message, frame)

    def _gap_of_refused(self, value: Any, connection: str) -> list[Event]:
        """Say what of whose was lost with a refused frame, where it can still be read."""
        if not isinstance(value, dict) or not isinstance(value.get("product_id"), str):
            return []
        channel = _CHANNEL_OF_TYPE.get(str(value.get("type")))
        if channel is None:
            return []
        try:
            return [Gap(connection, channel, self._listing.ours(value["product_id"]), "a frame was refused")]
        except FieldError:
            return []

    def _read(self, message: Any, frame: Frame) -> list[Event]:
        read = self._readers.get(type(message))
        if read is None:
            return self._answer(message, frame)
        try:
            symbol = self._listing.ours(message.product_id)
        except FieldError as error:
            return [error]
        try:
            return read(message, symbol, frame)
        except FieldError as error:
            channel = _CHANNEL_OF_TYPE[message.__struct_config__.tag]
            return [error, Gap(frame.connection, channel, symbol, f"refused: {error}")]

    def _answer(self, message: Any, frame: Frame) -> list[Event]:
        """Read what is no market data: answers to requests, errors, heartbeats."""
        if isinstance(message, _Error):
            words = ": ".join(part for part in (message.message, message.reason) if part)
            return [RefusedError(f"the venue says: {words}")]
        if not isinstance(message, _Subscriptions):
            return []
        pairs: list[tuple[Channel, str]] = []
        for entry in message.channels:
            channel = _CHANNEL_OF.get(entry.name)
            if channel:
                pairs.extend((channel, symbol) for symbol in self._listing.listed(entry.product_ids))
        return [Subscribed(frame.connection, tuple(pairs))]

    def _trade(self, match: _Match, symbol: str, frame: Frame) -> list[Event]:
        """Read a trade.

        ``{"type":"match","trade_id":71,"side":"sell","size":"0.50","price":"101.25",
        "product_id":"BTC-USD","sequence":9,"time":"2026-01-02T03:04:05.678901Z",…}``: a buyer took
        0.50 from the asks. ``last_match`` is the same, sent once on subscribing: backfill.
        """
        trade = Trade(
            venue=self.venue,
            symbol=symbol,
            trade_id=str(match.trade_id),
            price=positive(match.price, "price"),
            size=positive(match.size, "size"),
            aggressor_side=AGGRESSOR_OF_MAKER[match.side],
            event_time_us=time_us(match.time, "time"),
            received_time_us=frame.received_time_us,
            provenance="backfill" if type(match) is _LastMatch else self.live,
        )
        last, since_us = self._last_trade.get(symbol, (match.trade_id - 1, 0))
        if match.trade_id > last:
            self._last_trade[symbol] = match.trade_id, frame.received_time_us
        if match.trade_id <= last + 1:
            return [trade]
        reason = f"trade_id went from {last} to {match.trade_id}"
        return [Gap(frame.connection, "trades", symbol, reason, since_us=since_us), trade]

    def _quote(self, ticker: _Ticker, symbol: str, frame: Frame) -> list[Event]:
        """Read a quote.

        ``{"type":"ticker","sequence":9,"product_id":"BTC-USD","best_bid":"101.24","best_ask":"101.26",
        "time":"2026-01-02T03:04:05.678901Z",…}``; ``best_bid_size`` and ``best_ask_size`` in newer frames.
        A side that is ``""`` is empty; with neither side there is no quote.
        """
        if not ticker.best_bid and not ticker.best_ask:
            return []
        return [
            Quote(
                venue=self.venue,
                symbol=symbol,
                bid=unsigned(ticker.best_bid or "0", "best_bid"),
                ask=unsigned(ticker.best_ask or "0", "best_ask"),
                bid_size=unsigned_or_none(ticker.best_bid_size, "best_bid_size"),
                ask_size=unsigned_or_none(ticker.best_ask_size, "best_ask_size"),
                sequence=ticker.sequence,
                event_time_us=time_us_or_none(ticker.time, "time"),
                received_time_us=frame.received_time_us,
            )
        ]

    def _snapshot(self, book: _Snapshot, symbol: str, _frame: Frame) -> list[Event]:
        """Read a book.

        ``{"type":"snapshot","product_id":"BTC-USD","bids":[["101.24","2"]],"asks":[["101.26","1.5"]]}``
        """
        bids, asks = (
            [(positive(price, f"{name}.price"), unsigned(size, f"{name}.size")) for price, size in side]
            for name, side in (("bids", book.bids), ("asks", book.asks))
        )
        event_time_us = time_us_or_none(book.time, "time")
        return [BookUpdate(symbol, is_snapshot=True, bids=bids, asks=asks, event_time_us=event_time_us)]

    def _changes(self, update: _L2Update, symbol: str, _frame: Frame) -> list[Event]:
        """Read changes of a book: ``buy`` stands among the bids; sizes are absolute, ``0`` removes.

        ``{"type":"l2update","product_id":"BTC-USD","changes":[["buy","101.24","0"]],"time":"2026-…Z"}``
        """
        bids: list[tuple[str, str]] = []
        asks: list[tuple[str, str]] = []
        for maker, price, size in update.changes:
            level = positive(price, "changes.price"), unsigned(size, "changes.size")
            (bids if maker == "buy" else asks).append(level)
        event_time_us = time_us_or_none(update.time, "time")
        return [BookUpdate(symbol, is_snapshot=False, bids=bids, asks=asks, event_time_us=event_time_us)]


DIALECT = Dialect(
    venue=VENUE,
    name="exchange",
    hosts=HOSTS,
    websocket_url=WEBSOCKET_URL,
    instruments_url=INSTRUMENTS_URL,
    make_adapter=ExchangeAdapter,
    symbols=SYMBOLS,
    recognises=lambda data: data.startswith((b'{"type":', b'[{"id":')),
)
