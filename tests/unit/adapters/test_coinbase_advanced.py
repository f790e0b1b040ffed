"""The Advanced Trade dialect where it is not plain: bad entries among good ones, the sequence, requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coinstream.adapters import BookUpdate, Event, Frame, Gap, Subscribed, VenueAdapter, dialect_of
from coinstream.errors import FieldError, RefusedError
from coinstream.messages import Instrument, Trade

URL = "wss://advanced-trade-ws.coinbase.com"
TIMESTAMP = "2026-01-02T03:04:05.678901234Z"


def adapter() -> VenueAdapter:
    dialect = dialect_of(URL)
    assert dialect is not None
    assert dialect.name == "advanced"
    return dialect.adapter()


def frame(data: bytes | dict[str, Any], *, connection: str = "ws.1", transport: Any = "ws") -> Frame:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Frame(1767323046000000, connection, URL, transport, text)


def message(channel: str, *events: Any, sequence: int | None = None, timestamp: str = TIMESTAMP) -> dict[str, Any]:
    head = {"channel": channel, "client_id": "", "timestamp": timestamp, "events": list(events)}
    return head if sequence is None else head | {"sequence_num": sequence}


def trade(**changes: Any) -> dict[str, Any]:
    fields = {"product_id": "BTC-USD", "trade_id": "71", "price": "101.25", "size": "0.5", "time": TIMESTAMP}
    return {key: value for key, value in (fields | {"side": "SELL"} | changes).items() if value is not None}


def level(side: str, price: Any, size: Any) -> dict[str, Any]:
    return {"side": side, "event_time": "0001-01-01T00:00:00Z", "price_level": price, "new_quantity": size}


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"price": "NaN"}, "price"),
        ({"price": ""}, "price"),
        ({"price": True}, "price"),
        ({"price": {}}, "price"),
        ({"size": "-1"}, "size"),
        ({"size": "0"}, "size"),
        ({"size": None}, "size"),
        ({"side": "UNKNOWN"}, "side"),
        ({"side": ""}, "side"),
        ({"time": ""}, "time"),
        ({"time": "0001-01-01T00:00:00Z"}, "time"),
        ({"trade_id": ""}, "trade_id"),
        ({"trade_id": "7" * 65}, "trade_id"),
        ({"product_id": ""}, "product_id"),
    ],
)
def test_bad_trade_is_refused_by_name_and_its_neighbours_are_not(changes: dict[str, Any], field: str) -> None:
    trades = [trade(trade_id="3"), trade(**{"trade_id": "2"} | changes), trade(trade_id="1")]
    events = adapter().receive(frame(message("market_trades", {"type": "update", "trades": trades})))
    assert [t.trade_id for t in of(events, Trade)] == ["1", "3"]
    assert [error.field for error in of(events, FieldError)] == [field]


def test_number_without_quotes_keeps_its_digits() -> None:
    data = json.dumps(message("market_trades", {"type": "update", "trades": [trade(trade_id=72)]})).encode()
    data = data.replace(b'"101.25"', b"999999999999.000000000000000001").replace(b'"0.5"', b"1e-18")
    (found,) = adapter().receive(frame(data))
    assert isinstance(found, Trade)
    assert (found.trade_id, found.price, found.size) == (
        "72",
        "999999999999.000000000000000001",
        "0.000000000000000001",
    )


def test_trades_of_several_products_come_oldest_first_whatever_the_order_sent() -> None:
    sent = [
        trade(product_id="ETH-USD", trade_id="9", time="2026-01-02T03:04:05.3Z"),
        trade(trade_id="100", time="2026-01-02T03:04:05.2Z"),
        trade(trade_id="99", time="2026-01-02T03:04:05.2Z"),
        trade(product_id="ETH-USD", trade_id="8", time="2026-01-02T03:04:05.1Z"),
    ]
    for trades in (sent, sent[::-1]):
        events = adapter().receive(frame(message("market_trades", {"type": "update", "trades": trades})))
        assert [(t.symbol, t.trade_id) for t in of(events, Trade)] == [
            ("ETH-USD", "8"),
            ("BTC-USD", "99"),
            ("BTC-USD", "100"),
            ("ETH-USD", "9"),
        ]


def test_trades_of_several_events_of_one_frame_come_oldest_first_after_what_was_refused() -> None:
    data = message(
        "market_trades",
        {"type": "update", "trades": [trade(trade_id="7", time="2026-01-02T03:04:05.5Z")]},
        {"type": "update", "trades": [trade(trade_id="x\0"), trade(trade_id="6", time="2026-01-02T03:04:05.3Z")]},
    )
    refusal, gap, *trades = adapter().receive(frame(data))
    assert isinstance(refusal, FieldError)
    assert (refusal.field, gap) == ("trade_id", Gap("ws.1", "trades", "BTC-USD", "an entry was refused"))
    assert [event.trade_id for event in of(trades, Trade)] == ["6", "7"]


@pytest.mark.parametrize("channel", ["l2_data", "level2"])
def test_book_is_read_under_the_channels_two_names_and_with_a_time_as_go_writes_it(channel: str) -> None:
    book = {"type": "snapshot", "product_id": "BTC-USD", "updates": [level("bid", "1", "2")]}
    (update,) = adapter().receive(frame(message(channel, book, timestamp="2026-01-02 03:04:05.5 +0000 UTC m=+9.5")))
    assert update == BookUpdate("BTC-USD", True, [("1", "2")], [], None, 1767323045500000)  # noqa: FBT003 - a field


def test_product_that_is_no_instrument_is_listed_all_the_same() -> None:
    spot = {"product_id": "A-USD", "base_currency_id": "A", "quote_currency_id": "USD", "product_type": None}
    products = [
        spot | {"status": None},
        {"product_id": "B-USD", "base_currency_id": None, "quote_currency_id": "USD"},
        spot | {"product_id": "C-USD", "price_increment": "NaN"},
        spot | {"product_id": "D-USD", "trading_disabled": "maybe"},
        {"product_id": None},
    ]
    adapts = adapter()
    events = adapts.receive(frame({"products": products}, transport="http"))
    assert [event.symbol for event in of(events, Instrument)] == ["A-USD"]
    assert len(of(events, RefusedError)) == 3
    listed = [trade(product_id=f"{name}-USD") for name in "EDCBA"]
    events = adapts.receive(frame(message("market_trades", {"type": "update", "trades": listed})))
    assert [event.symbol for event in of(events, Trade)] == ["A-USD", "B-USD", "C-USD", "D-USD"]
    assert len(of(events, RefusedError)) == 1


def test_list_of_nothing_is_refused_and_the_one_before_stays() -> None:
    adapts = adapter()
    (error,) = adapts.receive(frame({"products": []}, transport="http"))
    assert isinstance(error, RefusedError)
    assert len(of(adapts.receive(frame(message("market_trades", {"type": "update", "trades": [trade()]}))), Trade)) == 1


def test_jump_of_the_sequence_is_a_gap_of_the_whole_connection() -> None:
    adapts = adapter()
    assert adapts.receive(frame(message("heartbeats", {"heartbeat_counter": "1"}, sequence=1767323045000000))) == []
    assert adapts.receive(frame(message("status", sequence=1767323045000001))) == []
    gap = Gap("ws.1", None, None, "sequence_num went from 1767323045000001 to 1767323045000003")
    assert adapts.receive(frame(message("heartbeats", sequence=1767323045000003))) == [gap]
    assert adapts.receive(frame(message("heartbeats", sequence=1767323045000004))) == []


def test_sequences_of_connections_are_apart_and_begin_anew_at_an_open() -> None:
    adapts = adapter()
    adapts.receive(frame(message("heartbeats", sequence=5)))
    assert adapts.receive(frame(message("heartbeats", sequence=90), connection="ws.2")) == []
    adapts.receive(frame(b"")._replace(opens=True))
    assert adapts.receive(frame(message("heartbeats", sequence=0))) == []
    assert adapts.receive(frame(message("heartbeats", sequence=91), connection="ws.2")) == []


def test_repeated_message_says_nothing_twice() -> None:
    adapts = adapter()
    repeated = frame(message("market_trades", {"type": "update", "trades": [trade()]}, sequence=5))
    assert len(adapts.receive(repeated)) == 1
    assert adapts.receive(repeated) == []


def test_unreadable_frame_is_refused_and_the_next_sequence_tells_of_it() -> None:
    adapts = adapter()
    adapts.receive(frame(message("heartbeats", sequence=5)))
    (error,) = adapts.receive(frame(b'{"channel":"l2_data","sequence_num":6,"events":[{"ty'))
    assert isinstance(error, RefusedError)
    assert adapts.receive(frame(message("heartbeats", sequence=7))) == [
        Gap("ws.1", None, None, "sequence_num went from 5 to 7")
    ]


def test_sequence_out_of_range_refuses_the_message() -> None:
    (error,) = adapter().receive(frame(message("market_trades", {"type": "update", "trades": [trade()]}, sequence=-1)))
    assert isinstance(error, FieldError)
    assert error.field == "sequence_num"


def test_unknown_channel_is_refused_and_counts_in_the_sequence() -> None:
    adapts = adapter()
    adapts.receive(frame(message("heartbeats", sequence=5)))
    (error,) = adapts.receive(frame(message("auctions", {"type": "update"}, sequence=6)))
    assert isinstance(error, FieldError)
    assert (error.field, error.value) == ("channel", "'auctions'")
    assert adapts.receive(frame(message("heartbeats", sequence=7))) == []


@pytest.mark.parametrize("data", [b"null", b"7", b"[]", b'"text"', b"{}", b'{"channel":7}', b'{"channel":null}'])
def test_json_of_another_shape_is_refused(data: bytes) -> None:
    (error,) = adapter().receive(frame(data))
    assert isinstance(error, RefusedError)


@pytest.mark.parametrize("events", [None, 7, [7], [None], [{"type": 7, "trades": 7}], [{"trades": [7]}]])
def test_events_of_another_shape_are_refused(events: Any) -> None:
    found = adapter().receive(frame(message("market_trades") | {"events": events}))
    assert of(found, RefusedError)
    assert not of(found, Trade)


def test_error_of_the_venue_is_refused_in_its_words() -> None:
    (error,) = adapter().receive(frame({"type": "error", "message": "failure to subscribe"}))
    assert str(error) == "the venue says: failure to subscribe"


def test_refused_level_is_a_gap_of_that_book_alone() -> None:
    events = adapter().receive(
        frame(
            message(
                "l2_data",
                {
                    "type": "update",
                    "product_id": "BTC-USD",
                    "updates": [level("bid", "1", "1"), level("bid", "NaN", "1")],
                },
                {"type": "update", "product_id": "ETH-USD", "updates": [level("offer", "2", "3")]},
            )
        )
    )
    assert [error.field for error in of(events, FieldError)] == ["price_level"]
    assert [(gap.channel, gap.symbol) for gap in of(events, Gap)] == [("books", "BTC-USD")]
    assert [update.symbol for update in of(events, BookUpdate)] == ["ETH-USD"]


def test_level_of_another_type_is_refused_and_the_book_is_a_gap() -> None:
    updates = [level("bid", "1", None), level("bid", "2", 3)]
    events = adapter().receive(
        frame(message("l2_data", {"type": "update", "product_id": "BTC-USD", "updates": updates}))
    )
    assert [error.field for error in of(events, FieldError)] == ["new_quantity"]
    assert [(gap.channel, gap.symbol) for gap in of(events, Gap)] == [("books", "BTC-USD")]


def test_numbers_in_a_level_may_have_exponents_and_times_may_be_absent() -> None:
    updates = [level("bid", "1.5e-7", "2E3"), level("offer", "0.0000003", "0.00000000")]
    event = {"type": "snapshot", "product_id": "BTC-USD", "updates": updates}
    (update,) = adapter().receive(frame(message("l2_data", event, sequence=3, timestamp="0001-01-01T00:00:00Z")))
    assert update == BookUpdate(
        "BTC-USD",
        is_snapshot=True,
        bids=[("0.00000015", "2000")],
        asks=[("0.0000003", "0.00000000")],
        sequence=3,
        event_time_us=None,
    )


def test_symbol_that_the_venue_does_not_list_is_refused_and_futures_are_read_under_its_spelling() -> None:
    adapts = adapter()
    spot = {"product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD", "base_increment": "1e-8"}
    future = {"product_id": "BIT-30JAN26-CDE", "product_type": "FUTURE", "quote_currency_id": "USD"}
    body = {"products": [spot, future, {"product_id": "BAD-USD", "base_increment": 7, "is_disabled": "no"}]}
    events = adapts.receive(frame(json.dumps(body).encode(), transport="http"))
    assert [(i.symbol, i.lot_size, i.tick_size, i.status) for i in of(events, Instrument)] == [
        ("BTC-USD", "0.00000001", None, "offline")
    ]
    assert len(of(events, RefusedError)) == 1
    trades = [trade(product_id="BIT-30JAN26-CDE"), trade(product_id="DOGE-USD"), trade()]
    events = adapts.receive(frame(message("market_trades", {"type": "update", "trades": trades})))
    assert {t.symbol for t in of(events, Trade)} == {"BTC-USD", "BIT-30JAN26-CDE"}
    assert [(error.field, error.value) for error in of(events, FieldError)] == [("product_id", "'DOGE-USD'")]


def test_requests_are_as_the_venue_documents_them() -> None:
    adapts = adapter()
    assert [json.loads(text) for text in adapts.subscriptions(["BTC-USD"], ["trades", "quotes", "books"])] == [
        {"type": "subscribe", "channel": "heartbeats"},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "market_trades"},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "ticker"},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "level2"},
    ]
    assert [json.loads(text) for text in adapts.resubscriptions(["BTC-USD"])] == [
        {"type": "unsubscribe", "product_ids": ["BTC-USD"], "channel": "level2"},
        {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "level2"},
    ]


def test_answer_to_a_request_tells_what_is_subscribed() -> None:
    answer = message("subscriptions", {"subscriptions": {"level2": ["BTC-USD"], "heartbeats": ["heartbeats"]}})
    assert adapter().receive(frame(answer)) == [Subscribed("ws.1", (("books", "BTC-USD"),))]
