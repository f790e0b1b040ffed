"""Binance's dialect where it is not plain: joining books, holes in trades, bad fields, requests, symbols."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coinstream.adapters import (
    BookUpdate,
    Event,
    Fetch,
    Frame,
    Gap,
    Repaired,
    Subscribed,
    Unsynchronised,
    VenueAdapter,
    dialect_of,
    dialects_of_venue,
)
from coinstream.adapters.binance_depth import MOST_HELD
from coinstream.adapters.binance_trades import MOST_FETCHED, MOST_HOLES
from coinstream.errors import FatalError, FieldError, RefusedError
from coinstream.messages import Instrument, Quote, Trade

NOW = 1767323046_000000
SECOND = 1_000_000
TIME_MS = 1767323045678


def adapter(venue: str = "binance") -> VenueAdapter:
    (dialect,) = dialects_of_venue(venue)
    return dialect.adapter()


def frame(data: Any, *, connection: str = "ws.1", time_us: int = NOW) -> Frame:
    text = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Frame(time_us, connection, "wss://x/stream", "ws", text)


def http(path: str, body: Any, *, time_us: int = NOW) -> Frame:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Frame(time_us, "http.1", f"https://x/api/v3/{path}", "http", text)


def trade(number: int = 71, **changes: Any) -> dict[str, Any]:
    fields = {"e": "aggTrade", "E": TIME_MS, "s": "BTCUSDT", "a": number, "p": "101.25", "q": "0.50", "T": TIME_MS}
    return {key: value for key, value in (fields | {"m": True} | changes).items() if value is not None}


def depth(first: int, last: int, *bids: str, **more: Any) -> dict[str, Any]:
    fields = {"e": "depthUpdate", "E": TIME_MS, "s": "BTCUSDT", "U": first, "u": last}
    return fields | {"b": [bid.split() for bid in bids], "a": []} | more


def snapshot(last: int, *bids: str) -> Frame:
    body = {"lastUpdateId": last, "bids": [bid.split() for bid in bids], "asks": []}
    return http("depth?symbol=BTCUSDT&limit=1000", body)


def page(first: int, ids: list[int]) -> Frame:
    body = [{"a": n, "p": "101.25", "q": "1", "f": n, "l": n, "T": TIME_MS, "m": False, "M": True} for n in ids]
    return http(f"aggTrades?symbol=BTCUSDT&fromId={first}&limit=1000", body, time_us=NOW + SECOND)


def of(events: list[Event], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def books(events: list[Event]) -> list[tuple[bool, int | None, list[tuple[str, str]]]]:
    return [(event.is_snapshot, event.sequence, list(event.bids)) for event in of(events, BookUpdate)]


# Books


def test_changes_that_come_before_the_snapshot_are_held_and_then_applied_after_it() -> None:
    adapts = adapter()
    assert adapts.receive(frame(depth(157, 160, "100 9"))) == [Unsynchronised("ws.1", "BTCUSDT")]
    assert adapts.receive(frame(depth(161, 163, "100 2"))) == []
    assert adapts.receive(frame(depth(164, 165, "99 1"))) == []
    events = adapts.receive(snapshot(161, "100 1"))
    assert books(events) == [
        (True, 161, [("100", "1")]),
        (False, 163, [("100", "2")]),
        (False, 165, [("99", "1")]),
    ]
    assert {event.connection for event in of(events, BookUpdate)} == {"ws.1"}
    assert books(adapts.receive(frame(depth(166, 166, "98 1")))) == [(False, 166, [("98", "1")])]


@pytest.mark.parametrize(
    ("snapshot_id", "first_change", "is_joined"),
    [
        (160, (161, 165), True),  # U == lastUpdateId + 1
        (160, (159, 165), True),  # it straddles the snapshot
        (160, (160, 161), True),
        (160, (162, 165), False),  # 161 is in neither
        (160, (158, 160), None),  # the snapshot has it
    ],
)
def test_first_change_on_spot_must_hold_the_id_after_the_snapshots(
    snapshot_id: int, first_change: tuple[int, int], is_joined: Any
) -> None:
    adapts = adapter()
    adapts.receive(frame(depth(*first_change, "100 2")))
    events = adapts.receive(snapshot(snapshot_id, "100 1"))
    if is_joined is False:
        assert events == [Unsynchronised("ws.1", "BTCUSDT")]
    else:
        assert [is_snapshot for is_snapshot, _, _ in books(events)] == [True, *([False] if is_joined else [])]


@pytest.mark.parametrize(
    ("snapshot_id", "first_change", "outcome"),
    [
        (160, (155, 165, 150), "joined"),
        (160, (160, 160, 150), "joined"),  # futures drop u < lastUpdateId alone
        (160, (150, 159, 140), "dropped"),
        (160, (163, 165, 160), "joined"),  # the snapshot ends where the change before ended
        (160, (161, 165, 155), "refused"),
        (160, (170, 175, 165), "refused"),
    ],
)
@pytest.mark.parametrize("is_held", [True, False])
def test_first_change_on_futures_must_hold_the_snapshots_id(
    snapshot_id: int, first_change: tuple[int, int, int], outcome: str, is_held: Any
) -> None:
    adapts = adapter("binance_futures")
    first, last, previous = first_change
    change = frame(depth(first, last, "100 2", pu=previous))
    if is_held:
        adapts.receive(change)
        events = adapts.receive(snapshot(snapshot_id, "100 1"))
        refused = of(events, Unsynchronised)
    else:
        adapts.receive(frame(depth(1, 2, "1 1", pu=0)))
        events = [*adapts.receive(snapshot(snapshot_id, "100 1")), *adapts.receive(change)]
        refused = of(events, Gap)
    applied = [sequence for is_snapshot, sequence, _ in books(events) if not is_snapshot]
    assert applied == ([last] if outcome == "joined" else [])
    assert bool(refused) == (outcome == "refused")


def test_hole_in_a_books_changes_is_a_gap_and_the_change_waits_for_the_new_snapshot() -> None:
    adapts = adapter()
    adapts.receive(frame(depth(1, 5, "100 1")))
    adapts.receive(snapshot(5, "100 1"))
    events = adapts.receive(frame(depth(8, 9, "100 3")))
    assert events == [Gap("ws.1", "books", "BTCUSDT", "update ids went from 5 to 8")]
    assert adapts.receive(frame(depth(10, 10, "100 4"))) == []
    assert books(adapts.receive(snapshot(8, "100 2"))) == [
        (True, 8, [("100", "2")]),
        (False, 9, [("100", "3")]),
        (False, 10, [("100", "4")]),
    ]


def test_futures_change_that_does_not_follow_by_pu_is_a_gap() -> None:
    adapts = adapter("binance_futures")
    adapts.receive(frame(depth(1, 5, "100 1", pu=0)))
    adapts.receive(snapshot(5, "100 1"))
    assert books(adapts.receive(frame(depth(8, 9, "100 3", pu=5)))) == [(False, 9, [("100", "3")])]
    assert of(adapts.receive(frame(depth(12, 13, "100 3", pu=10))), Gap)


def test_change_that_comes_twice_or_late_changes_nothing() -> None:
    adapts = adapter()
    adapts.receive(frame(depth(1, 5, "100 1")))
    adapts.receive(snapshot(5, "100 1"))
    adapts.receive(frame(depth(6, 7, "100 2")))
    assert adapts.receive(frame(depth(6, 7, "100 2"))) == []
    assert adapts.receive(frame(depth(4, 5, "100 9"))) == []
    assert books(adapts.receive(frame(depth(8, 8, "100 3")))) == [(False, 8, [("100", "3")])]


def test_changes_in_the_wrong_order_are_put_right_once_the_snapshot_is_here() -> None:
    adapts = adapter()
    for first in (6, 8, 7, 6):
        adapts.receive(frame(depth(first, first, f"100 {first}")))
    assert [sequence for _, sequence, _ in books(adapts.receive(snapshot(5, "100 1")))] == [5, 6, 7, 8]


def test_held_changes_are_bounded_and_the_oldest_go_first() -> None:
    adapts = adapter()
    for number in range(1, MOST_HELD + 11):
        adapts.receive(frame(depth(number, number, f"100 {number}")))
    assert of(adapts.receive(snapshot(5, "100 1")), Unsynchronised)  # 6 to 10 are gone
    assert len(of(adapts.receive(snapshot(10, "100 1")), BookUpdate)) == 1 + MOST_HELD


def test_new_connection_begins_every_book_anew() -> None:
    adapts = adapter()
    adapts.receive(frame(depth(1, 5, "100 1")))
    adapts.receive(snapshot(5, "100 1"))
    assert adapts.receive(frame(depth(6, 6, "100 2"), connection="ws.2")) == [Unsynchronised("ws.2", "BTCUSDT")]
    events = adapts.receive(snapshot(5, "100 1"))  # asked for by the old connection, and good all the same
    assert [sequence for _, sequence, _ in books(events)] == [5, 6]
    assert {event.connection for event in of(events, BookUpdate)} == {"ws.2"}


def test_name_of_a_connection_that_is_used_again_begins_anew() -> None:
    adapts = adapter()
    adapts.receive(frame(depth(1000, 1005, "100 1")))
    adapts.receive(snapshot(1005, "100 1"))
    adapts.receive(frame(b"")._replace(opens=True))
    assert adapts.receive(frame(depth(6, 6, "100 2"))) == [Unsynchronised("ws.1", "BTCUSDT")]


def test_snapshot_before_any_change_of_its_book_waits_for_the_first() -> None:
    adapts = adapter()
    assert adapts.receive(snapshot(5, "100 1")) == []
    assert [sequence for _, sequence, _ in books(adapts.receive(frame(depth(6, 6, "100 2"))))] == [5, 6]


def test_snapshot_that_nobody_needs_changes_nothing() -> None:
    adapts = adapter()
    adapts.receive(frame(depth(1, 5, "100 1")))
    adapts.receive(snapshot(5, "100 1"))
    assert adapts.receive(snapshot(4, "100 7")) == []


def test_book_is_fetched_at_the_venues_address_and_the_changes_wait_for_it() -> None:
    adapts = adapter()
    adapts.receive(frame(depth(1, 5, "100 1")))
    adapts.receive(snapshot(5, "100 1"))
    url = "https://data-api.binance.vision/api/v3/depth?symbol=BTCUSDT&limit=1000"
    assert adapts.book_fetches(["BTCUSDT"]) == [Fetch(url, "books", "BTCUSDT", 1.0)]
    assert adapts.receive(frame(depth(6, 6, "100 2"))) == []
    assert [sequence for _, sequence, _ in books(adapts.receive(snapshot(6, "100 2")))] == [6]
    assert adapts.resubscriptions(["BTCUSDT"]) == []


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"lastUpdateId":5}', b'{"lastUpdateId":5,"bids":[["x","1"]],"asks":[]}', b'{"code":-1121}']
)
def test_body_that_is_no_book_is_refused_and_the_book_still_waits(body: bytes) -> None:
    adapts = adapter()
    adapts.receive(frame(depth(6, 6, "100 2")))
    (error,) = adapts.receive(http("depth?symbol=BTCUSDT&limit=1000", body))
    assert isinstance(error, RefusedError)
    assert len(books(adapts.receive(snapshot(5, "100 1")))) == 2


def test_body_from_an_address_that_nobody_asked_for_is_refused() -> None:
    (error,) = adapter().receive(http("time", {"serverTime": 1}))
    assert isinstance(error, FieldError)
    assert error.field == "url"


# Trades


def test_jump_of_trade_ids_is_a_gap_before_the_trade_and_what_misses_is_fetched() -> None:
    adapts = adapter()
    assert len(of(adapts.receive(frame(trade(71))), Trade)) == 1
    gap, fetch, live = adapts.receive(frame(trade(75), time_us=NOW + 5))
    assert gap == Gap("ws.1", "trades", "BTCUSDT", "trade ids went from 71 to 75", since_us=NOW)
    url = "https://data-api.binance.vision/api/v3/aggTrades?symbol=BTCUSDT&fromId=72&limit=1000"
    assert fetch == Fetch(url, "trades", "BTCUSDT", 0.08)
    assert isinstance(live, Trade)
    events = adapts.receive(page(72, [72, 73, 74, 75, 76]))  # the venue gives on from there: those are live already
    assert [(t.trade_id, t.provenance, t.aggressor_side, t.received_time_us) for t in of(events, Trade)] == [
        (number, "backfill", "buy", NOW + SECOND) for number in ("72", "73", "74")
    ]
    assert of(events, Repaired) == [Repaired("trades", "BTCUSDT", NOW, NOW + 5)]
    assert adapts.receive(frame(trade(76)))[0] == of(adapts.receive(frame(trade(76))), Trade)[0]


def test_hole_longer_than_a_page_is_fetched_page_by_page() -> None:
    adapts = adapter()
    adapts.receive(frame(trade(1)))
    adapts.receive(frame(trade(2002)))
    first = adapts.receive(page(2, list(range(2, 1002))))
    assert len(of(first, Trade)) == 1000
    (more,) = of(first, Fetch)
    assert "fromId=1002&" in more.url
    assert not of(first, Repaired)
    second = adapts.receive(page(1002, list(range(1002, 2002))))
    assert (len(of(second, Trade)), len(of(second, Repaired)), of(second, Fetch)) == (1000, 1, [])


@pytest.mark.parametrize("ids", [[], [60, 61]])
def test_page_that_leads_nowhere_ends_the_matter_and_repairs_nothing(ids: list[int]) -> None:
    adapts = adapter()
    adapts.receive(frame(trade(71)))
    adapts.receive(frame(trade(75)))
    assert adapts.receive(page(72, ids)) == []


def test_many_small_holes_are_filled_by_one_page() -> None:
    adapts = adapter()
    asked = [fetch for number in range(1, 100, 3) for fetch in of(adapts.receive(frame(trade(number))), Fetch)]
    assert [fetch.url.partition("fromId=")[2] for fetch in asked] == ["2&limit=1000"]
    events = adapts.receive(page(2, list(range(2, 91))))  # as far as the venue knew when it answered
    missing = [number for number in range(2, 91) if number % 3 != 1]
    assert [int(t.trade_id) for t in of(events, Trade)] == missing
    assert len(of(events, Repaired)) == len(missing) // 2
    (more,) = of(events, Fetch)
    assert "fromId=92&" in more.url
    assert [t.trade_id for t in of(adapts.receive(page(92, [92, 93, 94])), Trade)] == ["92", "93"]


def test_request_that_is_never_answered_is_made_again_when_another_hole_shows() -> None:
    adapts = adapter()
    times = [
        second
        for second in range(150)
        if of(adapts.receive(frame(trade(2 * second), time_us=NOW + second * SECOND)), Fetch)
    ]
    assert times == [1, 61, 121]


def test_waiting_holes_of_a_symbol_are_bounded() -> None:
    adapts = adapter()
    for number in range(MOST_HOLES + 50):
        adapts.receive(frame(trade(2 * number)))
    events = adapts.receive(page(1, list(range(1, 2 * MOST_HOLES + 100))))
    assert len(of(events, Repaired)) == MOST_HOLES
    assert not of(events, Fetch)


def test_hole_that_the_venue_fills_only_in_part_is_not_called_repaired() -> None:
    adapts = adapter()
    adapts.receive(frame(trade(71)))
    adapts.receive(frame(trade(75)))
    events = adapts.receive(page(72, [72, 74]))
    assert [t.trade_id for t in of(events, Trade)] == ["72", "74"]
    assert not of(events, Repaired)


def test_hole_beyond_the_bound_is_fetched_in_its_newest_part_and_stays_a_gap() -> None:
    adapts = adapter()
    adapts.receive(frame(trade(1)))
    last = 1 + 2 * MOST_FETCHED
    (fetch,) = of(adapts.receive(frame(trade(last + 1))), Fetch)
    first = last + 1 - MOST_FETCHED
    assert f"fromId={first}&" in fetch.url
    for start in range(first, last + 1, 1000):
        events = adapts.receive(page(start, list(range(start, start + 1000))))
    assert of(events, Fetch) == []
    assert of(events, Repaired) == []


def test_ids_that_go_on_after_a_reconnect_say_that_nothing_was_missed() -> None:
    adapts = adapter()
    adapts.receive(frame(trade(71)))
    events = adapts.receive(frame(trade(72), connection="ws.2", time_us=NOW + 9))
    assert events[0] == Repaired("trades", "BTCUSDT", NOW, NOW + 9)
    assert isinstance(events[1], Trade)


def test_trade_that_comes_twice_or_late_is_handed_on_and_makes_no_gap() -> None:
    adapts = adapter()
    adapts.receive(frame(trade(71)))
    for number in (71, 70, 72):
        (again,) = adapts.receive(frame(trade(number)))
        assert again.trade_id == str(number)  # type: ignore[union-attr]


def test_older_recording_after_a_newer_one_makes_no_gap() -> None:
    adapts = adapter()
    adapts.receive(frame(trade(71)))
    day = 86_400 * SECOND
    assert len(adapts.receive(frame(trade(5), time_us=NOW - day))) == 1
    assert of(adapts.receive(frame(trade(7), time_us=NOW - day + 1)), Gap)


def test_entry_of_a_page_that_is_bad_is_refused_and_its_neighbours_count() -> None:
    adapts = adapter()
    adapts.receive(frame(trade(71)))
    adapts.receive(frame(trade(74)))
    body = (
        b'[{"a":72,"p":1.5,"q":"1","T":1767323045678,"m":true},{"a":73,"p":"NaN","q":"1","T":1767323045678,"m":true}]'
    )
    events = adapts.receive(http("aggTrades?symbol=BTCUSDT&fromId=72&limit=1000", body))
    assert [(t.trade_id, t.price) for t in of(events, Trade)] == [("72", "1.5")]
    assert len(of(events, RefusedError)) == 1
    assert not of(events, Repaired)


@pytest.mark.parametrize(("is_maker", "side"), [(True, "sell"), (False, "buy")])
def test_aggressor_is_opposite_to_the_maker(is_maker: Any, side: str) -> None:
    (found,) = adapter().receive(frame(trade(m=is_maker)))
    assert isinstance(found, Trade)
    assert found.aggressor_side == side


# Fields


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"p": "NaN"}, "p"),
        ({"p": "Infinity"}, "p"),
        ({"p": "0"}, "p"),
        ({"p": ""}, "p"),
        ({"p": None}, "p"),
        ({"q": "-0.5"}, "q"),
        ({"q": "1e-19"}, "q"),
        ({"p": "10000000000000000"}, "p"),
        ({"m": None}, "m"),
        ({"m": "yes"}, "m"),
        ({"T": None}, "T"),
        ({"T": 1}, "T"),
        ({"T": 1767323045678000}, "T"),  # microseconds, which nobody asked for
        ({"a": None}, "a"),
        ({"a": "71"}, "a"),
        ({"a": -1}, "a"),
        ({"s": ""}, "s"),
        ({"e": "auction"}, "e"),
    ],
)
def test_bad_field_is_refused_by_name_and_the_trade_is_fetched_once_the_next_comes(
    changes: dict[str, Any], field: str
) -> None:
    adapts = adapter()
    adapts.receive(frame(trade(70)))
    refused = adapts.receive(frame(trade(**changes)))
    assert [error.field for error in of(refused, FieldError)] == [field]
    assert [(gap.channel, gap.symbol) for gap in of(refused, Gap)] == (
        [] if field in ("s", "e") else [("trades", "BTCUSDT")]
    )
    events = adapts.receive(frame(trade(72)))
    assert (len(of(events, Trade)), len(of(events, Gap)), len(of(events, Fetch))) == (1, 1, 1)


@pytest.mark.parametrize(
    ("event", "channel"),
    [
        ({"u": 1, "s": "BTCUSDT", "b": "x", "B": "1", "a": "2", "A": "1"}, "quotes"),
        ({"u": 1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "2"}, "quotes"),
        ({"e": "bookTicker", "u": -1, "s": "BTCUSDT", "b": "1", "B": "1", "a": "2", "A": "1"}, "quotes"),
        (depth(6, 7, "100 -1"), "books"),
        (depth(6, 7, "x 1"), "books"),
        (depth(6, 7) | {"b": [["1"]]}, "books"),
        (depth(6, 7) | {"a": "1"}, "books"),
        (depth(6, 7) | {"u": None}, "books"),
    ],
)
def test_refused_quote_or_change_is_a_gap_of_its_channel(event: dict[str, Any], channel: str) -> None:
    adapts = adapter()
    adapts.receive(frame(depth(1, 5, "100 1")))
    adapts.receive(snapshot(5, "100 1"))
    events = adapts.receive(frame({"stream": "x", "data": event}))
    assert isinstance(events[0], FieldError)
    assert [(gap.channel, gap.symbol) for gap in of(events, Gap)] == [(channel, "BTCUSDT")]
    assert bool(books(adapts.receive(frame(depth(6, 6, "100 2"))))) == (channel == "quotes")


@pytest.mark.parametrize("data", [b"", b"{", b'{"e":"aggTrade","a":7', b"\xff\xfe", b"not json", b"[" * 100_000])
def test_frame_that_is_no_json_is_refused_and_may_have_been_a_quote_or_a_trade(data: bytes) -> None:
    adapts = adapter()
    adapts.receive(frame(trade(71)))
    events = adapts.receive(frame(data))
    assert isinstance(events[0], RefusedError)
    assert events[1:] == [
        Gap("ws.1", channel, None, "a frame could not be read", is_certain=False)  # type: ignore[arg-type]
        for channel in ("trades", "quotes")
    ]
    assert of(adapts.receive(frame(trade(72), time_us=NOW + 9)), Repaired) == [
        Repaired("trades", "BTCUSDT", NOW, NOW + 9)  # the next trade's id says that it was none
    ]
    assert len(adapts.receive(frame(trade(73)))) == 1


@pytest.mark.parametrize(
    "data", [b"null", b"7", b"[]", b'"text"', b'{"e":null}', b'{"data":[]}', b"{}", b'{"data":{}}']
)
def test_json_of_another_shape_is_refused(data: bytes) -> None:
    events = adapter().receive(frame(data))
    assert len(of(events, RefusedError)) == 1
    assert not of(events, Trade)


def test_hard_numbers_keep_their_digits_with_and_without_quotes() -> None:
    data = json.dumps(trade()).encode().replace(b'"101.25"', b"999999999999.000000000000000001")
    (found,) = adapter().receive(frame(data.replace(b'"0.50"', b"1e-18")))
    assert isinstance(found, Trade)
    assert (found.price, found.size) == ("999999999999.000000000000000001", "0.000000000000000001")
    (quote,) = adapter().receive(frame({"u": 1, "s": "BTCUSDT", "b": "1000000000000", "B": 2, "a": 3, "A": "1e-18"}))
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == ("1000000000000", "2", "3", "0.000000000000000001")


def test_spot_quote_has_no_time_and_a_futures_quote_that_of_its_event() -> None:
    ticker = {"u": 9, "s": "BTCUSDT", "b": "1", "B": "1", "a": "2", "A": "1"}
    (spot,) = adapter().receive(frame(ticker))
    (futures,) = adapter("binance_futures").receive(frame(ticker | {"e": "bookTicker", "T": TIME_MS - 5, "E": TIME_MS}))
    assert isinstance(spot, Quote)
    assert isinstance(futures, Quote)
    assert (spot.sequence, spot.event_time_us, futures.event_time_us) == (9, None, TIME_MS * 1000)


@pytest.mark.parametrize(
    "event",
    [{"e": "kline", "s": "BTCUSDT", "k": {"t": 1}}, {"e": "24hrTicker", "p": 1, "a": "1"}, {"e": "serverShutdown"}],
)
def test_channels_that_are_not_read_say_nothing(event: dict[str, Any]) -> None:
    assert adapter().receive(frame({"stream": "x", "data": event})) == []
    assert adapter().receive(frame(event)) == []


# Requests


def test_requests_are_as_the_venue_documents_them() -> None:
    adapts = adapter()
    assert [json.loads(text) for text in adapts.subscriptions(["BTC-USDT", "ETH-BTC"], {"books", "trades"})] == [
        {
            "method": "SUBSCRIBE",
            "params": ["btcusdt@aggTrade", "ethbtc@aggTrade", "btcusdt@depth@100ms", "ethbtc@depth@100ms"],
            "id": 1,
        },
        {"method": "LIST_SUBSCRIPTIONS", "id": 2},
    ]
    assert adapts.subscriptions([], ["trades"]) == []
    assert adapts.subscriptions(["BTC-USDT"], []) == []


def test_many_streams_are_asked_for_in_several_messages_and_too_many_are_fatal() -> None:
    adapts = adapter()
    sent = [json.loads(text) for text in adapts.subscriptions([f"A{n}-B" for n in range(300)], ["trades", "quotes"])]
    assert [len(message.get("params", [])) for message in sent] == [200, 200, 200, 0]
    with pytest.raises(FatalError, match="1026 streams of binance, and a connection carries 1024"):
        adapts.subscriptions([f"A{n}-B" for n in range(342)], ["trades", "quotes", "books"])


@pytest.mark.parametrize(
    ("symbol", "stream", "spelling"),
    [("BTC-USDT-PERP", "btcusdt", "BTCUSDT"), ("BTC-USDT-260327", "btcusdt_260327", "BTCUSDT_260327")],
)
def test_without_a_list_what_is_subscribed_is_spelled_as_the_venue_does_and_read_as_ours(
    symbol: str, stream: str, spelling: str
) -> None:
    adapts = adapter("binance_futures")
    assert f'"params":["{stream}@aggTrade"]' in adapts.subscriptions([symbol], ["trades"])[0]
    (found,) = adapts.receive(frame(trade(s=spelling)))
    assert isinstance(found, Trade)
    assert found.symbol == symbol
    (other,) = adapts.receive(frame(trade(s="ETHUSDT")))
    assert isinstance(other, Trade)
    assert other.symbol == "ETHUSDT"


def test_list_of_subscriptions_tells_what_is_connected_and_asks_for_the_books() -> None:
    adapts = adapter()
    answer = frame({"result": ["btcusdt@aggTrade", "btcusdt@depth@100ms", "btcusdt@kline_1m", 7], "id": 2})
    assert adapts.receive(answer) == [
        Subscribed("ws.1", (("trades", "BTCUSDT"), ("books", "BTCUSDT"))),
        Unsynchronised("ws.1", "BTCUSDT"),
    ]
    assert books(adapts.receive(snapshot(5, "100 1"))) == [(True, 5, [("100", "1")])]  # a quiet book is one, too
    assert adapts.receive(answer)[1:] == []


def test_address_of_a_connection_may_name_its_streams() -> None:
    url = "wss://stream.binance.com:9443/stream?streams=btcusdt@bookTicker/ethbtc@depth"
    opened = Frame(NOW, "ws.1", url, "ws", b"", opens=True)
    assert adapter().receive(opened) == [
        Subscribed("ws.1", (("quotes", "BTCUSDT"), ("books", "ETHBTC"))),
        Unsynchronised("ws.1", "ETHBTC"),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"code": 2, "msg": "Invalid request: too many parameters"}, "id": 1},
        {"code": 2, "msg": "Invalid request: too many parameters", "id": 1},
    ],
)
def test_error_of_the_venue_is_refused_in_its_words(answer: dict[str, Any]) -> None:
    (error,) = adapter().receive(frame(answer))
    assert str(error) == "the venue says: Invalid request: too many parameters (2)"


def test_confirmation_says_nothing() -> None:
    assert adapter().receive(frame({"result": None, "id": 1})) == []


# Symbols


def entry(**changes: Any) -> dict[str, Any]:
    fields = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": []}
    return {key: value for key, value in (fields | changes).items() if value is not None}


def test_list_gives_our_symbols_and_refuses_others() -> None:
    adapts = adapter()
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": 0.01},
        {"filterType": "LOT_SIZE", "stepSize": "0"},
        {"filterType": "NOTIONAL", "minNotional": "5"},
    ]
    body = {
        "symbols": [
            entry(filters=filters),
            entry(symbol="BADUSDT", filters=[{"filterType": "PRICE_FILTER", "tickSize": "NaN"}]),
            {"symbol": "HALF"},
            entry(symbol="X", baseAsset=""),
            7,
        ]
    }
    events = adapts.receive(http("exchangeInfo", body))
    (instrument,) = of(events, Instrument)
    assert (instrument.symbol, instrument.venue_symbol, instrument.tick_size) == ("BTC-USDT", "BTCUSDT", "0.01")
    assert (instrument.lot_size, instrument.minimum_notional, instrument.status) == (None, "5", "online")
    assert [str(error)[:36] for error in of(events, RefusedError)] == [
        "symbol 1: tickSize: must be a decima",
        "symbol 2: baseAsset: is missing",
        "symbol 3: baseAsset: expected str of",
        "symbol 4: not a message of this type",
    ]
    (found,) = adapts.receive(frame(trade()))
    assert isinstance(found, Trade)
    assert found.symbol == "BTC-USDT"
    (error,) = adapts.receive(frame(trade(s="ETHUSDT")))
    assert isinstance(error, FieldError)
    assert (error.field, error.reason) == ("s", "is not a symbol that the venue lists")


def test_futures_are_perpetual_or_dated() -> None:
    adapts = adapter("binance_futures")
    body = {
        "symbols": [
            entry(contractType="PERPETUAL", filters=[{"filterType": "MIN_NOTIONAL", "notional": "100"}]),
            entry(symbol="BTCUSDT_260327", contractType="CURRENT_QUARTER"),
            entry(symbol="OLDUSDT", baseAsset="OLD", contractType="", status="SETTLING"),
        ]
    }
    found = of(adapts.receive(http("exchangeInfo", body)), Instrument)
    assert [(i.symbol, i.status, i.minimum_notional) for i in found] == [
        ("BTC-USDT-PERP", "online", "100"),
        ("BTC-USDT-260327", "online", None),
        ("OLD-USDT-PERP", "offline", None),
    ]


@pytest.mark.parametrize("body", [b'{"code":-1003,"msg":"Too many requests"}', b"<html>", b"", b"[]"])
def test_body_that_is_no_list_is_refused_and_teaches_nothing(body: bytes) -> None:
    adapts = adapter()
    (error,) = adapts.receive(http("exchangeInfo", body))
    assert isinstance(error, RefusedError)
    assert len(of(adapts.receive(frame(trade())), Trade)) == 1


@pytest.mark.parametrize(
    ("url", "venue"),
    [
        ("wss://stream.binance.com:9443/stream?streams=a", "binance"),
        ("wss://data-stream.binance.vision/stream", "binance"),
        ("https://data-api.binance.vision/api/v3/depth", "binance"),
        ("wss://stream.binance.us:9443/ws", "binance_us"),
        ("wss://fstream.binance.com/market/stream", "binance_futures"),
        ("https://fapi.binance.com/fapi/v1/depth", "binance_futures"),
    ],
)
def test_address_tells_the_venue(url: str, venue: str) -> None:
    dialect = dialect_of(url)
    assert dialect is not None
    assert dialect.venue == venue
    assert dialect.adapter().venue == venue


def test_futures_go_over_two_addresses_that_carry_each_channel_once() -> None:
    (dialect,) = dialects_of_venue("binance_futures")
    assert sorted(channel for route in dialect.routes for channel in route.channels) == ["books", "quotes", "trades"]
