"""Binance for a scripted feed: its REST answers and its frames, written after its documentation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from coinstream.messages import BookSnapshot, Trade
from scripted_feed import SECOND, START, World

TIME_MS = START // 1000
LISTED = ("BTC-USDT", "ETH-USDT")


class Venue:
    """Binance's REST: a list, books, trades; ``fails`` answers first where it returns something.

    Attributes:
        books: By the venue's symbol, the id with which its snapshot ends.
        asked: (seconds since the start, path and query) of each request but the list's.
    """

    def __init__(self, fails: Callable[[httpx.Request], Any] = lambda _: None) -> None:
        self.books = {"BTCUSDT": 5, "ETHUSDT": 5}
        self.asked: list[tuple[int, str]] = []
        self.fails = fails
        self.world = World([], symbols=LISTED, venue="binance", answer=self.answer)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        if url.path.endswith("/exchangeInfo"):
            entries = [dict(zip(("baseAsset", "quoteAsset"), each.split("-"), strict=True)) for each in LISTED]
            return httpx.Response(
                200,
                json={"symbols": [e | {"symbol": e["baseAsset"] + "USDT", "status": "TRADING"} for e in entries]},
            )
        self.asked.append(((self.world.clock.us - START) // SECOND, url.raw_path.decode()))
        failure = self.fails(request)
        if asyncio.iscoroutine(failure):
            failure = await failure
        if failure is not None:
            return httpx.Response(**failure)
        if url.path.endswith("/depth"):
            last = self.books[url.params["symbol"]]
            return httpx.Response(
                200, json={"lastUpdateId": last, "bids": [["100", str(last)]], "asks": [["101", "1"]]}
            )
        first = int(url.params["fromId"])
        return httpx.Response(200, json=[trade_event(number) for number in range(first, first + 1000)])

    def books_asked(self, symbol: str = "BTCUSDT") -> list[int]:
        return [second for second, path in self.asked if f"/depth?symbol={symbol}&" in path]

    def published(self, symbol: str = "BTC-USDT") -> list[tuple[int, str]]:
        """(second, size of the best bid) of each book published."""
        found = [book for book in self.world.producer.of(BookSnapshot) if book.symbol == symbol]
        return [((book.received_time_us - START) // SECOND, book.bids[0][1]) for book in found]

    def trades(self) -> list[tuple[str, str]]:
        return [(found.trade_id, found.provenance) for found in self.world.producer.of(Trade)]


def combined(event: Any) -> bytes:
    return json.dumps({"stream": "x", "data": event}).encode()


def trade_event(number: int, symbol: str = "BTCUSDT") -> dict[str, Any]:
    return {"e": "aggTrade", "E": TIME_MS, "s": symbol, "a": number, "p": "1", "q": "1", "T": TIME_MS, "m": False}


def trade(number: int) -> bytes:
    return combined(trade_event(number))


def depth(first: int, last: int, symbol: str = "BTCUSDT") -> bytes:
    event = {"e": "depthUpdate", "E": TIME_MS, "s": symbol, "U": first, "u": last}
    return combined(event | {"b": [["100", str(last)]], "a": []})


def subscribed(*symbols: str, channels: tuple[str, ...] = ("aggTrade", "bookTicker", "depth@100ms")) -> bytes:
    streams = [f"{symbol}@{channel}" for channel in channels for symbol in symbols or ("btcusdt",)]
    return json.dumps({"result": streams, "id": 2}).encode()
