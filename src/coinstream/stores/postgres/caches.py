"""What a connection has learnt and may forget: ids of instruments, days that exist, recent trade ids.

All of it is thrown away with the connection, since a server that went away may have lost what was
learnt, or have been replaced by an older copy of itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from operator import attrgetter

import psycopg
from psycopg import errors

from coinstream.errors import RefusedError
from coinstream.messages import Trade, day_of
from coinstream.messages.times import DAY_US, EARLIEST_US
from coinstream.stores.postgres.connection import Connection, refusal_of
from coinstream.stores.postgres.rows import Name

RECENT_IDS = 4_096
"""Of each generation of an instrument: so many are remembered at least, twice as many at most."""
RECENT_IDS_OF_ALL = 500_000
"""Some 60 MB; beyond it the instruments that were silent longest are forgotten."""

_EARLIEST_DAY = day_of(EARLIEST_US)
_ids_of_names = """
SELECT i.venue, i.symbol, i.id FROM unnest(%s::text[], %s::text[]) AS n (venue, symbol)
JOIN market.instruments i USING (venue, symbol)
"""
_make_names = """
INSERT INTO market.instruments (venue, symbol)
SELECT venue, symbol FROM unnest(%s::text[], %s::text[]) AS n (venue, symbol) ORDER BY venue, symbol
ON CONFLICT DO NOTHING
"""


class InstrumentIds:
    """Ids of instruments by (venue, symbol); unknown ones get a row."""

    def __init__(self) -> None:
        self.known: dict[Name, int] = {}
        self.made = 0

    def learn(self, connection: Connection, names: Iterable[Name]) -> dict[Name, RefusedError]:
        """Look up or make the ids of names, in a transaction of its own that is on disk at its end.

        Returns:
            The names that the server will not take, and why.
        """
        missing = sorted({name for name in names if name not in self.known})
        if not missing:
            return {}
        try:
            self._learn(connection, missing)
        except (psycopg.Error, UnicodeEncodeError) as error:
            if refusal_of(error) is None:
                raise
        else:
            return {}
        refused: dict[Name, RefusedError] = {}
        for name in missing:
            try:
                self._learn(connection, [name])
            except (psycopg.Error, UnicodeEncodeError) as error:  # one by one to find the culprit
                refusal = refusal_of(error)
                if refusal is None:
                    raise
                refused[name] = refusal
        return refused

    def _learn(self, connection: Connection, names: Sequence[Name]) -> None:
        columns = [[venue for venue, _ in names], [symbol for _, symbol in names]]
        found: dict[Name, int] = {(v, s): i for v, s, i in connection.execute(_ids_of_names, columns)}
        made = 0
        if len(found) < len(names):
            with connection.transaction():
                connection.execute("SET LOCAL synchronous_commit = on")
                made = connection.execute(_make_names, columns).rowcount
            found = {(v, s): i for v, s, i in connection.execute(_ids_of_names, columns)}
        self.known |= found
        self.made += made


class Days:
    """Which days exist of which tables."""

    def __init__(self) -> None:
        self._known: set[tuple[str, int]] = set()

    def learn(self, connection: Connection, table: str, days: Iterable[int], now_us: int) -> dict[int, RefusedError]:
        """Make the days that are missing, each in a transaction of its own.

        Args:
            connection: In autocommit mode.
            table: ``trades``, ``quotes`` or ``book_snapshots``.
            days: Days since 1970-01-01, UTC.
            now_us: The clock, which says what tomorrow is.

        Returns:
            The days before 2009 or after tomorrow, and the error for their rows.
        """
        refused: dict[int, RefusedError] = {}
        tomorrow = day_of(now_us) + timedelta(days=1)
        for number in sorted(days):
            if (table, number) in self._known:
                continue
            day = day_of(number * DAY_US)
            if not _EARLIEST_DAY <= day <= tomorrow:
                refused[number] = _no_day(table, day, tomorrow)
                continue
            try:
                connection.execute("SELECT market.make_day(%s, %s)", [table, day])
            except errors.DatetimeFieldOverflow:  # the server's clock is behind ours
                refused[number] = _no_day(table, day, tomorrow)
            else:
                self._known.add((table, number))
        return refused


def _no_day(table: str, day: date, tomorrow: date) -> RefusedError:
    return RefusedError(f"PostgreSQL: {table} keeps days from {_EARLIEST_DAY} to tomorrow, {tomorrow}; not {day}")


class RecentIds:
    """The latest committed trade ids of each instrument, to drop most repeats before they reach the server.

    Bounded: what has been forgotten costs time, since the table's key finds it, never correctness.
    Each instrument has two generations of ids with their trades' times; when the young one is full
    the old one is dropped whole, which is cheaper than dropping ids one by one.
    """

    def __init__(self, *, each: int = RECENT_IDS, of_all: int = RECENT_IDS_OF_ALL) -> None:
        self._each = each
        self._of_all = of_all
        self._generations: OrderedDict[Name, tuple[dict[str, int], dict[str, int]]] = OrderedDict()
        self._size = 0

    def drop_repeats(self, name: Name, trades: list[Trade]) -> list[Trade]:
        """Return trades of one instrument without those committed before and those given twice."""
        ids = [trade.trade_id for trade in trades]
        young, old = self._generations.get(name, ({}, {}))
        given = set(ids)  # a set, because two of them are compared by walking along the smaller
        if len(given) == len(ids) and young.keys().isdisjoint(given) and old.keys().isdisjoint(given):
            return trades
        seen: set[tuple[str, int]] = set()
        kept: list[Trade] = []
        for trade in trades:
            trade_id, day = trade.trade_id, trade.event_time_us // DAY_US
            known = {recent[trade_id] // DAY_US for recent in (young, old) if trade_id in recent}
            if day in known or (trade_id, day) in seen:
                continue
            seen.add((trade_id, day))
            kept.append(trade)
        return kept

    def remember(self, name: Name, trades: Sequence[Trade]) -> None:
        """Take in trades of one instrument that are committed."""
        young, old = self._generations.pop(name, ({}, {}))
        self._size -= len(young) + len(old)
        latest = trades[-self._each :]
        if len(young) + len(latest) > self._each:
            young, old = {}, young
        young.update(zip(map(_trade_id, latest), map(_event_time_us, latest), strict=True))
        self._generations[name] = young, old
        self._size += len(young) + len(old)
        while self._size > self._of_all and len(self._generations) > 1:
            _, forgotten = self._generations.popitem(last=False)
            self._size -= sum(map(len, forgotten))

    def __len__(self) -> int:
        return self._size


_trade_id = attrgetter("trade_id")
_event_time_us = attrgetter("event_time_us")
