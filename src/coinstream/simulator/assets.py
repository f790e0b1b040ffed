"""The assets that the simulated CoinPaprika and CoinGecko know: ranks, supplies and prices, all exact.

Prices are integers of 10**-12 US dollar. An asset with a simulated USD (or USDT) market has that market's last price;
the others rise and fall with bitcoin, stablecoins excepted. No price passes through a float: both sources send JSON
numbers, and their digits are written here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from coinstream.simulator.coinbase_advanced import time_text
from coinstream.simulator.market import InstrumentMarket
from coinstream.simulator.products import decimal_text

__all__ = ["ASSETS", "Asset", "coingecko_markets", "coinpaprika_tickers", "price_units"]

_DECIMALS = 12
_UNIT = 10**_DECIMALS


@dataclass(frozen=True, slots=True)
class Asset:
    """One currency, with the id that each source gives it.

    Attributes:
        reference_units: Price at the start, in 10**-12 US dollar.
        volume_usd: Value traded in a day, in whole US dollars.
        supply: Circulating, in whole coins.
        max_supply: The most there can ever be, in whole coins; None where there is no limit.
        is_stable: Keeps its price, whatever bitcoin does.
    """

    symbol: str
    name: str
    paprika_id: str
    gecko_id: str
    reference_units: int
    volume_usd: int
    supply: int
    max_supply: int | None
    is_stable: bool = False


def _usd(text: str) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(_DECIMALS, "0"))


# Largest first at the reference prices; ranks are counted anew from each moment's market caps.
ASSETS: tuple[Asset, ...] = (
    Asset("BTC", "Bitcoin", "btc-bitcoin", "bitcoin", _usd("97345.21"), 31_250_000_000, 19_883_231, 21_000_000),
    Asset("ETH", "Ethereum", "eth-ethereum", "ethereum", _usd("3562.18"), 18_400_000_000, 120_684_478, None),
    Asset(
        "USDT", "Tether", "usdt-tether", "tether", _usd("1.0001"), 61_000_000_000, 156_402_117_530, None, is_stable=True
    ),
    Asset("XRP", "XRP", "xrp-xrp", "ripple", _usd("2.3418"), 3_900_000_000, 58_939_112_430, 100_000_000_000),
    Asset("BNB", "BNB", "bnb-binance-coin", "binancecoin", _usd("645.37"), 1_720_000_000, 140_886_442, 200_000_000),
    Asset("SOL", "Solana", "sol-solana", "solana", _usd("187.45"), 4_150_000_000, 530_880_217, None),
    Asset("USDC", "USDC", "usdc-usdc", "usd-coin", _usd("0.9999"), 8_900_000_000, 61_310_448_902, None, is_stable=True),
    Asset("DOGE", "Dogecoin", "doge-dogecoin", "dogecoin", _usd("0.31427"), 1_600_000_000, 149_631_266_383, None),
    Asset("ADA", "Cardano", "ada-cardano", "cardano", _usd("0.9127"), 980_000_000, 35_395_870_143, 45_000_000_000),
    Asset("TRX", "TRON", "trx-tron", "tron", _usd("0.273841"), 610_000_000, 94_851_276_559, None),
    Asset(
        "SHIB", "Shiba Inu", "shib-shiba-inu", "shiba-inu", _usd("0.00002347"), 215_000_000, 589_247_809_148_003, None
    ),
    Asset("LINK", "Chainlink", "link-chainlink", "chainlink", _usd("17.92"), 520_000_000, 678_099_970, 1_000_000_000),
    Asset("AVAX", "Avalanche", "avax-avalanche", "avalanche-2", _usd("27.615"), 340_000_000, 422_276_596, 720_000_000),
    Asset("XLM", "Stellar", "xlm-stellar", "stellar", _usd("0.34186"), 190_000_000, 31_069_430_118, 50_001_806_812),
    Asset("LTC", "Litecoin", "ltc-litecoin", "litecoin", _usd("112.36"), 460_000_000, 76_022_931, 84_000_000),
    Asset("DOT", "Polkadot", "dot-polkadot", "polkadot", _usd("5.214"), 175_000_000, 1_521_269_744, None),
    Asset(
        "BCH", "Bitcoin Cash", "bch-bitcoin-cash", "bitcoin-cash", _usd("398.74"), 280_000_000, 19_885_000, 21_000_000
    ),
    Asset("UNI", "Uniswap", "uni-uniswap", "uniswap", _usd("8.4137"), 240_000_000, 628_740_337, 1_000_000_000),
    Asset(
        "PEPE",
        "Pepe",
        "pepe-pepe",
        "pepe",
        _usd("0.00000981204"),
        610_000_000,
        420_690_000_000_000,
        420_690_000_000_000,
    ),
    Asset("AAVE", "Aave", "aave-new", "aave", _usd("242.19"), 310_000_000, 15_164_000, 16_000_000),
    Asset(
        "ETC",
        "Ethereum Classic",
        "etc-ethereum-classic",
        "ethereum-classic",
        _usd("20.83"),
        98_000_000,
        152_409_112,
        210_700_000,
    ),
    Asset("ATOM", "Cosmos", "atom-cosmos", "cosmos", _usd("5.087"), 120_000_000, 390_934_204, None),
    Asset("ALGO", "Algorand", "algo-algorand", "algorand", _usd("0.21946"), 72_000_000, 8_611_820_554, 10_000_000_000),
    Asset("FIL", "Filecoin", "fil-filecoin", "filecoin", _usd("3.172"), 140_000_000, 665_002_918, 1_958_509_697),
    Asset("XTZ", "Tezos", "xtz-tezos", "tezos", _usd("0.7481"), 31_000_000, 1_042_116_209, None),
)


def price_units(asset: Asset, instruments: Mapping[str, InstrumentMarket]) -> int:
    """Return the asset's price now, in 10**-12 US dollar."""
    own = instruments.get(f"{asset.symbol}-USD") or instruments.get(f"{asset.symbol}-USDT")
    if own is not None:
        scale: int = 10 ** (_DECIMALS - own.product.price_decimals)
        return own.last_ticks * scale
    bitcoin = instruments.get("BTC-USD") or instruments.get("BTC-USDT")
    if asset.is_stable or bitcoin is None:
        return asset.reference_units
    return asset.reference_units * bitcoin.last_ticks // bitcoin.open_ticks


def _number(units: int, decimals: int) -> msgspec.Raw:
    """Make a JSON number of exactly these digits."""
    return msgspec.Raw(decimal_text(units, decimals).encode())


def _short_number(units: int, decimals: int) -> msgspec.Raw:
    """Make a JSON number as CoinGecko does: numbers below 10**-4 have an exponent (``2.347e-05``).

    >>> _short_number(23470000, 12), _short_number(97345210000000000, 12)
    (Raw(b'2.347e-05'), Raw(b'97345.21'))
    """
    if not 0 < units < 10 ** (decimals - 4):
        return _number(units, decimals)
    digits = str(units)
    fraction = digits[1:].rstrip("0")
    exponent = decimals - len(digits) + 1
    return msgspec.Raw(f"{digits[0]}{'.' if fraction else ''}{fraction}e-{exponent:02d}".encode())


def _percent(now: int, before: int, decimals: int) -> msgspec.Raw:
    return _number((now - before) * 10 ** (decimals + 2) // before, decimals)


def _ranked(instruments: Mapping[str, InstrumentMarket]) -> list[tuple[int, Asset, int]]:
    prices = [(asset, price_units(asset, instruments)) for asset in ASSETS]
    prices.sort(key=lambda pair: pair[0].supply * pair[1], reverse=True)
    return [(rank, asset, price) for rank, (asset, price) in enumerate(prices, start=1)]


def coinpaprika_tickers(instruments: Mapping[str, InstrumentMarket], *, time_us: int) -> bytes:
    """Write CoinPaprika's ``GET /v1/tickers``: a JSON list, largest market cap first.

    Shape after https://docs.coinpaprika.com/api-reference/tickers/get-tickers-for-all-active-coins. Numbers are JSON
    numbers; ``max_supply`` is 0 where there is no limit, as the source sends it.
    """
    now = time_text(time_us // 1_000_000 * 1_000_000_000)
    tickers = []
    for rank, asset, price in _ranked(instruments):
        change = _percent(price, asset.reference_units, 2)
        quote = {
            "price": _number(price, _DECIMALS),
            "volume_24h": _number(asset.volume_usd * 10**6 + price % 10**6, 6),
            "volume_24h_change_24h": _number(-4415 + 137 * rank, 2),
            "market_cap": price * asset.supply // _UNIT,
            "market_cap_change_24h": change,
            **{
                f"percent_change_{span}": change for span in ("15m", "30m", "1h", "6h", "12h", "24h", "7d", "30d", "1y")
            },
            "ath_price": _number(asset.reference_units * 5 // 4, _DECIMALS),
            "ath_date": "2025-05-22T19:08:33Z",
            "percent_from_price_ath": _percent(price, asset.reference_units * 5 // 4, 2),
        }
        tickers.append(
            {
                "id": asset.paprika_id,
                "name": asset.name,
                "symbol": asset.symbol,
                "rank": rank,
                "total_supply": asset.supply,
                "max_supply": asset.max_supply or 0,
                "beta_value": _number(879_448 + 11_903 * rank, 6),
                "first_data_at": "2010-07-17T00:00:00Z",
                "last_updated": now,
                "quotes": {"USD": quote},
            }
        )
    return msgspec.json.encode(tickers)


def coingecko_markets(
    instruments: Mapping[str, InstrumentMarket], *, time_us: int, page: int = 1, per_page: int = 100
) -> bytes:
    """Write CoinGecko's ``GET /api/v3/coins/markets``: a JSON list, largest market cap first, one page of it.

    Shape after https://docs.coingecko.com/reference/coins-markets. Numbers are JSON numbers, small ones with an
    exponent and supplies with a ``.0``, as the source sends them; ``max_supply`` is null where there is no limit.
    """
    now = time_text(time_us // 1000 * 1_000_000)
    first = (page - 1) * per_page
    return msgspec.json.encode(
        [
            _gecko_market(rank, asset, price, now)
            for rank, asset, price in _ranked(instruments)[first : first + per_page]
        ]
    )


def _gecko_market(rank: int, asset: Asset, price: int, now: str) -> dict[str, object]:
    reference, highest, lowest = asset.reference_units, asset.reference_units * 5 // 4, asset.reference_units // 1000
    market_cap = price * asset.supply // _UNIT
    supply = _gecko_supply(asset.supply)
    return {
        "id": asset.gecko_id,
        "symbol": asset.symbol.lower(),
        "name": asset.name,
        "image": f"https://coin-images.coingecko.com/coins/images/{rank}/large/{asset.gecko_id}.png",
        "current_price": _short_number(price, _DECIMALS),
        "market_cap": market_cap,
        "market_cap_rank": rank,
        "fully_diluted_valuation": price * (asset.max_supply or asset.supply) // _UNIT,
        "total_volume": asset.volume_usd,
        "high_24h": _short_number(max(price, reference), _DECIMALS),
        "low_24h": _short_number(min(price, reference), _DECIMALS),
        "price_change_24h": _short_number(price - reference, _DECIMALS),
        "price_change_percentage_24h": _percent(price, reference, 5),
        "market_cap_change_24h": market_cap - reference * asset.supply // _UNIT,
        "market_cap_change_percentage_24h": _percent(price, reference, 5),
        "circulating_supply": supply,
        "total_supply": supply,
        "max_supply": None if asset.max_supply is None else _gecko_supply(asset.max_supply),
        "ath": _short_number(highest, _DECIMALS),
        "ath_change_percentage": _percent(price, highest, 5),
        "ath_date": "2025-05-22T18:41:28.492Z",
        "atl": _short_number(lowest, _DECIMALS),
        "atl_change_percentage": _percent(price, lowest, 5),
        "atl_date": "2015-10-20T00:00:00.000Z",
        "roi": None,
        "last_updated": now,
    }


def _gecko_supply(coins: int) -> msgspec.Raw:
    return msgspec.Raw(f"{coins}.0".encode())
