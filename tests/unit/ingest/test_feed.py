"""The feed's flow with a scripted connection and venue; no socket, no clock but the test's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from coinstream.adapters import VENUES, dialects_of_venue
from coinstream.errors import FatalError, TransientError
from coinstream.ingest import feed as room
from coinstream.ingest.feed import run_feed
from coinstream.messages import BookSnapshot, Coverage, Instrument, Trade
from coinstream.telemetry import HEALTHY_UNTIL
from outlets import KeptOutlet
from scripted_feed import MINUTE, SECOND, START, Script, ScriptedLink, World


def message(sequence: int, channel: str, *events: dict[str, Any]) -> bytes:
    body = {"channel": channel, "timestamp": "2026-01-02T03:03:00Z", "sequence_num": sequence, "events": events}
    return json.dumps(body).encode()


def book(sequence: int, *levels: str, kind: str = "update", symbol: str = "BTC-USD") -> bytes:
    updates = [dict(zip(("side", "price_level", "new_quantity"), text.split(), strict=True)) for text in levels]
    return message(sequence, "l2_data", {"type": kind, "product_id": symbol, "updates": updates})


def snapshot(sequence: int, symbol: str = "BTC-USD") -> bytes:
    return book(sequence, "bid 100 1", "offer 101 1", kind="snapshot", symbol=symbol)


def trade(sequence: int, trade_id: str, **more: str) -> bytes:
    entry = {"product_id": "BTC-USD", "trade_id": trade_id, "price": "1", "size": "1", "side": "BUY"}
    return message(
        sequence, "market_trades", {"type": "update", "trades": [entry | {"time": "2026-01-02T03:03:00Z"} | more]}
    )


def subscribed(sequence: int) -> bytes:
    names = ("market_trades", "ticker", "level2")
    return message(sequence, "subscriptions", {"subscriptions": {name: ["BTC-USD"] for name in names}})


def coverage(producer: KeptOutlet, symbol: str = "BTC-USD") -> list[tuple[str, int, str, int]]:
    return [
        (found.channel, (found.minute - START) // MINUTE, found.status, found.messages)
        for found in producer.of(Coverage)
        if found.symbol == symbol
    ]


def requests(link: ScriptedLink) -> list[tuple[str, str, tuple[str, ...]]]:
    found = [json.loads(text) for text in link.sent]
    return [(one["type"], one["channel"], tuple(one.get("product_ids", ()))) for one in found]


def test_list_comes_first_then_messages_in_order_then_last_books_and_coverage_all_flushed() -> None:
    world = World([])
    world.scripts = [Script([snapshot(0), subscribed(1), trade(2, "7"), book(3, "bid 100 2")], then=world.halt)]
    world.run()
    kinds = [type(found).__name__ for found in world.producer.messages]
    assert kinds[:4] == ["Instrument", "Instrument", "BookSnapshot", "Trade"]
    assert [found.bids for found in world.producer.of(BookSnapshot)] == [(("100", "1"),), (("100", "2"),)]
    assert [found.trade_id for found in world.producer.of(Trade)] == ["7"]
    assert coverage(world.producer) == [
        ("trades", 0, "disconnected", 1),
        ("quotes", 0, "disconnected", 0),
        ("books", 0, "disconnected", 2),
    ]
    assert world.producer.flushed == len(world.producer.messages)
    assert world.links[0].closed == ["closed by us"]
    assert world.urls == [
        "https://api.coinbase.com/api/v3/brokerage/market/products",
        "wss://advanced-trade-ws.coinbase.com",
    ]


def test_addresses_and_venue_of_a_simulator_are_taken() -> None:
    world = World([])
    world.scripts = [Script([trade(0, "7")], then=world.halt)]
    world.run(simulated=True, websocket_url="ws://127.0.0.1:1", rest_url="http://127.0.0.1:2/")
    assert world.urls == ["http://127.0.0.1:2/api/v3/brokerage/market/products", "ws://127.0.0.1:1"]
    assert [(found.venue, found.provenance) for found in world.producer.of(Trade)] == [
        ("coinbase_simulated", "simulated")
    ]
    assert {found.venue for found in world.producer.of(Instrument)} == {"coinbase_simulated"}


def test_lost_connection_is_opened_again_with_subscriptions_and_the_list() -> None:
    world = World([])

    def minute_over() -> None:
        world.clock.us = START + MINUTE
        world.halt()

    world.scripts = [
        TransientError("refused"),
        Script([snapshot(0), subscribed(1)], ends="cut"),
        Script([snapshot(0), subscribed(1), book(2, "bid 100 3")], later=[[]], then=minute_over),
    ]
    world.run()
    first = [("subscribe", "heartbeats", ())]
    assert [requests(link)[:1] for link in world.links] == [first, first]
    assert len(world.producer.of(Instrument)) == 6
    assert [found.bids[0][1] for found in world.producer.of(BookSnapshot)] == ["1", "1", "3", "3"]
    assert ("books", 0, "disconnected", 3) in coverage(world.producer)


def test_same_trouble_again_and_again_is_told_once() -> None:
    world = World([])
    world.scripts = [*[TransientError("refused")] * 5, TransientError("no such name"), Script(then=world.halt)]
    with capture_logs() as logs:
        world.run()
    warned = [line["why"] for line in logs if line["event"] == "not connected" and line["log_level"] == "warning"]
    assert warned == ["refused", "no such name"]


def test_garbage_is_dead_lettered_as_it_came_and_the_feed_goes_on() -> None:
    world = World([])
    world.scripts = [Script([b'{"truncated', trade(0, "1", price="NaN"), trade(1, "2")], then=world.halt)]
    world.run()
    assert [(letter.key, letter.value) for letter in world.producer.letters] == [
        (b"coinbase", b'{"truncated'),
        (b"coinbase", trade(0, "1", price="NaN")),
    ]
    assert "price" in world.producer.letters[1].reason
    assert [found.trade_id for found in world.producer.of(Trade)] == ["2"]


def test_gap_asks_for_the_book_anew_on_the_same_connection_and_coverage_says_gap() -> None:
    world = World([])
    resync = [("unsubscribe", "level2", ("BTC-USD",)), ("subscribe", "level2", ("BTC-USD",))]
    world.scripts = [
        Script(
            [snapshot(0), subscribed(1)],
            later=[*[()] * 4, [book(3, "bid 100 5")], [book(4, "bid 100 6")], [snapshot(5)]],
            then=world.halt,
        )
    ]
    world.run()
    assert requests(world.links[0])[4:] == resync
    published = [(found.received_time_us - START) / SECOND for found in world.producer.of(BookSnapshot)]
    assert published == [0, 2, 4, 7, 8]  # none while it was broken
    assert {found.bids for found in world.producer.of(BookSnapshot)} == {(("100", "1"),)}
    assert ("books", 0, "gap", 5) in coverage(world.producer)
    assert ("trades", 0, "gap", 0) in coverage(world.producer)
    assert len(world.links) == 1


def test_symbol_that_is_not_listed_is_named_with_near_ones_and_the_others_go_on() -> None:
    world = World([], listed=("BTC-USD", "ETH-USD"), symbols=("BTC-USDT", "ETH-USD"))
    world.scripts = [Script(then=world.halt)]
    with capture_logs() as logs:
        world.run()
    assert [line["symbols"] for line in logs if line["event"] == "not listed"] == ["BTC-USDT (near: BTC-USD, ETH-USD)"]
    subscribed_to = {ids for _, channel, ids in requests(world.links[0]) if channel != "heartbeats"}
    assert subscribed_to <= {("ETH-USD",)}
    assert {found.symbol for found in world.producer.of(Coverage)} == {"ETH-USD"}


def test_no_symbol_listed_is_fatal_and_says_what_to_do() -> None:
    world = World([Script()], symbols=("BTC-EURO",))
    with pytest.raises(FatalError, match=r"lists none of the symbols asked for: BTC-EURO.*--symbols"):
        world.run()


def test_without_a_list_the_feed_goes_on_with_symbols_as_spelled_and_asks_again_later() -> None:
    world = World([], listed=500)

    def list_is_back() -> None:
        world.listed = ("BTC-USD",)
        world.clock.us += 61 * SECOND

    world.scripts = [
        Script([trade(0, "7")], then=list_is_back, ends="cut"),
        Script([trade(0, "8")], ends="cut"),
        Script([trade(0, "9")], then=world.halt),
    ]
    world.run()
    assert [found.trade_id for found in world.producer.of(Trade)] == ["7", "8", "9"]
    assert world.producer.messages.index(world.producer.of(Trade)[0]) == 0
    assert {found.symbol for found in world.producer.of(Instrument)} == {"BTC-USD"}


def test_unknown_venue_is_fatal() -> None:
    async def scenario() -> None:
        await run_feed(venue="krake", symbols=["BTC-USD"], producer=KeptOutlet(), stop=asyncio.Event())

    with pytest.raises(FatalError, match=f"'krake' is not known; known are {', '.join(VENUES)}"):
        asyncio.run(scenario())


def test_full_queue_stops_the_feed_and_nothing_is_lost_or_overtaken() -> None:
    producer = KeptOutlet(room=4)
    world = World([], producer=producer)
    world.scripts = [Script([trade(n, str(n)) for n in range(500)], then=world.halt)]
    served: list[int] = []

    def serve() -> None:
        served.append(len(producer.messages))
        if producer.room == 0:
            producer.room = None if len(served) > 12 else 1

    producer.serve = serve  # type: ignore[method-assign]
    with capture_logs() as logs:
        world.run()
    assert [found.trade_id for found in producer.of(Trade)] == [str(n) for n in range(500)]
    assert sum(line["event"] == "Kafka takes no more" for line in logs) >= 1


def test_kafka_away_at_the_stop_is_an_error_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FLUSH_TIMEOUT_S", 0.0)
    producer = KeptOutlet(room=2)
    world = World([], producer=producer)

    def halt() -> None:
        world.clock.us += SECOND
        world.halt()

    world.scripts = [Script([], then=halt)]

    def serve() -> None:
        world.clock.us += 1000

    producer.serve = serve  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="were not taken by Kafka"):
        world.run()
    assert world.links[0].closed == ["closed by us"]


def test_error_of_the_producer_ends_the_feed() -> None:
    producer = KeptOutlet()
    world = World([Script()], producer=producer)

    def serve() -> None:
        raise FatalError("fenced")

    producer.serve = serve  # type: ignore[method-assign]
    with pytest.raises(FatalError, match="fenced"):
        world.run()


def test_venues_own_symbols_are_read_where_nobody_says_what() -> None:
    listed = dialects_of_venue("coinbase")[0].symbols
    world = World([Script()], symbols=(), listed=listed)
    world.scripts = [Script(then=world.halt)]
    world.run()
    assert {ids for _, channel, ids in requests(world.links[0]) if channel != "heartbeats"} <= {listed}
    assert {row.symbol for row in world.producer.of(Coverage)} == set(listed)


def vouched_s() -> float:
    (metric,) = HEALTHY_UNTIL.collect()
    return next(sample.value for sample in metric.samples if sample.labels == {"part": "venue"})


def test_feed_vouches_for_its_venue_by_each_frame_and_not_by_a_connection() -> None:
    seen: list[float] = []

    def look() -> None:
        seen.append(vouched_s())

    def look_and_halt() -> None:
        look()
        world.halt()

    world = World([])
    world.scripts = [Script(then=look, ends="cut"), Script([snapshot(0)], then=look_and_halt)]
    world.run()
    # The first connection lasted a second.
    assert seen == [0, START / SECOND + 1 + room.HEALTHY_FOR_S]
