import random

from coinstream.simulator.market import Market
from coinstream.simulator.schedule import Schedule

START_TIME_US = 1_780_000_000_000_000
MS = 1_000_000  # nanoseconds


def schedule_of(rate: float) -> Schedule:
    market = Market(rng=random.Random(7), start_time_us=START_TIME_US, symbols=["BTC-USD"])
    return Schedule(market, start_time_us=START_TIME_US, rate=rate)


def test_events_have_the_times_of_the_schedule_whenever_they_are_worked_off() -> None:
    schedule = schedule_of(10)
    assert schedule.advance(99 * MS) == []
    assert [event.event_time_us - START_TIME_US for event in schedule.advance(217 * MS)] == [100_000, 200_000]
    assert schedule.time_us == START_TIME_US + 217_000
    assert schedule.time_ns == schedule.time_us * 1000


def test_market_far_behind_its_schedule_skips_events_and_counts_them() -> None:
    schedule = schedule_of(100)
    schedule.advance(100 * MS)
    assert (schedule.events_published, schedule.events_skipped) == (10, 0)
    schedule.advance(5_100 * MS)
    assert (schedule.events_published, schedule.events_skipped) == (11, 499)
    schedule.advance(5_200 * MS)
    assert (schedule.events_published, schedule.events_skipped) == (21, 499)
