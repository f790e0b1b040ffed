"""A feed's whole world, scripted: connections, the venue's HTTP, the clock, chance; no socket, no waiting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from coinstream.ingest.connection import Arrived
from coinstream.ingest.feed import Link, Outside, run_feed
from coinstream.ingest.fetch import Patience
from outlets import KeptOutlet

START = 1767322980_000000  # the start of a minute
SECOND = 1_000_000
MINUTE = 60 * SECOND
TURNS = 30
"""Of the event loop, more than a scripted HTTP request takes."""


class AtOnce(random.Random):
    """Draws no wait at all."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002
        return a


class Clock:
    def __init__(self) -> None:
        self.us = START

    def __call__(self) -> int:
        return self.us


@dataclass
class Script:
    """One connection: what it brings, and what is done once all of it was taken.

    Attributes:
        brings: Frames, all at once.
        later: More of them, each batch a second after the one before.
        then: Called when they were taken and everything that came of them was done.
        ends: Why the connection is over then; ``None``: it goes on, silently.
    """

    brings: Sequence[bytes] = ()
    later: Sequence[Sequence[bytes]] = ()
    then: Callable[[], None] = lambda: None
    ends: str | None = None


class ScriptedLink:
    def __init__(self, script: Script, clock: Clock) -> None:
        self.ended: str | None = None
        self.sent: list[str] = []
        self.closed: list[str] = []
        self._script = script
        self._clock = clock
        self._waiting = [Arrived(clock(), data) for data in script.brings]
        self._later = list(script.later)

    async def wait(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)  # what is being fetched comes within the second
        self._clock.us += SECOND
        if self._later:
            self._waiting = [Arrived(self._clock(), data) for data in self._later.pop(0)]
            return
        self._script.then()
        self.ended = self._script.ends
        if self.ended is None:
            await asyncio.Event().wait()

    def take(self) -> list[Arrived]:
        taken, self._waiting = self._waiting, []
        return taken

    def send(self, text: str) -> None:
        self.sent.append(text)

    async def close(self, reason: str = "closed by us") -> None:
        self.closed.append(reason)
        self.ended = self.ended or reason


@dataclass
class World:
    """A venue of scripted connections, and everything else that a feed meets.

    Attributes:
        scripts: One a connection, or why there is none.
        listed: What Coinbase lists, or the HTTP status it answers with.
        answer: Answers every HTTP request instead; it may be a coroutine, or raise.
    """

    scripts: list[Script | Exception]
    listed: tuple[str, ...] | int = ("BTC-USD", "ETH-USD")
    symbols: tuple[str, ...] = ("BTC-USD", "ETH-USD")
    venue: str = "coinbase"
    answer: Callable[[httpx.Request], Any] | None = None
    producer: KeptOutlet = field(default_factory=KeptOutlet)
    clock: Clock = field(default_factory=Clock)
    links: list[ScriptedLink] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stop = asyncio.Event()

    def run(self, **more: Any) -> None:
        async def scenario() -> None:
            self.stop = asyncio.Event()
            await run_feed(
                venue=self.venue,
                symbols=self.symbols,
                producer=self.producer,
                stop=self.stop,
                outside=self._outside(),
                **more,
            )

        asyncio.run(asyncio.wait_for(scenario(), 20))

    def halt(self) -> None:
        self.stop.set()

    def _outside(self) -> Outside:
        world = self

        class Scripted(Outside):
            async def connect(self, url: str) -> Link:
                world.urls.append(url)
                script = world.scripts.pop(0)
                if isinstance(script, Exception):
                    raise script
                link = ScriptedLink(script, world.clock)
                world.links.append(link)
                return link

        async def at_once(seconds: float) -> None:
            self.clock.us += round(seconds * SECOND)
            await asyncio.sleep(0)

        patience = Patience(attempts=1, sleep=at_once)
        return Scripted(
            now_us=self.clock,
            sleep=at_once,
            chance=AtOnce(),
            patience=patience,
            transport=httpx.MockTransport(self._answer),
        )

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(str(request.url))
        if self.answer is not None:
            answer = self.answer(request)
            return await answer if asyncio.iscoroutine(answer) else answer
        if isinstance(self.listed, int):
            return httpx.Response(self.listed)
        return httpx.Response(200, json={"products": [product(symbol) for symbol in self.listed]})


def product(symbol: str) -> dict[str, Any]:
    base, quote = symbol.split("-")
    return {"product_id": symbol, "base_currency_id": base, "quote_currency_id": quote, "product_type": "SPOT"}
