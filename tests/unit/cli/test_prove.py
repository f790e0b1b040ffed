"""When the proof's faults come, and what its table says."""

from __future__ import annotations

from typing import Any

import pytest

from coinstream.cli.prove import OUTAGE_S, Schedule
from coinstream.cli.prove_table import print_summary

STORE = {"stored": 1_000, "lost": 0, "doubled": 0, "dead_lettered": 1}


def summary(**changed: Any) -> dict[str, Any]:
    servers = {"kafka": {"name": "Apache Kafka", "version": "4", "stand_in": False}}
    return {
        "proved": True,
        "seed": 5,
        "rate": 1000.0,
        "fed_s": 75.0,
        "sent": 1_000,
        "poison": 1,
        "messages": {"market.trades": 1_000, "market.quotes": 500},
        "coinstream": {"postgresql": STORE, "mongodb": STORE},
        "holes": {"in_truth": 7, "trades_missed": 90, "named": 7, "unnamed": [], "minutes": {"gap": 14}},
        "frames": {"sent": 12_345, "drop": 120},
        "plain_script": {"stored": 400, "lost": 600, "doubled": 30, "dead_lettered": 0}
        | {"ended_by_itself": 6, "last_words": "UnicodeDecodeError: 'utf-8'", "waited_s": 25},
        "faults": [{"at_s": 9.5, "what": "sink-postgres: SIGKILL, started again"}],
        "disagreements": [],
        "servers": servers,
    } | changed


@pytest.mark.parametrize("seconds", [30.0, 75.0, 3600.0])
def test_faults_come_in_order_and_the_poison_after_postgresql_is_back(seconds: float) -> None:
    for seed in range(200):
        drawn = Schedule.draw(seed, seconds)
        assert drawn == Schedule.draw(seed, seconds)
        assert set(drawn.kills) == {"sink-postgres", "sink-mongodb", "plain-script"}
        assert min(drawn.kills.values()) > 0
        assert max(drawn.kills.values()) < drawn.outage
        assert drawn.outage + OUTAGE_S < drawn.poison < seconds


def test_moments_differ_by_seed() -> None:
    assert len({Schedule.draw(seed, 75).outage for seed in range(50)}) == 50


def test_table_has_both_stores_beside_the_plain_script(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(summary())
    told = capsys.readouterr().out
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:5]] for cells in map(_cells, told.splitlines()) if cells
    }
    assert rows["sent"] == ["1,000", "1,000", "1,000"]
    assert rows["lost"] == ["0", "0", "600"]
    assert rows["doubled"] == ["0", "0", "30"]
    assert rows["dead-lettered, bytes kept"] == ["1", "1", "0"]
    assert rows["named by coverage"] == ["7", "7", "0"]
    assert "drop 120" in told
    assert "25 s after the sinks" in told
    assert "6 times: UnicodeDecodeError" in told
    assert "lost nothing" in told


def test_what_was_not_kept_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    holes = {"in_truth": 1, "trades_missed": 3, "named": 0, "unnamed": [{"symbol": "BTC-USD"}], "minutes": {}}
    print_summary(summary(proved=False, plain_script=None, holes=holes, disagreements=["PostgreSQL trades k: [1]"]))
    told = capsys.readouterr().out
    assert "did not keep its promises" in told
    assert "PostgreSQL trades k: [1]" in told
    assert "a hole without a name: {'symbol': 'BTC-USD'}" in told


def _cells(line: str) -> list[str]:
    cells = line.split("│")
    return cells if len(cells) == 6 else []
