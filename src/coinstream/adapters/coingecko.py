"""CoinGecko's markets: the 250 largest assets in one response, without a key.

Source:
    https://docs.coingecko.com/reference/coins-markets. Its symbols are lower case, ours upper; small
    numbers come with an exponent, and any number may be null.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from coinstream.adapters.assets import CANONICAL_IDS, attributes, digits, limit, price, rank, read_assets, text
from coinstream.errors import RefusedError
from coinstream.messages import AssetSnapshot

SOURCE = "coingecko"
BASE_URL = "https://api.coingecko.com"

_READ = frozenset(
    {
        "id",
        "name",
        "symbol",
        "current_price",
        "market_cap",
        "market_cap_rank",
        "total_volume",
        "circulating_supply",
        "max_supply",
        "price_change_percentage_24h",
    }
)


def url(base: str = BASE_URL) -> str:
    """Return the address to ask, below a base address."""
    return base.rstrip("/") + "/api/v3/coins/markets?vs_currency=usd&order=market_cap_desc&per_page=250&page=1"


def assets(body: bytes, *, minute: int, received_time_us: int) -> list[AssetSnapshot | RefusedError]:
    """Read a response.

    ``[{"id":"bitcoin","symbol":"btc","name":"Bitcoin","current_price":97345.21,"market_cap":1935537284653,
    "market_cap_rank":1,"total_volume":31250000000,"price_change_percentage_24h":-1.07351,
    "circulating_supply":19883231.0,"total_supply":19883231.0,"max_supply":21000000.0,…}]``

    Args:
        body: The response's bytes; numbers are taken from their digits, never through a float.
        minute: The start of the minute it stands for, microseconds since 1970, UTC.
        received_time_us: When it came.

    Returns:
        A snapshot for each asset, or why it is refused, in the source's order.
    """
    return read_assets(body, partial(_asset, minute=minute, received_time_us=received_time_us))


def _asset(entry: dict[str, Any], *, minute: int, received_time_us: int) -> AssetSnapshot:
    asset_id = text(entry, "id")
    return AssetSnapshot(
        source=SOURCE,
        asset_id=asset_id,
        canonical_id=CANONICAL_IDS[SOURCE].get(asset_id),
        symbol=text(entry, "symbol", longest=64).upper(),
        name=text(entry, "name"),
        rank=rank(entry, "market_cap_rank"),
        price_usd=price(entry.get("current_price"), "price_usd"),
        market_cap_usd=digits(entry.get("market_cap"), "market_cap_usd"),
        volume_usd_24h=digits(entry.get("total_volume"), "volume_usd_24h"),
        supply=digits(entry.get("circulating_supply"), "supply"),
        max_supply=limit(entry.get("max_supply"), "max_supply"),
        change_percent_24h=digits(entry.get("price_change_percentage_24h"), "change_percent_24h"),
        attributes=attributes(entry, without=_READ),
        minute=minute,
        received_time_us=received_time_us,
    )
