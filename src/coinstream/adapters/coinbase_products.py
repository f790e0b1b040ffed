"""Coinbase's lists of products, a shape a dialect: what there is to subscribe, under which names.

Sources:
    https://docs.cdp.coinbase.com/exchange/reference/exchangerestapi_getproducts and
    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/public/list-public-products.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from coinstream.adapters.dialect import Event, Frame
from coinstream.adapters.fields import convert, decode_exactly, step_or_none, unsigned_or_none
from coinstream.adapters.listing import Listing
from coinstream.errors import FieldError, RefusedError
from coinstream.messages import Instrument
from coinstream.messages.market import Name

_Currency = Annotated[str, Meta(min_length=1, max_length=31)]


class _ExchangeProduct(Struct):
    id: Name
    base_currency: _Currency
    quote_currency: _Currency
    quote_increment: str | None = None
    base_increment: str | None = None
    min_market_funds: str | None = None
    status: str = ""
    trading_disabled: bool = False


_MaybeCurrency = Annotated[str, Meta(max_length=31)]


class _AdvancedProduct(Struct):
    product_id: Name
    base_currency_id: _MaybeCurrency | None = None
    quote_currency_id: _MaybeCurrency | None = None
    quote_increment: str | None = None
    price_increment: str | None = None
    base_increment: str | None = None
    quote_min_size: str | None = None
    product_type: str | None = None
    status: str | None = None
    is_disabled: bool | None = None
    trading_disabled: bool | None = None


def read_exchange_products(frame: Frame, venue: str, listing: Listing) -> list[Event]:
    """Read Coinbase Exchange's list of products and teach it to the listing.

    ``[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01",
    "base_increment":"0.00000001","min_market_funds":"1","status":"online","trading_disabled":false,…}]``
    """
    try:
        products = decode_exactly(frame.data, integers=frozenset())
        if not isinstance(products, list):
            raise RefusedError("a list of products must be a JSON array")
    except RefusedError as error:
        return [error]
    events: list[Event] = []
    symbols: dict[str, str] = {}
    for index, value in enumerate(products):
        try:
            product: _ExchangeProduct = convert(value, _ExchangeProduct)
            symbol = f"{product.base_currency}-{product.quote_currency}"
            instrument = Instrument(
                venue=venue,
                symbol=symbol,
                venue_symbol=product.id,
                base=product.base_currency,
                quote=product.quote_currency,
                tick_size=step_or_none(product.quote_increment, "quote_increment"),
                lot_size=step_or_none(product.base_increment, "base_increment"),
                minimum_notional=unsigned_or_none(product.min_market_funds, "min_market_funds"),
                status="online" if product.status == "online" and not product.trading_disabled else "offline",
                received_time_us=frame.received_time_us,
            )
        except RefusedError as error:
            events.append(RefusedError(f"product {index}: {error}"))
            _learn_spelling(value, "id", symbols)
            continue
        symbols[product.id] = symbol
        events.append(instrument)
    return _learnt(listing, symbols, events)


def read_advanced_products(frame: Frame, venue: str, listing: Listing) -> list[Event]:
    """Read Coinbase Advanced Trade's list of products and teach it to the listing.

    ``{"products":[{"product_id":"BTC-USD","base_currency_id":"BTC","quote_currency_id":"USD",
    "base_increment":"0.00000001","quote_increment":"0.01","price_increment":"0.01","quote_min_size":"1",
    "product_type":"SPOT","status":"online","trading_disabled":false,…}],"num_products":1}``

    Futures name no base currency: their frames are read under the venue's spelling, and no `Instrument`
    is published of them.
    """
    try:
        body = decode_exactly(frame.data, integers=frozenset())
        products = body.get("products") if isinstance(body, dict) else None
        if not isinstance(products, list):
            raise FieldError("products", "must be a list", None if products is None else products)
    except RefusedError as error:
        return [error]
    events: list[Event] = []
    symbols: dict[str, str] = {}
    for index, value in enumerate(products):
        try:
            product: _AdvancedProduct = convert(value, _AdvancedProduct)
            is_spot = product.product_type in (None, "SPOT")
            base, quote = product.base_currency_id, product.quote_currency_id
            if not is_spot or not base or not quote:
                symbols[product.product_id] = product.product_id
                continue
            instrument = _instrument_of(product, base, quote, venue=venue, received_time_us=frame.received_time_us)
        except RefusedError as error:
            events.append(RefusedError(f"product {index}: {error}"))
            _learn_spelling(value, "product_id", symbols)
            continue
        symbols[product.product_id] = instrument.symbol
        events.append(instrument)
    return _learnt(listing, symbols, events)


def _learn_spelling(product: object, key: str, symbols: dict[str, str]) -> None:
    """Let a product that cannot be an `Instrument` be listed all the same: its frames are read under its own name."""
    spelling = product.get(key) if isinstance(product, dict) else None
    if isinstance(spelling, str) and 0 < len(spelling) <= 64 and spelling.isprintable():
        symbols[spelling] = spelling


def _learnt(listing: Listing, symbols: dict[str, str], events: list[Event]) -> list[Event]:
    """Teach the listing; a list of nothing would have every frame refused, so it is refused itself."""
    if not symbols:
        return [*events, RefusedError("the list names no product; the one from before stays")]
    listing.learn(symbols)
    return events


def _instrument_of(
    product: _AdvancedProduct, base: str, quote: str, *, venue: str, received_time_us: int
) -> Instrument:
    is_open = product.status == "online" and not product.trading_disabled and not product.is_disabled
    return Instrument(
        venue=venue,
        symbol=f"{base}-{quote}",
        venue_symbol=product.product_id,
        base=base,
        quote=quote,
        tick_size=step_or_none(product.price_increment or product.quote_increment, "price_increment"),
        lot_size=step_or_none(product.base_increment, "base_increment"),
        minimum_notional=unsigned_or_none(product.quote_min_size, "quote_min_size"),
        status="online" if is_open else "offline",
        received_time_us=received_time_us,
    )
