import json
import random
from collections.abc import Callable
from decimal import Decimal
from http import HTTPStatus
from itertools import pairwise
from typing import Any

import pytest

from coinstream.simulator.binance_publisher import BinancePublisher
from coinstream.simulator.market import Market
from coinstream.simulator.products import BINANCE_PRODUCTS
from coinstream.simulator.publisher import never_skip
from coinstream.simulator.routes import reply_to
from coinstream.simulator.schedule import Schedule

START_TIME_US = 1_780_000_000_000_000
MS = 1_000_000  # nanoseconds


def publisher_of(rate: float, *symbols: str, skip: Callable[[], int] = never_skip) -> BinancePublisher:
    market = Market(
        rng=random.Random(7), start_time_us=START_TIME_US, symbols=symbols or None, products=BINANCE_PRODUCTS
    )
    return BinancePublisher(Schedule(market, start_time_us=START_TIME_US, rate=rate), skip=skip)


class Client:
    """An outlet that keeps the messages of its session."""

    def __init__(self, publisher: BinancePublisher, target: str = "/stream") -> None:
        self.messages: list[Any] = []
        self.at_risk: list[bool] = []
        self.closed: list[str] = []
        self.session = publisher.connect(target, self)

    def send(self, message: bytes, *, is_market_data: bool) -> None:
        self.messages.append(json.loads(message))
        self.at_risk.append(is_market_data)

    def close(self, reason: str) -> None:
        self.closed.append(reason)

    def request(self, method: str, *params: Any, id_: Any = 1) -> Any:
        """Send a request and return its answer, which comes at once."""
        self.session.receive(json.dumps({"method": method, "params": params, "id": id_}).encode())
        return self.messages.pop()

    def events(self, name: str) -> list[dict[str, Any]]:
        return [message["data"] for message in self.messages if message["stream"] == name]


def run(publisher: BinancePublisher, until_ms: int, *, since_ms: int = 0) -> None:
    for elapsed_ms in range(since_ms + 20, until_ms + 20, 20):
        publisher.advance(elapsed_ms * MS)


def get(publisher: BinancePublisher, target: str) -> Any:
    reply = reply_to(target, publisher)
    assert reply.status == HTTPStatus.OK, reply.body
    return json.loads(reply.body)


def test_streams_of_the_address_come_combined() -> None:
    publisher = publisher_of(500, "BTC-USDT", "ETH-USDT")
    client = Client(publisher, "/stream?streams=btcusdt@aggTrade/btcusdt@bookTicker/ethusdt@depth@100ms")
    run(publisher, 500)
    assert {message["stream"] for message in client.messages} == {
        "btcusdt@aggTrade",
        "btcusdt@bookTicker",
        "ethusdt@depth@100ms",
    }
    assert set(client.at_risk) == {True}


@pytest.mark.parametrize("target", ["/ws/btcusdt@aggTrade", "/ws/btcusdt@aggTrade/ethusdt@aggTrade"])
def test_streams_of_a_raw_address_come_bare(target: str) -> None:
    publisher = publisher_of(500, "BTC-USDT", "ETH-USDT")
    client = Client(publisher, target)
    run(publisher, 500)
    assert {message["s"].lower() + "@aggTrade" for message in client.messages} == set(target[4:].split("/"))


@pytest.mark.parametrize(
    ("target", "is_accepted"),
    [
        ("/ws", True),
        ("/ws/", True),
        ("/stream?streams=" + "/".join(f"s{number}@depth" for number in range(1024)), True),
        ("/stream?streams=" + "/".join(f"s{number}@depth" for number in range(1025)), False),
        ("/", False),
        ("/api", False),
        ("/stream/x", False),
        ("/wsx", False),
    ],
)
def test_only_the_venues_addresses_are_accepted(target: str, is_accepted: bool) -> None:  # noqa: FBT001
    assert publisher_of(1, "BTC-USDT").accepts(target) is is_accepted


def test_requests_subscribe_list_and_unsubscribe() -> None:
    publisher = publisher_of(500, "BTC-USDT")
    client = Client(publisher, "/ws")
    assert not client.session.has_subscribed
    streams = ["btcusdt@aggTrade", "btcusdt@bookTicker"]
    assert client.request("SUBSCRIBE", *streams, id_=7) == {"result": None, "id": 7}
    assert client.request("LIST_SUBSCRIPTIONS", id_="x") == {"result": streams, "id": "x"}
    run(publisher, 200)
    assert {"e" in message for message in client.messages} == {True, False}
    assert client.request("UNSUBSCRIBE", "btcusdt@aggTrade", "btcusdt@aggTrade") == {"result": None, "id": 1}
    client.messages.clear()
    run(publisher, 400, since_ms=200)
    assert {"e" in message for message in client.messages} == {False}
    client.session.end()
    client.messages.clear()
    run(publisher, 600, since_ms=400)
    assert client.messages == []
    assert publisher.listeners == {}


def test_client_may_have_its_events_wrapped_or_not() -> None:
    publisher = publisher_of(500, "BTC-USDT")
    client = Client(publisher, "/ws/btcusdt@aggTrade")
    assert client.request("GET_PROPERTY", "combined") == {"result": False, "id": 1}
    assert client.request("SET_PROPERTY", *["combined", True]) == {"result": None, "id": 1}
    run(publisher, 100)
    assert {message["stream"] for message in client.messages} == {"btcusdt@aggTrade"}


def test_bad_request_is_answered_and_not_at_risk() -> None:
    client = Client(publisher_of(1, "BTC-USDT"))
    client.session.receive(b"{")
    assert client.messages == [{"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}]
    assert client.at_risk == [False]


def test_unknown_stream_is_taken_and_nothing_comes_of_it() -> None:
    publisher = publisher_of(500, "BTC-USDT")
    client = Client(publisher)
    assert client.request("SUBSCRIBE", "nopeusdt@aggTrade") == {"result": None, "id": 1}
    run(publisher, 200)
    assert client.messages == []


def test_more_streams_than_a_connection_may_have_are_refused() -> None:
    client = Client(publisher_of(1, "BTC-USDT"))
    assert client.request("SUBSCRIBE", *(f"s{number}@depth" for number in range(1024)))["result"] is None
    assert client.request("SUBSCRIBE", "one@more")["code"] == 2
    assert len(client.request("LIST_SUBSCRIPTIONS")["result"]) == 1024


def test_client_that_sends_six_messages_in_a_second_is_hung_up_on() -> None:
    publisher = publisher_of(1, "BTC-USDT")
    patient, hasty = Client(publisher), Client(publisher)
    for number in range(5):
        hasty.request("LIST_SUBSCRIPTIONS", id_=number)
        patient.request("LIST_SUBSCRIPTIONS", id_=number)
    hasty.session.receive(b'{"method":"LIST_SUBSCRIPTIONS","id":6}')
    assert hasty.messages == []
    assert hasty.closed == ["Too many requests"]
    publisher.advance(1000 * MS)
    assert patient.request("LIST_SUBSCRIPTIONS") == {"result": [], "id": 1}
    assert patient.closed == []


def test_trades_of_the_stream_are_those_of_the_market_and_of_rest() -> None:
    publisher = publisher_of(1000, "BTC-USDT", "DOGE-USDT")
    client = Client(publisher, "/stream?streams=btcusdt@aggTrade")
    run(publisher, 1000)
    sent = client.events("btcusdt@aggTrade")
    assert len(sent) > 300
    ids = [event["a"] for event in sent]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    singles = [(event["f"], event["l"]) for event in sent]
    assert all(first <= last for first, last in singles)
    assert [first for first, _ in singles[1:]] == [last + 1 for _, last in singles[:-1]]
    assert {event["m"] for event in sent} == {True, False}
    stored = [{name: event[name] for name in "apqflTmM"} for event in sent]
    assert get(publisher, f"/api/v3/aggTrades?symbol=BTCUSDT&fromId={ids[0]}&limit=1000") == stored[:1000]
    assert get(publisher, f"/api/v3/aggTrades?symbol=BTCUSDT&fromId={ids[10]}&limit=3") == stored[10:13]
    assert get(publisher, "/api/v3/aggTrades?symbol=BTCUSDT&limit=2") == stored[-2:]
    # a third of the market's first trades are from before the start: what REST knows reaches back to them
    oldest = get(publisher, "/api/v3/aggTrades?symbol=BTCUSDT&fromId=0&limit=1")[0]
    assert oldest["a"] == START_TIME_US
    assert oldest["T"] < START_TIME_US // 1000


def test_trades_of_a_span_of_time_include_both_its_ends() -> None:
    publisher = publisher_of(1000, "BTC-USDT")
    run(publisher, 400)
    everything = get(publisher, "/api/v3/aggTrades?symbol=BTCUSDT&fromId=0&limit=1000")
    first, last = everything[len(everything) // 2]["T"], everything[-20]["T"]
    span = get(publisher, f"/api/v3/aggTrades?symbol=BTCUSDT&startTime={first}&endTime={last}&limit=1000")
    assert span == [trade for trade in everything if first <= trade["T"] <= last]
    assert len(span) > 20


def test_book_ticker_follows_the_top_of_the_book() -> None:
    publisher = publisher_of(500, "SHIB-USDT")
    client = Client(publisher, "/stream?streams=shibusdt@bookTicker")
    run(publisher, 1000)
    tops = client.events("shibusdt@bookTicker")
    ids = [top["u"] for top in tops]
    assert ids == sorted(set(ids))
    assert len({(top["b"], top["B"], top["a"], top["A"]) for top in tops}) > len(tops) // 2
    book = get(publisher, "/api/v3/depth?symbol=SHIBUSDT&limit=5")
    last = tops[-1]
    assert ([last["b"], last["B"]], [last["a"], last["A"]]) == (book["bids"][0], book["asks"][0])


def test_changes_of_100_ms_travel_together_and_join_without_a_hole() -> None:
    publisher = publisher_of(500, "BTC-USDT")
    client = Client(publisher, "/stream?streams=btcusdt@depth@100ms/btcusdt@depth")
    run(publisher, 3000)
    for name, count in (("btcusdt@depth@100ms", 30), ("btcusdt@depth", 3)):
        events = client.events(name)
        assert len(events) == count
        assert [event["U"] for event in events[1:]] == [event["u"] + 1 for event in events[:-1]]
        assert all(event["U"] <= event["u"] for event in events)


def test_jump_leaves_out_ids_of_the_book_and_snapshots_agree_with_it() -> None:
    skips = iter([0, 7, 0, 0, 0])
    publisher = publisher_of(500, "BTC-USDT", skip=lambda: next(skips))
    client = Client(publisher, "/stream?streams=btcusdt@depth@100ms")
    run(publisher, 200)
    assert (
        get(publisher, "/api/v3/depth?symbol=BTCUSDT")["lastUpdateId"]
        == client.events("btcusdt@depth@100ms")[1]["u"] + 7
    )
    run(publisher, 500, since_ms=200)
    events = client.events("btcusdt@depth@100ms")
    assert [later["U"] - earlier["u"] - 1 for earlier, later in pairwise(events)] == [0, 7, 0, 0]


def test_no_sequence_is_left_out_where_nobody_listens() -> None:
    publisher = publisher_of(500, "BTC-USDT", skip=lambda: 1 / 0)  # type: ignore[return-value]
    run(publisher, 500)


def test_snapshot_has_a_hundred_levels_unless_asked_otherwise() -> None:
    publisher = publisher_of(10, "BTC-USDT")
    assert len(get(publisher, "/api/v3/depth?symbol=BTCUSDT")["bids"]) == 100
    assert len(get(publisher, "/api/v3/depth?symbol=BTCUSDT&limit=7")["asks"]) == 7
    book = publisher.schedule.market.instruments["BTC-USDT"].book
    assert len(get(publisher, "/api/v3/depth?symbol=BTCUSDT&limit=9999")["asks"]) == len(book.asks) > 250


def test_exchange_info_lists_symbols_with_plausible_filters() -> None:
    publisher = publisher_of(10)
    info = get(publisher, "/api/v3/exchangeInfo")
    assert info["serverTime"] == START_TIME_US // 1000
    by_symbol = {entry["symbol"]: entry for entry in info["symbols"]}
    assert len(by_symbol) == 10
    assert (by_symbol["ETHBTC"]["baseAsset"], by_symbol["ETHBTC"]["quoteAsset"]) == ("ETH", "BTC")
    assert {entry["status"] for entry in info["symbols"]} == {"TRADING"}
    for entry in info["symbols"]:
        filters = {entry["filterType"]: entry for entry in entry["filters"]}
        book = get(publisher, f"/api/v3/depth?symbol={entry['symbol']}&limit=5000")
        tick, step = (
            Decimal(filters[kind][name]) for kind, name in (("PRICE_FILTER", "tickSize"), ("LOT_SIZE", "stepSize"))
        )
        for price, size in book["bids"] + book["asks"]:
            assert Decimal(price) % tick == 0
            assert (
                Decimal(filters["PRICE_FILTER"]["minPrice"])
                <= Decimal(price)
                <= Decimal(filters["PRICE_FILTER"]["maxPrice"])
            )
            assert Decimal(size) % step == 0
            assert Decimal(size) <= Decimal(filters["LOT_SIZE"]["maxQty"])
        assert Decimal(filters["NOTIONAL"]["minNotional"]) > 0
    one = get(publisher, "/api/v3/exchangeInfo?symbol=ETHBTC")
    assert one["symbols"] == [by_symbol["ETHBTC"]]
    several = get(publisher, '/api/v3/exchangeInfo?symbols=["BTCUSDT","ETHBTC"]')
    assert [entry["symbol"] for entry in several["symbols"]] == ["BTCUSDT", "ETHBTC"]


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/api/v3/depth", -1102),
        ("/api/v3/depth?symbol=", -1102),
        ("/api/v3/depth?symbol=BTC-USDT", -1121),
        ("/api/v3/depth?symbol=BTCUSDT&limit=x", -1100),
        ("/api/v3/depth?symbol=BTCUSDT&limit=0", -1130),
        ("/api/v3/aggTrades?symbol=NOPE", -1121),
        ("/api/v3/aggTrades?symbol=BTCUSDT&fromId=-3", -1100),
        ("/api/v3/exchangeInfo?symbol=NOPE", -1121),
        ("/api/v3/exchangeInfo?symbols=BTCUSDT", -1100),
    ],
)
def test_bad_query_is_answered_with_the_venues_code(target: str, code: int) -> None:
    reply = reply_to(target, publisher_of(10, "BTC-USDT"))
    assert reply.status == HTTPStatus.BAD_REQUEST
    assert json.loads(reply.body)["code"] == code


def test_asset_routes_stay_and_follow_the_market_in_usdt() -> None:
    publisher = publisher_of(2000)
    run(publisher, 500)
    bitcoin = publisher.schedule.market.instruments["BTC-USDT"]
    tickers = {ticker["id"]: ticker for ticker in get(publisher, "/v1/tickers")}
    price = tickers["btc-bitcoin"]["quotes"]["USD"]["price"]
    assert Decimal(str(price)) == Decimal(bitcoin.product.price_text(bitcoin.last_ticks)) != Decimal("97345.21")
    assert len(get(publisher, "/api/v3/coins/markets?vs_currency=usd")) == 25
    assert reply_to("/api/v3/brokerage/market/products", publisher).status == HTTPStatus.NOT_FOUND


def test_two_runs_share_no_id() -> None:
    ids: list[set[int]] = []
    for start_time_us in (START_TIME_US, START_TIME_US + 5_000_000):
        market = Market(
            rng=random.Random(1), start_time_us=start_time_us, symbols=["BTC-USDT"], products=BINANCE_PRODUCTS
        )
        publisher = BinancePublisher(Schedule(market, start_time_us=start_time_us, rate=1000))
        client = Client(publisher, "/stream?streams=btcusdt@aggTrade/btcusdt@depth@100ms")
        run(publisher, 3000)
        trades, depths = client.events("btcusdt@aggTrade"), client.events("btcusdt@depth@100ms")
        ids.append(
            {trade["l"] for trade in trades} | {trade["a"] for trade in trades} | {depth["u"] for depth in depths}
        )
    assert min(len(each) for each in ids) > 1000
    assert ids[0].isdisjoint(ids[1])
