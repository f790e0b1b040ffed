"""Binance's feed over real sockets: a WebSocket that is cut, and HTTP that is slow and refuses at first."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import picows

from coinstream.ingest import run_feed
from coinstream.ingest.feed import Outside
from coinstream.ingest.fetch import Patience
from coinstream.messages import BookSnapshot, Trade
from outlets import KeptOutlet

PING = b"1767323045000"


class Exchange:
    """A market that trades and changes its book ten times a second, and keeps all of it.

    Attributes:
        answers: HTTP statuses to give first, instead of books.
        requests: (path, status) of every HTTP request.
    """

    def __init__(self, answers: list[int]) -> None:
        self.answers = answers
        self.requests: list[tuple[str, int]] = []
        self.count = 0
        self.sessions: list[Session] = []
        self.asked: list[dict[str, Any]] = []
        self.pongs: list[bytes] = []

    def move(self) -> None:
        """Let a trade and a change of the book happen."""
        self.count += 1
        number, now_ms = self.count, time.time_ns() // 1_000_000
        change = {"e": "depthUpdate", "E": now_ms, "s": "BTCUSDT", "U": number, "u": number}
        for event in (self.trade(number), change | {"b": [["100", str(number)]], "a": []}):
            for session in self.sessions:
                session.send({"stream": "x", "data": event})

    def trade(self, number: int) -> dict[str, Any]:
        now_ms = time.time_ns() // 1_000_000
        fields = {"e": "aggTrade", "E": now_ms, "s": "BTCUSDT", "a": number, "p": "100", "q": "1", "T": now_ms}
        return fields | {"m": False}

    def body(self, path: str, query: dict[str, list[str]]) -> Any:
        if path.endswith("/exchangeInfo"):
            return {"symbols": [{"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "status": "TRADING"}]}
        if path.endswith("/depth"):
            return {"lastUpdateId": self.count, "bids": [["100", str(self.count)]], "asks": [["101", "1"]]}
        return [self.trade(number) for number in range(int(query["fromId"][0]), self.count + 1)]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        url = urlsplit(head.split()[1].decode())
        status = self.answers.pop(0) if self.answers and url.path.endswith("/depth") else 200
        self.requests.append((url.path, status))
        await asyncio.sleep(0.2)
        body = json.dumps(self.body(url.path, parse_qs(url.query)) if status == 200 else {}).encode()
        more = b"Retry-After: 1\r\n" if status == 429 else b""
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n" % (status, len(body), more))
        writer.write(body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def cut(self) -> None:
        for session in self.sessions:
            session.transport.disconnect(graceful=False)
        self.sessions.clear()


class Session(picows.WSListener):
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport
        transport.send_ping(PING)

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.PONG:
            self._exchange.pongs.append(frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.TEXT:
            asked = json.loads(frame.get_payload_as_utf8_text())
            self._exchange.asked.append(asked)
            if asked["method"] == "SUBSCRIBE":
                self._exchange.sessions.append(self)
                self.send({"result": None, "id": asked["id"]})
            else:
                self.send({"result": ["btcusdt@aggTrade", "btcusdt@depth@100ms"], "id": asked["id"]})

    def send(self, message: Any) -> None:
        self.transport.send(picows.WSMsgType.TEXT, json.dumps(message).encode())


async def until(claim: Callable[[], bool], exchange: Exchange) -> None:
    deadline_s = time.monotonic() + 20
    while not claim():
        assert time.monotonic() < deadline_s, exchange.requests
        exchange.move()
        await asyncio.sleep(0.1)


def test_books_and_missed_trades_come_by_http_through_refusals_and_a_cut() -> None:
    exchange, outlet = Exchange([429, 500]), KeptOutlet()

    async def scenario() -> None:
        socket = await picows.ws_create_server(lambda _: Session(exchange), "127.0.0.1", 0)
        http = await asyncio.start_server(exchange.answer, "127.0.0.1", 0)
        stop = asyncio.Event()
        feed = asyncio.ensure_future(
            run_feed(
                venue="binance",
                symbols=["BTC-USDT"],
                producer=outlet,
                stop=stop,
                channels=["trades", "books"],
                websocket_url=f"ws://127.0.0.1:{socket.sockets[0].getsockname()[1]}/stream",
                rest_url=f"http://127.0.0.1:{http.sockets[0].getsockname()[1]}",
                outside=Outside(chance=random.Random(1), patience=Patience(timeout_s=5, deadline_s=5)),
            )
        )
        try:
            await until(lambda: len(outlet.of(BookSnapshot)) >= 2, exchange)
            exchange.cut()
            for _ in range(5):
                exchange.move()  # nobody hears of these
            books = len(outlet.of(BookSnapshot))
            await until(lambda: len(outlet.of(BookSnapshot)) >= books + 2, exchange)
            await until(lambda: any(t.provenance == "backfill" for t in outlet.of(Trade)), exchange)
        finally:
            stop.set()
            await asyncio.wait_for(feed, 20)
            socket.close()
            http.close()

    asyncio.run(scenario())
    statuses = [status for path, status in exchange.requests if path.endswith("/depth")]
    assert statuses[:3] == [429, 500, 200]
    first = int(outlet.of(Trade)[0].trade_id)
    ids = sorted({int(found.trade_id) for found in outlet.of(Trade)})
    assert ids == list(range(first, ids[-1] + 1))
    assert sum(found.provenance == "backfill" for found in outlet.of(Trade)) >= 5
    for book in outlet.of(BookSnapshot):
        assert (book.bids, book.asks) == ((("100", str(book.sequence)),), (("101", "1"),))
    assert exchange.pongs == [PING, PING]  # a copy of each ping, as the venue wants
    assert [asked["method"] for asked in exchange.asked] == ["SUBSCRIBE", "LIST_SUBSCRIPTIONS"] * 2
