"""A recording feed that is killed: what it wrote is a recording, up to a second before its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from coinstream.adapters import Frame
from coinstream.ingest.normalise import Summary, normalise
from coinstream.ingest.recording import read_frames

FEED = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from coinstream.ingest import Recorder, run_feed
from coinstream.simulator import serve
from outlets import KeptOutlet

async def main():
    ready, stop = asyncio.get_running_loop().create_future(), asyncio.Event()
    simulator = asyncio.ensure_future(serve(
        websocket_port=0, http_port=0, seed=1, rate=500, start_time_us=1767322980_000000, symbols=["BTC-USD"],
        on_ready=ready.set_result, stop=stop))
    found = await ready
    await run_feed(
        venue="coinbase", symbols=["BTC-USD"], producer=KeptOutlet(), stop=stop, simulated=True,
        websocket_url=found.websocket_url, rest_url=found.http_url, recorder=Recorder(Path(sys.argv[1])))

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz"])
def test_recording_of_a_feed_that_is_killed_can_be_read(tmp_path: Path, name: str) -> None:
    path, tests = tmp_path / name, Path(__file__).resolve().parents[2]
    feed = subprocess.Popen([sys.executable, "-c", FEED, str(path), str(tests)])
    try:
        deadline_s, kept = time.monotonic() + 30, list[Frame]()
        while len(kept) < 1000:
            assert time.monotonic() < deadline_s
            assert feed.poll() is None
            time.sleep(0.2)
            kept = list(read_frames([path])) if path.exists() else []  # readable at any moment
    finally:
        feed.send_signal(signal.SIGKILL)
        feed.wait(10)
    whole = list(read_frames([path]))
    assert whole[: len(kept)] == kept
    assert [frame.transport for frame in whole[:2]] == ["http", "ws"]
    assert whole[1].opens
    summary = Summary()
    assert list(normalise(whole, venue="coinbase", summary=summary))
    assert not summary.refusals
    assert not summary.gaps
