"""The simulated Binance over real sockets, with plain clients that know nothing of its inside."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import picows
import pytest

from coinstream.errors import SettingsError
from coinstream.simulator import Done, FaultKind, SimulatorAddresses, parse_faults, serve

START_TIME_US = 1_780_000_000_000_000


@asynccontextmanager
async def exchange(
    *, rate: float, symbols: list[str] | None = None, faults: list[str] | None = None, done: Done | None = None
) -> AsyncIterator[SimulatorAddresses]:
    ready: asyncio.Future[SimulatorAddresses] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    server = asyncio.create_task(
        serve(
            protocol="binance",
            seed=11,
            rate=rate,
            start_time_us=START_TIME_US,
            symbols=symbols,
            faults=parse_faults(faults or []),
            on_ready=ready.set_result,
            stop=stop,
            done=done,
        )
    )
    await asyncio.wait({ready, server}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield ready.result()
    finally:
        stop.set()
        await asyncio.wait_for(server, timeout=5)


class Client(picows.WSListener):
    """Keeps every message, and what kind of frame each other one was."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.pongs: list[bytes] = []
        self.transport: picows.WSTransport | None = None
        self.closed = asyncio.Event()
        self.close_reason: tuple[int, str | None] | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002
        self.closed.set()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            self.close_reason = int(frame.get_close_code()), frame.get_close_reason()
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.PONG:
            self.pongs.append(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.TEXT:
            self.messages.append(json.loads(frame.get_payload_as_bytes()))

    def request(self, method: str, *params: str, id_: int = 1) -> None:
        body = json.dumps({"method": method, "params": params, "id": id_})
        self.transport.send(picows.WSMsgType.TEXT, body.encode())


async def connect(url: str) -> Client:
    _, client = await picows.ws_connect(Client, url)
    return client


async def until(condition: Callable[[], Any], *, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def book_after(snapshot: dict[str, Any], events: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Bids and asks once a snapshot is followed by all events that the venue's rule lets join on to it."""
    sides, last = [dict(snapshot["bids"]), dict(snapshot["asks"])], snapshot["lastUpdateId"]
    for event in events:
        if event["u"] > last:
            assert event["U"] <= last + 1
            for side, changes in zip(sides, (event["b"], event["a"]), strict=True):
                side.update(changes)
            last = event["u"]
    return [{price: size for price, size in side.items() if size.strip("0.")} for side in sides]


def test_snapshots_of_any_moment_lead_to_one_book() -> None:
    async def scenario() -> None:
        async with (
            exchange(rate=1000, symbols=["BTC-USDT"]) as addresses,
            httpx.AsyncClient(base_url=addresses.http_url) as http,
        ):
            client = await connect(f"{addresses.websocket_url}/stream?streams=btcusdt@depth@100ms")
            await until(lambda: client.messages)
            snapshots = []
            for _ in range(5):
                reply = await http.get("/api/v3/depth", params={"symbol": "BTCUSDT", "limit": 5000})
                snapshots.append(reply.json())
                await asyncio.sleep(0.15)
            await until(lambda: client.messages[-1]["data"]["u"] > snapshots[-1]["lastUpdateId"])
            events = [message["data"] for message in client.messages]
            books = [book_after(snapshot, events) for snapshot in snapshots]
            assert books == [books[0]] * 5
            assert min(len(side) for side in books[0]) > 200
            assert len({snapshot["lastUpdateId"] for snapshot in snapshots}) == 5

    run(scenario)


def test_requests_are_answered_and_streams_follow() -> None:
    async def scenario() -> None:
        async with exchange(rate=500) as addresses:
            client = await connect(f"{addresses.websocket_url}/ws")
            client.request("SUBSCRIBE", "ethusdt@aggTrade", "ethusdt@bookTicker", id_=5)
            client.request("LIST_SUBSCRIPTIONS", id_=6)
            await until(lambda: len(client.messages) > 20)
            assert client.messages[0] == {"result": None, "id": 5}
            assert {"result": ["ethusdt@aggTrade", "ethusdt@bookTicker"], "id": 6} in client.messages
            assert {message["s"] for message in client.messages if "s" in message} == {"ETHUSDT"}
            client.transport.send_ping(b"are you there")
            await until(lambda: client.pongs)
            assert client.pongs == [b"are you there"]

    run(scenario)


def test_address_without_a_websocket_is_refused_in_the_handshake() -> None:
    async def scenario() -> None:
        async with exchange(rate=1) as addresses:
            with pytest.raises(picows.WSInvalidStatusError, match="404"):
                await connect(f"{addresses.websocket_url}/nothing")

    run(scenario)


def test_hasty_client_is_hung_up_on_with_the_venues_code() -> None:
    async def scenario() -> None:
        async with exchange(rate=1) as addresses:
            client = await connect(f"{addresses.websocket_url}/ws")
            for number in range(7):
                client.request("LIST_SUBSCRIPTIONS", id_=number)
            await asyncio.wait_for(client.closed.wait(), timeout=5)
            assert client.close_reason == (1008, "Too many requests")

    run(scenario)


def test_half_open_connection_stays_open_and_answers_nothing() -> None:
    async def scenario() -> None:
        done = Done()
        async with exchange(rate=500, faults=["half-open=0.3"], done=done) as addresses:
            client = await connect(f"{addresses.websocket_url}/ws/btcusdt@aggTrade")
            await until(lambda: done.faults.get(FaultKind.HALF_OPEN), timeout_s=20)
            await asyncio.sleep(0.1)
            heard = len(client.messages)
            client.transport.send_ping(b"hello")
            client.request("LIST_SUBSCRIPTIONS")
            await asyncio.sleep(0.4)
            assert len(client.messages) == heard
            assert client.pongs == []
            assert not client.closed.is_set()
            # others are none the worse for it
            async with httpx.AsyncClient(base_url=addresses.http_url) as http:
                assert (await http.get("/api/v3/ping")).json() == {}

    run(scenario)


def test_refused_requests_say_when_to_come_again_and_the_others_are_answered() -> None:
    async def scenario() -> None:
        done = Done()
        async with (
            exchange(rate=10, faults=["too-many-requests=0.5"], done=done) as addresses,
            httpx.AsyncClient(base_url=addresses.http_url) as http,
        ):
            replies = [await http.get("/api/v3/time") for _ in range(40)]
            refused = [reply for reply in replies if reply.status_code == 429]
            assert 8 < len(refused) == done.faults[FaultKind.TOO_MANY_REQUESTS] < 32
            assert {reply.headers["retry-after"] for reply in refused} == {"1"}
            assert {reply.json()["code"] for reply in refused} == {-1003}
            assert {reply.status_code for reply in replies} == {200, 429}
            assert done.requests == 40

    run(scenario)


def test_protocol_or_symbol_that_is_not_spoken_is_a_settings_error() -> None:
    async def scenario() -> None:
        with pytest.raises(SettingsError, match="coinbase or binance"):
            await serve(protocol="nyse", seed=1, rate=1, start_time_us=1, on_ready=lambda _: None, stop=asyncio.Event())
        with pytest.raises(SettingsError, match="out of BTC-USDT, ETH-USDT"):
            async with exchange(rate=1, symbols=["BTC-USD"]):
                pass

    run(scenario)
