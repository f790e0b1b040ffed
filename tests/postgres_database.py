"""Databases of their own for tests, made from one migrated template, and messages to fill them with."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from coinstream.messages import TOPIC_OF, DecodedBatch, LogPosition, Message, Partition, RefusedMessage, Trade
from coinstream.stores.postgres.migrate import READER, SINK, migrate
from coinstream.stores.postgres.read import PostgresReader
from coinstream.stores.postgres.write import PostgresWriter

PASSWORDS = {SINK: "sink's own: %/@", READER: "reader's own"}
NOW_US = 1_700_000_000_000_000
"""What the writers' clock says: 2023-11-14 22:13:20."""
TOPIC_ID = "first"


@dataclass
class Database:
    """A database with the roles' addresses."""

    admin: str
    name: str

    @property
    def owner(self) -> str:
        return make_conninfo(self.admin, dbname=self.name)

    @property
    def sink(self) -> str:
        return self._as(SINK)

    @property
    def reader(self) -> str:
        return self._as(READER)

    def _as(self, role: str) -> str:
        return make_conninfo(self.admin, dbname=self.name, user=role, password=PASSWORDS[role])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.owner, options="-c timezone=UTC") as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.owner, autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def new_database(admin: str, *, template: str = "template0", options: str = "") -> Iterator[Database]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(admin, autocommit=True) as connection:
        statement = "CREATE DATABASE {} TEMPLATE {} " + options
        connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(template)))
    try:
        yield Database(admin, name)
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def migrated_database(admin: str) -> Iterator[Database]:
    with new_database(admin, options="ENCODING 'UTF8'") as database:
        migrate(database.owner, passwords=PASSWORDS)
        yield database


@dataclass
class Log:
    """Stands in for Kafka: each topic has partition 0, and messages get consecutive offsets."""

    positions: dict[Partition, LogPosition] = field(default_factory=dict)

    def batch(self, *messages: Message, kind: type[Message] = Trade, partition: int = 0) -> DecodedBatch:
        """Return the next batch of the messages' topic, from where the last one ended."""
        topic = TOPIC_OF[type(messages[0]) if messages else kind]
        place = Partition(topic.name, partition)
        start = self.positions.get(place, LogPosition(topic.name, TOPIC_ID, partition, 0))
        end = LogPosition(topic.name, TOPIC_ID, partition, start.next_offset + len(messages))
        self.positions[place] = end
        offsets = range(start.next_offset, end.next_offset)
        return DecodedBatch(topic.carries, start, end, messages, offsets, [0] * len(messages))


@dataclass
class Refusals:
    """Takes what a writer refuses."""

    taken: list[RefusedMessage] = field(default_factory=list)

    def __call__(self, refused: Sequence[RefusedMessage]) -> None:
        self.taken += refused

    @property
    def offsets(self) -> list[int]:
        return [refused.offset for refused in self.taken]


def writer_of(database: Database, **options: Any) -> PostgresWriter:
    return PostgresWriter(database.sink, clock_us=lambda: NOW_US, **options)


def open_positions(writer: PostgresWriter, kinds: Sequence[type[Message]], partitions: int = 2) -> None:
    starts = [LogPosition(TOPIC_OF[kind].name, TOPIC_ID, p, 0) for kind in kinds for p in range(partitions)]
    writer.positions(starts)


_numbers = itertools.count(1)


def a_trade(trade_id: str | None = None, **fields: Any) -> Trade:
    """Return a trade; of a fresh id unless one is given."""
    defaults: dict[str, Any] = {
        "venue": "coinbase",
        "symbol": "BTC-USD",
        "trade_id": trade_id or str(next(_numbers)),
        "price": "58012.31",
        "size": "0.5",
        "aggressor_side": "buy",
        "event_time_us": NOW_US,
        "received_time_us": NOW_US + 50_123,
        "provenance": "live",
    }
    return Trade(**(defaults | fields))


_fields = "SELECT venue, symbol, to_jsonb(f) - 'instrument_id'"  # ids differ from run to run
_named = "JOIN market.instruments i ON i.id = f.instrument_id ORDER BY venue, symbol, "
_facts = "venue_symbol, base, quote, tick_size, lot_size, minimum_notional, status, received_time"


def state_of(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return all that the sink keeps, in order, with names for ids and without times of storing."""
    queries = {
        "trades": f"{_fields} FROM market.trades f {_named} day, trade_id",
        "candles": f"{_fields} FROM market.candles f {_named} minute, origin",
        "quotes": f"{_fields} FROM market.quotes f {_named} f.received_time, sequence",
        "books": f"{_fields} FROM market.book_snapshots f {_named} f.received_time, sequence",
        "assets": "SELECT * FROM market.assets ORDER BY 1, 2, 3",
        "coverage": "SELECT * FROM market.coverage ORDER BY 1, 2, 3, 4",
        "instruments": f"SELECT venue, symbol, {_facts} FROM market.instruments ORDER BY 1, 2",
        "offsets": "SELECT consumer_group, topic, topic_id, partition, next_offset FROM pipeline.offsets "
        "ORDER BY 1, 2, 3, 4",
    }
    return {table: database.rows(query) for table, query in queries.items()}


def until(condition: Callable[[], bool], *, timeout_s: float = 15) -> None:
    """Wait for something that another thread or the server does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def reader_of(database: Database) -> PostgresReader:
    return PostgresReader(database.reader)


MakeWriter = Callable[..., PostgresWriter]
