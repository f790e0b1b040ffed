"""A live feed against a real WebSocket server that behaves, and misbehaves, as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import picows
import pytest

from coinstream.errors import FatalError
from coinstream.ingest import run_feed
from coinstream.ingest.connection import Limits
from coinstream.ingest.feed import Outside
from coinstream.ingest.fetch import Patience
from coinstream.messages import BookSnapshot, Coverage, Instrument, Quote, Trade
from coinstream.simulator import SimulatorAddresses, serve
from outlets import KeptOutlet

NOWHERE = "http://127.0.0.1:1"
TIME = "2026-01-02T03:04:05.000001Z"


def frame(channel: str, sequence: int, *events: dict[str, Any]) -> str:
    return json.dumps({"channel": channel, "timestamp": TIME, "sequence_num": sequence, "events": list(events)})


def trade(number: int, sequence: int, **changed: Any) -> str:
    entry = {
        "product_id": "BTC-USD",
        "trade_id": str(number),
        "price": "999999999999.000000000000000001",
        "size": "1e-18",
        "side": "BUY",
        "time": TIME,
    } | changed
    return frame("market_trades", sequence, {"type": "update", "trades": [entry]})


def book(sequence: int, kind: str, *levels: tuple[str, str, str]) -> str:
    updates = [{"side": s, "event_time": TIME, "price_level": p, "new_quantity": q} for s, p, q in levels]
    return frame("l2_data", sequence, {"type": kind, "product_id": "BTC-USD", "updates": updates})


SNAPSHOT = (("bid", "100", "1"), ("offer", "101", "2"))


class Server:
    """Plays a script to each connection; keeps what clients ask for."""

    def __init__(self, *scripts: Callable[[Session], Awaitable[None]], answers_pings: bool = True) -> None:
        self._scripts = list(scripts)
        self.answers_pings = answers_pings
        self.asked: list[dict[str, Any]] = []
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def accept(self, _request: picows.WSUpgradeRequest) -> picows.WSListener:
        self.connections += 1
        script = self._scripts[min(self.connections, len(self._scripts)) - 1]
        return Session(self, script)


class Session(picows.WSListener):
    def __init__(self, server: Server, script: Callable[[Session], Awaitable[None]]) -> None:
        self._server = server
        self._script = script

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport
        task = asyncio.ensure_future(self._script(self))
        self._server.tasks.add(task)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            self._server.asked.append(json.loads(frame.get_payload_as_utf8_text()))
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()

    def send(self, *texts: str) -> None:
        for text in texts:
            self.transport.send(picows.WSMsgType.TEXT, text.encode())

    def is_subscribed(self) -> bool:
        return len(self._server.asked) >= 4

    def books_asked(self) -> int:
        return sum(a["type"] == "subscribe" and a["channel"] == "level2" for a in self._server.asked)


@contextlib.asynccontextmanager
async def running(
    server: Server, outlet: KeptOutlet, limits: Limits | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """A feed of BTC-USD against the server, until the block ends."""
    listening = await picows.ws_create_server(server.accept, "127.0.0.1", 0, enable_auto_pong=server.answers_pings)
    port = listening.sockets[0].getsockname()[1]
    stop = asyncio.Event()
    feed = asyncio.ensure_future(
        run_feed(
            venue="coinbase",
            symbols=["BTC-USD"],
            producer=outlet,
            stop=stop,
            websocket_url=f"ws://127.0.0.1:{port}",
            rest_url=NOWHERE,
            outside=Outside(chance=random.Random(1), limits=limits or Limits(), patience=Patience(attempts=1)),
        )
    )
    try:
        yield feed
    finally:
        stop.set()
        await asyncio.wait_for(feed, 20)
        listening.close()
        for task in server.tasks:
            task.cancel()


async def until(is_true: Callable[[], Any], *, timeout_s: float = 15) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.02)


def of(outlet: KeptOutlet, kind: type[Any]) -> list[Any]:
    return [message for message in outlet.messages if type(message) is kind]


async def rest(_: Session) -> None:
    await asyncio.sleep(60)


def test_exact_numbers_pass_and_the_side_is_the_takers() -> None:
    outlet = KeptOutlet()

    async def script(session: Session) -> None:
        session.send(trade(7, 0))
        await rest(session)

    async def scenario() -> None:
        async with running(Server(script), outlet):
            await until(lambda: of(outlet, Trade))

    asyncio.run(scenario())
    (one,) = of(outlet, Trade)
    assert (one.price, one.size, one.aggressor_side) == (
        "999999999999.000000000000000001",
        "0.000000000000000001",
        "sell",
    )
    assert one.provenance == "live"
    assert abs(one.received_time_us - time.time_ns() // 1000) < 60_000_000


def test_garbage_is_dead_lettered_with_its_bytes_and_the_feed_goes_on() -> None:
    outlet = KeptOutlet()
    bad = ['{"channel":"market_tra', trade(8, 1, price="NaN"), trade(9, 2, size="-1"), '{"channel":"news","events":[]}']

    async def script(session: Session) -> None:
        session.send(trade(7, 0), *bad, trade(10, 3))
        await rest(session)

    async def scenario() -> None:
        server = Server(script)
        async with running(server, outlet):
            await until(lambda: len(of(outlet, Trade)) == 2)
        assert server.connections == 1

    asyncio.run(scenario())
    assert [t.trade_id for t in of(outlet, Trade)] == ["7", "10"]
    assert [letter.value for letter in outlet.letters] == [text.encode() for text in bad]
    assert {letter.key for letter in outlet.letters} == {b"coinbase"}


def test_dropped_connection_comes_back_and_subscribes_again() -> None:
    outlet = KeptOutlet()

    async def drop(session: Session) -> None:
        session.send(trade(1, 0))
        await until(session.is_subscribed)
        session.transport.disconnect(graceful=False)

    async def stay(session: Session) -> None:
        session.send(trade(2, 0))
        await rest(session)

    async def scenario() -> None:
        server = Server(drop, stay)
        async with running(server, outlet):
            await until(lambda: len(of(outlet, Trade)) == 2)
            await until(lambda: len(server.asked) >= 8)
        assert server.connections == 2
        channels = [asked["channel"] for asked in server.asked if asked["type"] == "subscribe"]
        assert sorted(channels) == sorted(["heartbeats", "level2", "market_trades", "ticker"] * 2)

    asyncio.run(scenario())
    assert outlet.letters == []
    assert {c.status for c in of(outlet, Coverage)} == {"disconnected"}


def test_silent_server_is_left_after_the_idle_timeout() -> None:
    outlet = KeptOutlet()

    async def scenario() -> None:
        server = Server(rest)
        async with running(server, outlet, Limits(idle_timeout_s=0.3)):
            await until(lambda: server.connections >= 2)

    asyncio.run(scenario())


def test_sequence_jump_makes_the_venue_send_the_book_anew_and_is_named() -> None:
    outlet = KeptOutlet()

    async def script(session: Session) -> None:
        session.send(book(0, "snapshot", *SNAPSHOT), book(1, "update", ("bid", "100", "5")))
        await asyncio.sleep(0.2)
        session.send(book(4, "update", ("bid", "100.5", "9")))
        await until(lambda: session.books_asked() == 2)
        session.send(book(5, "snapshot", ("bid", "90", "1"), ("offer", "91", "1")))
        await rest(session)

    async def scenario() -> None:
        async with running(Server(script), outlet):
            await until(lambda: any(b.bids[0][0] == "90" for b in of(outlet, BookSnapshot)))

    asyncio.run(scenario())
    assert not any(b.bids[0][0] == "100.5" for b in of(outlet, BookSnapshot))
    assert "gap" in {c.status for c in of(outlet, Coverage) if c.channel == "books"}


def test_half_open_connection_is_left_when_no_pong_comes() -> None:
    """The peer's kernel takes what we send, and its program never answers: nothing else would tell."""
    outlet = KeptOutlet()

    async def scenario() -> None:
        server = Server(rest, answers_pings=False)
        async with running(server, outlet, Limits(ping_after_s=0.2, pong_timeout_s=0.2)):
            await until(lambda: server.connections >= 2)

    asyncio.run(scenario())


def test_full_queue_stops_the_reading_and_nothing_is_lost() -> None:
    """A thousand trades that Kafka takes late, over a connection that may hold ten: one connection, in order."""
    outlet = KeptOutlet(room=5)
    sent: list[int] = []

    async def script(session: Session) -> None:
        for number in range(1000):
            session.send(trade(number, number))
            sent.append(number)
            if number == 500:
                await until(lambda: outlet.room == 0)
                outlet.room = None
        await rest(session)

    async def scenario() -> None:
        server = Server(script)
        async with running(server, outlet, Limits(max_waiting_messages=10)):
            await until(lambda: len(of(outlet, Trade)) == 1000)
        assert server.connections == 1

    asyncio.run(scenario())
    assert [int(t.trade_id) for t in of(outlet, Trade)] == list(range(1000))
    assert outlet.letters == []


def test_books_last_state_is_published_at_the_stop() -> None:
    outlet = KeptOutlet()

    async def script(session: Session) -> None:
        session.send(book(0, "snapshot", *SNAPSHOT), book(1, "update", ("bid", "100", "7")), trade(1, 2))
        await rest(session)

    async def scenario() -> None:
        async with running(Server(script), outlet):
            await until(lambda: of(outlet, Trade))

    asyncio.run(scenario())
    assert [b.bids[0][1] for b in of(outlet, BookSnapshot)] == ["1", "7"]


def test_unknown_venue_is_fatal_and_named() -> None:
    with pytest.raises(FatalError, match="nyse"):
        asyncio.run(run_feed(venue="nyse", symbols=["A-B"], producer=KeptOutlet(), stop=asyncio.Event()))


def simulated(outlet: KeptOutlet, symbols: list[str], *, until_true: Callable[[], Any]) -> None:
    """A feed of the simulated exchange until something is true."""

    async def scenario() -> None:
        ready: asyncio.Future[SimulatorAddresses] = asyncio.get_running_loop().create_future()
        stop, over = asyncio.Event(), asyncio.Event()
        market = asyncio.ensure_future(
            serve(seed=1, rate=500, start_time_us=time.time_ns() // 1000, on_ready=ready.set_result, stop=over)
        )
        addresses = await ready
        feed = asyncio.ensure_future(
            run_feed(
                venue="coinbase",
                symbols=symbols,
                producer=outlet,
                stop=stop,
                simulated=True,
                websocket_url=addresses.websocket_url,
                rest_url=addresses.http_url,
            )
        )
        try:
            await until(lambda: until_true() or feed.done())
        finally:
            stop.set()
            await asyncio.gather(feed, return_exceptions=False)
            over.set()
            await market

    asyncio.run(scenario())


def test_simulated_exchange_gives_every_kind_of_message_under_its_own_venue() -> None:
    outlet = KeptOutlet()
    kinds = (Instrument, Trade, Quote, BookSnapshot)
    simulated(outlet, ["BTC-USD", "DOGE-USD", "NO-SUCH"], until_true=lambda: all(of(outlet, kind) for kind in kinds))
    assert {m.venue for m in outlet.messages if not isinstance(m, Instrument | Coverage)} == {"coinbase_simulated"}
    assert {t.provenance for t in of(outlet, Trade)} <= {"simulated", "backfill"}
    assert {c.channel for c in of(outlet, Coverage)} == {"trades", "quotes", "books"}
    assert outlet.letters == []


def test_venue_that_lists_none_of_the_symbols_is_fatal() -> None:
    outlet = KeptOutlet()
    with pytest.raises(FatalError, match="NO-SUCH"):
        simulated(outlet, ["NO-SUCH"], until_true=lambda: False)
