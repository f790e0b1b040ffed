"""CoinPaprika's tickers: every active asset in one response, without a key.

Source:
    https://docs.coinpaprika.com/api-reference/tickers/get-tickers-for-all-active-coins. The free plan
    renews them about every five minutes and has no ``circulating_supply``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from coinstream.adapters.assets import CANONICAL_IDS, attributes, digits, limit, price, rank, read_assets, text
from coinstream.errors import FieldError, RefusedError
from coinstream.messages import AssetSnapshot

SOURCE = "coinpaprika"
BASE_URL = "https://api.coinpaprika.com"

_READ = frozenset({"id", "name", "symbol", "rank", "max_supply", "quotes"})
_READ_OF_QUOTE = frozenset({"price", "volume_24h", "market_cap", "percent_change_24h"})


def url(base: str = BASE_URL) -> str:
    """Return the address to ask, below a base address."""
    return base.rstrip("/") + "/v1/tickers"


def assets(body: bytes, *, minute: int, received_time_us: int) -> list[AssetSnapshot | RefusedError]:
    """Read a response.

    ``[{"id":"btc-bitcoin","name":"Bitcoin","symbol":"BTC","rank":1,"total_supply":19883231,
    "max_supply":21000000,"quotes":{"USD":{"price":97345.21,"volume_24h":31250000000.5,
    "market_cap":1935537284653,"percent_change_24h":-1.07,…}},…}]``

    ``supply`` is the circulating one, or, where the plan does not tell it, the total.

    Args:
        body: The response's bytes; numbers are taken from their digits, never through a float.
        minute: The start of the minute it stands for, microseconds since 1970, UTC.
        received_time_us: When it came.

    Returns:
        A snapshot for each asset, or why it is refused, in the source's order.
    """
    return read_assets(body, partial(_asset, minute=minute, received_time_us=received_time_us))


def _asset(entry: dict[str, Any], *, minute: int, received_time_us: int) -> AssetSnapshot:
    quotes = entry.get("quotes")
    usd = quotes.get("USD") if isinstance(quotes, dict) else None
    if not isinstance(usd, dict):
        raise FieldError("price_usd", "is missing: the source sent no quotes.USD")
    asset_id = text(entry, "id")
    supply = "total_supply" if entry.get("circulating_supply") is None else "circulating_supply"
    more = attributes(entry, without=_READ | {supply})
    more["quote_usd"] = attributes(usd, without=_READ_OF_QUOTE)
    return AssetSnapshot(
        source=SOURCE,
        asset_id=asset_id,
        canonical_id=CANONICAL_IDS[SOURCE].get(asset_id),
        symbol=text(entry, "symbol", longest=64),
        name=text(entry, "name"),
        rank=rank(entry, "rank"),
        price_usd=price(usd.get("price"), "price_usd"),
        market_cap_usd=digits(usd.get("market_cap"), "market_cap_usd"),
        volume_usd_24h=digits(usd.get("volume_24h"), "volume_usd_24h"),
        supply=digits(entry.get(supply), "supply"),
        max_supply=limit(entry.get("max_supply"), "max_supply"),
        change_percent_24h=digits(usd.get("percent_change_24h"), "change_percent_24h"),
        attributes=more,
        minute=minute,
        received_time_us=received_time_us,
    )
