"""What operations ask of PostgreSQL: counts, positions, and exact rows by natural key for comparisons.

Keys and values are named tuples: venue and symbol as text, numbers as `Decimal`, times as integer
microseconds. A key equals a plain tuple of the same parts. Every value ends with ``rows``, how many
rows of the table have the key; the primary keys hold it to 1, and a comparison can see that they do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

import psycopg
from psycopg import sql

from coinstream.messages import LogPosition, Message, Partition, day_of, utc
from coinstream.stores.postgres.connection import Connection, connect, meaning_of
from coinstream.stores.postgres.lookups import LOOKUPS, PROVENANCE, MinuteKey, in_us
from coinstream.stores.postgres.rows import FORMS

POSTGRES_KINDS: frozenset[type[Message]] = frozenset(FORMS)
TABLES = ("instruments", "trades", "quotes", "book_snapshots", "candles", "assets", "coverage")

_CHUNK = 10_000
_SESSION = {"statement_timeout": "10min", "idle_in_transaction_session_timeout": "0"}
_SNAPSHOT = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

K = TypeVar("K", bound=tuple[Any, ...])

_positions = """
SELECT DISTINCT ON (topic, partition) topic, topic_id, partition, next_offset
FROM pipeline.offsets WHERE consumer_group = %s ORDER BY topic, partition, stored_time DESC
"""
_candles = """
SELECT (extract(epoch FROM minute) * 1000000)::bigint, open, high, low, close, volume, trades,
       (extract(epoch FROM open_time) * 1000000)::bigint, open_id,
       (extract(epoch FROM close_time) * 1000000)::bigint, close_id
FROM market.candles WHERE instrument_id = %(id)s AND minute = ANY(%(minutes)s) AND origin = 't'
"""
# Written apart from market.trade_id_order, which is part of what is checked here.
_trade_order = """event_time, trade_id !~ '^[0-9]+$', CASE WHEN trade_id ~ '^[0-9]+$' THEN trade_id::numeric END,
       trade_id COLLATE "C" """
_sums = f"""
WITH ranked AS (
    SELECT date_bin('1 minute', event_time, timestamptz 'epoch') AS minute, price, size, event_time, trade_id,
           row_number() OVER (PARTITION BY date_bin('1 minute', event_time, timestamptz 'epoch')
                              ORDER BY {_trade_order}) AS place
    FROM market.trades
    WHERE instrument_id = %(id)s AND day = %(day)s
      AND date_bin('1 minute', event_time, timestamptz 'epoch') = ANY(%(minutes)s)
), summed AS (
    SELECT minute, max(price) AS high, min(price) AS low, sum(size) AS volume, count(*) AS trades
    FROM ranked GROUP BY minute
)
SELECT (extract(epoch FROM minute) * 1000000)::bigint, first.price, high, low, last.price, volume, trades,
       (extract(epoch FROM first.event_time) * 1000000)::bigint, first.trade_id,
       (extract(epoch FROM last.event_time) * 1000000)::bigint, last.trade_id
FROM summed JOIN ranked first USING (minute) JOIN ranked last USING (minute)
WHERE first.place = 1 AND last.place = trades
"""  # noqa: S608  # the order is the constant above


_trade = f"""
SELECT t.day, t.price, t.size, CASE t.aggressor_side WHEN 'b' THEN 'buy' WHEN 's' THEN 'sell' END,
       {in_us("t.event_time")}, {in_us("t.received_time")}, {PROVENANCE},
       CASE WHEN current_setting('track_commit_timestamp') = 'on' THEN {in_us("pg_xact_commit_timestamp(t.xmin)")} END
FROM market.trades t JOIN market.instruments i ON i.id = t.instrument_id
WHERE i.venue = %(venue)s AND i.symbol = %(symbol)s AND t.trade_id = %(trade_id)s ORDER BY t.day
"""  # noqa: S608  # constants
# Ids of one length sort as text as they do as numbers, and so the primary key's index finds the next one.
_beside = f"""
SELECT t.trade_id, {in_us("t.event_time")} FROM market.trades t JOIN market.instruments i ON i.id = t.instrument_id
WHERE i.venue = %(venue)s AND i.symbol = %(symbol)s AND length(t.trade_id) = length(%(trade_id)s::text)
AND t.trade_id """  # noqa: S608  # constants
_neighbours = tuple(
    f"{_beside} {sign} %(trade_id)s ORDER BY t.trade_id {order} LIMIT 1".encode()
    for sign, order in (("<", "DESC"), (">", "ASC"))
)


class TradeRow(NamedTuple):
    """One row of ``trades``, with what only the server knows of it.

    Attributes:
        committed_time_us: When its transaction was committed; ``None`` where the server does not keep that
            (its setting ``track_commit_timestamp``), or did not yet.
    """

    day: date
    price: Decimal
    size: Decimal
    aggressor_side: str
    event_time_us: int
    received_time_us: int
    provenance: str
    committed_time_us: int | None


class Neighbour(NamedTuple):
    """A trade beside an id that is not there."""

    trade_id: str
    event_time_us: int


class CandleSumValue(NamedTuple):
    """A candle summed from trades; numbers in quote currency, ``volume`` in base currency."""

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int
    open_time_us: int
    open_id: str
    close_time_us: int
    close_id: str


class CandleDisagreement(NamedTuple):
    """What the sink has added up, and what the trades come to; ``None`` where there is nothing."""

    stored: CandleSumValue | None
    summed: CandleSumValue | None


class Snapshot:
    """Questions to one state of the database; the reader itself asks them of the present."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def counts(self) -> dict[str, int]:
        """Return how many rows each table of the market has, by table name."""
        with _meant():
            return {table: self._count(table) for table in TABLES}

    def _count(self, table: str) -> int:
        query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("market", table))
        row = self._connection.execute(query).fetchone()
        return int(row[0]) if row else 0

    def existing(self, table: str, keys: Collection[K]) -> set[K]:
        """Return those of the natural keys that the table has.

        Args:
            table: One of `TABLES`; of ``candles``, a venue's own.
            keys: Of the shape that `coinstream.stores.postgres.lookups` has for the table.
        """
        return {key for key, _ in self._look_up(table, keys)}

    def stored(self, table: str, keys: Collection[K]) -> dict[K, Any]:
        """Return the row of each of the natural keys that the table has, as the table's value tuple."""
        values: dict[K, Any] = {}
        kind = LOOKUPS[table].value
        for key, columns in self._look_up(table, keys):
            held = values.get(key)
            values[key] = kind(*columns, 1) if held is None else held._replace(rows=held.rows + 1)
        return values

    def _look_up(self, table: str, keys: Collection[K]) -> Iterator[tuple[K, Sequence[Any]]]:
        """Yield each key that is there with its row, by the primary key's index.

        The planner guesses at tables that were never analysed, and a wrong guess would compare every
        key with every row; so nothing but the index is left to it.
        """
        lookup = LOOKUPS[table]
        ordered = list(keys)
        with _meant():
            for switch in ("hashjoin", "mergejoin", "seqscan", "material"):
                self._connection.execute(f"SET enable_{switch} = off".encode())
            try:
                for first in range(0, len(ordered), _CHUNK):
                    chunk = ordered[first : first + _CHUNK]
                    rows = self._connection.execute(lookup.query, lookup.arguments(chunk))
                    for place, *columns in rows:
                        yield chunk[place - 1], lookup.converted(columns)
            finally:
                if not self._connection.closed:
                    for switch in ("hashjoin", "mergejoin", "seqscan", "material"):
                        self._connection.execute(f"RESET enable_{switch}".encode())

    def candle_disagreements(self, minutes: Iterable[tuple[str, str, int]]) -> dict[MinuteKey, CandleDisagreement]:
        """Compare the sink's candles with an aggregate of the trades, over the given minutes.

        Args:
            minutes: (venue, symbol, start of the minute in microseconds).

        Returns:
            The minutes in which the two differ; open and close by (time, trade id), exact numbers.
        """
        by_day = _by_day(minutes)
        differing: dict[MinuteKey, CandleDisagreement] = {}
        with _meant():
            for (venue, symbol, day), some in by_day.items():
                stored, summed = self._candles_of(venue, symbol, day, some)
                for minute in sorted(some):
                    pair = CandleDisagreement(stored.get(minute), summed.get(minute))
                    if pair.stored != pair.summed:
                        differing[MinuteKey(venue, symbol, minute)] = pair
        return differing

    def summed_minutes(self, minutes: Iterable[tuple[str, str, int]]) -> set[MinuteKey]:
        """Return those of the minutes, (venue, symbol, start), that have a candle summed from trades."""
        by_day = _by_day(minutes)
        with _meant():
            return {
                MinuteKey(venue, symbol, minute)
                for (venue, symbol, day), some in by_day.items()
                for minute in self._candles_of(venue, symbol, day, some)[0]
            }

    def _candles_of(
        self, venue: str, symbol: str, day: date, minutes: Iterable[int]
    ) -> tuple[dict[int, CandleSumValue], dict[int, CandleSumValue]]:
        found = self._connection.execute(
            "SELECT id FROM market.instruments WHERE venue = %s AND symbol = %s", [venue, symbol]
        ).fetchone()
        if found is None:
            return {}, {}
        arguments = {"id": found[0], "day": day, "minutes": [utc(minute) for minute in minutes]}
        stored, summed = (
            {row[0]: CandleSumValue(*row[1:]) for row in self._connection.execute(query, arguments)}
            for query in (_candles, _sums)
        )
        return stored, summed


def _by_day(minutes: Iterable[tuple[str, str, int]]) -> dict[tuple[str, str, date], set[int]]:
    by_day: defaultdict[tuple[str, str, date], set[int]] = defaultdict(set)
    for venue, symbol, minute in minutes:
        by_day[venue, symbol, day_of(minute)].add(minute)
    return by_day


class PostgresReader:
    """Reads as ``coinstream_reader``; connects when first asked, and anew after any failure.

    Its methods raise `TransientError` while the server is away and `FatalError` where only a person
    can mend it.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Connection | None = None

    def positions(self, group: str) -> dict[Partition, LogPosition]:
        """Return where a consumer group stands; of a re-created topic, where it was moved last."""
        with self._connected() as connection:
            rows = connection.execute(_positions, [group]).fetchall()
        return {Partition(row[0], row[2]): LogPosition(*row) for row in rows}

    def counts(self) -> dict[str, int]:
        """Return how many rows each table of the market has, all at one moment."""
        with self._present() as snapshot:
            return snapshot.counts()

    def existing(self, table: str, keys: Collection[K]) -> set[K]:
        """Return those of the natural keys that the table has: see `Snapshot.existing`."""
        with self._present() as snapshot:
            return snapshot.existing(table, keys)

    def stored(self, table: str, keys: Collection[K]) -> dict[K, Any]:
        """Return the row of each of the natural keys: see `Snapshot.stored`."""
        with self._present() as snapshot:
            return snapshot.stored(table, keys)

    def candle_disagreements(self, minutes: Iterable[tuple[str, str, int]]) -> dict[MinuteKey, CandleDisagreement]:
        """Compare candles with trades: see `Snapshot.candle_disagreements`."""
        with self._present() as snapshot:
            return snapshot.candle_disagreements(minutes)

    def trade(self, venue: str, symbol: str, trade_id: str) -> list[TradeRow]:
        """Return a trade's rows: one, or none, or one a day of a venue that uses an id on several."""
        with self._connected() as connection:
            rows = connection.execute(_trade, {"venue": venue, "symbol": symbol, "trade_id": trade_id})
            return [TradeRow(*row) for row in rows]

    def neighbours(self, venue: str, symbol: str, trade_id: str) -> list[Neighbour]:
        """Return the stored trades beside an id, the lower first; only of ids as long as it is."""
        with self._connected() as connection:
            key = {"venue": venue, "symbol": symbol, "trade_id": trade_id}
            return [Neighbour(*row) for query in _neighbours for row in connection.execute(query, key)]

    def tally(self, table: str, columns: Sequence[str]) -> Counter[tuple[str, ...]]:
        """Return how often each combination of some columns' values, as text, stands in any table.

        Args:
            table: ``schema.table``; not one of ours, perhaps.
            columns: Names of its columns.
        """
        texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in columns)
        query = sql.SQL("SELECT count(*), {} FROM {} GROUP BY {}").format(
            texts, sql.Identifier(*table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with self._connected() as connection:
            return Counter({tuple(values): count for count, *values in connection.execute(query)})

    @contextmanager
    def hold_snapshot(self) -> Iterator[Snapshot]:
        """Keep the tables as they are now in view, on a connection of its own, until the block ends.

        Writers go on meanwhile; dead rows are kept for as long.
        """
        connection = connect(self._dsn, name="coinstream snapshot", settings=_SESSION)
        try:
            with _meant():
                connection.execute(_SNAPSHOT)
                connection.execute("SELECT FROM pipeline.offsets LIMIT 1")  # the first query takes the snapshot
            yield Snapshot(connection)
        finally:
            connection.close()

    def close(self) -> None:
        """Give the connection back; a later call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _present(self) -> Iterator[Snapshot]:
        with self._connected() as connection:
            connection.execute(_SNAPSHOT)
            yield Snapshot(connection)
            connection.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = connect(self._dsn, name="coinstream reader", settings=_SESSION)
            with _meant():
                yield self._connection
        except BaseException:
            self.close()
            raise


@contextmanager
def _meant() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise meaning_of(error) from error
