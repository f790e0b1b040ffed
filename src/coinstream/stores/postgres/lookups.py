"""Rows by natural key: the shapes of keys and values, and the query of each table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from coinstream.messages import Level, utc

DecimalLevels = tuple[tuple[Decimal, Decimal], ...]
"""Shape (levels, 2): price and size, best first."""


class TradeKey(NamedTuple):
    """Of ``trades``; ``day`` is the UTC date of the event time."""

    venue: str
    symbol: str
    trade_id: str
    day: date


class TradeValue(NamedTuple):
    """Of ``trades``."""

    price: Decimal
    size: Decimal
    aggressor_side: str
    event_time_us: int
    received_time_us: int
    provenance: str
    rows: int


class SeriesKey(NamedTuple):
    """Of ``quotes`` and ``book_snapshots``; ``sequence`` is 0 where the venue sends none."""

    venue: str
    symbol: str
    received_time_us: int
    sequence: int


class QuoteValue(NamedTuple):
    """Of ``quotes``."""

    bid: Decimal
    ask: Decimal
    bid_size: Decimal | None
    ask_size: Decimal | None
    event_time_us: int | None
    rows: int


class BookValue(NamedTuple):
    """Of ``book_snapshots``."""

    bids: DecimalLevels
    asks: DecimalLevels
    event_time_us: int | None
    rows: int


class MinuteKey(NamedTuple):
    """Of ``candles``; ``minute`` is its start in microseconds."""

    venue: str
    symbol: str
    minute: int


class CandleValue(NamedTuple):
    """Of ``candles`` that a venue sent."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int | None
    provenance: str
    rows: int


class InstrumentKey(NamedTuple):
    """Of ``instruments``."""

    venue: str
    symbol: str


class InstrumentValue(NamedTuple):
    """Of ``instruments``; all but ``rows`` are absent until the venue's list has come."""

    venue_symbol: str | None
    base: str | None
    quote: str | None
    tick_size: Decimal | None
    lot_size: Decimal | None
    minimum_notional: Decimal | None
    status: str | None
    received_time_us: int | None
    rows: int


class AssetKey(NamedTuple):
    """Of ``assets``; ``minute`` is its start in microseconds."""

    source: str
    asset_id: str
    minute: int


class AssetValue(NamedTuple):
    """Of ``assets``; ``attributes`` are JSON values as Python's ``json`` reads them."""

    canonical_id: str | None
    symbol: str
    name: str
    rank: int | None
    price_usd: Decimal
    market_cap_usd: Decimal | None
    volume_usd_24h: Decimal | None
    supply: Decimal | None
    max_supply: Decimal | None
    vwap_24h: Decimal | None
    change_percent_24h: Decimal | None
    attributes: dict[str, Any]
    received_time_us: int
    rows: int


class CoverageKey(NamedTuple):
    """Of ``coverage``; ``minute`` is its start in microseconds."""

    venue: str
    symbol: str
    channel: str
    minute: int


class CoverageValue(NamedTuple):
    """Of ``coverage``."""

    status: str
    first: str | None
    last: str | None
    messages: int
    rows: int


def exact_levels(levels: Sequence[Level] | Sequence[Sequence[Decimal]]) -> DecimalLevels:
    """Return a message's levels, or the table's, as a value has them."""
    return tuple((Decimal(price), Decimal(size)) for price, size in levels)


@dataclass(frozen=True, slots=True)
class Lookup:
    """How rows of a table are found and returned.

    Attributes:
        query: Takes an array for each part of the key; returns the place of the key among them,
            counted from 1, and the columns of the value without ``rows``.
        times: Which parts of the key are times in microseconds.
        conversions: What a column of the value still needs, by its place.
    """

    key: type[Any]
    value: type[Any]
    query: bytes
    times: frozenset[int] = frozenset()
    conversions: dict[int, Callable[[Any], Any]] = field(default_factory=dict)

    def arguments(self, keys: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
        """Return the keys as the query's arrays."""
        return [
            [utc(key[place]) for key in keys] if place in self.times else [key[place] for key in keys]
            for place in range(len(self.key._fields))
        ]

    def converted(self, columns: list[Any]) -> list[Any]:
        """Return a row's columns as the value has them."""
        for place, convert in self.conversions.items():
            columns[place] = convert(columns[place])
        return columns


def in_us(column: str) -> str:
    """Return the SQL of a time in microseconds since 1970."""
    return f"(extract(epoch FROM {column}) * 1000000)::bigint"


def _query(types: Sequence[str], columns: Sequence[str], tables: str) -> bytes:
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    parts = ", ".join(f"k{place}" for place in range(len(types)))
    return (
        f"SELECT k.n, {', '.join(columns)} FROM unnest({arrays}) WITH ORDINALITY AS k ({parts}, n) {tables}"  # noqa: S608  # constants below
    ).encode()


_by_name = "JOIN market.instruments i ON i.venue = k0 AND i.symbol = k1 JOIN market.{} t ON t.instrument_id = i.id"
_series_types = ("text", "text", "timestamptz", "bigint")
PROVENANCE = "CASE t.provenance WHEN 'l' THEN 'live' WHEN 'b' THEN 'backfill' WHEN 's' THEN 'simulated' END"

LOOKUPS: dict[str, Lookup] = {
    "trades": Lookup(
        TradeKey,
        TradeValue,
        _query(
            ("text", "text", "text", "date"),
            (
                "t.price",
                "t.size",
                "CASE t.aggressor_side WHEN 'b' THEN 'buy' WHEN 's' THEN 'sell' END",
                in_us("t.event_time"),
                in_us("t.received_time"),
                PROVENANCE,
            ),
            _by_name.format("trades") + " AND t.trade_id = k2 AND t.day = k3",
        ),
    ),
    "quotes": Lookup(
        SeriesKey,
        QuoteValue,
        _query(
            _series_types,
            ("t.bid", "t.ask", "t.bid_size", "t.ask_size", in_us("t.event_time")),
            _by_name.format("quotes") + " AND t.received_time = k2 AND t.sequence = k3",
        ),
        frozenset({2}),
    ),
    "book_snapshots": Lookup(
        SeriesKey,
        BookValue,
        _query(
            _series_types,
            ("t.bids", "t.asks", in_us("t.event_time")),
            _by_name.format("book_snapshots") + " AND t.received_time = k2 AND t.sequence = k3",
        ),
        frozenset({2}),
        {0: exact_levels, 1: exact_levels},
    ),
    "candles": Lookup(
        MinuteKey,
        CandleValue,
        _query(
            ("text", "text", "timestamptz"),
            ("t.open", "t.high", "t.low", "t.close", "t.volume", "t.trades", PROVENANCE),
            _by_name.format("candles") + " AND t.minute = k2 AND t.origin = 'v'",
        ),
        frozenset({2}),
    ),
    "instruments": Lookup(
        InstrumentKey,
        InstrumentValue,
        _query(
            ("text", "text"),
            (
                "t.venue_symbol",
                "t.base",
                "t.quote",
                "t.tick_size",
                "t.lot_size",
                "t.minimum_notional",
                "t.status",
                in_us("t.received_time"),
            ),
            "JOIN market.instruments t ON t.venue = k0 AND t.symbol = k1",
        ),
    ),
    "assets": Lookup(
        AssetKey,
        AssetValue,
        _query(
            ("text", "text", "timestamptz"),
            (
                "t.canonical_id",
                "t.symbol",
                "t.name",
                "t.rank",
                "t.price_usd",
                "t.market_cap_usd",
                "t.volume_usd_24h",
                "t.supply",
                "t.max_supply",
                "t.vwap_24h",
                "t.change_percent_24h",
                "t.attributes",
                in_us("t.received_time"),
            ),
            "JOIN market.assets t ON t.source = k0 AND t.asset_id = k1 AND t.minute = k2",
        ),
        frozenset({2}),
    ),
    "coverage": Lookup(
        CoverageKey,
        CoverageValue,
        _query(
            ("text", "text", "text", "timestamptz"),
            ("t.status", "t.first", "t.last", "t.messages"),
            "JOIN market.coverage t ON t.venue = k0 AND t.symbol = k1 AND t.channel = k2 AND t.minute = k3",
        ),
        frozenset({3}),
    ),
}
"""By table name; of ``candles``, those that a venue sent."""
