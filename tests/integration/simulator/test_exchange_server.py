"""The simulated exchange over real sockets, with plain clients that know nothing of its inside."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpx
import picows
import pytest

from coinstream.errors import FatalError, SettingsError
from coinstream.simulator import SimulatorAddresses, serve

START_TIME_US = 1_780_000_000_000_000
Book = dict[str, dict[Decimal, str]]


@asynccontextmanager
async def exchange(*, rate: float, symbols: list[str] | None = None) -> AsyncIterator[SimulatorAddresses]:
    ready: asyncio.Future[SimulatorAddresses] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    server = asyncio.create_task(
        serve(seed=11, rate=rate, start_time_us=START_TIME_US, symbols=symbols, on_ready=ready.set_result, stop=stop)
    )
    await asyncio.wait({ready, server}, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield ready.result()
    finally:
        stop.set()
        await asyncio.wait_for(server, timeout=5)


class Client(picows.WSListener):
    """Keeps every message as it came."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.transport: picows.WSTransport | None = None
        self.closed = asyncio.Event()
        self.close_code: int | None = None

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:  # noqa: ARG002
        self.closed.set()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            self.close_code = frame.get_close_code()
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.TEXT:
            self.frames.append(frame.get_payload_as_bytes())

    def request(self, channel: str, *symbols: str, type_: str = "subscribe") -> None:
        body = json.dumps({"type": type_, "channel": channel, "product_ids": symbols})
        self.transport.send(picows.WSMsgType.TEXT, body.encode())

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.frames]


async def connect(url: str) -> Client:
    _, client = await picows.ws_connect(Client, url, max_frame_size=64 * 1024 * 1024)
    return client


async def until(condition: Callable[[], bool], *, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def apply_level2(book: Book, event: dict[str, Any]) -> None:
    if event["type"] == "snapshot":
        book["bid"], book["offer"] = {}, {}
    for update in event["updates"]:
        side, price = book[update["side"]], Decimal(update["price_level"])
        if Decimal(update["new_quantity"]) == 0:
            side.pop(price, None)
        else:
            side[price] = update["new_quantity"]


def test_folded_book_equals_the_snapshot_of_a_second_subscription() -> None:
    async def scenario() -> None:
        async with exchange(rate=2000, symbols=["BTC-USD", "SHIB-USD"]) as addresses:
            client = await connect(addresses.websocket_url)
            client.request("level2", "BTC-USD")
            await until(lambda: len(client.frames) > 60)
            client.request("level2", "BTC-USD")
            await until(lambda: sum(b'"type":"snapshot"' in frame for frame in client.frames) == 2)
            book: Book = {}
            events = [
                event for message in client.messages() if message["channel"] == "l2_data" for event in message["events"]
            ]
            last_snapshot = max(index for index, event in enumerate(events) if event["type"] == "snapshot")
            for event in events[:last_snapshot]:
                apply_level2(book, event)
                assert max(book["bid"]) < min(book["offer"])
            assert last_snapshot > 50
            resent: Book = {}
            apply_level2(resent, events[last_snapshot])
            assert book == resent

    run(scenario)


def test_sequence_is_contiguous_from_the_start_time_over_all_channels_of_a_connection() -> None:
    async def scenario() -> None:
        async with exchange(rate=500) as addresses:
            first, second = await connect(addresses.websocket_url), await connect(addresses.websocket_url)
            for channel in ("level2", "market_trades", "ticker"):
                first.request(channel, "BTC-USD", "ETH-USD", "SHIB-USD")
            first.request("heartbeats")
            second.request("market_trades", "ETH-USD")
            await until(lambda: sum(b'"heartbeats","client_id"' in frame for frame in first.frames) == 2)
            for client in (first, second):
                sequences = [message["sequence_num"] for message in client.messages()]
                assert sequences == list(range(START_TIME_US, START_TIME_US + len(sequences)))
            channels = {message["channel"] for message in first.messages()}
            assert channels == {"l2_data", "market_trades", "ticker", "heartbeats", "subscriptions"}
            traded = {
                trade["product_id"]
                for message in second.messages()
                for event in message["events"]
                for trade in event.get("trades", [])
            }
            assert traded == {"ETH-USD"}

    run(scenario)


def test_trades_print_on_the_makers_side_of_the_book() -> None:
    """A trade at what was the best offer is the maker's SELL; the frame order lets a client check it."""

    async def scenario() -> None:
        async with exchange(rate=20, symbols=["BTC-USD"]) as addresses:
            client = await connect(addresses.websocket_url)
            client.request("level2", "BTC-USD")
            client.request("market_trades", "BTC-USD")
            await until(lambda: sum(b'"type":"update","trades"' in frame for frame in client.frames) >= 8)
            touched: dict[str, set[str]] = {"bid": set(), "offer": set()}
            checked = 0
            for message in client.messages():
                for event in message["events"]:
                    for update in event.get("updates", []):
                        touched[update["side"]].add(update["price_level"])
                    for trade in event.get("trades", []) if event.get("type") == "update" else []:
                        makers = "bid" if trade["side"] == "BUY" else "offer"
                        assert trade["price"] in touched[makers]
                        checked += 1
            assert checked >= 8

    run(scenario)


def test_bad_requests_are_answered_and_the_connection_lives_on() -> None:
    async def scenario() -> None:
        async with exchange(rate=1) as addresses:
            client = await connect(addresses.websocket_url)
            client.transport.send(picows.WSMsgType.TEXT, b"{nonsense")
            client.request("level2", "NOPE-USD")
            client.request("heartbeats")
            await until(lambda: len(client.frames) >= 3)
            first, second, third = client.messages()[:3]
            assert first == {"type": "error", "message": "failed to parse message"}
            assert second["message"] == "failure to subscribe: NOPE-USD is not a valid product"
            assert (third["channel"], third["sequence_num"]) == ("subscriptions", START_TIME_US)

    run(scenario)


def test_rest_routes_answer_json_and_unknown_paths_404() -> None:
    async def scenario() -> None:
        async with exchange(rate=100) as addresses, httpx.AsyncClient(base_url=addresses.http_url) as client:
            products = await client.get("/api/v3/brokerage/market/products")
            assert products.status_code == 200
            assert products.headers["content-type"].startswith("application/json")
            assert "BTC-USD" in {product["product_id"] for product in products.json()["products"]}
            coins = await client.get("/api/v3/coins/markets", params={"vs_currency": "usd", "per_page": 250})
            assert coins.json()[0]["id"] == "bitcoin"
            tickers = await client.get("/v1/tickers")
            assert len(tickers.json()) == 25
            missing = await client.get("/v2/none")
            assert missing.status_code == 404
            assert missing.json()["error"] == "NOT_FOUND"

    run(scenario)


def test_stop_closes_connections_with_going_away_and_frees_the_ports() -> None:
    async def scenario() -> None:
        async with exchange(rate=100, symbols=["BTC-USD"]) as addresses:
            client = await connect(addresses.websocket_url)
            client.request("level2", "BTC-USD")
            await until(lambda: len(client.frames) > 3)
        await asyncio.wait_for(client.closed.wait(), timeout=2)
        assert client.close_code == picows.WSCloseCode.GOING_AWAY
        with pytest.raises(ConnectionRefusedError):
            await connect(addresses.websocket_url)

    run(scenario)


@pytest.mark.slow
def test_client_that_asks_for_nothing_is_disconnected() -> None:
    async def scenario() -> None:
        async with exchange(rate=1) as addresses:
            client = await connect(addresses.websocket_url)
            await asyncio.wait_for(client.closed.wait(), timeout=8)
            assert client.close_code == picows.WSCloseCode.POLICY_VIOLATION

    run(scenario)


@pytest.mark.slow
def test_client_that_reads_nothing_is_disconnected_and_others_miss_nothing() -> None:
    async def scenario() -> None:
        async with exchange(rate=20_000) as addresses:
            host, port = addresses.websocket_url.removeprefix("ws://").split(":")
            # A client that upgrades, subscribes to all, and then never reads.
            reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
            writer.write(
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert b"101" in await reader.readline()
            for channel in (b"level2", b"market_trades"):
                body = (
                    b'{"type":"subscribe","channel":"' + channel + b'","product_ids":["BTC-USD","ETH-USD","SOL-USD"]}'
                )
                writer.write(b"\x81\xfe" + len(body).to_bytes(2, "big") + bytes(4) + body)
            await writer.drain()
            reader._transport.pause_reading()
            healthy = await connect(addresses.websocket_url)
            healthy.request("level2", "BTC-USD")
            healthy.request("heartbeats")
            await until(
                lambda: sum(b'"heartbeats","client_id"' in frame for frame in healthy.frames) >= 7, timeout_s=30
            )
            sequences = [message["sequence_num"] for message in healthy.messages()]
            assert sequences == list(range(START_TIME_US, START_TIME_US + len(sequences)))
            reader._transport.resume_reading()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await asyncio.wait_for(reader.readexactly(10**9), timeout=20)  # ends, because the server hung up
            writer.close()

    run(scenario)


@pytest.mark.slow
def test_twenty_thousand_events_a_second_are_kept_up_for_three_seconds() -> None:
    async def scenario() -> None:
        async with exchange(rate=20_000) as addresses:
            client = await connect(addresses.websocket_url)
            async with httpx.AsyncClient(base_url=addresses.http_url) as http:
                products = (await http.get("/api/v3/brokerage/market/products")).json()["products"]
            symbols = [product["product_id"] for product in products]
            for channel in ("level2", "market_trades", "ticker"):
                client.request(channel, *symbols)
            await asyncio.sleep(3.5)
            messages = client.messages()
            trades = [
                trade
                for m in messages
                for e in m["events"]
                if e.get("type") == "update"
                for trade in e.get("trades", [])
            ]
            ids = {(trade["product_id"], trade["trade_id"]) for trade in trades}
            assert len(ids) == len(trades)
            # 0.78 trades an event; the last 250 ms may still be on their way
            assert len(trades) > 3.2 * 20_000 * 0.7
            newest = max(trade["time"].rstrip("Z") for trade in trades)  # without the Z, shorter fractions sort right
            assert newest <= messages[-1]["timestamp"].rstrip("Z")
            sequences = [message["sequence_num"] for message in messages]
            assert sequences == list(range(START_TIME_US, START_TIME_US + len(sequences)))

    run(scenario)


def test_port_in_use_is_a_fatal_error_that_says_so() -> None:
    async def scenario() -> None:
        async with exchange(rate=1) as addresses:
            port = int(addresses.websocket_url.rpartition(":")[2])
            with pytest.raises(FatalError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*choose another port"):
                await serve(
                    websocket_port=port,
                    seed=1,
                    rate=1,
                    start_time_us=START_TIME_US,
                    on_ready=lambda _: None,
                    stop=asyncio.Event(),
                )

    run(scenario)


@pytest.mark.parametrize("rate", [0, -1, 10**7])
def test_rate_out_of_range_is_a_settings_error(rate: float) -> None:
    async def scenario() -> None:
        with pytest.raises(SettingsError, match="market events a second"):
            await serve(seed=1, rate=rate, start_time_us=START_TIME_US, on_ready=lambda _: None, stop=asyncio.Event())

    run(scenario)
