"""Coverage that is told again when it has said too much."""

from __future__ import annotations

from coinstream.market.told import LATE_US, REMEMBERED_MINUTES, ToldCoverage
from coinstream.messages import MINUTE_US, Coverage, CoverageStatus

START = 1767322980_000000
PAIR = ("trades", "BTC-USD")


def word(minute: int, status: CoverageStatus = "complete", symbol: str = "BTC-USD") -> Coverage:
    return Coverage(
        venue="v", symbol=symbol, channel="trades", minute=START + minute * MINUTE_US, status=status, messages=1
    )


def test_words_pass_as_they_are_without_a_doubt() -> None:
    told = ToldCoverage()
    assert told.tell([word(0), word(1, "gap")]) == [word(0), word(1, "gap")]
    assert told.tell([]) == []


def test_doubt_reaches_back_to_what_was_heard_last_and_no_further() -> None:
    told = ToldCoverage()
    told.tell([word(0), word(1), word(2)])
    told.doubt([PAIR], START + MINUTE_US + LATE_US, "gap")
    assert told.tell([word(3)]) == [word(1, "gap"), word(2, "gap"), word(3, "gap")]


def test_only_what_was_called_complete_is_told_again_and_only_once() -> None:
    told = ToldCoverage()
    told.tell([word(0, "disconnected"), word(1)])
    told.doubt([PAIR], START, "gap")
    assert told.tell([]) == [word(1, "gap")]
    told.doubt([PAIR], START, "disconnected")
    assert told.tell([]) == []


def test_other_symbols_stay_as_they_were_told() -> None:
    told = ToldCoverage()
    told.tell([word(0), word(0, symbol="ETH-USD")])
    told.doubt([PAIR], START, "disconnected")
    assert told.tell([word(1, symbol="ETH-USD")]) == [word(0, "disconnected"), word(1, symbol="ETH-USD")]


def test_two_doubts_count_from_the_earlier_moment_and_the_first_reason() -> None:
    told = ToldCoverage()
    told.tell([word(0), word(1)])
    told.doubt([PAIR], START + 2 * MINUTE_US, "gap")
    told.doubt([PAIR], START + MINUTE_US, "disconnected")
    assert told.tell([]) == [word(0, "gap"), word(1, "gap")]


def test_minutes_beyond_memory_are_left_as_they_were_told() -> None:
    told = ToldCoverage()
    told.tell([word(minute) for minute in range(REMEMBERED_MINUTES + 1)])
    told.doubt([PAIR], START, "gap")
    assert told.tell([]) == [word(minute, "gap") for minute in range(1, REMEMBERED_MINUTES + 1)]
