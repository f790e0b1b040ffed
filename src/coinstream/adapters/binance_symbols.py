"""Binance's list of symbols, spot and futures: what there is to subscribe, under which names.

Sources:
    https://developers.binance.com/docs/binance-spot-api-docs/rest-api ("Exchange information", "Filters") and
    https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Exchange-Information.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from coinstream.adapters.dialect import Event, Frame
from coinstream.adapters.fields import UNREADABLE, convert, decode_exactly, not_json, step_or_none, unsigned_or_none
from coinstream.adapters.listing import Listing
from coinstream.errors import FieldError, RefusedError
from coinstream.messages import Instrument
from coinstream.messages.market import Name

_Asset = Annotated[str, Meta(min_length=1, max_length=29)]
_delivery = re.compile(r"_([0-9]{6})$", re.ASCII).search


class _Filter(Struct):
    """One of a symbol's rules; spot writes the least notional as ``minNotional``, futures as ``notional``."""

    filter_type: str = msgspec.field(name="filterType", default="")
    tick_size: str | None = msgspec.field(name="tickSize", default=None)
    step_size: str | None = msgspec.field(name="stepSize", default=None)
    minimum_notional: str | None = msgspec.field(name="minNotional", default=None)
    notional: str | None = None


class _Symbol(Struct):
    symbol: Name
    base: _Asset = msgspec.field(name="baseAsset")
    quote: _Asset = msgspec.field(name="quoteAsset")
    status: str = ""
    filters: list[_Filter] = []


class _List(Struct):
    symbols: list[msgspec.Raw]


_decode_list = msgspec.json.Decoder(_List).decode
_decode_symbol = msgspec.json.Decoder(_Symbol).decode


def read_exchange_info(frame: Frame, venue: str, listing: Listing, *, is_futures: bool) -> list[Event]:
    """Read the list of symbols and teach it to the listing.

    ``{"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","filters":[
    {"filterType":"PRICE_FILTER","tickSize":"0.01",…},{"filterType":"LOT_SIZE","stepSize":"0.00001",…},
    {"filterType":"NOTIONAL","minNotional":"5",…}],…}],…}``

    On futures ``BTCUSDT`` is the perpetual ``BTC-USDT-PERP`` and ``BTCUSDT_210924``, which is delivered on
    that day, ``BTC-USDT-210924``.
    """
    try:
        entries = _decode_list(frame.data).symbols
    except msgspec.ValidationError:
        return [FieldError("symbols", "must be a list of symbols")]
    except UNREADABLE as error:
        return [not_json(error)]
    events: list[Event] = []
    symbols: dict[str, str] = {}
    for index, raw in enumerate(entries):
        try:
            instrument = _instrument(_read(raw), venue, frame.received_time_us, is_futures=is_futures)
        except RefusedError as error:
            events.append(RefusedError(f"symbol {index}: {error}"))
            continue
        symbols[instrument.venue_symbol] = instrument.symbol
        events.append(instrument)
    listing.learn(symbols)
    return events


def _read(raw: msgspec.Raw) -> _Symbol:
    try:
        return _decode_symbol(raw)
    except (msgspec.ValidationError, *UNREADABLE):
        entry: _Symbol = convert(decode_exactly(bytes(raw), integers=frozenset()), _Symbol)
        return entry


def _instrument(entry: _Symbol, venue: str, received_time_us: int, *, is_futures: bool) -> Instrument:
    tick = lot = notional = None
    for rule in entry.filters:
        if rule.filter_type == "PRICE_FILTER":
            tick = step_or_none(rule.tick_size, "tickSize")
        elif rule.filter_type == "LOT_SIZE":
            lot = step_or_none(rule.step_size, "stepSize")
        elif rule.filter_type in ("MIN_NOTIONAL", "NOTIONAL"):
            notional = unsigned_or_none(rule.minimum_notional or rule.notional, "minNotional")
    return Instrument(
        venue=venue,
        symbol=_ours(entry, is_futures=is_futures),
        venue_symbol=entry.symbol,
        base=entry.base,
        quote=entry.quote,
        tick_size=tick,
        lot_size=lot,
        minimum_notional=notional,
        status="online" if entry.status == "TRADING" else "offline",
        received_time_us=received_time_us,
    )


def _ours(entry: _Symbol, *, is_futures: bool) -> str:
    pair = f"{entry.base}-{entry.quote}"
    if not is_futures:
        return pair
    day = _delivery(entry.symbol)
    return f"{pair}-{day[1]}" if day else f"{pair}-PERP"


def supposed_spelling(symbol: str, *, is_futures: bool) -> str:
    """Return how Binance most likely spells our symbol, for when it has not told us its list."""
    *pair, last = symbol.split("-")
    if is_futures and len(pair) == 2 and last == "PERP":
        return "".join(pair)
    if is_futures and len(pair) == 2 and last.isdecimal():
        return f"{''.join(pair)}_{last}"
    return "".join([*pair, last])
