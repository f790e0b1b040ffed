"""The feed beside its WebSocket: books and missed trades by HTTP, from a venue that is late, fails or refuses."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from coinstream.messages import Coverage, Trade
from scripted_binance import Venue, depth, subscribed, trade
from scripted_feed import MINUTE, SECOND, START, Script, World


def test_book_is_fetched_once_its_stream_runs_and_joined_to_the_changes_since() -> None:
    venue = Venue()
    venue.world.scripts = [
        Script([depth(4, 5), depth(6, 7), trade(1)], later=[[depth(8, 8)], []], then=venue.world.halt)
    ]
    venue.world.run()
    assert venue.asked == [(0, "/api/v3/depth?symbol=BTCUSDT&limit=1000")]
    assert venue.published()[0] == (0, "7")
    assert venue.published()[-1][1] == "8"
    assert venue.trades() == [("1", "live")]
    sent = [json.loads(text)["method"] for text in venue.world.links[0].sent]
    assert sent == ["SUBSCRIBE", "LIST_SUBSCRIPTIONS"]


def test_late_book_holds_no_trade_up() -> None:
    gate = asyncio.Event()
    venue = Venue()

    async def late() -> None:
        await gate.wait()

    venue.fails = lambda _: late()
    steps: list[list[bytes]] = [[trade(second), depth(5 + second, 5 + second)] for second in range(1, 9)]
    arrived: list[int] = []

    def open_gate() -> None:
        arrived.append(len(venue.world.producer.of(Trade)))
        venue.books["BTCUSDT"] = 9
        gate.set()

    class Opens(list[bytes]):
        """A step that opens the gate as it is taken."""

        def __iter__(self) -> Any:
            open_gate()
            return super().__iter__()

    venue.world.scripts = [
        Script([subscribed()], later=[*steps, Opens(), [], [trade(9)], []], then=venue.world.halt),
    ]
    venue.world.run()
    assert arrived == [8]  # all that came before the answer was published before it
    assert len(venue.books_asked()) == 1  # waited for, not asked for again
    assert venue.published()[0][1] == "13"
    assert [number for number, _ in venue.trades()] == [str(number) for number in range(1, 10)]


def test_book_that_fails_is_tried_again_with_growing_pauses_and_trades_go_on() -> None:
    failures = [{"status_code": 500}, {"status_code": 503}, {"status_code": 502}]
    venue = Venue(lambda _: failures.pop(0) if failures else None)
    venue.world.scripts = [
        Script([subscribed()], later=[[trade(second)] for second in range(1, 15)], then=venue.world.halt)
    ]
    with capture_logs() as logs:
        venue.world.run()
    seconds = venue.books_asked()
    assert len(seconds) == 4
    pauses = [after - before for before, after in pairwise(seconds)]
    assert [least <= pause <= least + 2 for least, pause in zip((1, 2, 4), pauses, strict=True)] == [True] * 3
    assert len(venue.published()) >= 1
    assert len(venue.trades()) == 14
    assert sum(line["event"] == "not fetched" for line in logs) == 3


@pytest.mark.parametrize(
    ("failure", "least_s"),
    [
        ({"status_code": 429, "headers": {"Retry-After": "9"}}, 9),
        ({"status_code": 418, "headers": {"Retry-After": "20"}}, 20),
        ({"status_code": 429}, 60),
        ({"status_code": 418}, 60),
    ],
)
def test_venue_that_wants_no_requests_gets_none_for_so_long(failure: dict[str, Any], least_s: int) -> None:
    failures = [failure]
    venue = Venue(lambda _: failures.pop(0) if failures else None)
    steps: list[list[bytes]] = [[trade(second)] for second in range(1, least_s + 6)]
    venue.world.scripts = [Script([subscribed("btcusdt", "ethusdt")], later=steps, then=venue.world.halt)]
    venue.world.run()
    first, *others = [second for second, _ in venue.asked]
    assert len(others) == 2  # both books, at last
    assert min(others) - first >= least_s
    assert len(venue.trades()) == least_s + 5


def test_book_that_the_venue_does_not_know_is_given_up_and_no_other_waits_for_it() -> None:
    venue = Venue(lambda request: {"status_code": 400} if "BTCUSDT" in str(request.url) else None)
    steps: list[list[bytes]] = [[trade(second)] for second in range(1, 16)]
    venue.world.scripts = [Script([subscribed("btcusdt", "ethusdt")], later=steps, then=venue.world.halt)]
    venue.world.run()
    assert len(venue.books_asked("BTCUSDT")) == 1  # the stream wants it every five seconds
    assert venue.published("ETH-USDT")[0][0] <= 2


def test_book_that_came_too_old_is_asked_for_again_in_a_while() -> None:
    venue = Venue()
    venue.books["BTCUSDT"] = 3

    def fresh(_: httpx.Request) -> None:
        if len(venue.books_asked()) == 2:
            venue.books["BTCUSDT"] = 8

    venue.fails = fresh
    venue.world.scripts = [
        Script([depth(8, 9)], later=[[depth(10 + n, 10 + n)] for n in range(9)], then=venue.world.halt)
    ]
    venue.world.run()
    first, second = venue.books_asked()
    assert 5 <= second - first <= 7
    assert venue.published()[0][1] != "8"


def test_gap_resynchronises_that_book_alone() -> None:
    venue = Venue()
    steps: list[list[bytes]] = [[] for _ in range(10)]
    steps[6] = [depth(9, 9), depth(6, 6, "ETHUSDT")]  # 6 to 8 of BTCUSDT are missing

    def anew(_: httpx.Request) -> None:
        if len(venue.books_asked()) == 2:
            venue.books["BTCUSDT"] = 9

    venue.fails = anew
    venue.world.scripts = [Script([subscribed("btcusdt", "ethusdt")], later=steps, then=venue.world.halt)]
    venue.world.run()
    assert [len(venue.books_asked(symbol)) for symbol in ("BTCUSDT", "ETHUSDT")] == [2, 1]
    sizes = [size for _, size in venue.published()]
    assert sizes[0] == "5"
    assert sizes[-1] == "9"
    assert [size for _, size in venue.published("ETH-USDT")][-1] == "6"
    statuses = {(row.channel, row.symbol): row.status for row in venue.world.producer.of(Coverage)}
    assert statuses["books", "BTC-USDT"] == "gap"
    assert statuses["books", "ETH-USDT"] == "disconnected"  # the minute is not over


def test_trades_missed_between_two_connections_are_fetched_and_coverage_says_so() -> None:
    venue = Venue()
    world = venue.world

    def lose() -> None:
        world.clock.us = START + MINUTE + 30 * SECOND

    def end() -> None:
        world.clock.us = START + 3 * MINUTE + SECOND
        world.halt()

    class At(list[bytes]):
        """Frames that come at a time of their own."""

        def __init__(self, time_us: int, *frames: bytes) -> None:
            super().__init__(frames)
            self._time_us = time_us

        def __iter__(self) -> Any:
            world.clock.us = self._time_us
            return super().__iter__()

    world.clock.us = START - 2 * SECOND
    world.scripts = [
        Script(
            [subscribed(), trade(1)],
            later=[[], [trade(2)], At(START + MINUTE + 3 * SECOND), [trade(3)]],
            then=lose,
            ends="cut",
        ),
        Script([subscribed()], later=[[trade(7)], [], [], At(START + 2 * MINUTE + 5 * SECOND, trade(8))], then=end),
    ]
    world.run()
    assert venue.trades() == [
        ("1", "live"),
        ("2", "live"),
        ("3", "live"),
        ("7", "live"),
        ("4", "backfill"),
        ("5", "backfill"),
        ("6", "backfill"),
        ("8", "live"),
    ]
    assert [path for _, path in venue.asked if "aggTrades" in path] == [
        "/api/v3/aggTrades?symbol=BTCUSDT&fromId=4&limit=1000"
    ]
    rows = {
        (row.minute - START) // MINUTE: (row.status, row.messages)
        for row in world.producer.of(Coverage)
        if (row.channel, row.symbol) == ("trades", "BTC-USDT")
    }
    assert rows[0] == ("complete", 1)
    assert rows[1] == ("backfilled", 2)


def test_trades_that_the_venue_does_not_give_leave_the_gap_in_coverage() -> None:
    venue = Venue(lambda request: {"status_code": 404} if "aggTrades" in str(request.url) else None)
    venue.world.scripts = [
        Script([subscribed(), trade(1), trade(3)], later=[[], [trade(4)], []], then=venue.world.halt)
    ]
    venue.world.run()
    assert venue.trades() == [("1", "live"), ("3", "live"), ("4", "live")]
    rows = [row.status for row in venue.world.producer.of(Coverage) if row.channel == "trades"]
    assert "gap" in rows
    assert "backfilled" not in rows


def test_new_connection_fetches_the_books_anew() -> None:
    venue = Venue()
    venue.world.scripts = [
        Script([subscribed()], later=[[], []], ends="cut"),
        Script([subscribed()], later=[[], [depth(6, 6)], []], then=venue.world.halt),
    ]
    venue.world.run()
    assert len(venue.books_asked()) == 2
    assert venue.published()[-1][1] == "6"


def test_other_address_of_the_rest_api_is_used_for_the_list_books_and_trades() -> None:
    venue = Venue()
    venue.world.scripts = [Script([subscribed(), trade(1), trade(3)], later=[[], [], []], then=venue.world.halt)]
    venue.world.run(rest_url="http://127.0.0.1:2/", websocket_url="ws://127.0.0.1:1", simulated=True)
    assert [url for url in venue.world.urls if url.startswith("ws")] == ["ws://127.0.0.1:1/stream"]
    http = [url for url in venue.world.urls if url.startswith("http")]
    assert http == [
        "http://127.0.0.1:2/api/v3/exchangeInfo",
        "http://127.0.0.1:2/api/v3/depth?symbol=BTCUSDT&limit=1000",
        "http://127.0.0.1:2/api/v3/aggTrades?symbol=BTCUSDT&fromId=2&limit=1000",
    ]
    assert {found.venue for found in venue.world.producer.of(Trade)} == {"binance_simulated"}


def futures_list(_: httpx.Request) -> httpx.Response:
    entry = {"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "status": "TRADING"}
    return httpx.Response(200, json={"symbols": [entry]})


def test_futures_are_read_over_a_connection_for_books_and_quotes_and_one_for_trades() -> None:
    world = World([], symbols=("BTC-USDT-PERP",), venue="binance_futures", answer=futures_list)
    world.scripts = [Script([], then=lambda: None), Script([trade(1)], later=[[]], then=world.halt)]
    world.run()
    assert [url for url in world.urls if url.startswith("ws")] == [
        "wss://fstream.binance.com/public/stream",
        "wss://fstream.binance.com/market/stream",
    ]
    asked = [json.loads(text)["params"] for link in world.links for text in link.sent if "params" in text]
    assert asked == [["btcusdt@bookTicker", "btcusdt@depth@100ms"], ["btcusdt@aggTrade"]]
    assert [found.symbol for found in world.producer.of(Trade)] == ["BTC-USDT-PERP"]
    pairs = [(row.channel, row.symbol) for row in world.producer.of(Coverage)]
    assert sorted(pairs) == [(channel, "BTC-USDT-PERP") for channel in ("books", "quotes", "trades")]
    assert world.producer.flushed == len(world.producer.messages)


def test_one_connections_defect_ends_the_others_in_good_order() -> None:
    def defect(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/depth"):
            raise ZeroDivisionError("a defect of ours")
        return futures_list(request)

    world = World([], symbols=("BTC-USDT-PERP",), venue="binance_futures", answer=defect)
    quiet: list[list[bytes]] = [[] for _ in range(5)]
    world.scripts = [
        Script([subscribed(channels=("depth@100ms",))], later=quiet),
        Script([trade(1)], later=quiet),
    ]
    with pytest.raises(ZeroDivisionError):
        world.run()
    assert [link.closed for link in world.links] == [["closed by us"], ["closed by us"]]
    assert [row.channel for row in world.producer.of(Coverage)] == ["trades"]
