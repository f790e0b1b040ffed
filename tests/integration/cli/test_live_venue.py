"""Whether a venue can be read live: a WebSocket that comes about, and nothing less."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from coinstream.cli.demo import venue_answers
from coinstream.cli.workers import Child


class Refusal(BaseHTTPRequestHandler):
    """A venue that answers, and lets nobody in from here."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_error(451)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def refusing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"ws://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_venue_that_refuses_the_websocket_does_not_answer(refusing: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not venue_answers(refusing, stop=threading.Event())
    assert "HTTP 451" in capsys.readouterr().err


def test_venue_that_takes_us_answers(tmp_path: Path) -> None:
    exchange = Child("exchange", "simulate", "exchange", log_path=tmp_path / "log", capture=True)
    try:
        assert venue_answers(json.loads(exchange.first_line())["websocket_url"], stop=threading.Event())
    finally:
        exchange.terminate()
        exchange.join()


@pytest.mark.parametrize(("within_s", "stop_after_s"), [(0.5, 60.0), (30.0, 0.3)])
def test_silent_venue_is_waited_for_in_bounds_and_until_a_stop(within_s: float, stop_after_s: float) -> None:
    stop = threading.Event()
    stopping = threading.Timer(stop_after_s, stop.set)
    stopping.start()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began_s = time.monotonic()
        assert not venue_answers(f"ws://127.0.0.1:{silent.getsockname()[1]}", stop=stop, within_s=within_s)
        assert time.monotonic() - began_s < 5
    stopping.cancel()
