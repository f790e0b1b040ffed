from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_latency import quantile
from benchmarks.bench_peers import missing
from benchmarks.chart import share_of_target
from benchmarks.report import Cost, Figure, Result, Target, costs_table, figures_table, number, page, rounds
from benchmarks.rounds import Measured, Part, Round, Spread

RATIO = Figure("sink", "of COPY", Spread(0.5, 0.45, 0.6), Target(0.45, at_least=True), "200,000 rows/s against 400,000")
SLOW = Figure("latency", "ms", Spread(300, 290, 310), Target(250, at_least=False))
ABSENT = Figure("a peer", "", None, Target(6, at_least=True), missing="not installed")
RESULT = Result(
    "postgres",
    "Trades to PostgreSQL",
    [RATIO, SLOW, ABSENT],
    [Cost("sink", "row", {"ours": Spread(2.5, 2, 3), "server": Spread(1.25, 1, 2)})],
    ["How."],
    Measured([Round({"a": Part(1, 1.0, {})})] * 3, dropped=2, disturbed=1),
)


def test_table_shows_spread_target_and_verdict() -> None:
    assert figures_table([RESULT]).splitlines()[2:] == [
        "| sink | 0.50 (0.45 to 0.60) of COPY | ≥ 0.45 | met | 200,000 rows/s against 400,000 |",
        "| latency | 300 (290 to 310) ms | ≤ 250 | **missed** |  |",
        "| a peer | none: not installed | ≥ 6 | not measured |  |",
    ]


def test_table_of_cpu_leaves_out_who_took_no_part() -> None:
    assert costs_table([RESULT]).splitlines()[2:] == ["| sink | row | 2.50 |  | 1.25 |"]


def test_dropped_and_disturbed_rounds_are_told() -> None:
    assert rounds(RESULT.measured) == (
        "3 rounds, 2 more dropped for foreign load, 1 of those kept disturbed by foreign load: quiet ones ran out."
    )


def test_page_names_machine_servers_commit_and_command() -> None:
    text = page([RESULT], machine="2 cores", servers="Kafka 4", commit="abc", command="make bench", day="2026-01-02")
    for part in ("Written by `make bench`", "2026-01-02 on 2 cores. Commit abc", "Kafka 4", "benchmarks.png", "How."):
        assert part in text


@pytest.mark.parametrize(
    ("value", "text"), [(0.05, "0.05"), (9.999, "10.00"), (99.94, "99.9"), (1234, "1,230"), (999_999, "1,000,000")]
)
def test_number_has_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_share_of_target_is_above_one_where_it_is_met() -> None:
    assert share_of_target(RATIO) > 1 > share_of_target(SLOW)


def test_quantile_is_a_value_that_was_measured() -> None:
    assert quantile(range(1, 101), 0.99) == 99
    assert quantile([7.0], 0.99) == 7.0


def test_absent_peer_says_why(tmp_path: Path) -> None:
    assert "make bench-peers" in missing("quixstreams", tmp_path)
    (tmp_path / "quixstreams.failed").write_text("cannot be installed: no wheel\n")
    assert missing("quixstreams", tmp_path) == "cannot be installed: no wheel"
