"""What a live feed reads by HTTP beside its WebSocket: books and missed trades, one at a time.

The queue decides (pure: times are arguments), the fetcher does. Nothing here is waited for: the feed looks
from time to time whether an answer has come, so that a late or failing one holds no trade up.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import httpx

from coinstream.adapters import Channel, Fetch
from coinstream.ingest.fetch import FetchError, Patience, fetch
from coinstream.telemetry import FETCHES, logger

BURST_S = 10.0
"""So much of the venue's allowance may be used at once after a pause: ten books, then one a second."""
MOST_WAITING = 1000
"""Fetches beyond are not taken. A book is asked for again in a while; of trades coverage says that they miss."""
ATTEMPTS = 4
FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 60.0
REST_S = 60.0
"""What was given up is not begun again sooner, however often it is asked for."""
TOO_MANY_PAUSE_S = 60.0
"""After 418 or 429 without a `Retry-After`: allowances are counted by the minute."""
_TOO_MANY = frozenset({418, 429})
_WORTH_RETRYING = frozenset({403, 408, 418, 425, 429})  # 403: Binance's firewall, which lets go after a while
NEVER_US = sys.maxsize

log = logger("ingest")


def moved(url: str, base: str | None) -> str:
    """Return an address with the scheme, host and port of another, below that one's path."""
    if base is None:
        return url
    own, other = urlsplit(url), urlsplit(base)
    return urlunsplit(other._replace(path=other.path.rstrip("/") + own.path, query=own.query))


class FetchQueue:
    """Which fetch is due when: one in flight, at the venue's pace, and after a failure a pause for all.

    Books and trades take turns, so that neither waits for many of the other kind.

    The pause doubles with each failure in a row, and is never shorter than the venue's own `Retry-After`:
    Binance bans the address that goes on asking.
    """

    def __init__(self) -> None:
        self._waiting: dict[Channel, deque[Fetch]] = {"books": deque(), "trades": deque()}
        self._attempts: dict[str, int] = {}  # by address, of all that wait or are in flight
        self._rests_until_s: dict[str, float] = {}  # by address, of what was given up
        self._in_flight: Fetch | None = None
        self._used_until_s = 0.0
        self._paused_until_s = 0.0
        self._pause_s = FIRST_PAUSE_S

    def __len__(self) -> int:
        return len(self._attempts)

    def ask(self, fetches: Iterable[Fetch], now_s: float) -> int:
        """Take fetches, but for those that wait already or were just given up; return how many found no room."""
        refused = 0
        if self._rests_until_s:
            self._rests_until_s = {url: until_s for url, until_s in self._rests_until_s.items() if until_s > now_s}
        for wanted in fetches:
            if wanted.url in self._attempts or wanted.url in self._rests_until_s:
                continue
            if len(self._attempts) >= MOST_WAITING:
                refused += 1
                continue
            self._attempts[wanted.url] = 0
            self._waiting.setdefault(wanted.channel, deque()).append(wanted)
        return refused

    def next(self, now_s: float) -> Fetch | None:
        """Return the fetch to begin now, which is then in flight until `done` or `failed`."""
        if self._in_flight is not None or now_s < self._paused_until_s or self._used_until_s - now_s > BURST_S:
            return None
        channel = next((channel for channel, waiting in self._waiting.items() if waiting), None)
        if channel is None:
            return None
        waiting = self._waiting.pop(channel)
        self._in_flight = waiting.popleft()
        self._waiting[channel] = waiting  # behind the others, whose turn it is now
        self._used_until_s = max(self._used_until_s, now_s) + self._in_flight.cost_s
        self._attempts[self._in_flight.url] += 1
        return self._in_flight

    def done(self) -> None:
        """Note that the one in flight was answered."""
        self._forget()
        self._pause_s = FIRST_PAUSE_S

    def failed(self, now_s: float, *, status: int | None, not_before_s: float) -> bool:
        """Note that the one in flight failed, with an HTTP status or without; return whether it is tried again."""
        failed = self._in_flight
        if failed is None:
            return False
        if status is not None and 400 <= status < 500 and status not in _WORTH_RETRYING:
            self._give_up(failed, now_s)  # the venue does not like this one: no reason to wait with the others
            return False
        wait_s = not_before_s or (TOO_MANY_PAUSE_S if status in _TOO_MANY else 0.0)
        self._paused_until_s = now_s + max(wait_s, self._pause_s)
        self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S)
        if self._attempts[failed.url] >= ATTEMPTS:
            self._give_up(failed, now_s)
            return False
        self._in_flight = None
        self._waiting[failed.channel].append(failed)
        return True

    @property
    def paused_until_s(self) -> float:
        """Before this nothing is begun."""
        return self._paused_until_s

    def _give_up(self, failed: Fetch, now_s: float) -> None:
        self._forget()
        self._rests_until_s[failed.url] = now_s + REST_S

    def _forget(self) -> None:
        if self._in_flight is not None:
            del self._attempts[self._in_flight.url]
            self._in_flight = None


class Answer(NamedTuple):
    """A body, when it was here, microseconds since 1970, UTC, and the address that gave it."""

    received_time_us: int
    url: str
    body: bytes


class Fetcher:
    """Fetches what is asked, in the background.

    Args:
        venue: Whose, for the log and metrics.
        rest_url: Scheme, host and port instead of the venue's own.
        patience: How long one request may take; how often is the queue's matter.
        now_us: The clock.

    Attributes:
        ready_us: When the answer that is to be taken was here; `NEVER_US` while there is none.
    """

    def __init__(self, venue: str, rest_url: str | None, patience: Patience, now_us: Callable[[], int]) -> None:
        self.ready_us = NEVER_US
        self._venue = venue
        self._rest_url = rest_url
        self._patience = replace(patience, attempts=1)
        self._now_us = now_us
        self._queue = FetchQueue()
        self._task: asyncio.Task[Answer] | None = None
        self._answer: Answer | None = None
        self._defect: BaseException | None = None

    def ask(self, fetches: Iterable[Fetch]) -> None:
        """Take fetches to be begun when they are due."""
        refused = self._queue.ask(fetches, self._now_us() / 1_000_000)
        if refused:
            log.warning("too much to fetch", venue=self._venue, left_out=refused, next="coverage says what misses")

    def begin(self, client: httpx.AsyncClient) -> None:
        """Begin what is due, once the answer before was taken."""
        if self._task is not None or self._answer is not None:
            return
        wanted = self._queue.next(self._now_us() / 1_000_000)
        if wanted is not None:
            self._task = asyncio.ensure_future(self._read(client, moved(wanted.url, self._rest_url)))
            self._task.add_done_callback(self._settled)

    def take(self) -> Answer | None:
        """Return the answer that has come, if one has; raise what no request may raise."""
        if self._defect is not None:
            raise self._defect
        answer, self._answer, self.ready_us = self._answer, None, NEVER_US
        return answer

    async def close(self) -> None:
        """Let go of what is in flight."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _read(self, client: httpx.AsyncClient, url: str) -> Answer:
        body = await fetch(client, url, patience=self._patience, now_us=self._now_us)
        return Answer(self._now_us(), url, body)

    def _settled(self, task: asyncio.Task[Answer]) -> None:
        self._task = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._answer = task.result()
            self.ready_us = self._answer.received_time_us
            self._queue.done()
            FETCHES.labels(self._venue, "answered").inc()
            return
        if not isinstance(error, FetchError):
            self._defect, self.ready_us = error, 0
            return
        now_s = self._now_us() / 1_000_000
        is_tried_again = self._queue.failed(now_s, status=error.status, not_before_s=error.not_before_s)
        FETCHES.labels(self._venue, "failed").inc()
        log.warning(
            "not fetched",
            venue=self._venue,
            why=str(error),
            next=f"again in {max(0.0, self._queue.paused_until_s - now_s):.0f} s" if is_tried_again else "given up",
        )
