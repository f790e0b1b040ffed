"""The wait between connections; what needs a socket is in `tests/integration/ingest`."""

from __future__ import annotations

import random

from coinstream.ingest.connection import Backoff


class Highest(random.Random):
    """Always draws the upper end."""

    def uniform(self, a: float, b: float) -> float:
        assert a == 0
        return b


def test_waits_double_up_to_the_bound() -> None:
    backoff = Backoff(Highest(), first_s=0.5, last_s=30)
    assert [backoff.next_s(lasted_s=0) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_waits_are_drawn_evenly_from_zero_to_the_ceiling() -> None:
    waits = [Backoff(random.Random(seed), first_s=4).next_s(lasted_s=0) for seed in range(400)]
    assert 0 <= min(waits) < 0.1
    assert 3.9 < max(waits) <= 4
    assert 1.8 < sum(waits) / len(waits) < 2.2


def test_connection_that_lasted_a_minute_begins_the_waits_anew_and_a_short_one_does_not() -> None:
    backoff = Backoff(Highest(), first_s=0.5, last_s=30, healthy_after_s=60)
    for _ in range(5):
        backoff.next_s(lasted_s=0)
    assert backoff.next_s(lasted_s=59) == 16
    assert backoff.next_s(lasted_s=60) == 0.5
