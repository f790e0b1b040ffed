"""Messages as lines of text for COPY. Pure; a trade's line costs a microsecond, which is the sink's hot path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

import msgspec

from coinstream.market.candle import CandleKey, CandleSum
from coinstream.messages import (
    AssetSnapshot,
    BookSnapshot,
    Candle,
    Coverage,
    Instrument,
    Level,
    Message,
    Quote,
    Trade,
    day_of,
    plain,
    utc,
)
from coinstream.messages.times import DAY_US
from coinstream.stores.postgres import tables
from coinstream.stores.postgres.tables import Table

Name = tuple[str, str]
"""(venue, symbol)."""
Ids = Mapping[Name, int]
Fields = tuple[str, ...]

_CACHED_SECONDS = 100_000


class _Seconds(dict[str, str]):
    """Text of each second, by its digits since 1970: trades share seconds, and a lookup costs 0.03 µs."""

    def __init__(self, with_day: bool) -> None:  # noqa: FBT001  # two instances, both below
        super().__init__()
        self._with_day = with_day

    def __missing__(self, second: str) -> str:
        if len(self) >= _CACHED_SECONDS:
            self.clear()
        moment = utc(int(second) * 1_000_000)
        text = f"{moment:%Y-%m-%d %H:%M:%S}."
        self[second] = f"{text[:10]}\t{text}" if self._with_day else text
        return self[second]


_second = _Seconds(with_day=False)
_day_and_second = _Seconds(with_day=True)


def time_text(time_us: int) -> str:
    """Return microseconds as PostgreSQL's text of a UTC time, exactly.

    >>> time_text(1_619_031_093_000_001)
    '2021-04-21 18:51:33.000001'
    """
    digits = str(time_us)
    return _second[digits[:-6]] + digits[-6:]


def trade_rows(trades: Iterable[Trade], instrument_id: int) -> list[str]:
    """Return the lines of trades of one instrument; no field is escaped (see `is_plain`)."""
    second, day_and_second, prefix = _second, _day_and_second, f"{instrument_id}\t"
    return [
        f"{prefix}{day_and_second[(event := str(trade.event_time_us))[:-6]]}{event[-6:]}"
        f"\t{second[(received := str(trade.received_time_us))[:-6]]}{received[-6:]}"
        f"\t{trade.aggressor_side[0]}\t{trade.provenance[0]}\t{trade.trade_id}\t{trade.price}\t{trade.size}"
        for trade in trades
    ]


def is_plain(block: str, rows: int, columns: int) -> bool:
    """Return whether a block of lines can only be read as the rows meant.

    A tab or newline inside a field would show in the counts; a backslash or carriage return means
    something to COPY. Where this is false, the fields must be escaped one by one.
    """
    return (
        block.count("\t") == rows * (columns - 1)
        and block.count("\n") == rows
        and "\\" not in block
        and "\r" not in block
    )


_escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def escaped_row(fields: Fields) -> str:
    """Return a line whose fields may hold anything."""
    return "\t".join(field.translate(_escapes) for field in fields)


def _or_null(value: object) -> str:
    return "" if value is None else str(value)


def _time_or_null(time_us: int | None) -> str:
    return "" if time_us is None else time_text(time_us)


def _levels(levels: Sequence[Level]) -> str:
    return "{" + ",".join(f"{{{price},{size}}}" for price, size in levels) + "}"


def _trade(trade: Trade, ids: Ids) -> Fields:
    return (
        str(ids[trade.venue, trade.symbol]),
        str(day_of(trade.event_time_us)),
        time_text(trade.event_time_us),
        time_text(trade.received_time_us),
        trade.aggressor_side[0],
        trade.provenance[0],
        trade.trade_id,
        trade.price,
        trade.size,
    )


def _quote(quote: Quote, ids: Ids) -> Fields:
    return (
        str(ids[quote.venue, quote.symbol]),
        time_text(quote.received_time_us),
        str(quote.sequence or 0),
        _time_or_null(quote.event_time_us),
        quote.bid,
        quote.ask,
        quote.bid_size or "",
        quote.ask_size or "",
    )


def _book(book: BookSnapshot, ids: Ids) -> Fields:
    return (
        str(ids[book.venue, book.symbol]),
        time_text(book.received_time_us),
        str(book.sequence or 0),
        _time_or_null(book.event_time_us),
        _levels(book.bids),
        _levels(book.asks),
    )


def _candle(candle: Candle, ids: Ids) -> Fields:
    return (
        str(ids[candle.venue, candle.symbol]),
        time_text(candle.minute),
        "v",
        candle.provenance[0],
        candle.open,
        candle.high,
        candle.low,
        candle.close,
        candle.volume,
        _or_null(candle.trades),
    )


def _instrument(instrument: Instrument, _: Ids) -> Fields:
    return (
        instrument.venue,
        instrument.symbol,
        instrument.venue_symbol,
        instrument.base,
        instrument.quote,
        instrument.tick_size or "",
        instrument.lot_size or "",
        instrument.minimum_notional or "",
        instrument.status,
        time_text(instrument.received_time_us),
    )


def _asset(asset: AssetSnapshot, _: Ids) -> Fields:
    return (
        asset.source,
        asset.asset_id,
        time_text(asset.minute),
        asset.canonical_id or "",
        asset.symbol,
        asset.name,
        _or_null(asset.rank),
        asset.price_usd,
        asset.market_cap_usd or "",
        asset.volume_usd_24h or "",
        asset.supply or "",
        asset.max_supply or "",
        asset.vwap_24h or "",
        asset.change_percent_24h or "",
        msgspec.json.encode(asset.attributes).decode(),
        time_text(asset.received_time_us),
    )


def _coverage(coverage: Coverage, _: Ids) -> Fields:
    return (
        coverage.venue,
        coverage.symbol,
        coverage.channel,
        time_text(coverage.minute),
        coverage.status,
        coverage.first or "",
        coverage.last or "",
        str(coverage.messages),
    )


def candle_sum_rows(candles: Mapping[CandleKey, CandleSum], ids: Ids) -> list[Fields]:
    """Return the fields of summed candles."""
    return [
        (
            str(ids[key.venue, key.symbol]),
            time_text(key.minute),
            "t",
            *(plain(number) for number in (candle.open, candle.high, candle.low, candle.close, candle.volume)),
            str(candle.trades),
            time_text(candle.open_time_us),
            candle.open_trade_id,
            time_text(candle.close_time_us),
            candle.close_trade_id,
        )
        for key, candle in candles.items()
    ]


@dataclass(frozen=True, slots=True)
class Form:
    """How messages of a kind become rows.

    Attributes:
        table: Where they go.
        fields: The fields of a message's row.
        key: Its natural key within the table.
        wins: Whether a message replaces an earlier one of its key; by default it does not.
        time: For tables of days, the time in microseconds whose UTC date is the day.
        has_instrument: Whether its rows refer to an instrument by id.
    """

    table: Table
    fields: Callable[[Any, Ids], Fields]
    key: Callable[[Any], Any]
    wins: Callable[[Any, Any], bool] = lambda _new, _held: False
    time: Callable[[Any], int] | None = None
    has_instrument: bool = True

    def choose(self, messages: Sequence[Message]) -> list[Message]:
        """Return the message that wins of each key."""
        held: dict[Any, Message] = {}
        for message in messages:
            key = self.key(message)
            if key not in held or self.wins(message, held[key]):
                held[key] = message
        return list(held.values())


def _series_key(message: Quote | BookSnapshot) -> tuple[str, str, int, int]:
    return message.venue, message.symbol, message.received_time_us, message.sequence or 0


_received = cast("Callable[[Any], int]", attrgetter("received_time_us"))

FORMS: dict[type[Any], Form] = {
    # Instruments first: the rows that others refer to.
    Instrument: Form(
        tables.INSTRUMENTS,
        _instrument,
        attrgetter("venue", "symbol"),
        wins=lambda new, held: new.received_time_us >= held.received_time_us,
        has_instrument=False,
    ),
    Trade: Form(
        tables.TRADES,
        _trade,
        lambda trade: (trade.venue, trade.symbol, trade.trade_id, trade.event_time_us // DAY_US),
        time=attrgetter("event_time_us"),
    ),
    Quote: Form(tables.QUOTES, _quote, _series_key, time=_received),
    BookSnapshot: Form(tables.BOOK_SNAPSHOTS, _book, _series_key, time=_received),
    Candle: Form(tables.VENUE_CANDLES, _candle, attrgetter("venue", "symbol", "minute"), wins=lambda _new, _held: True),
    AssetSnapshot: Form(
        tables.ASSETS,
        _asset,
        attrgetter("source", "asset_id", "minute"),
        wins=lambda new, held: new.received_time_us > held.received_time_us,
        has_instrument=False,
    ),
    Coverage: Form(
        tables.COVERAGE,
        _coverage,
        attrgetter("venue", "symbol", "channel", "minute"),
        wins=lambda _new, _held: True,
        has_instrument=False,
    ),
}
"""Every kind of message, in the order in which a transaction writes them."""
