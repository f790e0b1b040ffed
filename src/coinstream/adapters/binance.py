"""Binance's market streams: ``aggTrade``, ``bookTicker``, ``depthUpdate``; spot, its US branch, USD-M futures.

One dialect and three tables of facts. Frames come combined (``{"stream":"btcusdt@aggTrade","data":{…}}``) or
raw (the inner object alone). Books come by HTTP and are kept by the stream's changes; trades that were
missed are fetched, for their ids are contiguous a symbol.

Sources:
    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams,
    https://developers.binance.com/docs/binance-spot-api-docs/faqs/market_data_only (the hosts used for spot),
    https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams, there also
    "Important WebSocket Change Notice" (one address for books and quotes, another for trades, since 2026),
    https://docs.binance.us. Weights of requests are those of the same pages.

Whose side: ``m`` says that the buyer was the maker, so the aggressor sold.

What is lost: trades and books have sequences of their own, so a frame that cannot be read shows in the next
one of its symbol. Quotes have none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from coinstream.adapters.binance_depth import Depth, DepthSequence
from coinstream.adapters.binance_frames import (
    INTEGERS,
    Message,
    Payload,
    Snapshot,
    decode_combined,
    decode_message,
    decode_snapshot,
    levels_of,
    read_trade,
    text_of,
)
from coinstream.adapters.binance_symbols import read_exchange_info, supposed_spelling
from coinstream.adapters.binance_trades import PAGE, Holes, read_page
from coinstream.adapters.dialect import (
    BookUpdate,
    Dialect,
    Event,
    Fetch,
    Frame,
    Gap,
    Route,
    Subscribed,
    Unsynchronised,
)
from coinstream.adapters.fields import UNREADABLE, convert, decode_exactly, not_json, unsigned
from coinstream.adapters.listing import Listing
from coinstream.errors import FatalError, FieldError, RefusedError
from coinstream.market.coverage import Channel
from coinstream.messages import Provenance, Quote
from coinstream.messages.times import check_time_us

MOST_STREAMS = 1024
"""On one connection."""
STREAMS_A_MESSAGE = 200
BOOK_LEVELS = 1000
"""A side of the snapshot: the same on spot and futures, and each book then costs a second of the allowance."""

_STREAM: dict[Channel, str] = {"trades": "aggTrade", "quotes": "bookTicker", "books": "depth@100ms"}
_CHANNEL_OF: dict[str, Channel] = {
    "aggTrade": "trades",
    "bookTicker": "quotes",
    "depth": "books",
    "depth@100ms": "books",
    "depth@250ms": "books",
    "depth@500ms": "books",
}
_CHANNEL_OF_TYPE: dict[str, Channel] = {"aggTrade": "trades", "bookTicker": "quotes", "depthUpdate": "books"}
_IN_DOUBT: tuple[Channel, ...] = ("trades", "quotes")
_WITHOUT_MESSAGES = frozenset(
    {
        "24hrMiniTicker",
        "24hrTicker",
        "avgPrice",
        "continuous_kline",
        "forceOrder",
        "kline",
        "markPriceUpdate",
        "serverShutdown",
        "trade",
    }
)


@dataclass(frozen=True, slots=True)
class Facts:
    """In what one of Binance's exchanges differs from the others.

    Attributes:
        rest_url: Scheme and host of the REST API.
        rest_path: What stands before ``/depth``, ``/aggTrades`` and ``/exchangeInfo``.
        is_futures: Its depth is chained by ``pu``, and its symbols are perpetuals or dated.
        book_cost_s: What a book costs, see `Fetch`: weight 50 of 6,000 a minute on spot, 10 of 1,200 in
            the US, 20 of 2,400 for futures.
        trades_cost_s: What a page of trades costs: weight 4, 1 and 20; that of futures is counted twice, for
            their trades and books come over two connections that know nothing of each other's fetches.
    """

    venue: str
    rest_url: str
    rest_path: str
    is_futures: bool
    book_cost_s: float
    trades_cost_s: float


class BinanceAdapter:
    """Reads one feed of one of Binance's exchanges; see `VenueAdapter`."""

    def __init__(self, facts: Facts, venue: str) -> None:
        self.venue = venue
        self.instruments_url = f"{facts.rest_url}{facts.rest_path}/exchangeInfo"
        self.live: Provenance = "live"
        self._facts = facts
        self._listing = Listing()
        self._sequences: dict[str, DepthSequence] = {}
        self._early: dict[str, BookUpdate] = {}  # snapshots that came before anything of their book
        self._holes = Holes(self._trades_fetch)
        self._requests = 0
        self._readers: dict[str, Callable[[Payload, str, Frame], list[Event]]] = {
            "aggTrade": self._trade,
            "bookTicker": self._quote,
            "depthUpdate": self._depth,
        }

    def subscriptions(self, symbols: Sequence[str], channels: Collection[Channel]) -> list[str]:
        """Return ``SUBSCRIBE`` frames, and one that asks what is subscribed now: its answer names the streams.

        Raises:
            FatalError: They are more streams than one connection may carry.
        """
        names = [name for channel, name in _STREAM.items() if channel in channels]
        spellings = {symbol: self._spelling(symbol) for symbol in symbols}
        self._listing.suppose({theirs: ours for ours, theirs in spellings.items()})
        streams = [f"{spellings[symbol].lower()}@{name}" for name in names for symbol in symbols]
        if len(streams) > MOST_STREAMS:
            raise FatalError(
                f"{len(symbols)} symbols are {len(streams)} streams of {self.venue}, and a connection carries "
                f"{MOST_STREAMS}: share the symbols among several processes"
            )
        if not streams:
            return []
        parts = [streams[start : start + STREAMS_A_MESSAGE] for start in range(0, len(streams), STREAMS_A_MESSAGE)]
        return [*(self._request("SUBSCRIBE", part) for part in parts), self._request("LIST_SUBSCRIPTIONS", None)]

    def resubscriptions(self, symbols: Sequence[str]) -> list[str]:  # noqa: ARG002 - the protocol's signature
        """Return nothing: books are fetched, see `book_fetches`."""
        return []

    def book_fetches(self, symbols: Sequence[str]) -> list[Fetch]:
        """Return the addresses of the books; until one is here, the changes of its book are held."""
        facts = self._facts
        fetches = []
        for symbol in symbols:
            sequence = self._sequences.get(symbol)
            if sequence is not None:
                sequence.begin_anew()
            query = f"symbol={quote(self._spelling(symbol))}&limit={BOOK_LEVELS}"
            url = f"{facts.rest_url}{facts.rest_path}/depth?{query}"
            fetches.append(Fetch(url, "books", symbol, facts.book_cost_s))
        return fetches

    def _trades_fetch(self, symbol: str, first: int) -> Fetch:
        facts = self._facts
        query = f"symbol={quote(self._spelling(symbol))}&fromId={first}&limit={PAGE}"
        url = f"{facts.rest_url}{facts.rest_path}/aggTrades?{query}"
        return Fetch(url, "trades", symbol, facts.trades_cost_s)

    def _spelling(self, symbol: str) -> str:
        return self._listing.theirs(symbol, supposed_spelling(symbol, is_futures=self._facts.is_futures))

    def _request(self, method: str, params: list[str] | None) -> str:
        self._requests += 1
        fields = {"method": method} | ({} if params is None else {"params": params}) | {"id": self._requests}
        return msgspec.json.encode(fields).decode()

    def receive(self, frame: Frame) -> list[Event]:
        """Return what a frame says; trade ids and update ids that jump come as a `Gap` before it."""
        if frame.opens:
            return self._opened(frame)
        if frame.transport == "http":
            return self._fetched(frame)
        data = frame.data
        try:
            event = decode_combined(data).data if data.startswith(b'{"stream":') else _event_of(decode_message(data))
        except msgspec.ValidationError:
            return self._receive_untyped(frame)
        except UNREADABLE as error:
            return self._unreadable(not_json(error), frame)
        return self._read(event, frame)

    def _unreadable(self, error: RefusedError, frame: Frame) -> list[Event]:
        """Refuse a frame that nobody can read.

        A quote may have been lost, or a trade, until the next one's id tells. A change of a book shows in the
        next one, a tenth of a second later; to fetch all books for it would leave them older than that.
        """
        self._holes.doubt(frame.connection)
        reason = "a frame could not be read"
        return [error, *(Gap(frame.connection, each, None, reason, is_certain=False) for each in _IN_DOUBT)]

    def _receive_untyped(self, frame: Frame) -> list[Event]:
        """Read a frame that broke its type: numbers without quotes are taken as text, the rest is refused."""
        try:
            value = decode_exactly(frame.data, integers=INTEGERS)
        except RefusedError as error:
            return self._unreadable(error, frame)
        try:
            event = _event_of(convert(value, Message))
        except RefusedError as error:
            return self._refused(error, value, frame)
        return self._read(event, frame)

    def _refused(self, error: RefusedError, value: Any, frame: Frame) -> list[Event]:
        """Refuse a frame, and say what of whose is lost where it can be read; a `kline` is not even refused."""
        payload = value.get("data") if isinstance(value, dict) and isinstance(value.get("data"), dict) else value
        if not isinstance(payload, dict):
            return [error]
        kind = payload.get("e") or ("bookTicker" if "u" in payload else None)
        if isinstance(kind, str) and kind in _WITHOUT_MESSAGES:
            return []
        spelling = payload.get("s")
        try:
            symbol = self._listing.ours(spelling, "s") if isinstance(spelling, str) else None
        except FieldError:
            symbol = None
        return [error, *self._lost(kind, symbol, frame, "a frame was refused")]

    def _lost(self, kind: object, symbol: str | None, frame: Frame, reason: str) -> list[Event]:
        """Say what a refused event leaves behind; a trade is fetched once the next one's id shows the hole."""
        channel = _CHANNEL_OF_TYPE.get(kind) if isinstance(kind, str) else None
        if symbol is None or channel is None:
            return []
        if channel == "books":
            self._sequence(symbol, frame.connection).begin_anew(frame.connection)
        return [Gap(frame.connection, channel, symbol, reason)]

    def _read(self, event: Payload, frame: Frame) -> list[Event]:
        kind = event.e
        read = self._readers.get(kind)
        if read is None:
            if kind or event.u is None or not event.s:
                return self._answer(event, frame)
            kind, read = "bookTicker", self._quote  # on spot it says neither its type nor a time
        try:
            symbol = self._listing.ours(event.s, "s")
        except FieldError as error:
            return [error]
        try:
            return read(event, symbol, frame)
        except FieldError as error:
            return [error, *self._lost(kind, symbol, frame, f"refused: {error}")]

    def _answer(self, message: Payload, frame: Frame) -> list[Event]:
        """Read what is no market data.

        ``{"result":["btcusdt@aggTrade"],"id":3}`` lists what is subscribed, ``{"result":null,"id":1}``
        confirms a request, ``{"error":{"code":2,"msg":"…"},"id":1}`` or the same bare refuses one.
        """
        if message.e in _WITHOUT_MESSAGES:
            return []
        if not isinstance(message, Message):
            return [FieldError("e", "must be an event that is known", message.e)]
        if message.error is not None or message.code is not None:
            error = message.error if isinstance(message.error, dict) else {"code": message.code, "msg": message.msg}
            return [RefusedError(f"the venue says: {error.get('msg')} ({error.get('code')})")]
        if message.id is None:
            return [FieldError("e", "must be an event that is known", message.e)]
        return self._subscribed(message.result, frame) if isinstance(message.result, list) else []

    def _opened(self, frame: Frame) -> list[Event]:
        """Read which streams a connection's address names, ``…/stream?streams=btcusdt@depth/…``, if any.

        A name that was used before, in another recording, stands for another connection now.
        """
        self._sequences = {s: known for s, known in self._sequences.items() if known.connection != frame.connection}
        names = parse_qs(urlsplit(frame.url).query).get("streams", [""])[0]
        return self._subscribed(names.split("/"), frame) if names else []

    def _subscribed(self, streams: list[Any], frame: Frame) -> list[Event]:
        pairs: list[tuple[Channel, str]] = []
        for stream in streams:
            spelling, _, name = stream.partition("@") if isinstance(stream, str) else ("", "", "")
            channel = _CHANNEL_OF.get(name)
            if channel:
                pairs.extend((channel, symbol) for symbol in self._listing.listed([spelling.upper()]))
        events: list[Event] = [Subscribed(frame.connection, tuple(pairs))]
        for channel, symbol in pairs:
            if channel == "books" and self._is_new(symbol, frame.connection):
                events.append(Unsynchronised(frame.connection, symbol))
        return events

    def _is_new(self, symbol: str, connection: str) -> bool:
        known = self._sequences.get(symbol)
        is_new = known is None or known.connection != connection
        self._sequence(symbol, connection)
        return is_new

    def _sequence(self, symbol: str, connection: str) -> DepthSequence:
        """Return a book's sequence on this connection; one of another connection begins anew."""
        sequence = self._sequences.get(symbol)
        if sequence is None:
            sequence = self._sequences[symbol] = DepthSequence(connection)
        elif sequence.connection != connection:
            sequence.begin_anew(connection)
        return sequence

    def _trade(self, event: Payload, symbol: str, frame: Frame) -> list[Event]:
        """Read a trade: all that one order took at one price.

        ``{"e":"aggTrade","E":1672515782136,"s":"BTCUSDT","a":71,"p":"101.25","q":"0.50","f":100,"l":105,
        "T":1672515782136,"m":true,"M":true}``: a seller took 0.50 from the bids; ``T`` is the trade's time.
        """
        trade = read_trade(event, symbol, self.venue, self.live, frame.received_time_us)
        before = self._holes.before(symbol, int(trade.trade_id), frame)
        return [*before, trade] if before else [trade]

    def _quote(self, event: Payload, symbol: str, frame: Frame) -> list[Event]:
        """Read a quote.

        ``{"u":400900217,"s":"BNBUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66"}``; futures add
        ``"e":"bookTicker"`` and the times ``E`` (of the event, the one taken) and ``T`` (of the transaction).
        """
        time_ms = event.T if event.E is None else event.E
        return [
            Quote(
                venue=self.venue,
                symbol=symbol,
                bid=unsigned(text_of(event.b, "b"), "b"),
                ask=unsigned(text_of(event.a, "a"), "a"),
                bid_size=unsigned(event.B, "B"),
                ask_size=unsigned(event.A, "A"),
                sequence=event.u,
                event_time_us=None if time_ms is None else check_time_us(time_ms * 1000, "E"),
                received_time_us=frame.received_time_us,
            )
        ]

    def _depth(self, event: Payload, symbol: str, frame: Frame) -> list[Event]:
        """Read changes of a book; sizes are absolute, ``0`` removes a level.

        ``{"e":"depthUpdate","E":1672515782136,"s":"BNBBTC","U":157,"u":160,"b":[["0.0024","10"]],
        "a":[["0.0026","0"]]}``; futures add ``pu``, the ``u`` of the change before, and ``T``.
        ``E`` is the time taken, as of a quote.
        """
        first, last = event.U, event.u
        if first is None or last is None or (event.pu is None and self._facts.is_futures):
            raise FieldError("U" if first is None else "u" if last is None else "pu", "is missing")
        time_ms = event.T if event.E is None else event.E
        time_us = None if time_ms is None else check_time_us(time_ms * 1000, "E")
        previous = event.pu if self._facts.is_futures else None
        depth = Depth(first, last, previous, levels_of(event.b, "b"), levels_of(event.a, "a"), time_us)
        sequence = self._sequences.get(symbol)
        if sequence is None or sequence.connection != frame.connection:
            return self._first_depth(depth, symbol, frame)
        expected = sequence.last
        is_next = sequence.take(depth)
        if is_next:
            return [BookUpdate(symbol, False, depth.bids, depth.asks, last, time_us)]  # noqa: FBT003
        if is_next is None:
            return [Gap(frame.connection, "books", symbol, f"update ids went from {expected} to {first}")]
        return []

    def _first_depth(self, depth: Depth, symbol: str, frame: Frame) -> list[Event]:
        """Hold a connection's first change of a book, whose snapshot is still to come, or came early."""
        self._sequence(symbol, frame.connection).take(depth)
        early = self._early.pop(symbol, None)
        if early is not None:
            return self._join(early)
        return [Unsynchronised(frame.connection, symbol)]

    def _fetched(self, frame: Frame) -> list[Event]:
        """Read the body of an HTTP response, by its address."""
        parts = urlsplit(frame.url)
        name = parts.path.rpartition("/")[2]
        if name == "exchangeInfo":
            return read_exchange_info(frame, self.venue, self._listing, is_futures=self._facts.is_futures)
        if name not in ("depth", "aggTrades"):
            return [FieldError("url", "must be the address of a list, a book or trades", frame.url)]
        query = parse_qs(parts.query)
        try:
            symbol = self._listing.ours(query.get("symbol", [""])[0], "symbol")
            if name == "depth":
                return self._snapshot(frame, symbol)
            read = partial(read_trade, symbol=symbol, venue=self.venue, provenance="backfill")
            return read_page(frame, symbol, self._holes, read)
        except RefusedError as error:
            return [error]

    def _snapshot(self, frame: Frame, symbol: str) -> list[Event]:
        """Read a book: ``{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}``.

        One that cannot be read says nothing of the book: the changes go on being held, and it is asked for again.
        """
        try:
            book = decode_snapshot(frame.data)
        except msgspec.ValidationError:
            book = convert(decode_exactly(frame.data, integers=INTEGERS), Snapshot)
        except UNREADABLE as error:
            raise not_json(error) from None
        time_ms = book.T if book.E is None else book.E
        update = BookUpdate(
            symbol,
            is_snapshot=True,
            bids=levels_of(book.bids, "bids"),
            asks=levels_of(book.asks, "asks"),
            sequence=book.last_update_id,
            event_time_us=None if time_ms is None else check_time_us(time_ms * 1000, "E"),
        )
        sequence = self._sequences.get(symbol)
        if sequence is None:
            self._early[symbol] = update
            return []
        if sequence.last is not None:
            return []  # the book is kept without it
        return self._join(update)

    def _join(self, snapshot: BookUpdate) -> list[Event]:
        """Return a book and the changes held since, or that the book came too old for them."""
        symbol = snapshot.symbol
        sequence = self._sequences[symbol]
        changes = sequence.join(snapshot.sequence or 0)
        if changes is None:
            return [Unsynchronised(sequence.connection, symbol)]
        return [
            snapshot._replace(connection=sequence.connection),
            *(
                BookUpdate(symbol, False, d.bids, d.asks, d.last, d.event_time_us, sequence.connection)  # noqa: FBT003
                for d in changes
            ),
        ]


def _event_of(message: Message) -> Payload:
    return message if message.data is None else message.data


_SPOT = Facts("binance", "https://data-api.binance.vision", "/api/v3", False, 1.0, 0.08)  # noqa: FBT003
_US = Facts("binance_us", "https://api.binance.us", "/api/v3", False, 1.0, 0.1)  # noqa: FBT003
_FUTURES = Facts("binance_futures", "https://fapi.binance.com", "/fapi/v1", True, 1.0, 2.0)  # noqa: FBT003

_BEGINS = (b'{"stream":', b'{"e":', b'{"u":', b'{"result":', b'{"lastUpdateId":', b'{"timezone":', b'[{"a":')


def _dialect(facts: Facts, websocket_url: str, hosts: Collection[str], **more: Any) -> Dialect:
    return Dialect(
        venue=facts.venue,
        name="streams",
        hosts=frozenset(hosts),
        websocket_url=websocket_url,
        instruments_url=f"{facts.rest_url}{facts.rest_path}/exchangeInfo",
        make_adapter=partial(BinanceAdapter, facts),
        recognises=lambda data: data.startswith(_BEGINS),
        # Five messages a second may come from us, and the pings and pongs of the protocol count as such.
        spacing_s=0.25,
        # There are no heartbeats and quiet symbols say nothing for minutes; half-open links show by pings.
        silence_s=300.0,
        **more,
    )


DIALECTS = (
    _dialect(
        _SPOT,
        "wss://data-stream.binance.vision/stream",
        {
            "data-stream.binance.vision",
            "data-api.binance.vision",
            "stream.binance.com",
            "api.binance.com",
            "api-gcp.binance.com",
            "api1.binance.com",
            "api2.binance.com",
            "api3.binance.com",
            "api4.binance.com",
        },
        symbols=("BTC-USDT", "ETH-USDT", "SOL-USDT", "XRP-USDT", "DOGE-USDT", "LTC-USDT", "ADA-USDT"),
    ),
    _dialect(
        _US,
        "wss://stream.binance.us:9443/stream",
        {"stream.binance.us", "api.binance.us"},
        symbols=("BTC-USDT", "ETH-USDT", "SOL-USDT", "XRP-USDT", "DOGE-USDT", "LTC-USDT", "ADA-USDT"),
    ),
    _dialect(
        _FUTURES,
        "wss://fstream.binance.com/stream",
        {"fstream.binance.com", "fapi.binance.com"},
        symbols=("BTC-USDT-PERP", "ETH-USDT-PERP", "SOL-USDT-PERP", "XRP-USDT-PERP", "DOGE-USDT-PERP"),
        routes=(
            Route("public", "wss://fstream.binance.com/public/stream", frozenset({"quotes", "books"})),
            Route("market", "wss://fstream.binance.com/market/stream", frozenset({"trades"})),
        ),
    ),
)
"""One dialect a venue: they differ by their facts alone."""
