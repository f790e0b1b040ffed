from __future__ import annotations

from collections.abc import Callable

import pytest

from benchmarks.rounds import TRIES_PER_ROUND, Part, Round, Spread, choose, measure


def a_part(rate: float, *, foreign: float = 0.0) -> Part:
    return Part(units=int(rate * 2), seconds=2.0, cpu_s={"ours": rate * 2 * 3e-6}, foreign_cores=foreign)


def a_round(ours: float, ceiling: float, *, foreign: float = 0.0) -> Round:
    return Round({"ours": a_part(ours, foreign=foreign), "ceiling": a_part(ceiling)})


def taking(*loads: float) -> Callable[[], Part]:
    waiting = iter(loads)
    return lambda: a_part(100, foreign=next(waiting))


def test_ratio_is_taken_within_each_round_and_not_between_medians() -> None:
    measured = choose([a_round(100, 200), a_round(300, 400), a_round(50, 50)], 3)
    assert measured.ratio("ours", "ceiling") == Spread(0.75, 0.5, 1.0)
    assert measured.rate("ours") == Spread(100, 50, 300)
    assert measured.cpu_us("ours", "ours").median == pytest.approx(3.0)


def test_disturbed_round_is_dropped_whole() -> None:
    loud, quiet = a_round(10, 200, foreign=0.9), a_round(100, 200)
    measured = choose([loud, quiet, quiet], 2)
    assert (measured.rounds, measured.dropped, measured.disturbed) == ([quiet, quiet], 1, 0)
    assert measured.ratio("ours", "ceiling").least == 0.5


def test_load_during_any_part_disturbs_the_round() -> None:
    one = Round({"ours": a_part(1), "ceiling": a_part(1, foreign=0.4)})
    assert one.foreign_cores == 0.4


def test_least_disturbed_rounds_fill_up_and_are_named() -> None:
    tried = [a_round(1, 1, foreign=load) for load in (0.9, 0.3, 0.0, 0.5)]
    measured = choose(tried, 3)
    assert [one.foreign_cores for one in measured.rounds] == [0.3, 0.0, 0.5]
    assert (measured.dropped, measured.disturbed) == (1, 2)


def test_parts_are_measured_in_turn() -> None:
    order: list[str] = []

    def part(name: str) -> Callable[[], Part]:
        def take() -> Part:
            order.append(name)
            return a_part(1)

        return take

    measure({"a": part("a"), "b": part("b")}, repetitions=2, tell=lambda _: None)
    assert order == ["a", "b", "a", "b"]


def test_dropped_round_is_repeated() -> None:
    told: list[str] = []
    measured = measure({"ours": taking(0.0, 0.9, 0.0)}, repetitions=2, tell=told.append)
    assert (len(measured.rounds), measured.dropped) == (2, 1)
    assert [line.endswith("dropped") for line in told] == [False, True, False]


def test_repeating_is_bounded() -> None:
    measured = measure({"ours": taking(*[0.9] * 100)}, repetitions=2, tell=lambda _: None)
    assert (len(measured.rounds), measured.disturbed) == (2, 2)
    assert measured.dropped == 2 * TRIES_PER_ROUND - 2
