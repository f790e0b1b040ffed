"""The market's messages.

Every field is a JSON string, integer, list or object; numbers of the market are digits in strings
(see `coinstream.messages.numbers`), times integer microseconds since 1970, UTC. A type only ever
gains fields with defaults; readers ignore what they do not know.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from coinstream.messages.numbers import POSITIVE_PATTERN, SIGNED_PATTERN, UNSIGNED_PATTERN
from coinstream.messages.times import EARLIEST_US, LATEST_US

# msgspec's own `pattern` costs 0.45 µs a field; the batch check of `encoding` costs 0.13, so here
# the pattern is for the published schema and `encoding` holds the messages to it.
Positive = Annotated[str, Meta(extra_json_schema={"pattern": POSITIVE_PATTERN})]
Unsigned = Annotated[str, Meta(extra_json_schema={"pattern": UNSIGNED_PATTERN})]
Signed = Annotated[str, Meta(extra_json_schema={"pattern": SIGNED_PATTERN})]
TimeUs = Annotated[int, Meta(ge=EARLIEST_US, lt=LATEST_US)]
Minute = Annotated[int, Meta(ge=EARLIEST_US, lt=LATEST_US, extra_json_schema={"multipleOf": 60_000_000})]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(min_length=1, max_length=256)]
Level = tuple[Positive, Positive]
"""(price in quote currency per unit of base, size in base currency)."""

Side = Literal["buy", "sell"]
Provenance = Literal["live", "backfill", "simulated"]
InstrumentStatus = Literal["online", "offline", "unknown"]
CoverageStatus = Literal["complete", "gap", "disconnected", "backfilled"]


class Instrument(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What a venue lists: published at each connection, before anything is said of the symbol.

    Attributes:
        venue_symbol: The venue's own spelling.
        tick_size: Least step of a price, in quote currency; absent where the venue did not say.
        lot_size: Least step of a size, in base currency; absent where the venue did not say.
        minimum_notional: Least price times size of an order, in quote currency.
    """

    SCHEMA: ClassVar[str] = "instrument/1"
    venue: Name
    symbol: Name
    venue_symbol: Name
    base: Name
    quote: Name
    tick_size: Positive | None = None
    lot_size: Positive | None = None
    minimum_notional: Unsigned | None = None
    status: InstrumentStatus = "unknown"
    received_time_us: TimeUs


class Trade(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One trade on a venue.

    Attributes:
        trade_id: The venue's, unique for the venue and symbol.
        aggressor_side: The taker's side: ``buy`` took from the asks.
        event_time_us: The venue's time of the trade.
    """

    SCHEMA: ClassVar[str] = "trade/1"
    venue: Name
    symbol: Name
    trade_id: Name
    price: Positive
    size: Positive
    aggressor_side: Side
    event_time_us: TimeUs
    received_time_us: TimeUs
    provenance: Provenance


class Quote(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Best bid and ask; a side that is empty at the venue is ``0``."""

    SCHEMA: ClassVar[str] = "quote/1"
    venue: Name
    symbol: Name
    bid: Unsigned
    ask: Unsigned
    bid_size: Unsigned | None = None
    ask_size: Unsigned | None = None
    sequence: Count | None = None
    event_time_us: TimeUs | None = None
    received_time_us: TimeUs


class BookSnapshot(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The best levels of a book, at most 50 a side, best first.

    Attributes:
        bids: Shape (levels, 2): price and size, highest price first.
        asks: The same, lowest price first.
    """

    SCHEMA: ClassVar[str] = "book_snapshot/1"
    venue: Name
    symbol: Name
    bids: Annotated[tuple[Level, ...], Meta(max_length=50)]
    asks: Annotated[tuple[Level, ...], Meta(max_length=50)]
    sequence: Count | None = None
    event_time_us: TimeUs | None = None
    received_time_us: TimeUs


class Candle(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One minute of trading that a venue sent (backfill); our own candles are sums of trades."""

    SCHEMA: ClassVar[str] = "candle/1"
    venue: Name
    symbol: Name
    minute: Minute
    open: Positive
    high: Positive
    low: Positive
    close: Positive
    volume: Unsigned
    trades: Count | None = None
    provenance: Provenance


class AssetSnapshot(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a source said of an asset in a minute.

    Attributes:
        canonical_id: Our name of the asset from the reviewed table; absent where it is not in it.
        attributes: Whatever else the source said, JSON values; its fractions as digits in strings.
    """

    SCHEMA: ClassVar[str] = "asset_snapshot/1"
    source: Name
    asset_id: Text
    canonical_id: Name | None = None
    symbol: Name
    name: Text
    rank: Count | None = None
    price_usd: Unsigned
    market_cap_usd: Unsigned | None = None
    volume_usd_24h: Unsigned | None = None
    supply: Unsigned | None = None
    max_supply: Unsigned | None = None
    vwap_24h: Unsigned | None = None
    change_percent_24h: Signed | None = None
    attributes: dict[str, Any] = {}
    minute: Minute
    received_time_us: TimeUs


class Coverage(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What the messages of one symbol, channel and minute are worth.

    Attributes:
        venue: The venue, or the source for assets.
        channel: ``trades``, ``quotes``, ``books`` or ``assets``.
        status: ``complete`` only when the feed was connected and unbroken for the whole minute.
        first: First trade id or sequence of the minute, where the channel has one.
        last: The last.
        messages: How many this feed published.
    """

    SCHEMA: ClassVar[str] = "coverage/1"
    venue: Name
    symbol: Text
    channel: Name
    minute: Minute
    status: CoverageStatus
    first: Name | None = None
    last: Name | None = None
    messages: Count


MarketMessage = Instrument | Trade | Quote | BookSnapshot | Candle | AssetSnapshot | Coverage
