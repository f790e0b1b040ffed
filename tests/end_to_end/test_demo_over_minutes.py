"""The demo over whole minutes of clock: each is polled and covered, nothing is lost, and memory stays where it is.

`make soak` runs it for ten minutes (`COINSTREAM_SOAK_S`), `make test-all` for two.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import psycopg
import pytest

from coinstream import local_servers

SOAK_S = int(os.environ.get("COINSTREAM_SOAK_S", "130"))  # at the least one whole minute, whenever it begins
ANSWER_S = 3
"""How long after connecting the books have come: a minute that turns in between is not covered whole."""
SHORTEST_FOR_MEMORY_S = 300
ALLOWED_GROWTH = 1.15
ALLOWED_GROWTH_BYTES = 16 * 1024 * 1024
PROCESSES = {
    "ingest": ["ingest", "--simulated"],
    "poll": ["ingest", "--poll"],
    "sink postgres": ["sink", "postgres"],
    "sink mongodb": ["sink", "mongodb"],
}
COVERAGE = "SELECT venue, symbol, channel, minute, status, messages FROM market.coverage"


def resident_bytes(demo: psutil.Process) -> dict[str, int]:
    """The memory of each of the demo's processes, by name."""
    found: dict[str, int] = {}
    for child in demo.children(recursive=True):
        try:
            arguments = child.cmdline()
            for name, words in PROCESSES.items():
                if any(arguments[at : at + len(words)] == words for at in range(len(arguments))):
                    found[name] = child.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it ended between the two looks
    return found


def whole_minutes(connected: datetime, minutes: set[datetime]) -> set[datetime]:
    """Every minute that began after the venue had answered, but for the last, which was left early."""
    first, last = min(minutes), max(minutes)
    whole = {first + timedelta(minutes=number) for number in range(int((last - first).total_seconds()) // 60)}
    return {minute for minute in whole if minute >= connected + timedelta(seconds=ANSWER_S)}


def connected_at(ingest_log: Path) -> datetime:
    """When ingest connected to the venue, by its log."""
    for line in ingest_log.read_text().splitlines():
        said = json.loads(line)
        if said["event"] == "connected":
            return datetime.fromisoformat(said["timestamp"])
    raise AssertionError(f"no connection in {ingest_log}")


@pytest.mark.slow
@pytest.mark.timeout(SOAK_S + 300)
def test_every_minute_is_polled_and_covered_and_memory_stays_where_it_is(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COINSTREAM_")}
    options = ["--source", "simulated", "--rate", "1000", "--duration", str(SOAK_S), "--json"]
    memory: dict[str, list[int]] = defaultdict(list)
    with (
        (tmp_path / "progress").open("wb") as progress,
        subprocess.Popen(
            [sys.executable, "-m", "coinstream.cli", "demo", *options],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=progress,
        ) as demo,
    ):  # fmt: skip
        try:
            watched = psutil.Process(demo.pid)
            while demo.poll() is None:
                for name, size in resident_bytes(watched).items():
                    memory[name].append(size)
                time.sleep(1)
            assert demo.stdout is not None
            summary = json.loads(demo.stdout.read())
        finally:
            demo.terminate()
    assert demo.returncode == 0, summary["disagreements"]
    assert (summary["lag"], summary["dead_letters"], summary["disagreements"]) == (0, 0, [])

    with local_servers.start(tmp_path / ".coinstream", roles=["postgresql"]) as servers:
        assert servers.postgres_admin_dsn is not None
        with psycopg.connect(servers.postgres_admin_dsn) as connection:
            covered = {tuple(row[:4]): row[4:] for row in connection.execute(COVERAGE).fetchall()}
    connected = connected_at(tmp_path / ".coinstream" / "logs" / "ingest.log")
    pairs = {key[:3] for key in covered}
    assert len(pairs) == 7 * 3 + 2  # symbols by channels, and two asset sources
    for pair in sorted(pairs):
        of_pair = {key[3]: row for key, row in covered.items() if key[:3] == pair}
        whole = whole_minutes(connected, set(of_pair))
        assert len(whole) >= (SOAK_S - 70) // 60, pair
        assert {minute: of_pair[minute][0] for minute in whole} == dict.fromkeys(whole, "complete"), pair
        assert all(of_pair[minute][1] > 0 for minute in whole), pair

    assert set(memory) == set(PROCESSES)
    for name, sizes in memory.items():
        quarter = len(sizes) // 4
        early, late = statistics.median(sizes[quarter : 2 * quarter]), statistics.median(sizes[-quarter:])
        print(f"{name}: {early / 1e6:.0f} MB in the second quarter, {late / 1e6:.0f} MB in the last")
        if SOAK_S >= SHORTEST_FOR_MEMORY_S:
            assert late <= early * ALLOWED_GROWTH + ALLOWED_GROWTH_BYTES, name
