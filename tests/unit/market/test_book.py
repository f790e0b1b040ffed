"""The order book and the rule of when it is published."""

from __future__ import annotations

import pytest

from coinstream.market.book import OrderBook, is_due


def book(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> OrderBook:
    made = OrderBook()
    made.replace(bids, asks)
    return made


def test_best_levels_come_best_first_in_the_venues_digits() -> None:
    made = book([("9", "1"), ("10.0", "2"), ("9.5", "3")], [("12", "1"), ("10.5", "2"), ("11", "3")])
    assert made.best(2) == ((("10.0", "2"), ("9.5", "3")), (("10.5", "2"), ("11", "3")))
    assert made.depth == (3, 3)


def test_level_is_one_price_however_it_is_written() -> None:
    made = book([("1.50", "1")], [])
    made.apply([("1.5", "2")], [])
    assert made.best() == ((("1.5", "2"),), ())
    made.apply([("1.500", "0.000")], [])
    assert made.best() == ((), ())


def test_removing_a_level_that_is_not_there_is_no_error() -> None:
    made = book([("1", "1")], [("2", "1")])
    made.apply([("0.5", "0")], [("3", "0.0")])
    assert made.depth == (1, 1)


def test_snapshot_forgets_what_was_before_and_holds_no_empty_level() -> None:
    made = book([("1", "1")], [("2", "1")])
    made.replace([("0.5", "1"), ("0.4", "0")], [("3", "1"), ("3.0", "2")])
    assert made.best() == ((("0.5", "1"),), (("3.0", "2"),))


def test_book_is_crossed_from_the_price_where_both_sides_meet() -> None:
    assert not book([("1", "1")], [("1.01", "1")]).is_crossed
    assert book([("1.010", "1")], [("1.01", "1")]).is_crossed
    assert book([("2", "1")], [("1", "1")]).is_crossed
    assert not book([], [("1", "1")]).is_crossed
    assert not book([], []).is_crossed


@pytest.mark.parametrize(
    ("elapsed_us", "has_changed", "due"),
    [
        (999_999, True, False),
        (1_000_000, True, True),
        (1_999_999, False, False),
        (2_000_000, False, True),
        (None, False, True),
    ],
)
def test_book_is_due_by_the_time_since_it_was_published(elapsed_us: int | None, has_changed: bool, due: bool) -> None:  # noqa: FBT001
    published_us = None if elapsed_us is None else 10**15 - elapsed_us
    assert is_due(now_us=10**15, published_us=published_us, has_changed=has_changed) is due
