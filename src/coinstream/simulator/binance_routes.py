"""Binance's public market routes: a path in, a status and a JSON body out. Pure.

Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints, there also
"General endpoints", and its list of error codes.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any

import msgspec

from coinstream.simulator import binance as venue
from coinstream.simulator.binance_instrument import BinanceInstrument
from coinstream.simulator.products import Product
from coinstream.simulator.publisher import Reply

__all__ = ["spot_reply"]

_MOST_LEVELS, _MOST_AGGREGATES = 5000, 1000
_LIMITS = (
    ("REQUEST_WEIGHT", "MINUTE", 1, 6000),
    ("ORDERS", "SECOND", 10, 100),
    ("ORDERS", "DAY", 1, 200_000),
    ("RAW_REQUESTS", "MINUTE", 5, 61_000),
)


class _BadQueryError(Exception):
    """A request that the venue answers with an error: its code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(HTTPStatus.BAD_REQUEST, msgspec.json.encode({"code": code, "msg": text}))


def spot_reply(
    path: str, query: Mapping[str, str], instruments: Mapping[str, BinanceInstrument], *, time_us: int
) -> Reply | None:
    """Answer a GET.

    Args:
        path: Without its query.
        query: The last value of each name.
        instruments: By the venue's spelling.
        time_us: Now.

    Returns:
        None where it is none of these routes.
    """
    now_ms = time_us // 1000
    try:
        if path == "/api/v3/exchangeInfo":
            body = _exchange_info(query, instruments, now_ms)
        elif path == "/api/v3/depth":
            body = _depth(query, instruments)
        elif path == "/api/v3/aggTrades":
            body = _agg_trades(query, instruments)
        elif path == "/api/v3/time":
            body = msgspec.json.encode({"serverTime": now_ms})
        elif path == "/api/v3/ping":
            body = b"{}"
        else:
            return None
    except _BadQueryError as error:
        return error.reply
    return Reply(HTTPStatus.OK, body)


def _instrument(query: Mapping[str, str], known: Mapping[str, BinanceInstrument]) -> BinanceInstrument:
    symbol = query.get("symbol", "")
    if not symbol:
        raise _BadQueryError(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
    instrument = known.get(symbol)
    if instrument is None:
        raise _BadQueryError(-1121, "Invalid symbol.")
    return instrument


def _number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _BadQueryError(-1100, f"Illegal characters found in parameter '{name}'.")
    return int(text)


def _limit(query: Mapping[str, str], default: int, most: int) -> int:
    limit = _number(query, "limit")
    if limit == 0:
        raise _BadQueryError(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(default if limit is None else limit, most)


def _depth(query: Mapping[str, str], known: Mapping[str, BinanceInstrument]) -> bytes:
    found = _instrument(query, known)
    limit = _limit(query, 100, _MOST_LEVELS)
    market = found.instrument
    return venue.depth_snapshot(market.product, market.book, update_id=found.update_id, limit=limit)


def _agg_trades(query: Mapping[str, str], known: Mapping[str, BinanceInstrument]) -> bytes:
    found = _instrument(query, known)
    limit = _limit(query, 500, _MOST_AGGREGATES)
    from_id, start_ms, end_ms = (_number(query, name) for name in ("fromId", "startTime", "endTime"))
    aggregates = found.aggregates
    chosen: Sequence[venue.AggregateTrade]
    if from_id is not None:
        # ids have no holes, so that the place of one follows from the first
        first = max(from_id - aggregates[0].trade.trade_id, 0) if aggregates else 0
        chosen = list(islice(aggregates, first, first + limit))
    elif start_ms is not None or end_ms is not None:
        within = list(aggregates)
        start = bisect_left(within, start_ms or 0, key=_time_ms)
        end = len(within) if end_ms is None else bisect_left(within, end_ms + 1, key=_time_ms)
        chosen = within[start:end][:limit]
    else:
        chosen = list(islice(aggregates, max(len(aggregates) - limit, 0), None))
    product = found.instrument.product
    return f"[{','.join(f'{{{venue.agg_trade_fields(product, aggregate)}}}' for aggregate in chosen)}]".encode()


def _time_ms(aggregate: venue.AggregateTrade) -> int:
    return aggregate.trade.event_time_us // 1000


def _exchange_info(query: Mapping[str, str], known: Mapping[str, BinanceInstrument], now_ms: int) -> bytes:
    wanted = list(known)
    if "symbol" in query:
        wanted = [query["symbol"]]
    elif "symbols" in query:
        try:
            wanted = msgspec.json.decode(query["symbols"].encode(), type=list[str])
        except msgspec.DecodeError:
            raise _BadQueryError(-1100, "Illegal characters found in parameter 'symbols'.") from None
    if not all(symbol in known for symbol in wanted):
        raise _BadQueryError(-1121, "Invalid symbol.")
    return msgspec.json.encode(
        {
            "timezone": "UTC",
            "serverTime": now_ms,
            "rateLimits": [
                {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}
                for kind, interval, number, limit in _LIMITS
            ],
            "exchangeFilters": [],
            "symbols": [_symbol_fields(known[symbol].instrument.product) for symbol in wanted],
        }
    )


def _symbol_fields(product: Product) -> dict[str, Any]:
    tick, lot = venue.fixed_text(1, product.price_decimals), venue.fixed_text(1, product.size_decimals)
    return {
        "symbol": venue.spelling(product),
        "status": "TRADING",
        "baseAsset": product.base,
        "baseAssetPrecision": 8,
        "quoteAsset": product.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": tick,
                "maxPrice": venue.fixed_text(product.reference_ticks * 10, product.price_decimals),
                "tickSize": tick,
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": lot,
                "maxQty": venue.fixed_text(product.typical_lots * 2000, product.size_decimals),
                "stepSize": lot,
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": product.quote_minimum,
                "applyMinToMarket": True,
                "maxNotional": "9000000.00000000",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }
