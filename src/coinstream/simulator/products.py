"""The instruments of the simulated exchange: very different price scales and tick sizes, all in integers."""

from dataclasses import dataclass

from coinstream.errors import SettingsError

__all__ = ["BINANCE_PRODUCTS", "PRODUCTS", "Product", "decimal_text", "select_products"]


def decimal_text(units: int, decimals: int) -> str:
    """Write ``units * 10**-decimals`` in plain notation, without trailing zeros (as the venue does).

    >>> decimal_text(8445105, 2), decimal_text(7421400, 2), decimal_text(-5, 3), decimal_text(17, 0)
    ('84451.05', '74214', '-0.005', '17')
    """
    if units < 0:
        return "-" + decimal_text(-units, decimals)
    if decimals == 0:
        return str(units)
    digits = str(units).rjust(decimals + 1, "0")
    fraction = digits[-decimals:].rstrip("0")
    return f"{digits[:-decimals]}.{fraction}" if fraction else digits[:-decimals]


@dataclass(frozen=True, slots=True)
class Product:
    """One instrument and how its simulated market behaves.

    A price is a number of ticks of ``10**-price_decimals`` quote currency, a size a number of lots of
    ``10**-size_decimals`` base currency.

    Attributes:
        symbol: ``BASE-QUOTE`` (``BTC-USD``); each protocol spells it the venue's way.
        reference_ticks: The price around which the market wanders, in ticks.
        spacing_ticks: Typical distance between two levels near the touch, in ticks.
        typical_lots: A large order, in lots; most are a fraction of it.
        activity: Weight when the next event's instrument is drawn.
        quote_minimum: Smallest order value, in quote currency, in the venue's digits.
    """

    symbol: str
    price_decimals: int
    size_decimals: int
    reference_ticks: int
    spacing_ticks: int
    typical_lots: int
    activity: int
    quote_minimum: str = "1"

    @property
    def base(self) -> str:
        """The currency bought and sold (``BTC``)."""
        return self.symbol.partition("-")[0]

    @property
    def quote(self) -> str:
        """The currency prices are in (``USD``)."""
        return self.symbol.partition("-")[2]

    def price_text(self, ticks: int) -> str:
        """Write a price in the venue's digits, quote currency per unit of base."""
        return decimal_text(ticks, self.price_decimals)

    def size_text(self, lots: int) -> str:
        """Write a size in the venue's digits, in base currency."""
        return decimal_text(lots, self.size_decimals)


PRODUCTS: tuple[Product, ...] = (
    Product("BTC-USD", 2, 8, 9_734_521, 60, 150_000_000, 16),
    Product("ETH-USD", 2, 8, 356_218, 6, 2_500_000_000, 12),
    Product("SOL-USD", 2, 8, 18_745, 1, 40_000_000_000, 8),
    Product("XRP-USD", 4, 6, 23_418, 1, 20_000_000_000, 6),
    Product("DOGE-USD", 5, 1, 31_427, 2, 800_000, 6),
    Product("LTC-USD", 2, 8, 11_236, 1, 15_000_000_000, 3),
    Product("ADA-USD", 4, 8, 9_127, 1, 3_000_000_000_000, 4),
    Product("ETH-BTC", 5, 8, 3_659, 1, 1_200_000_000, 3, "0.000016"),
    Product("LTC-BTC", 6, 8, 1_154, 1, 8_000_000_000, 2, "0.000016"),
    Product("SHIB-USD", 8, 0, 2_347, 1, 900_000_000, 4),
)

"""What the simulated Coinbase lists."""

BINANCE_PRODUCTS: tuple[Product, ...] = (
    Product("BTC-USDT", 2, 5, 9_734_521, 60, 150_000, 16, "5.00000000"),
    Product("ETH-USDT", 2, 4, 356_218, 6, 250_000, 12, "5.00000000"),
    Product("SOL-USDT", 2, 3, 18_745, 1, 400_000, 8, "5.00000000"),
    Product("XRP-USDT", 4, 1, 23_418, 1, 200_000, 6, "5.00000000"),
    Product("DOGE-USDT", 5, 0, 31_427, 2, 80_000, 6, "1.00000000"),
    Product("LTC-USDT", 2, 3, 11_236, 1, 150_000, 3, "5.00000000"),
    Product("ADA-USDT", 4, 1, 9_127, 1, 300_000, 4, "5.00000000"),
    Product("ETH-BTC", 5, 4, 3_659, 1, 120_000, 3, "0.00010000"),
    Product("LTC-BTC", 6, 3, 1_154, 1, 80_000, 2, "0.00010000"),
    Product("SHIB-USDT", 8, 0, 2_347, 1, 900_000_000, 4, "1.00000000"),
)
"""What the simulated Binance lists; the dollar it trades against is USDT, and its lots are coarser."""


def select_products(symbols: tuple[str, ...] | None, products: tuple[Product, ...] = PRODUCTS) -> tuple[Product, ...]:
    """Return the named ones of a venue's products in the order named, or all of them for ``None``.

    Raises:
        SettingsError: A symbol is not simulated, is named twice, or none is named.
    """
    if symbols is None:
        return products
    known = {product.symbol: product for product in products}
    allowed = f"name each symbol once, out of {', '.join(known)}"
    for symbol in symbols:
        if symbol not in known:
            raise SettingsError("symbols", symbol, allowed)
    if not symbols or len(set(symbols)) < len(symbols):
        raise SettingsError("symbols", ",".join(symbols), allowed)
    return tuple(known[symbol] for symbol in symbols)
