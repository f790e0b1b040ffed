import json

import pytest

from coinstream.errors import RefusedError
from coinstream.simulator import binance as venue
from coinstream.simulator.market import SimulatedTrade
from coinstream.simulator.order_book import OrderBook
from coinstream.simulator.products import BINANCE_PRODUCTS

BTC = next(product for product in BINANCE_PRODUCTS if product.symbol == "BTC-USDT")


def book_of(bids: dict[int, int], asks: dict[int, int]) -> OrderBook:
    book = OrderBook()
    for ticks, lots in bids.items():
        book.bids.change(ticks, lots)
    for ticks, lots in asks.items():
        book.asks.change(ticks, lots)
    return book


def test_symbols_are_spelled_the_venues_way() -> None:
    assert [venue.spelling(product) for product in BINANCE_PRODUCTS][:8] == [
        "BTCUSDT",
        "ETHUSDT",
        "SOLUSDT",
        "XRPUSDT",
        "DOGEUSDT",
        "LTCUSDT",
        "ADAUSDT",
        "ETHBTC",
    ]


@pytest.mark.parametrize(
    ("units", "decimals", "text"),
    [(9734521, 2, "97345.21000000"), (1, 8, "0.00000001"), (0, 5, "0.00000000"), (17, 0, "17.00000000")],
)
def test_numbers_have_eight_decimals(units: int, decimals: int, text: str) -> None:
    assert venue.fixed_text(units, decimals) == text


def test_agg_trade_says_that_the_buyer_was_the_maker_when_the_maker_bid() -> None:
    trade = SimulatedTrade(26129, 1633, 470, maker_is_bid=True, event_time_us=1498793709153999)
    event = venue.agg_trade_event(BTC, venue.AggregateTrade(trade, 27781, 27783), time_us=1498793709160001)
    assert event == (
        '{"e":"aggTrade","E":1498793709160,"s":"BTCUSDT","a":26129,"p":"16.33000000","q":"0.00470000",'
        '"f":27781,"l":27783,"T":1498793709153,"m":true,"M":true}'
    )


def test_book_ticker_shows_the_best_of_both_sides_and_neither_type_nor_time() -> None:
    book = book_of({100: 3, 99: 1}, {102: 4, 103: 1})
    assert json.loads(venue.book_ticker_event(BTC, book, update_id=400900217)) == {
        "u": 400900217,
        "s": "BTCUSDT",
        "b": "1.00000000",
        "B": "0.00003000",
        "a": "1.02000000",
        "A": "0.00004000",
    }


def test_depth_event_names_its_first_and_last_update() -> None:
    event = venue.depth_event(
        BTC, first_id=157, last_id=160, bids=[(100, 3)], asks=[(102, 0), (103, 7)], time_us=1672515782136000
    )
    assert json.loads(event) == {
        "e": "depthUpdate",
        "E": 1672515782136,
        "s": "BTCUSDT",
        "U": 157,
        "u": 160,
        "b": [["1.00000000", "0.00003000"]],
        "a": [["1.02000000", "0.00000000"], ["1.03000000", "0.00007000"]],
    }


def test_depth_snapshot_is_cut_to_its_limit_best_first() -> None:
    book = book_of({100: 3, 99: 1, 98: 1}, {102: 4, 103: 1, 104: 2})
    assert json.loads(venue.depth_snapshot(BTC, book, update_id=7, limit=2)) == {
        "lastUpdateId": 7,
        "bids": [["1.00000000", "0.00003000"], ["0.99000000", "0.00001000"]],
        "asks": [["1.02000000", "0.00004000"], ["1.03000000", "0.00001000"]],
    }


@pytest.mark.parametrize("request_id", [1, "a1B2", None])
def test_request_keeps_its_id(request_id: int | str | None) -> None:
    frame = json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@depth"], "id": request_id}).encode()
    assert venue.parse_request(frame) == venue.Request("SUBSCRIBE", ("btcusdt@depth",), request_id)


@pytest.mark.parametrize(
    ("frame", "code", "words"),
    [
        (b'{"method":', 3, "Invalid JSON"),
        (b"\xff", 3, "Invalid JSON"),
        (b"[]", 2, "missing field `method`"),
        (b'{"id":1}', 2, "missing field `method`"),
        (b'{"method":"SUBSCRIB","id":1}', 2, "unknown variant `SUBSCRIB`"),
        (b'{"method":"SUBSCRIBE","params":["a@depth"],"id":[]}', 2, "Invalid request"),
        (b'{"method":"SUBSCRIBE","params":["a@depth"],"id":"not-alphanumeric"}', 2, "request ID"),
        (b'{"method":"SUBSCRIBE","params":[],"id":1}', 2, "names of streams"),
        (b'{"method":"SUBSCRIBE","params":[7],"id":1}', 2, "names of streams"),
        (b'{"method":"GET_PROPERTY","params":[],"id":1}', 2, "property name must be a string"),
        (b'{"method":"GET_PROPERTY","params":["speed"],"id":1}', 0, "Unknown property"),
        (b'{"method":"GET_PROPERTY","params":["combined",1],"id":1}', 2, "too many parameters"),
        (b'{"method":"SET_PROPERTY","params":["combined","yes"],"id":1}', 1, "expected Boolean"),
    ],
)
def test_bad_request_is_refused_with_the_venues_code(frame: bytes, code: int, words: str) -> None:
    with pytest.raises(RefusedError) as refusal:
        venue.parse_request(frame)
    error = json.loads(str(refusal.value))
    assert error["code"] == code
    assert words in error["msg"]
