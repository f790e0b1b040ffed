"""The trades that a feed never brought, and whether coverage says so.

For venues whose trade ids count up by one for each symbol (the simulated exchange's do): an id that is
missing between two that came is a trade that was made and never got to Kafka. When it was made is
known from its neighbours: not before the one, not after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple

from coinstream.messages import MINUTE_US, Coverage, Trade, minute_of

NAMED = frozenset({"gap", "disconnected"})
"""What coverage calls a minute in which something is missing."""

CoverageKey = tuple[str, str, str, int]


class Hole(NamedTuple):
    """A run of trades of one market that are missing.

    Attributes:
        after_id: The last trade before them.
        before_id: The first trade after them.
        missing: How many.
        minutes: Every minute in which one of them may lie.
    """

    venue: str
    symbol: str
    after_id: int
    before_id: int
    missing: int
    minutes: tuple[int, ...]


def find_holes(trades: Iterable[Trade]) -> list[Hole]:
    """Return the holes between the first and the last of each market's trades.

    Args:
        trades: In any order, repeats allowed; their ids are numbers that count up by one a market.
    """
    times_us: defaultdict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for trade in trades:
        times_us[trade.venue, trade.symbol][int(trade.trade_id)] = trade.event_time_us
    return [
        Hole(
            *market,
            after_id=before,
            before_id=after,
            missing=after - before - 1,
            minutes=_minutes(times[before], times[after]),
        )
        for market, times in times_us.items()
        for before, after in pairwise(sorted(times))
        if after != before + 1
    ]


def unnamed_holes(holes: Iterable[Hole], coverage: Mapping[CoverageKey, Coverage]) -> list[Hole]:
    """Return the holes that coverage does not name.

    A hole is named when coverage of its market's trades calls every minute in which it may lie a gap
    or disconnected: then no minute with less than all of its trades passes for a quiet one.

    Args:
        holes: From `find_holes`.
        coverage: The last word on each (venue, symbol, channel, minute).
    """
    return [hole for hole in holes if any(_status(coverage, hole, minute) not in NAMED for minute in hole.minutes)]


def _status(coverage: Mapping[CoverageKey, Coverage], hole: Hole, minute: int) -> str | None:
    word = coverage.get((hole.venue, hole.symbol, "trades", minute))
    return None if word is None else word.status


def _minutes(first_us: int, last_us: int) -> tuple[int, ...]:
    return tuple(range(minute_of(first_us), minute_of(last_us) + 1, MINUTE_US))
