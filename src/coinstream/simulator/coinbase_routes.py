"""Coinbase's public product routes: a path in, a status and a JSON body out. Pure.

Source: https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/public
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus

import msgspec

from coinstream.simulator.market import InstrumentMarket
from coinstream.simulator.products import decimal_text
from coinstream.simulator.publisher import Reply
from coinstream.simulator.routes import count

__all__ = ["product_reply"]

_PATH = "/api/v3/brokerage/market/products"


def product_reply(
    path: str,
    query: Mapping[str, str],
    instruments: Mapping[str, InstrumentMarket],
    recent_trades: Callable[[str], list[str]],
) -> Reply | None:
    """Answer a GET.

    Args:
        path: Without its query.
        query: The last value of each name.
        instruments: By symbol.
        recent_trades: Returns a product's newest trades as JSON texts, newest first.

    Returns:
        None where it is none of these routes.
    """
    if path == _PATH:
        products = [_product_fields(instrument) for instrument in instruments.values()]
        body = {"products": products, "num_products": len(products), "pagination": None}
        return Reply(HTTPStatus.OK, msgspec.json.encode(body))
    if not path.startswith(_PATH + "/"):
        return None
    symbol, _, leaf = path.removeprefix(_PATH + "/").partition("/")
    instrument = instruments.get(symbol)
    if instrument is None or leaf not in ("", "ticker"):
        error = {"error": "NOT_FOUND", "error_details": "", "message": "product not found"}
        return Reply(HTTPStatus.NOT_FOUND, msgspec.json.encode(error))
    if not leaf:
        return Reply(HTTPStatus.OK, msgspec.json.encode(_product_fields(instrument)))
    product, book = instrument.product, instrument.book
    ticker = {
        "trades": [msgspec.Raw(text.encode()) for text in recent_trades(symbol)[: count(query, "limit", 100)]],
        "best_bid": product.price_text(book.bids.best_ticks),
        "best_ask": product.price_text(book.asks.best_ticks),
    }
    return Reply(HTTPStatus.OK, msgspec.json.encode(ticker))


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
