"""`coinstream simulate exchange` as a user meets it: addresses on stdout, what it did on stderr, mistakes named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

PROGRAM = [sys.executable, "-m", "coinstream.cli", "simulate", "exchange"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COINSTREAM_")}


@pytest.mark.parametrize(
    ("protocol", "path"),
    [("coinbase", "/api/v3/brokerage/market/products"), ("binance", "/api/v3/exchangeInfo")],
)
def test_exchange_says_where_it_is_and_at_the_end_what_it_did(protocol: str, path: str, tmp_path: Path) -> None:
    options = ["--protocol", protocol, "--fault", "drop=0.5", "--fault", "too-many-requests=1"]
    with subprocess.Popen(
        [*PROGRAM, *options],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            addresses = json.loads(process.stdout.readline())
            assert httpx.get(addresses["http_url"] + path).status_code == 429
            process.send_signal(signal.SIGTERM)
            _, words = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    said = json.loads(words.splitlines()[-1])
    assert said["event"] == "simulator.ended"
    assert (said["protocol"], said["connections"], said["requests"]) == (protocol, 0, 1)
    assert said["faults"] == {"too-many-requests": 1}
    assert said["events"] > 0


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
