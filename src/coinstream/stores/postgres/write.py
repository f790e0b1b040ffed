"""The PostgreSQL sink's store: rows, candles and log positions in one database transaction (promise 2).

The way of a write, numbered because a crash after any step must lose nothing and write nothing
twice:

1. names     of instruments have ids: a short transaction of its own, on disk at its end
2. days      of the rows exist: each in a transaction of its own
3. positions move, compare-and-set, in the transaction that all that follows belongs to
4. rows      are loaded; what the server refuses is found and left out
5. candles   of the trades that are truly new are added to
6. refused   messages are handed over to be dead-lettered, while nothing is committed yet
7. commit
8. memory    of the trade ids that are committed now

A crash after 1 or 2 leaves a name or an empty day, which the next run uses. After 3 to 6 the
transaction is gone; a dead letter may come twice. After 7 the positions say that all is done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psycopg
from psycopg.errors import LockNotAvailable, UniqueViolation

from coinstream.errors import RefusedError
from coinstream.market.candle import CandleKey, CandleSum, by_minute, by_name, fold_candles, fold_groups
from coinstream.messages import DecodedBatch, LogPosition, Message, Partition, RefusedMessage, Trade
from coinstream.messages.times import DAY_US
from coinstream.stores import LostPartitionError, Written
from coinstream.stores.postgres.caches import Days, InstrumentIds, RecentIds
from coinstream.stores.postgres.connection import Connection, connect, meaning_of
from coinstream.stores.postgres.load import Loaded, Loader
from coinstream.stores.postgres.rows import FORMS, Form, Name, candle_sum_rows, escaped_row, is_plain, trade_rows
from coinstream.stores.postgres.tables import CANDLE_SUMS, TRADES
from coinstream.telemetry import logger

log = logger("postgres")

BLOCK_ROWS = 2_000
"""Rows that are made before they are sent: the server reads them while the next are being made."""
FROZEN_S = 15.0
"""A transaction that old whose server waits for its client has a client that will not go on."""
CANDLES_AT_ONCE = 500
"""Up to so many are sent with their statement; more are staged."""

_hold_positions = """
SELECT o.topic, o.partition, o.next_offset
FROM pipeline.offsets o
JOIN unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::integer[]) AS e (topic, topic_id, partition)
    USING (topic, topic_id, partition)
WHERE o.consumer_group = %(group)s
ORDER BY o.topic, o.topic_id, o.partition FOR UPDATE OF o
"""
_move_positions = """
UPDATE pipeline.offsets o SET next_offset = e.after, stored_time = now()
FROM unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::integer[],
            %(before)s::bigint[], %(after)s::bigint[]) AS e (topic, topic_id, partition, before, after)
WHERE o.consumer_group = %(group)s AND o.topic = e.topic AND o.topic_id = e.topic_id
  AND o.partition = e.partition AND o.next_offset = e.before
"""
_make_positions = """
INSERT INTO pipeline.offsets (consumer_group, topic, topic_id, partition, next_offset)
SELECT %(group)s, e.* FROM unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::integer[],
                                  %(before)s::bigint[]) AS e (topic, topic_id, partition, before)
ORDER BY 2, 3, 4 ON CONFLICT DO NOTHING
"""
_read_positions = """
SELECT o.topic, o.topic_id, o.partition, o.next_offset
FROM pipeline.offsets o
JOIN unnest(%(topics)s::text[], %(topic_ids)s::text[], %(partitions)s::integer[]) AS e (topic, topic_id, partition)
    USING (topic, topic_id, partition)
WHERE o.consumer_group = %(group)s
"""
# Idle in its transaction, the server ends such a session by itself; in the middle of a COPY it never does. The ending
# stands in the SELECT list, which only rows that pass WHERE reach: among the conditions it would be tried first.
_end_frozen = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = current_setting('application_name')
  AND pid <> pg_backend_pid() AND wait_event_type = 'Client'
  AND xact_start < clock_timestamp() - make_interval(secs => %(frozen_s)s)
"""


class PostgresWriter:
    """Writes batches of decoded messages; `coinstream.sink` drives it. One thread at a time.

    Any failure closes the connection and forgets all that was learnt through it; the next call
    connects anew.

    Args:
        dsn: The database, as ``coinstream_sink``.
        group: The consumer group whose positions are kept.
        clock_us: The time in microseconds since 1970; it decides which day is tomorrow.
        step: Called with the number of each step of `write` once that is done; tests crash there.
        frozen_s: A predecessor that stands still in its transaction holds the rows' locks; after so many
            seconds of it, whoever waits for them ends its session.
    """

    name = "postgresql"
    kinds: frozenset[type[Message]] = frozenset(FORMS)
    keeps_positions = True

    def __init__(
        self,
        dsn: str,
        *,
        group: str = "postgresql",
        clock_us: Callable[[], int],
        step: Callable[[int], None] = lambda _: None,
        frozen_s: float = FROZEN_S,
    ) -> None:
        self._dsn = dsn
        self._frozen_s = frozen_s
        self._group = group
        self._clock_us = clock_us
        self._step = step
        self._open: _Session | None = None

    def positions(self, starts: Sequence[LogPosition]) -> dict[Partition, LogPosition]:
        """Return where this group stands in each partition; where it has never stood, at the start given.

        Args:
            starts: Of each assigned partition, the topic's current id and the start of its log.

        Raises:
            TransientError: The server is away.
            FatalError: Nobody but a person can mend it.
        """
        if not starts:
            return {}
        arguments = _columns(self._group, starts)
        with self._session() as session:
            session.connection.execute(_make_positions, arguments)
            rows = session.connection.execute(_read_positions, arguments).fetchall()
        return {Partition(row[0], row[2]): LogPosition(*row) for row in rows}

    def write(
        self,
        batches: Sequence[DecodedBatch],
        refuse: Callable[[Sequence[RefusedMessage]], None],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Written:
        """Write all of the batches, with the positions after them, or nothing.

        Args:
            batches: At most one of each partition.
            refuse: Given the messages that PostgreSQL will not take, before the commit that passes
                them by; what it raises is raised from here, and nothing is written.
            meanwhile: Called once at most, while the server is at trades that it was sent. It may not use
                this object, and must be quick: the transaction waits for it.

        Raises:
            LostPartitionError: The stored position of a partition is not the batch's start.
            TransientError: The server is away, full or busy; whether a commit that was under way
                happened, only `positions` can tell.
            FatalError: Nobody but a person can mend it.
        """
        if not batches:
            return Written()
        with self._session() as session:
            write = _Write(session, batches, now_us=self._clock_us(), step=self._step, meanwhile=meanwhile)
            return write.run(_columns(self._group, [b.start for b in batches], [b.end for b in batches]), refuse)

    def touch(self) -> None:
        """Ask the server for a sign of life, connecting if need be.

        Raises:
            TransientError: There is none.
            FatalError: Nobody but a person can mend it.
        """
        with self._session() as session:
            session.connection.execute("SELECT 1")

    def close(self) -> None:
        """Give the connection back; a later call opens another."""
        session, self._open = self._open, None
        if session is not None:
            session.connection.close()

    @contextmanager
    def _session(self) -> Iterator[_Session]:
        """Hand out the session; whatever is raised meanwhile ends it, its transaction and its memory."""
        try:
            if self._open is None:
                self._open = _Session(self._connect())
            yield self._open
        except LockNotAvailable as error:
            self.close()
            self._end_frozen()
            raise meaning_of(error) from error
        except psycopg.Error as error:
            self.close()
            raise meaning_of(error) from error
        except BaseException:
            self.close()
            raise

    def _connect(self) -> Connection:
        settings = {
            # The positions go with the rows, so a commit that a crash of the server loses is made again.
            "synchronous_commit": "off",
            "lock_timeout": f"{self._frozen_s / 3:.1f}s",
            "idle_in_transaction_session_timeout": f"{self._frozen_s:.1f}s",
        }
        return connect(self._dsn, name="coinstream sink", settings=settings)

    def _end_frozen(self) -> None:
        """End the sessions of sinks that stand still in a transaction: its rows are a successor's by now.

        A sink that wakes finds its connection gone, nothing of its batch written, and the partitions moved.
        """
        connection = self._connect()
        try:
            ended = connection.execute(_end_frozen, {"frozen_s": self._frozen_s}).fetchall()
        finally:
            connection.close()
        if ended:
            log.warning("ended frozen sessions", pids=[pid for pid, is_ended in ended if is_ended])


class _Session:
    """A connection and all that is known only through it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.loader = Loader(connection)
        self.ids = InstrumentIds()
        self.days = Days()
        self.recent = RecentIds()


def _columns(group: str, starts: Sequence[LogPosition], ends: Sequence[LogPosition] = ()) -> dict[str, Any]:
    return {
        "group": group,
        "topics": [start.topic for start in starts],
        "topic_ids": [start.topic_id for start in starts],
        "partitions": [start.partition for start in starts],
        "before": [start.next_offset for start in starts],
        "after": [end.next_offset for end in ends],
    }


class _Groups(NamedTuple):
    """Trades by instrument, and by instrument and minute; each group in the order given."""

    trades: Sequence[Trade]
    by_name: Mapping[Name, list[Trade]]
    minutes: Mapping[Name, Mapping[int, list[Trade]]]


class _Write:
    """One write, from step 1 to step 8."""

    def __init__(
        self,
        session: _Session,
        batches: Sequence[DecodedBatch],
        *,
        now_us: int,
        step: Callable[[int], None],
        meanwhile: Callable[[], None],
    ) -> None:
        self._session = session
        self._batches = batches
        self._now_us = now_us
        self._step = step
        self._meanwhile: Callable[[], None] | None = meanwhile
        self._refused: dict[int, RefusedError] = {}  # by id() of the message
        self._inserted: Counter[str] = Counter()  # by table
        self._stored: Counter[type[Message]] = Counter()  # rows that are new, by kind
        self._new_trades: list[Trade] = []
        self._groups: _Groups | None = None  # of the trades grouped last
        self._candles: dict[CandleKey, CandleSum] | None = None  # of the trades streamed last
        self._seen_trades: list[tuple[Name, list[Trade]]] = []

    def run(self, positions: dict[str, Any], refuse: Callable[[Sequence[RefusedMessage]], None]) -> Written:
        messages: dict[type[Message], list[Any]] = {kind: [] for kind in FORMS}
        for batch in self._batches:
            messages[batch.kind] += batch.messages
        waiting = {kind: some for kind, some in messages.items() if some}
        waiting = {kind: self._with_names(FORMS[kind], some) for kind, some in waiting.items()}
        self._step(1)
        waiting = {kind: self._with_days(FORMS[kind], some) for kind, some in waiting.items()}
        self._step(2)
        self._begin_and_move(positions)
        self._step(3)
        for kind, some in waiting.items():
            self._store(kind, some)
        self._step(4)
        self._add_to_candles()
        self._step(5)
        refused = self._report()
        if refused:
            refuse(refused)
        self._step(6)
        self._session.connection.execute("COMMIT")
        self._step(7)
        for name, trades in self._seen_trades:
            self._session.recent.remember(name, trades)
        self._step(8)
        return self._written(messages, refused)

    def _with_names(self, form: Form, messages: list[Any]) -> list[Any]:
        if not form.has_instrument:
            return messages
        if form.table is TRADES:
            names = set(self._grouped(messages).by_name)
        else:
            names = {(message.venue, message.symbol) for message in messages}
        bad = self._session.ids.learn(self._session.connection, names)
        return self._without(messages, lambda message: bad.get((message.venue, message.symbol))) if bad else messages

    def _with_days(self, form: Form, messages: list[Any]) -> list[Any]:
        time = form.time
        if time is None:
            return messages
        if form.table is TRADES:
            days = {minute // DAY_US for minutes in self._grouped(messages).minutes.values() for minute in minutes}
        else:
            days = {time_us // DAY_US for time_us in map(time, messages)}
        bad = self._session.days.learn(self._session.connection, form.table.name, days, self._now_us)
        return self._without(messages, lambda message: bad.get(time(message) // DAY_US)) if bad else messages

    def _grouped(self, trades: Sequence[Trade]) -> _Groups:
        """Group trades, once for each list: names, days, blocks and candles all ask."""
        if self._groups is None or self._groups.trades is not trades:
            names = by_name(trades)
            self._groups = _Groups(trades, names, {name: by_minute(some) for name, some in names.items()})
        return self._groups

    def _without(self, messages: list[Any], refusal: Callable[[Any], RefusedError | None]) -> list[Any]:
        kept = []
        for message in messages:
            error = refusal(message)
            if error is None:
                kept.append(message)
            else:
                self._refused[id(message)] = error
        return kept

    def _begin_and_move(self, positions: dict[str, Any]) -> None:
        """Move the positions, or find that a successor has: it waits here for one that is committing.

        The transaction needs no guard of its own, since any failure closes the connection. What opens it
        travels together: batches are small when the market is quiet, and each answer costs as much as 50 rows.
        """
        connection = self._session.connection
        with connection.pipeline():
            connection.execute("BEGIN")
            holding = connection.execute(_hold_positions, positions)
            moving = connection.execute(_move_positions, positions)
            self._session.loader.begin()
        held, moved = holding.fetchall(), moving.rowcount
        if moved == len(self._batches):
            return
        stored = {Partition(topic, partition): offset for topic, partition, offset in held}
        for batch in self._batches:
            offset = stored.get(batch.partition)
            if offset != batch.start.next_offset:
                raise LostPartitionError(
                    f"{batch.start.topic} partition {batch.start.partition} is stored up to {offset}, "
                    f"not {batch.start.next_offset}: another consumer has written it"
                )
        raise LostPartitionError(f"of {len(self._batches)} partitions only {moved} stood where their batches start")

    def _store(self, kind: type[Message], messages: Sequence[Any]) -> None:
        """Load the winners of each key; where the server refuses one, the next best of its key."""
        form = FORMS[kind]
        while messages:
            chosen, loaded = self._load_trades(messages) if kind is Trade else self._load(form, messages)
            self._inserted[form.table.name] += loaded.inserted
            self._stored[kind] += loaded.inserted
            refused = dict(loaded.refused)
            if kind is Trade:
                passed = refused.keys() | set(loaded.present)
                self._new_trades += (
                    [trade for place, trade in enumerate(chosen) if place not in passed] if passed else chosen
                )
            if not refused:
                return
            self._refused |= {id(chosen[place]): error for place, error in refused.items()}
            keys = {form.key(chosen[place]) for place in refused}
            messages = [m for m in messages if id(m) not in self._refused and form.key(m) in keys]

    def _load(self, form: Form, messages: Sequence[Any]) -> tuple[list[Any], Loaded]:
        ids = self._session.ids.known
        chosen = form.choose(messages)
        rows = ["\t".join(form.fields(message, ids)) for message in chosen]
        return chosen, self._session.loader.load(form.table, self._readable(form, chosen, rows))

    def _load_trades(self, trades: Sequence[Trade]) -> tuple[list[Any], Loaded]:
        """Stream the trades, and sum their candles while the server is at them; if that fails, load with care.

        What the caller has to do meanwhile comes last, so that the server has all that it needs for it.
        """
        chosen: list[Trade] = []
        rows: list[str] = []

        def sent() -> Iterator[list[str]]:
            for some, lines in self._trade_blocks(trades):
                chosen.extend(some)
                rows.extend(lines)
                yield lines

        def meanwhile() -> None:
            # A number that is none is the server's to refuse; then the sums are made again without it.
            with suppress(ArithmeticError):
                is_whole = len(chosen) == len(trades)
                self._candles = fold_groups(self._grouped(trades).minutes) if is_whole else fold_candles(chosen)
            caller, self._meanwhile = self._meanwhile, None
            if caller is not None:
                caller()

        blocks = sent()
        error = self._session.loader.stream(TRADES, blocks, meanwhile)
        if error is None:
            return chosen, Loaded(len(rows))
        self._candles = None
        rest = sum(map(len, blocks))  # asks for the blocks that were not sent
        log.debug("streaming given up", rows=len(rows), unsent=rest, why=str(error))
        is_clashing = isinstance(error, UniqueViolation)
        return chosen, self._session.loader.load(TRADES, rows, is_clashing=is_clashing)

    def _trade_blocks(self, trades: Sequence[Trade]) -> Iterator[tuple[list[Trade], list[str]]]:
        for name, group in self._grouped(trades).by_name.items():
            kept = self._session.recent.drop_repeats(name, group)
            self._seen_trades.append((name, kept))
            for first in range(0, len(kept), BLOCK_ROWS):
                some = kept[first : first + BLOCK_ROWS]
                yield some, self._readable(FORMS[Trade], some, trade_rows(some, self._session.ids.known[name]))

    def _readable(self, form: Form, messages: Sequence[Any], rows: list[str]) -> list[str]:
        """Return the rows, or the same with their fields escaped where one could be misread."""
        if is_plain("\n".join(rows) + "\n", len(rows), len(form.table.columns)):
            return rows
        return [escaped_row(form.fields(message, self._session.ids.known)) for message in messages]

    def _add_to_candles(self) -> None:
        if not self._new_trades:
            return
        candles = self._candles
        if candles is None or sum(candle.trades for candle in candles.values()) != len(self._new_trades):
            candles = fold_candles(self._new_trades)
        rows = candle_sum_rows(candles, self._session.ids.known)
        loader = self._session.loader
        if len(rows) <= CANDLES_AT_ONCE:
            self._inserted[CANDLE_SUMS.name] += loader.upsert_few(CANDLE_SUMS, rows)
            return
        loaded = loader.load(CANDLE_SUMS, [escaped_row(fields) for fields in rows])
        for _, error in loaded.refused:
            raise AssertionError(f"PostgreSQL has the trades but not their candle: {error}")
        self._inserted[CANDLE_SUMS.name] += loaded.inserted

    def _report(self) -> list[RefusedMessage]:
        if not self._refused:
            return []
        self._seen_trades = [
            (name, [trade for trade in trades if id(trade) not in self._refused]) for name, trades in self._seen_trades
        ]
        return [
            RefusedMessage(batch.partition, offset, self._refused[id(message)])
            for batch in self._batches
            for message, offset in zip(batch.messages, batch.offsets, strict=True)
            if id(message) in self._refused
        ]

    def _written(self, messages: dict[type[Message], list[Any]], refused: Sequence[RefusedMessage]) -> Written:
        duplicates: Counter[str] = Counter()
        for kind, some in messages.items():
            taken = sum(id(message) not in self._refused for message in some) if self._refused else len(some)
            duplicates[FORMS[kind].table.name] = taken - self._stored[kind]
        ids = self._session.ids
        self._inserted["instruments"] += ids.made
        ids.made = 0
        return Written(dict(+self._inserted), dict(+duplicates), len(refused))
