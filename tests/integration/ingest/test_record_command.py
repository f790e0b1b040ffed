"""What `coinstream ingest --record` builds, against the simulated exchange; a producer stands in for Kafka's."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from coinstream import settings as settings_room
from coinstream.cli.processes import _feed
from coinstream.errors import FatalError
from coinstream.ingest.normalise import normalise
from coinstream.ingest.recording import read_frames
from coinstream.messages import Quote, Trade
from coinstream.simulator import SimulatorAddresses, serve
from outlets import KeptOutlet


def feed(record: Path, outlet: Any, monkeypatch: pytest.MonkeyPatch, *, messages: int = 200) -> None:
    """Run the command's feed until so many messages came, then end it as an operator would."""

    async def scenario() -> None:
        ready: asyncio.Future[SimulatorAddresses] = asyncio.get_running_loop().create_future()
        closing = asyncio.Event()
        simulator = asyncio.ensure_future(
            serve(
                websocket_port=0,
                http_port=0,
                seed=1,
                rate=500,
                start_time_us=1767322980_000000,
                symbols=["BTC-USD"],
                on_ready=ready.set_result,
                stop=closing,
            )
        )
        found = await ready
        monkeypatch.setenv("COINSTREAM_COINBASE_WEBSOCKET_URL", found.websocket_url)
        monkeypatch.setenv("COINSTREAM_COINBASE_REST_URL", found.http_url)
        settings = settings_room.load(symbols="BTC-USD")
        task = asyncio.ensure_future(_feed(settings, outlet, venue="coinbase", simulated=True, record=record))
        try:
            async with asyncio.timeout(20):
                while len(outlet.messages) < messages and not task.done():  # noqa: ASYNC110 - a list tells no one
                    await asyncio.sleep(0.05)
            if not task.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 20)
        finally:
            closing.set()
            await asyncio.wait_for(simulator, 20)

    asyncio.run(scenario())


def test_recording_of_the_command_gives_what_it_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outlet, path = KeptOutlet(), tmp_path / "feed.jsonl.gz"
    feed(path, outlet, monkeypatch)
    again = list(normalise(read_frames([path]), venue="coinbase", kinds=["trades", "quotes"]))
    named = {"venue": "coinbase_simulated"}
    trades = [found for found in again if isinstance(found, Trade)]
    wanted = outlet.of(Trade)
    assert [(t.trade_id, t.price, t.size, t.received_time_us) for t in trades] == [
        (t.trade_id, t.price, t.size, t.received_time_us) for t in wanted
    ]
    assert {t.venue for t in wanted} == set(named.values())
    assert len(trades) > 20
    quotes = [found for found in again if isinstance(found, Quote)]
    assert [(q.sequence, q.bid, q.ask) for q in quotes] == [(q.sequence, q.bid, q.ask) for q in outlet.of(Quote)]


def test_command_fails_in_the_end_when_its_recording_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outlet, path = KeptOutlet(), tmp_path / "feed.jsonl"
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))  # files may not grow beyond, as on a full disk
    try:
        with pytest.raises(FatalError, match="ended early: File too large"):
            feed(path, outlet, monkeypatch, messages=2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
    assert len(outlet.messages) >= 2000  # the feed went on
    kept = list(read_frames([path]))
    assert len(kept) > 10
    assert path.read_bytes().endswith(b"}\n")
