"""Recordings take the live feed's way, and keep their own times."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from coinstream.errors import FatalError
from coinstream.ingest import run_replay
from coinstream.messages import BookSnapshot, Coverage, Instrument, Quote, Trade
from outlets import KeptOutlet

FRAMES = Path(__file__).resolve().parents[2] / "frames" / "coinbase"


def replayed(*names: str, outlet: KeptOutlet | None = None) -> KeptOutlet:
    outlet = outlet or KeptOutlet()
    run_replay([FRAMES / name for name in names], producer=outlet, speed=None, stop=lambda: False)
    return outlet


@pytest.mark.parametrize("name", ["exchange.jsonl", "advanced.jsonl"])
def test_two_replays_publish_the_same_messages(name: str) -> None:
    first, second = replayed(name), replayed(name)
    assert first.messages == second.messages
    assert {type(message) for message in first.messages} >= {Trade, Quote, BookSnapshot, Instrument, Coverage}
    assert first.flushed == len(first.messages)


def test_provenance_is_the_recordings_own() -> None:
    trades = [m for m in replayed("advanced.jsonl").messages if isinstance(m, Trade)]
    assert {trade.provenance for trade in trades} == {"live", "backfill"}


def test_full_queue_only_delays_a_replay() -> None:
    assert replayed("exchange.jsonl", outlet=KeptOutlet(full_for=3)).messages == replayed("exchange.jsonl").messages


def test_garbage_between_frames_is_dead_lettered_and_the_rest_goes_on(tmp_path: Path) -> None:
    lines = (FRAMES / "exchange.jsonl").read_text().splitlines()
    broken = json.loads(lines[-1]) | {"data": '{"type":"match","price":'}
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join([*lines[:-1], json.dumps(broken), lines[-1]]) + "\n")
    outlet = KeptOutlet()
    summary = run_replay([path], producer=outlet, speed=None, stop=lambda: False)
    clean = replayed("exchange.jsonl")
    assert [letter.value for letter in outlet.letters][-1] == broken["data"].encode()
    assert len(outlet.letters) == len(clean.letters) + 1
    assert [m for m in outlet.messages if isinstance(m, Trade)] == [m for m in clean.messages if isinstance(m, Trade)]
    assert sum(summary.refused.values()) > 0
    assert "refused" in str(summary)


def test_stop_between_frames_finishes_in_good_order() -> None:
    outlet = KeptOutlet()
    asked = iter(range(1000))
    summary = run_replay([FRAMES / "exchange.jsonl"], producer=outlet, speed=None, stop=lambda: next(asked) >= 4)
    assert summary.stopped
    assert 0 < summary.frames < 10
    assert outlet.flushed == len(outlet.messages)


def test_speed_shortens_the_recorded_time() -> None:
    outlet = KeptOutlet()
    run_replay([FRAMES / "exchange.jsonl"], producer=outlet, speed=Decimal(100_000), stop=lambda: False)
    assert outlet.messages == replayed("exchange.jsonl").messages


def test_address_of_no_known_venue_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    line = {"time": 1_700_000_000_000_000, "direction": "in", "transport": "ws", "connection": "a"}
    path.write_text(json.dumps(line | {"url": "wss://feed.example", "data": "{}"}) + "\n")
    with pytest.raises(FatalError, match=r"feed\.example"):
        run_replay([path], producer=KeptOutlet(), speed=None, stop=lambda: False)
