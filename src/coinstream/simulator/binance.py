"""Binance's public spot protocol, from the venue's side: requests in, texts of events and REST bodies out. Pure.

Shapes after https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and
https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints. Prices and sizes have eight
decimals whatever the symbol's tick; times are whole milliseconds; ``m`` says that the buyer was the maker.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from coinstream.errors import RefusedError
from coinstream.simulator.market import SimulatedTrade
from coinstream.simulator.order_book import BookSide, OrderBook
from coinstream.simulator.products import Product

__all__ = [
    "AggregateTrade",
    "Request",
    "agg_trade_event",
    "agg_trade_fields",
    "answer",
    "book_ticker_event",
    "combined",
    "depth_event",
    "depth_snapshot",
    "fixed_text",
    "parse_request",
    "spelling",
]

_DECIMALS = 8
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_LONGEST_ID = 36


class AggregateTrade(msgspec.Struct, frozen=True, gc=False):
    """What one taker's order took at one price: a trade of the market, as the venue numbers it.

    Attributes:
        trade: Its id is the aggregate's.
        first_id: Of the single trades that it sums up, which count apart.
        last_id: The same.
    """

    trade: SimulatedTrade
    first_id: int
    last_id: int


class Request(msgspec.Struct, frozen=True):
    """What a client asks for.

    Attributes:
        method: One of five.
        params: Stream names, or a property's name and value.
        id: Comes back with the answer.
    """

    method: str
    params: tuple[Any, ...] = ()
    id: int | str | None = None


def parse_request(frame: bytes) -> Request:
    """Read what a client sent.

    Raises:
        RefusedError: It is no request; the text is the body of the venue's error, as JSON.
    """
    try:
        value = msgspec.json.decode(frame)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _refusal(3, "Invalid JSON: expected value at line 1 column 1") from None
    if not isinstance(value, dict) or "method" not in value:
        raise _refusal(2, "Invalid request: missing field `method`")
    if value["method"] not in _METHODS:
        expected = ", ".join(f"`{method}`" for method in _METHODS)
        raise _refusal(2, f"Invalid request: unknown variant `{value['method']}`, expected one of {expected}")
    try:
        request = msgspec.convert(value, Request)
    except msgspec.ValidationError as error:
        raise _refusal(2, f"Invalid request: {error}") from None
    is_text = isinstance(request.id, str)
    if is_text and not (str(request.id).isalnum() and len(str(request.id)) <= _LONGEST_ID):
        raise _refusal(2, "Invalid request: request ID must be an unsigned integer")
    if request.method in ("SUBSCRIBE", "UNSUBSCRIBE"):
        if not request.params or not all(isinstance(name, str) for name in request.params):
            raise _refusal(2, "Invalid request: params must be names of streams")
    elif request.method.endswith("_PROPERTY"):
        _check_property(request)
    return request


def _check_property(request: Request) -> None:
    if not request.params or not isinstance(request.params[0], str):
        raise _refusal(2, "Invalid request: property name must be a string")
    if request.params[0] != "combined":
        raise _refusal(0, "Unknown property")
    values = request.params[1:]
    if len(values) > (request.method == "SET_PROPERTY"):
        raise _refusal(2, "Invalid request: too many parameters")
    if request.method == "SET_PROPERTY" and not (values and isinstance(values[0], bool)):
        raise _refusal(1, "Invalid value type: expected Boolean")


def _refusal(code: int, text: str) -> RefusedError:
    return RefusedError(msgspec.json.encode({"code": code, "msg": text}).decode())


def answer(result: object, request_id: int | str | None) -> bytes:
    """Answer a request; ``null`` is the result of one that only had to be done."""
    return msgspec.json.encode({"result": result, "id": request_id})


def spelling(product: Product) -> str:
    """Return the venue's own name of an instrument.

    >>> from coinstream.simulator.products import BINANCE_PRODUCTS
    >>> spelling(BINANCE_PRODUCTS[0])
    'BTCUSDT'
    """
    return product.base + product.quote


def fixed_text(units: int, decimals: int) -> str:
    """Write ``units * 10**-decimals`` with eight decimals.

    >>> fixed_text(9734521, 2), fixed_text(17, 0), fixed_text(5, 8)
    ('97345.21000000', '17.00000000', '0.00000005')
    """
    digits = str(units * 10 ** (_DECIMALS - decimals)).rjust(_DECIMALS + 1, "0")
    return f"{digits[:-_DECIMALS]}.{digits[-_DECIMALS:]}"


def _price(product: Product, ticks: int) -> str:
    return fixed_text(ticks, product.price_decimals)


def _size(product: Product, lots: int) -> str:
    return fixed_text(lots, product.size_decimals)


def combined(stream: str, payload: str) -> bytes:
    """Wrap an event's text for a client of several streams."""
    return f'{{"stream":"{stream}","data":{payload}}}'.encode()


def agg_trade_fields(product: Product, aggregate: AggregateTrade) -> str:
    """Write the fields that an aggregate trade has in a stream and in a REST body, without their braces."""
    trade = aggregate.trade
    return (
        f'"a":{trade.trade_id},"p":"{_price(product, trade.ticks)}","q":"{_size(product, trade.lots)}",'
        f'"f":{aggregate.first_id},"l":{aggregate.last_id},"T":{trade.event_time_us // 1000},'
        f'"m":{"true" if trade.maker_is_bid else "false"},"M":true'
    )


def agg_trade_event(product: Product, aggregate: AggregateTrade, *, time_us: int) -> str:
    """Write ``aggTrade``; ``time_us`` is when it is sent."""
    head = f'"e":"aggTrade","E":{time_us // 1000},"s":"{spelling(product)}"'
    return f"{{{head},{agg_trade_fields(product, aggregate)}}}"


def book_ticker_event(product: Product, book: OrderBook, *, update_id: int) -> str:
    """Write ``bookTicker``, which says neither its type nor a time."""
    bids, asks = book.bids, book.asks
    return (
        f'{{"u":{update_id},"s":"{spelling(product)}",'
        f'"b":"{_price(product, bids.best_ticks)}","B":"{_size(product, bids.lots_at[bids.best_ticks])}",'
        f'"a":"{_price(product, asks.best_ticks)}","A":"{_size(product, asks.lots_at[asks.best_ticks])}"}}'
    )


def _levels(product: Product, levels: Iterable[tuple[int, int]]) -> str:
    return ",".join(f'["{_price(product, ticks)}","{_size(product, lots)}"]' for ticks, lots in levels)


def depth_event(
    product: Product,
    *,
    first_id: int,
    last_id: int,
    bids: Iterable[tuple[int, int]],
    asks: Iterable[tuple[int, int]],
    time_us: int,
) -> str:
    """Write ``depthUpdate``: the new totals of all levels that changed; a size of zero removes the level."""
    return (
        f'{{"e":"depthUpdate","E":{time_us // 1000},"s":"{spelling(product)}","U":{first_id},"u":{last_id},'
        f'"b":[{_levels(product, bids)}],"a":[{_levels(product, asks)}]}}'
    )


def depth_snapshot(product: Product, book: OrderBook, *, update_id: int, limit: int) -> bytes:
    """Write the best levels of a book, with the id of the last update that is in them."""

    def best(side: BookSide) -> str:
        return _levels(product, (level for level, _ in zip(side.levels(), range(limit), strict=False)))

    return f'{{"lastUpdateId":{update_id},"bids":[{best(book.bids)}],"asks":[{best(book.asks)}]}}'.encode()
