"""One GET with bounded patience; the network is httpx's own stand-in, the clock goes by the waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from email.utils import formatdate

import httpx
import pytest

from coinstream.ingest import fetch as room
from coinstream.ingest.fetch import FetchError, Patience, fetch, make_client

START_S = 1767322980
Answer = Callable[[], httpx.Response]


class Network:
    """Answers from a list, keeps the waits, and is the clock."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.waits: list[float] = []
        self.asked = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert request.url == "https://source/list"
        self.asked += 1
        found = self.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def now_us(self) -> int:
        return START_S * 1_000_000 + round(sum(self.waits) * 1_000_000)

    def fetch(self, **patience: float) -> bytes:
        async def once() -> bytes:
            how = Patience(sleep=self.sleep, chance=random.Random(1), **patience)  # type: ignore[arg-type]
            async with make_client(how, transport=httpx.MockTransport(self.answer)) as client:
                return await fetch(client, "https://source/list", patience=how, now_us=self.now_us)

        return asyncio.run(once())


def test_body_of_a_good_answer_is_returned() -> None:
    assert Network(httpx.Response(200, content=b"[1]")).fetch() == b"[1]"


def test_server_error_and_cut_connection_are_tried_again_after_growing_waits() -> None:
    network = Network(httpx.Response(500), httpx.ReadError("cut"), httpx.Response(200, content=b"[]"))
    assert network.fetch(first_wait_s=1.0) == b"[]"
    assert len(network.waits) == 2
    assert 0 <= network.waits[0] <= 1
    assert 0 <= network.waits[1] <= 2


def test_attempts_are_bounded_and_the_error_names_address_and_reason() -> None:
    network = Network(*[httpx.Response(503)] * 9)
    with pytest.raises(FetchError, match=r"https://source/list: HTTP 503 \(3 attempts\)"):
        network.fetch(attempts=3)
    assert network.asked == 3


def test_refusal_that_waiting_does_not_mend_is_not_tried_again() -> None:
    network = Network(httpx.Response(404), httpx.Response(200))
    with pytest.raises(FetchError, match="HTTP 404"):
        network.fetch()
    assert network.asked == 1


@pytest.mark.parametrize("asked", ["7", formatdate(START_S + 7, usegmt=True)], ids=["seconds", "date"])
def test_retry_after_is_honoured(asked: str) -> None:
    network = Network(httpx.Response(429, headers={"Retry-After": asked}), httpx.Response(200, content=b"[]"))
    assert network.fetch(deadline_s=30) == b"[]"
    assert network.waits == [pytest.approx(7, abs=0.01)]


def test_retry_after_beyond_the_deadline_ends_the_attempts_and_is_told() -> None:
    network = Network(httpx.Response(429, headers={"Retry-After": "90"}))
    with pytest.raises(FetchError, match="HTTP 429") as caught:
        network.fetch(deadline_s=30)
    assert caught.value.not_before_s == 90
    assert network.waits == []


@pytest.mark.parametrize("asked", ["", "soon", "-3", "\u0663", formatdate(START_S - 7, usegmt=True)])
def test_retry_after_that_says_nothing_is_no_wait(asked: str) -> None:
    headers = [(b"Retry-After", asked.encode())]
    network = Network(httpx.Response(503, headers=headers), httpx.Response(200, content=b"[]"))
    assert network.fetch(first_wait_s=0.5) == b"[]"
    assert network.waits[0] <= 0.5


def test_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_BODY_BYTES", 1000)
    with pytest.raises(FetchError, match="longer than 1000 bytes"):
        Network(httpx.Response(200, content=b"x" * 1001)).fetch()


def test_time_out_is_a_fetch_error_with_the_reason() -> None:
    network = Network(*[httpx.ConnectTimeout("")] * 3)
    with pytest.raises(FetchError, match="ConnectTimeout"):
        network.fetch()
