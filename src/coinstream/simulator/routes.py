"""The REST routes of the simulated sources: a path in, a status and a JSON body out. Pure.

Coinbase's public product routes (https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/public),
CoinPaprika's tickers and CoinGecko's markets, all of the same moving market.
"""

from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from coinstream.simulator import assets
from coinstream.simulator.market import InstrumentMarket
from coinstream.simulator.products import decimal_text
from coinstream.simulator.publisher import Publisher

__all__ = ["Reply", "reply_to"]

_PRODUCTS_PATH = "/api/v3/brokerage/market/products"
_MOST_PER_PAGE = 250


class Reply(NamedTuple):
    """An HTTP answer; the body is JSON."""

    status: HTTPStatus
    body: bytes


def reply_to(target: str, publisher: Publisher) -> Reply:
    """Answer a GET.

    Args:
        target: The path, with its query if there is one.
        publisher: Whose market to show.
    """
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    path = unquote(parts.path).rstrip("/")
    if path == "/v1/tickers":
        instruments = publisher.market.instruments
        return Reply(HTTPStatus.OK, assets.coinpaprika_tickers(instruments, time_us=publisher.time_us))
    if path == "/api/v3/coins/markets":
        return _coingecko(query, publisher)
    if path == _PRODUCTS_PATH:
        return _products(publisher)
    if path.startswith(_PRODUCTS_PATH + "/"):
        return _product(path.removeprefix(_PRODUCTS_PATH + "/"), query, publisher)
    return _error(HTTPStatus.NOT_FOUND, {"error": "NOT_FOUND", "message": f"no route {path}"})


def _error(status: HTTPStatus, body: object) -> Reply:
    return Reply(status, msgspec.json.encode(body))


def _coingecko(query: dict[str, str], publisher: Publisher) -> Reply:
    if "vs_currency" not in query:
        return _error(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "Missing parameter vs_currency"})
    if query["vs_currency"].lower() != "usd":
        return _error(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": "invalid vs_currency"})
    page, per_page = _count(query, "page", 1), min(_count(query, "per_page", 100), _MOST_PER_PAGE)
    instruments = publisher.market.instruments
    body = assets.coingecko_markets(instruments, time_us=publisher.time_us, page=page, per_page=per_page)
    return Reply(HTTPStatus.OK, body)


def _count(query: dict[str, str], name: str, default: int) -> int:
    # As the sources do: what is no positive number is as good as absent.
    text = query.get(name, "")
    return max(int(text), 1) if text.isascii() and text.isdigit() and len(text) < 10 else default


def _products(publisher: Publisher) -> Reply:
    products = [_product_fields(instrument) for instrument in publisher.market.instruments.values()]
    body = {"products": products, "num_products": len(products), "pagination": None}
    return Reply(HTTPStatus.OK, msgspec.json.encode(body))


def _product(rest: str, query: dict[str, str], publisher: Publisher) -> Reply:
    symbol, _, leaf = rest.partition("/")
    instrument = publisher.market.instruments.get(symbol)
    if instrument is None or leaf not in ("", "ticker"):
        return _error(HTTPStatus.NOT_FOUND, {"error": "NOT_FOUND", "error_details": "", "message": "product not found"})
    if not leaf:
        return Reply(HTTPStatus.OK, msgspec.json.encode(_product_fields(instrument)))
    product, book = instrument.product, instrument.book
    body = {
        "trades": [
            msgspec.Raw(text.encode()) for text in publisher.recent_trades(symbol)[: _count(query, "limit", 100)]
        ],
        "best_bid": product.price_text(book.bids.best_ticks),
        "best_ask": product.price_text(book.asks.best_ticks),
    }
    return Reply(HTTPStatus.OK, msgspec.json.encode(body))


def _product_fields(instrument: InstrumentMarket) -> dict[str, object]:
    product, book = instrument.product, instrument.book
    tick, lot = decimal_text(1, product.price_decimals), decimal_text(1, product.size_decimals)
    change = (instrument.last_ticks - instrument.open_ticks) * 10**14 // instrument.open_ticks
    return {
        "product_id": product.symbol,
        "price": product.price_text(instrument.last_ticks),
        "price_percentage_change_24h": decimal_text(change, 12),
        "volume_24h": product.size_text(product.typical_lots * 20_000 + instrument.traded_lots),
        "volume_percentage_change_24h": "0",
        "base_increment": lot,
        "quote_increment": tick,
        "quote_min_size": product.quote_minimum,
        "quote_max_size": "150000000",
        "base_min_size": lot,
        "base_max_size": product.size_text(product.typical_lots * 2000),
        "base_name": product.base,
        "quote_name": product.quote,
        "watched": False,
        "is_disabled": False,
        "new": False,
        "status": "online",
        "cancel_only": False,
        "limit_only": False,
        "post_only": False,
        "trading_disabled": False,
        "auction_mode": False,
        "product_type": "SPOT",
        "quote_currency_id": product.quote,
        "base_currency_id": product.base,
        "fcm_trading_session_details": None,
        "mid_market_price": "",
        "alias": "",
        "alias_to": [],
        "base_display_symbol": product.base,
        "quote_display_symbol": product.quote,
        "view_only": False,
        "price_increment": tick,
        "display_name": product.symbol,
        "product_venue": "CBE",
        "best_bid_price": product.price_text(book.bids.best_ticks),
        "best_ask_price": product.price_text(book.asks.best_ticks),
    }
