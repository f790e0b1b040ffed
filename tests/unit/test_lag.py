"""Lag is computed from stored positions, never from what a consumer believes."""

from __future__ import annotations

from coinstream.messages import LogPosition, Partition
from coinstream.operations.lag import lag_of

A, B, OTHER = Partition("t", 0), Partition("t", 1), Partition("u", 0)


def at(partition: Partition, offset: int, topic_id: str = "id") -> dict[Partition, LogPosition]:
    return {partition: LogPosition(partition.topic, topic_id, partition.partition, offset)}


def test_lag_counts_from_the_stored_position_or_the_start() -> None:
    ends = at(A, 100) | at(B, 50) | at(OTHER, 9)
    starts = at(A, 0) | at(B, 20) | at(OTHER, 0)
    assert lag_of(ends, starts, {}, frozenset({"t"})) == 130
    assert lag_of(ends, starts, at(A, 90), frozenset({"t"})) == 40
    assert lag_of(ends, starts, at(A, 100) | at(B, 50), frozenset({"t"})) == 0


def test_position_of_an_earlier_topic_of_the_same_name_counts_for_nothing() -> None:
    assert lag_of(at(A, 10), at(A, 0), at(A, 500, "older"), frozenset({"t"})) == 10


def test_position_before_what_the_log_still_keeps_counts_from_its_start() -> None:
    assert lag_of(at(A, 10), at(A, 8), at(A, 1), frozenset({"t"})) == 2
