"""The Exchange dialect where it is not plain: bad fields, gaps, numbers without quotes, requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coinstream.adapters import BookUpdate, Event, Frame, Gap, Subscribed, VenueAdapter, dialect_of
from coinstream.errors import FieldError, RefusedError
from coinstream.messages import Instrument, Quote, Trade

URL = "wss://ws-feed.exchange.coinbase.com"
TIME = "2026-01-02T03:04:05.678901Z"


def adapter() -> VenueAdapter:
    dialect = dialect_of(URL)
    assert dialect is not None
    assert dialect.name == "exchange"
    return dialect.adapter()


def frame(data: bytes | dict[str, Any], *, transport: Any = "ws") -> Frame:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Frame(1767323046000000, "ws.1", URL, transport, text)


def match(**changes: Any) -> dict[str, Any]:
    fields = {
        "type": "match",
        "trade_id": 71,
        "side": "sell",
        "size": "0.50",
        "price": "101.25",
        "product_id": "BTC-USD",
        "sequence": 9,
        "time": TIME,
    }
    return {key: value for key, value in (fields | changes).items() if value is not None}


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"price": "NaN"}, "price"),
        ({"price": "Infinity"}, "price"),
        ({"price": "0"}, "price"),
        ({"price": ""}, "price"),
        ({"size": "-0.5"}, "size"),
        ({"size": "1e-19"}, "size"),
        ({"size": None}, "size"),
        ({"price": "10000000000000000"}, "price"),
        ({"side": "UNKNOWN"}, "side"),
        ({"time": "yesterday"}, "time"),
        ({"time": "1970-01-01T00:00:00Z"}, "time"),
        ({"time": "2026-01-02T03:04:05.\u0661Z"}, "time"),
        ({"trade_id": "seven"}, "trade_id"),
        ({"trade_id": -1}, "trade_id"),
        ({"trade_id": 2**63}, "trade_id"),
        ({"product_id": ""}, "product_id"),
        ({"type": "auction"}, "type"),
    ],
)
def test_bad_field_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    adapts = adapter()
    adapts.receive(frame(match(trade_id=70)))
    errors = of(adapts.receive(frame(match(**changes))), FieldError)
    assert [error.field for error in errors] == [field]
    assert len(of(adapts.receive(frame(match(trade_id=72))), Trade)) == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"type":"match","trade_id":7', b"\xff\xfe", b"not json", b"[" * 100_000, b'{"x":' + b"[" * 100_000],
)
def test_frame_that_is_no_json_is_refused_and_puts_the_connection_in_doubt(data: bytes) -> None:
    events = adapter().receive(frame(data))
    assert isinstance(events[0], RefusedError)
    assert events[1:] == [Gap("ws.1", None, None, "a frame could not be read", is_certain=False)]


@pytest.mark.parametrize("data", [b"null", b"7", b"[]", b"[[]]", b'"text"', b'{"type":null}', b'{"type":[]}', b"{}"])
def test_json_of_another_shape_is_refused(data: bytes) -> None:
    events = adapter().receive(frame(data))
    assert len(of(events, RefusedError)) == 1
    assert not of(events, Trade)


def test_number_without_quotes_keeps_its_digits() -> None:
    data = json.dumps(match()).encode()
    data = data.replace(b'"101.25"', b"0.1000000000000000055").replace(b'"0.50"', b"1e-18")
    error = of(adapter().receive(frame(data)), FieldError)
    assert [(e.field, e.value) for e in error] == [("price", "'0.1000000000000000055'")]  # 19 decimals
    data = data.replace(b"0.1000000000000000055", b"999999999999.000000000000000001")
    (trade,) = of(adapter().receive(frame(data)), Trade)
    assert (trade.price, trade.size) == ("999999999999.000000000000000001", "0.000000000000000001")


def test_jump_of_trade_ids_is_a_gap_before_the_trade() -> None:
    adapts = adapter()
    adapts.receive(frame(match(trade_id=70, type="last_match")))
    assert not of(adapts.receive(frame(match(trade_id=71))), Gap)
    gap, trade = adapts.receive(frame(match(trade_id=74)))
    assert gap == Gap("ws.1", "trades", "BTC-USD", "trade_id went from 71 to 74", since_us=frame(b"").received_time_us)
    assert isinstance(trade, Trade)
    assert not of(adapts.receive(frame(match(trade_id=73))), Gap)  # a repeat, late
    assert not of(adapts.receive(frame(match(trade_id=75))), Gap)


def test_ids_missed_between_two_connections_are_a_gap() -> None:
    adapts = adapter()
    adapts.receive(frame(match(trade_id=70)))
    adapts.receive(frame(b"")._replace(opens=True))
    gap, trade = adapts.receive(frame(match(trade_id=72, type="last_match")))
    assert gap == Gap("ws.1", "trades", "BTC-USD", "trade_id went from 70 to 72", since_us=frame(b"").received_time_us)
    assert isinstance(trade, Trade)
    assert trade.provenance == "backfill"


def test_refused_change_of_a_book_is_a_gap_of_that_book() -> None:
    update = {"type": "l2update", "product_id": "BTC-USD", "changes": [["buy", "1", "1"], ["sell", "2", "-1"]]}
    error, gap = adapter().receive(frame(update))
    assert isinstance(error, FieldError)
    assert error.field == "changes.size"
    assert isinstance(gap, Gap)
    assert (gap.channel, gap.symbol, gap.is_certain) == ("books", "BTC-USD", True)


def test_book_update_without_time_has_none() -> None:
    update = {"type": "snapshot", "product_id": "BTC-USD", "bids": [["1.50", "1E+1"]], "asks": []}
    assert adapter().receive(frame(update)) == [BookUpdate("BTC-USD", True, [("1.50", "10")], [], None, None)]  # noqa: FBT003


@pytest.mark.parametrize(
    ("ticker", "bid", "ask"),
    [
        ({"best_bid": "1", "best_ask": ""}, "1", "0"),
        ({"best_ask": "1"}, "0", "1"),
        ({"best_bid": 1.50, "best_ask": 2}, "1.5", "2"),
    ],
)
def test_ticker_with_an_empty_side_quotes_zero(ticker: dict[str, Any], bid: str, ask: str) -> None:
    (quote,) = adapter().receive(frame({"type": "ticker", "product_id": "BTC-USD"} | ticker))
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.ask, quote.bid_size, quote.sequence, quote.event_time_us) == (bid, ask, None, None, None)


@pytest.mark.parametrize("sequence", [-1, 2**63, "9", 1.5])
def test_sequence_out_of_range_is_refused(sequence: Any) -> None:
    ticker = {"type": "ticker", "product_id": "BTC-USD", "best_bid": "1", "best_ask": "2", "sequence": sequence}
    error, gap = adapter().receive(frame(ticker))
    assert isinstance(error, FieldError)
    assert error.field == "sequence"
    assert gap == Gap("ws.1", "quotes", "BTC-USD", "a frame was refused")


def test_ticker_without_either_side_is_no_quote() -> None:
    assert adapter().receive(frame({"type": "ticker", "product_id": "BTC-USD", "price": "1", "best_bid": ""})) == []


def test_error_of_the_venue_is_refused_in_its_words() -> None:
    (error,) = adapter().receive(frame({"type": "error", "message": "Failed to subscribe", "reason": "X is not valid"}))
    assert str(error) == "the venue says: Failed to subscribe: X is not valid"


def test_heartbeats_and_status_say_nothing() -> None:
    assert adapter().receive(frame({"type": "heartbeat", "sequence": 1, "last_trade_id": 1, "time": TIME})) == []
    assert adapter().receive(frame({"type": "status", "products": []})) == []


def test_list_of_products_gives_our_symbols_and_refuses_others() -> None:
    adapts = adapter()
    products = [
        {"id": "XBT-USD", "base_currency": "BTC", "quote_currency": "USD", "quote_increment": 0.01, "status": "online"},
        {"id": "BAD-USD", "base_currency": "BAD", "quote_currency": "USD", "quote_increment": "NaN"},
        {"id": "HALF"},
        {"id": "-USD", "base_currency": "", "quote_currency": "USD"},
    ]
    events = adapts.receive(frame(json.dumps(products).encode(), transport="http"))
    (instrument,) = of(events, Instrument)
    assert (instrument.symbol, instrument.venue_symbol, instrument.tick_size) == ("BTC-USD", "XBT-USD", "0.01")
    assert (instrument.lot_size, instrument.minimum_notional) == (None, None)
    assert [str(error) for error in of(events, RefusedError)] == [
        "product 1: quote_increment: must be a decimal number, not 'NaN'",
        "product 2: base_currency: is missing",
        "product 3: base_currency: expected str of length >= 1",
    ]
    (trade,) = adapts.receive(frame(match(product_id="XBT-USD")))
    assert isinstance(trade, Trade)
    assert trade.symbol == "BTC-USD"
    (error,) = adapts.receive(frame(match(product_id="ETH-USD")))
    assert isinstance(error, FieldError)
    assert (error.field, error.reason) == ("product_id", "is not a symbol that the venue lists")
    assert '"product_ids":["XBT-USD"]' in adapts.subscriptions(["BTC-USD"], ["trades"])[0]


@pytest.mark.parametrize("body", [b'{"message":"rate limited"}', b"<html>", b""])
def test_body_that_is_no_list_is_refused_and_teaches_nothing(body: bytes) -> None:
    adapts = adapter()
    (error,) = adapts.receive(frame(body, transport="http"))
    assert isinstance(error, RefusedError)
    assert len(of(adapts.receive(frame(match())), Trade)) == 1


def test_requests_are_as_the_venue_documents_them() -> None:
    adapts = adapter()
    assert [json.loads(text) for text in adapts.subscriptions(["BTC-USD", "ETH-USD"], {"books", "trades"})] == [
        {
            "type": "subscribe",
            "product_ids": ["BTC-USD", "ETH-USD"],
            "channels": ["matches", "level2_batch", "heartbeat"],
        }
    ]
    assert [json.loads(text) for text in adapts.resubscriptions(["ETH-USD"])] == [
        {"type": "unsubscribe", "product_ids": ["ETH-USD"], "channels": ["level2_batch"]},
        {"type": "subscribe", "product_ids": ["ETH-USD"], "channels": ["level2_batch"]},
    ]
    assert adapts.subscriptions([], ["trades"]) == []


def test_answer_to_a_request_tells_what_is_subscribed() -> None:
    channels = [{"name": "level2_batch", "product_ids": ["BTC-USD"]}, {"name": "heartbeat", "product_ids": ["BTC-USD"]}]
    answer = {"type": "subscriptions", "channels": channels}
    assert adapter().receive(frame(answer)) == [Subscribed("ws.1", (("books", "BTC-USD"),))]


def test_simulated_market_is_told_apart_by_provenance_and_venue() -> None:
    dialect = dialect_of(URL)
    assert dialect is not None
    adapts = dialect.adapter(venue="coinbase_simulated")
    adapts.live = "simulated"
    (trade,) = adapts.receive(frame(match()))
    assert isinstance(trade, Trade)
    assert (trade.venue, trade.provenance) == ("coinbase_simulated", "simulated")
