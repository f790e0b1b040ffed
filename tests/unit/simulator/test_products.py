import pytest

from coinstream.errors import SettingsError
from coinstream.simulator.products import PRODUCTS, decimal_text, select_products


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [
        (8445105, 2, "84451.05"),
        (7421400, 2, "74214"),
        (74210, 3, "74.21"),
        (1, 8, "0.00000001"),
        (0, 8, "0"),
        (17, 0, "17"),
        (-4157755, 6, "-4.157755"),
    ],
)
def test_decimal_text_is_exact_plain_and_without_trailing_zeros(units: int, decimals: int, text: str) -> None:
    assert decimal_text(units, decimals) == text


def test_products_span_price_scales_and_reach_ticks_of_a_hundred_millionth() -> None:
    ticks = {product.symbol: decimal_text(1, product.price_decimals) for product in PRODUCTS}
    assert ticks["BTC-USD"] == "0.01"
    assert ticks["DOGE-USD"] == "0.00001"
    assert ticks["SHIB-USD"] == "0.00000001"


def test_products_are_selected_in_the_order_named() -> None:
    assert [product.symbol for product in select_products(("ETH-BTC", "BTC-USD"))] == ["ETH-BTC", "BTC-USD"]


@pytest.mark.parametrize("symbols", [("BTC-USD", "NOPE-USD"), ("BTC-USD", "BTC-USD"), ()])
def test_selection_that_cannot_be_traded_is_a_settings_error(symbols: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError, match=r"name each symbol once, out of BTC-USD, ETH-USD"):
        select_products(symbols)
