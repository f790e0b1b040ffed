"""Both asset sources: every field, exact numbers, and bad assets among good ones."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import msgspec
import pytest

from coinstream.adapters import coingecko, coinpaprika
from coinstream.adapters.assets import CANONICAL_IDS
from coinstream.errors import FieldError, RefusedError
from coinstream.messages import AssetSnapshot, decode, encode

MINUTE = 1767323040000000
RECEIVED = 1767323045000000

PAPRIKA = b"""[{"id":"btc-bitcoin","name":"Bitcoin","symbol":"BTC","rank":1,"total_supply":19883231,
"max_supply":21000000,"beta_value":0.879448,"first_data_at":"2010-07-17T00:00:00Z","last_updated":null,"quotes":{"USD":{
"price":97345.210000000001,"volume_24h":31250000000.5,"volume_24h_change_24h":-44.15,"market_cap":1935537284653,
"percent_change_24h":-1.07,"ath_date":null,"ath_price":1.2e5}}}]"""

GECKO = b"""[{"id":"ripple","symbol":"xrp","name":"XRP","image":"https://example.org/x.png","current_price":2.3418,
"market_cap":138023413427.5,"market_cap_rank":4,"total_volume":3900000000,"high_24h":2.4,
"price_change_percentage_24h":-0.15321,"circulating_supply":58939112430.0,"total_supply":99985734130,
"max_supply":100000000000,"atl":0.00268621,"roi":null,"last_updated":"2026-01-02T03:03:58.123Z"}]"""


def read(source: ModuleType, body: bytes) -> list[Any]:
    results: list[Any] = source.assets(body, minute=MINUTE, received_time_us=RECEIVED)
    return results


def gecko(**changes: Any) -> bytes:
    fields = {"id": "bitcoin", "symbol": "btc", "name": "Bitcoin", "current_price": msgspec.Raw(b"1.5")} | changes
    return msgspec.json.encode([{key: value for key, value in fields.items() if value is not ...}])


def test_coinpaprika_ticker_in_every_field() -> None:
    assert read(coinpaprika, PAPRIKA) == [
        AssetSnapshot(
            source="coinpaprika",
            asset_id="btc-bitcoin",
            canonical_id="bitcoin",
            symbol="BTC",
            name="Bitcoin",
            rank=1,
            price_usd="97345.210000000001",
            market_cap_usd="1935537284653",
            volume_usd_24h="31250000000.5",
            supply="19883231",
            max_supply="21000000",
            change_percent_24h="-1.07",
            attributes={
                "beta_value": "0.879448",
                "first_data_at": "2010-07-17T00:00:00Z",
                "quote_usd": {"volume_24h_change_24h": "-44.15", "ath_price": "1.2e5"},
            },
            minute=MINUTE,
            received_time_us=RECEIVED,
        )
    ]


def test_coingecko_market_in_every_field() -> None:
    assert read(coingecko, GECKO) == [
        AssetSnapshot(
            source="coingecko",
            asset_id="ripple",
            canonical_id="xrp",
            symbol="XRP",
            name="XRP",
            rank=4,
            price_usd="2.3418",
            market_cap_usd="138023413427.5",
            volume_usd_24h="3900000000",
            supply="58939112430.0",
            max_supply="100000000000",
            change_percent_24h="-0.15321",
            attributes={
                "image": "https://example.org/x.png",
                "high_24h": "2.4",
                "total_supply": 99985734130,
                "atl": "0.00268621",
                "last_updated": "2026-01-02T03:03:58.123Z",
            },
            minute=MINUTE,
            received_time_us=RECEIVED,
        )
    ]


@pytest.mark.parametrize("body", [PAPRIKA, GECKO])
def test_snapshot_passes_through_its_own_encoding(body: bytes) -> None:
    (snapshot,) = read(coinpaprika if body is PAPRIKA else coingecko, body)
    assert decode(AssetSnapshot, encode(snapshot)) == snapshot


@pytest.mark.parametrize(
    ("number", "digits"),
    [
        (b"1e-18", "0.000000000000000001"),
        (b"2.347e-05", "0.00002347"),
        (b"999999999999.000000000000000001", "999999999999.000000000000000001"),
        (b"123456789012", "123456789012"),
        (b"1.5E+3", "1500"),
        (b"0.12345678901234567890123", "0.123456789012345678"),  # cut, not rounded
        (b"0.0", "0.0"),
        (b"0", "0"),
    ],
)
def test_price_keeps_its_digits_up_to_the_eighteenth_decimal(number: bytes, digits: str) -> None:
    (snapshot,) = read(coingecko, gecko(current_price=msgspec.Raw(number)))
    assert snapshot.price_usd == digits


def test_tiny_change_is_cut_to_zero_and_a_tiny_price_is_refused() -> None:
    (snapshot,) = read(coingecko, gecko(price_change_percentage_24h=msgspec.Raw(b"-3.3e-22")))
    assert snapshot.change_percent_24h == "-0.000000000000000000"
    (error,) = read(coingecko, gecko(current_price=msgspec.Raw(b"1e-19")))
    assert (error.field, error.reason) == ("[0].price_usd", "must be 0, or 1e-18 at least")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"current_price": None}, "price_usd"),
        ({"current_price": ...}, "price_usd"),
        ({"current_price": "NaN"}, "price_usd"),
        ({"current_price": msgspec.Raw(b"-1")}, "price_usd"),
        ({"current_price": msgspec.Raw(b"1e400")}, "price_usd"),
        ({"current_price": msgspec.Raw(b"1e16")}, "price_usd"),
        ({"current_price": True}, "price_usd"),
        ({"market_cap": msgspec.Raw(b"-0.5")}, "market_cap_usd"),
        ({"market_cap_rank": msgspec.Raw(b"1.5")}, "market_cap_rank"),
        ({"id": ...}, "id"),
        ({"id": 7}, "id"),
        ({"symbol": ""}, "symbol"),
        ({"name": "x" * 257}, "name"),
    ],
)
def test_bad_field_is_refused_by_name_and_its_neighbours_are_not(changes: dict[str, Any], field: str) -> None:
    body = gecko()[:-1] + b"," + gecko(**changes)[1:-1] + b"," + gecko()[1:]
    first, error, last = read(coingecko, body)
    assert isinstance(error, FieldError)
    assert error.field == f"[1].{field}"
    assert first == last == read(coingecko, gecko())[0]


def test_no_limit_of_supply_is_absent_however_the_source_says_it() -> None:
    for none in (None, 0, msgspec.Raw(b"0.0")):
        (snapshot,) = read(coingecko, gecko(max_supply=none))
        assert snapshot.max_supply is None


def test_circulating_supply_goes_before_the_total() -> None:
    body = PAPRIKA.replace(b'"total_supply":19883231', b'"total_supply":20000000,"circulating_supply":19883231')
    (snapshot,) = read(coinpaprika, body)
    assert snapshot.supply == "19883231"
    assert snapshot.attributes["total_supply"] == 20000000


def test_ticker_without_dollars_is_refused() -> None:
    (error,) = read(coinpaprika, PAPRIKA.replace(b'"USD"', b'"EUR"'))
    assert isinstance(error, FieldError)
    assert error.field == "[0].price_usd"


def test_integer_beyond_64_bits_becomes_text() -> None:
    (snapshot,) = read(coingecko, gecko(total_supply=msgspec.Raw(b"589247809148003000000000")))
    assert snapshot.attributes == {"total_supply": "589247809148003000000000"}


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"status":{"error_code":429}}', b"[1", b"\xff", b"null", b"[" * 100_000]
)
def test_body_that_is_no_list_is_one_refusal(body: bytes) -> None:
    (error,) = read(coingecko, body)
    assert isinstance(error, RefusedError)


def test_entries_that_are_no_objects_are_refused_one_by_one() -> None:
    assert [str(error) for error in read(coinpaprika, b'[7,null,"x"]')] == [
        "[0]: not an object",
        "[1]: not an object",
        "[2]: not an object",
    ]


def test_unlisted_asset_has_no_canonical_id() -> None:
    (snapshot,) = read(coingecko, gecko(id="bitcoin-2", symbol="btc"))
    assert snapshot.canonical_id is None


def test_both_sources_know_the_same_assets() -> None:
    assert set(CANONICAL_IDS["coinpaprika"].values()) == set(CANONICAL_IDS["coingecko"].values())
    assert len(set(CANONICAL_IDS["coingecko"].values())) == len(CANONICAL_IDS["coingecko"]) >= 40


def test_addresses_stand_below_the_base_given() -> None:
    assert coinpaprika.url() == "https://api.coinpaprika.com/v1/tickers"
    assert coingecko.url("http://127.0.0.1:8080/").startswith(
        "http://127.0.0.1:8080/api/v3/coins/markets?vs_currency=usd"
    )
