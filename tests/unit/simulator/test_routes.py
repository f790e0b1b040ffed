import json
import random
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import pytest

from coinstream.simulator.assets import ASSETS
from coinstream.simulator.coinbase_publisher import CoinbasePublisher
from coinstream.simulator.market import Market
from coinstream.simulator.publisher import Publisher
from coinstream.simulator.routes import reply_to
from coinstream.simulator.schedule import Schedule

START_TIME_US = 1_780_000_000_000_000


@pytest.fixture
def publisher() -> Publisher:
    market = Market(rng=random.Random(3), start_time_us=START_TIME_US)
    publisher = CoinbasePublisher(Schedule(market, start_time_us=START_TIME_US, rate=1000))
    publisher.advance(250_000_000)
    return publisher


def body_of(target: str, publisher: Publisher) -> Any:
    reply = reply_to(target, publisher)
    assert reply.status == HTTPStatus.OK
    return json.loads(reply.body, parse_float=Decimal)


def test_products_tell_increments_and_status(publisher: Publisher) -> None:
    body = body_of("/api/v3/brokerage/market/products?limit=500", publisher)
    assert body["num_products"] == 10
    by_id = {product["product_id"]: product for product in body["products"]}
    shib, btc = by_id["SHIB-USD"], by_id["BTC-USD"]
    assert (btc["price_increment"], btc["base_increment"], btc["quote_min_size"]) == ("0.01", "0.00000001", "1")
    assert (shib["price_increment"], shib["base_increment"]) == ("0.00000001", "1")
    assert (btc["base_currency_id"], btc["quote_currency_id"]) == ("BTC", "USD")
    assert (btc["status"], btc["trading_disabled"], btc["product_type"]) == ("online", False, "SPOT")
    assert body_of("/api/v3/brokerage/market/products/BTC-USD", publisher) == btc


def test_product_ticker_lists_the_newest_trades_first(publisher: Publisher) -> None:
    body = body_of("/api/v3/brokerage/market/products/BTC-USD/ticker?limit=3", publisher)
    ids = [int(trade["trade_id"]) for trade in body["trades"]]
    assert ids == [ids[0], ids[0] - 1, ids[0] - 2]
    assert Decimal(body["best_bid"]) < Decimal(body["best_ask"])


def test_both_asset_sources_follow_the_simulated_market(publisher: Publisher) -> None:
    bitcoin = publisher.schedule.market.instruments["BTC-USD"]
    price = Decimal(bitcoin.product.price_text(bitcoin.last_ticks))
    assert price != Decimal("97345.21")  # it has moved
    paprika = {ticker["id"]: ticker for ticker in body_of("/v1/tickers", publisher)}
    gecko = {coin["id"]: coin for coin in body_of("/api/v3/coins/markets?vs_currency=usd", publisher)}
    assert paprika["btc-bitcoin"]["quotes"]["USD"]["price"] == price
    assert gecko["bitcoin"]["current_price"] == price
    assert gecko["tether"]["current_price"] == Decimal("1.0001")
    assert paprika["btc-bitcoin"]["quotes"]["USD"]["market_cap"] == int(price * 19_883_231)


def test_asset_numbers_are_json_numbers_and_small_ones_have_exponents(publisher: Publisher) -> None:
    text = reply_to("/api/v3/coins/markets?vs_currency=usd&per_page=250", publisher).body.decode()
    assert '"current_price":"' not in text
    coins = {coin["id"]: coin for coin in json.loads(text, parse_float=str)}
    assert coins["shiba-inu"]["current_price"].endswith("e-05")
    assert coins["bitcoin"]["max_supply"] == "21000000.0"
    assert coins["ethereum"]["max_supply"] is None
    tickers = {ticker["id"]: ticker for ticker in json.loads(reply_to("/v1/tickers", publisher).body, parse_float=str)}
    assert tickers["shib-shiba-inu"]["quotes"]["USD"]["price"].startswith("0.0000")
    assert tickers["eth-ethereum"]["max_supply"] == 0


def test_assets_are_ranked_by_market_cap_without_holes(publisher: Publisher) -> None:
    tickers = body_of("/v1/tickers", publisher)
    assert [ticker["rank"] for ticker in tickers] == list(range(1, len(ASSETS) + 1))
    caps = [ticker["quotes"]["USD"]["market_cap"] for ticker in tickers]
    assert caps == sorted(caps, reverse=True)
    assert tickers[0]["id"] == "btc-bitcoin"


def test_coingecko_pages_do_not_overlap(publisher: Publisher) -> None:
    route = "/api/v3/coins/markets?vs_currency=usd&order=market_cap_desc&per_page=10&page="
    pages = [[coin["id"] for coin in body_of(f"{route}{page}", publisher)] for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert len({coin for page in pages for coin in page}) == 25


@pytest.mark.parametrize(
    ("target", "status", "error"),
    [
        ("/v1/nothing", HTTPStatus.NOT_FOUND, "NOT_FOUND"),
        ("/", HTTPStatus.NOT_FOUND, "NOT_FOUND"),
        ("/api/v3/brokerage/market/products/NOPE-USD", HTTPStatus.NOT_FOUND, "NOT_FOUND"),
        ("/api/v3/brokerage/market/products/BTC-USD/x", HTTPStatus.NOT_FOUND, "NOT_FOUND"),
        ("/api/v3/coins/markets", HTTPStatus.UNPROCESSABLE_ENTITY, "Missing parameter vs_currency"),
        ("/api/v3/coins/markets?vs_currency=zzz", HTTPStatus.UNPROCESSABLE_ENTITY, "invalid vs_currency"),
    ],
)
def test_unknown_paths_and_bad_queries_are_json_errors(
    target: str, status: HTTPStatus, error: str, publisher: Publisher
) -> None:
    reply = reply_to(target, publisher)
    assert reply.status == status
    assert json.loads(reply.body)["error"] == error
