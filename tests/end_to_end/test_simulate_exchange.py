"""`coinstream simulate exchange` as a user meets it: addresses on stdout, what it did on stderr, mistakes named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

PROGRAM = [sys.executable, "-m", "coinstream.cli", "simulate", "exchange"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COINSTREAM_")}


@contextmanager
def exchange(folder: Path, *options: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A simulated exchange: its HTTP address, and what it says at its end, there once the block is over."""
    said: dict[str, Any] = {}
    with subprocess.Popen(
        [*PROGRAM, *options],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())["http_url"], said
            process.send_signal(signal.SIGTERM)
            _, words = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    said.update(json.loads(words.splitlines()[-1]))


@pytest.mark.parametrize(
    ("protocol", "path"),
    [("coinbase", "/api/v3/brokerage/market/products"), ("binance", "/api/v3/exchangeInfo")],
)
def test_exchange_says_where_it_is_and_at_the_end_which_faults_it_showed(
    protocol: str, path: str, tmp_path: Path
) -> None:
    faults = ["--fault", "drop=0.5", "--fault", "too-many-requests=1"]
    with exchange(tmp_path, "--protocol", protocol, *faults) as (url, said):
        assert httpx.get(url + path).status_code == 429
    assert said["event"] == "simulator.ended"
    assert (said["protocol"], said["connections"], said["requests"]) == (protocol, 0, 1)
    assert said["faults"] == {"too-many-requests": 1}


@pytest.mark.parametrize(
    ("protocol", "recent_trades"),
    [
        ("coinbase", "/api/v3/brokerage/market/products/BTC-USD/ticker"),
        ("binance", "/api/v3/aggTrades?symbol=BTCUSDT"),
    ],
)
def test_market_moves_without_anyone_connected(protocol: str, recent_trades: str, tmp_path: Path) -> None:
    with exchange(tmp_path, "--protocol", protocol) as (url, said):
        until = time.monotonic() + 10
        at_first = httpx.get(url + recent_trades).content  # a venue has a past, too
        asked = 2
        while httpx.get(url + recent_trades).content == at_first:
            assert time.monotonic() < until, "no new trade in ten seconds"
            asked += 1
    assert (said["protocol"], said["connections"], said["requests"]) == (protocol, 0, asked)
    assert said["events"] > 0
    assert said["faults"] == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--fault", "lose=0.1"],
            "--fault='lose=0.1' cannot be used: KIND=VALUE, where KIND is one of drop, duplicate",
        ),
        (["--fault", "drop=2"], "--fault='drop=2' cannot be used: drop=PROBABILITY, from 0 to 1"),
        (["--fault", "half-open=soon"], "--fault='half-open=soon' cannot be used: half-open=SECONDS"),
        (["--protocol", "nyse"], "protocol='nyse' cannot be used: coinbase or binance"),
        (["--protocol", "binance", "--symbols", "BTC-USD"], "out of BTC-USDT, ETH-USDT"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(options: list[str], words: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROGRAM, *options], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
