"""One HTTP GET with bounded patience: retries, `Retry-After`, and no body without end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from coinstream.errors import TransientError

MAX_BODY_BYTES = 64 * 1024 * 1024
"""A longer answer is given up; the largest that a source sends today has 4 MB."""
USER_AGENT = "coinstream/0.1"
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})


class FetchError(TransientError):
    """An address did not give its answer, though asked as often as is decent.

    Attributes:
        not_before_s: The server wants no request for so many seconds; 0 where it did not say.
        status: The HTTP status of the last answer; ``None`` where none came.
    """

    def __init__(self, text: str, *, not_before_s: float = 0.0, status: int | None = None) -> None:
        super().__init__(text)
        self.not_before_s = not_before_s
        self.status = status


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to ask.

    Attributes:
        attempts: Requests at most.
        timeout_s: For each request: to connect, and between two pieces of the answer.
        deadline_s: For all of it; a `Retry-After` beyond it ends the attempts at once.
        first_wait_s: Greatest wait after the first failure; it doubles, and each is drawn evenly below it.
        sleep: Waits; replaced in tests.
        chance: Draws the waits.
    """

    attempts: int = 3
    timeout_s: float = 10.0
    deadline_s: float = 30.0
    first_wait_s: float = 1.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    chance: random.Random = field(default_factory=random.Random)


def make_client(patience: Patience, *, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """Return an HTTP client for `fetch`; ``transport`` stands in for the network in tests."""
    return httpx.AsyncClient(
        timeout=patience.timeout_s,
        follow_redirects=True,
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        transport=transport,
    )


async def fetch(client: httpx.AsyncClient, url: str, *, patience: Patience, now_us: Callable[[], int]) -> bytes:
    """Return the body of a successful answer.

    Args:
        client: Sends the requests.
        url: The full address.
        patience: How often and how long to ask.
        now_us: The clock, for a `Retry-After` that is a date.

    Raises:
        FetchError: No success within the attempts or the deadline, or a refusal that waiting does not
            mend; the text has the address and the last reason.
    """
    deadline_us = now_us() + round(patience.deadline_s * 1_000_000)
    for attempt in range(1, patience.attempts + 1):
        wait_s = patience.chance.uniform(0, patience.first_wait_s * 2 ** (attempt - 1))
        try:
            async with asyncio.timeout(max(0.0, (deadline_us - now_us()) / 1_000_000)):
                return await _get(client, url, now_us)
        except _RefusedError as refused:
            reason, not_before_s, status = str(refused), refused.not_before_s, refused.status
            wait_s = max(wait_s, not_before_s)
            is_hopeless = not refused.is_worth_retrying
        except TimeoutError:
            raise FetchError(f"{url}: no answer within {patience.deadline_s:g} s") from None
        except httpx.InvalidURL as error:
            raise FetchError(f"{url}: {error}") from None
        except httpx.HTTPError as error:
            reason, not_before_s, is_hopeless, status = str(error) or type(error).__name__, 0.0, False, None
        if is_hopeless or attempt == patience.attempts or now_us() + wait_s * 1_000_000 >= deadline_us:
            raise FetchError(f"{url}: {reason} ({attempt} attempts)", not_before_s=not_before_s, status=status)
        await patience.sleep(wait_s)
    raise AssertionError("at least one attempt")


class _RefusedError(Exception):
    def __init__(self, status: int, not_before_s: float) -> None:
        super().__init__(f"HTTP {status}")
        self.status: int | None = status
        self.is_worth_retrying = status in _WORTH_RETRYING
        self.not_before_s = not_before_s


async def _get(client: httpx.AsyncClient, url: str, now_us: Callable[[], int]) -> bytes:
    async with client.stream("GET", url) as response:
        if not response.is_success:
            raise _RefusedError(response.status_code, _retry_after_s(response.headers.get("Retry-After"), now_us()))
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                raise FetchError(f"{url}: the answer is longer than {MAX_BODY_BYTES} bytes")
        return bytes(body)


def _retry_after_s(text: str | None, now_us: int) -> float:
    """Return the seconds that a `Retry-After` asks for: it holds seconds or a date (RFC 9110, 10.2.3)."""
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), 86_400.0)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    until_s = (moment - datetime.fromtimestamp(now_us / 1_000_000, UTC)).total_seconds()
    return min(max(until_s, 0.0), 86_400.0)
