"""Migrations and what each role may do, on a real server."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from coinstream.errors import FatalError
from coinstream.messages import Trade
from coinstream.stores.postgres.migrate import migrate
from coinstream.stores.postgres.read import PostgresReader
from coinstream.stores.postgres.write import PostgresWriter
from postgres_database import (
    PASSWORDS,
    Database,
    Log,
    MakeWriter,
    Refusals,
    a_trade,
    migrated_database,
    new_database,
    open_positions,
)


@pytest.fixture(scope="module")
def migrated(postgres_admin_dsn: str) -> Iterator[Database]:
    """A database that `migrate` itself prepared: a copy would lack the grants on the database."""
    with migrated_database(postgres_admin_dsn) as made:
        yield made


def test_second_migration_changes_nothing(migrated: Database) -> None:
    told: list[str] = []
    assert migrate(migrated.owner, passwords=PASSWORDS, progress=told.append) == []
    assert told == []


def test_first_migration_says_what_it_applied(postgres_admin_dsn: str) -> None:
    told: list[str] = []
    with new_database(postgres_admin_dsn) as database:
        assert migrate(database.owner, passwords=PASSWORDS, progress=told.append) == ["0001"]
    assert told[-1].startswith("applied revision 0001: The market's tables")


def test_migrations_at_once_apply_each_revision_once(postgres_admin_dsn: str) -> None:
    """Of one database and of two of one cluster, from threads and from processes."""
    processes = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    threads = ThreadPoolExecutor(4)
    with new_database(postgres_admin_dsn) as one, new_database(postgres_admin_dsn) as other, processes, threads:
        pools: list[Executor] = [threads, threads, processes]
        runs = [
            pool.submit(migrate, database.owner, passwords=PASSWORDS) for pool in pools for database in (one, other)
        ]
        assert sorted(run.result() for run in runs) == [[], [], [], [], ["0001"], ["0001"]]
        for database in (one, other):
            reader = PostgresReader(database.reader)
            assert set(reader.counts().values()) == {0}
            reader.close()


def test_database_of_another_encoding_is_refused(postgres_admin_dsn: str) -> None:
    with (
        new_database(postgres_admin_dsn, options="ENCODING 'SQL_ASCII' LOCALE 'C'") as database,
        pytest.raises(FatalError, match="encoding SQL_ASCII"),
    ):
        migrate(database.owner, passwords=PASSWORDS)


def test_newer_schema_is_refused(database: Database) -> None:
    database.execute("UPDATE pipeline.schema_version SET version_num = '9999'")
    with pytest.raises(FatalError, match="newer than this program"):
        migrate(database.owner, passwords=PASSWORDS)


def test_role_without_rights_is_refused(migrated: Database) -> None:
    with pytest.raises(FatalError, match="migrate as the database's owner"):
        migrate(migrated.sink, passwords=PASSWORDS)


def test_passwords_never_reach_the_server_in_clear(migrated: Database) -> None:
    rows = migrated.rows("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'coinstream%' ORDER BY 1")
    assert [name for name, _ in rows] == ["coinstream_owner", "coinstream_reader", "coinstream_sink"]
    assert rows[0][1] is None
    assert all(secret.startswith("SCRAM-SHA-256$") for _, secret in rows[1:])
    flags = migrated.rows(
        "SELECT bool_or(rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls) "
        "FROM pg_roles WHERE rolname LIKE 'coinstream%'"
    )
    assert flags == [(False,)]


SINK_MAY_NOT = [
    "CREATE TABLE market.mine (id integer)",
    "CREATE TABLE public.mine (id integer)",
    "CREATE SCHEMA mine",
    "DROP TABLE market.trades",
    "ALTER TABLE market.trades ADD COLUMN mine integer",
    "TRUNCATE market.trades",
    "DELETE FROM market.trades",
    "UPDATE market.trades SET price = 1",
    "UPDATE market.quotes SET bid = 1",
    "UPDATE market.book_snapshots SET bids = '{}'",
    "DELETE FROM market.candles",
    "DELETE FROM market.instruments",
    "DELETE FROM pipeline.offsets",
    "UPDATE pipeline.schema_version SET version_num = '9'",
    "INSERT INTO market.trades_20231114 SELECT * FROM market.trades",
    "SET ROLE coinstream_owner",
    "SELECT * FROM pg_authid",
    "COPY market.trades TO '/dev/null'",
]


@pytest.mark.parametrize("statement", SINK_MAY_NOT)
def test_sink_may_not(statement: str, migrated: Database) -> None:
    with psycopg.connect(migrated.sink, autocommit=True) as connection:
        connection.execute("SELECT market.make_day('trades', '2023-11-14')")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())


READER_MAY_NOT = [
    "INSERT INTO market.instruments (venue, symbol) VALUES ('v', 's')",
    "UPDATE market.candles SET open = 1",
    "DELETE FROM market.trades",
    "UPDATE pipeline.offsets SET next_offset = 0",
    "SELECT market.make_day('trades', '2023-11-14')",
    "CREATE TEMPORARY TABLE mine (id integer)",
    "CREATE TABLE market.mine (id integer)",
    "SET ROLE coinstream_sink",
]


@pytest.mark.parametrize("statement", READER_MAY_NOT)
def test_reader_may_not(statement: str, migrated: Database) -> None:
    """Not by privilege either: anybody can turn a session's read-only default off."""
    with psycopg.connect(migrated.reader, autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_reader_is_read_only_by_default_and_reads_every_table_and_view(migrated: Database) -> None:
    names = migrated.rows(
        "SELECT table_schema || '.' || table_name FROM information_schema.tables "
        "WHERE table_schema IN ('market', 'pipeline') AND table_name !~ '_[0-9]{8}$'"
    )
    assert len(names) == 17
    with psycopg.connect(migrated.reader) as connection:
        row = connection.execute("SHOW default_transaction_read_only").fetchone()
        assert row == ("on",)
        for (name,) in names:
            connection.execute(f"SELECT count(*) FROM {name}".encode())


def test_public_has_nothing(migrated: Database) -> None:
    assert migrated.rows(
        "SELECT has_database_privilege('public', current_database(), 'CONNECT'), "
        "has_schema_privilege('public', 'market', 'USAGE'), has_schema_privilege('public', 'public', 'USAGE'), "
        "has_function_privilege('public', 'market.make_day(text, date)', 'EXECUTE')"
    ) == [(False, False, False, False)]


@pytest.mark.parametrize(
    ("table", "day"),
    [
        ("trades", "2008-12-31"),
        ("trades", "9999-01-01"),
        ("candles", "2021-01-01"),
        ("trades; DROP TABLE market.trades", "2021-01-01"),
        ("pg_authid", "2021-01-01"),
    ],
)
def test_no_other_table_and_no_other_day_can_be_made(table: str, day: str, migrated: Database) -> None:
    with psycopg.connect(migrated.sink, autocommit=True) as connection, pytest.raises(psycopg.DataError):
        connection.execute("SELECT market.make_day(%s, %s)", [table, day])


def test_day_is_made_once_whatever_the_session_speaks(migrated: Database) -> None:
    with psycopg.connect(
        migrated.sink, autocommit=True, options="-c timezone=Asia/Tokyo -c datestyle=SQL,DMY"
    ) as connection:
        made = [
            connection.execute("SELECT market.make_day(%s, '2021-04-03')", [table]).fetchone()
            for table in ("trades", "quotes", "quotes")
        ]
    assert made == [(True,), (True,), (False,)]
    bounds = migrated.rows(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname IN ('trades_20210403', 'quotes_20210403') "
        "ORDER BY relname"
    )
    assert bounds == [
        ("FOR VALUES FROM ('2021-04-03 00:00:00+00') TO ('2021-04-04 00:00:00+00')",),
        ("FOR VALUES FROM ('2021-04-03') TO ('2021-04-04')",),
    ]


def test_day_is_made_while_a_snapshot_of_its_table_is_held(make_writer: MakeWriter, reader: PostgresReader) -> None:
    """A partition made the plain way would wait for the snapshot to end, and the sink with it."""
    writer: PostgresWriter = make_writer()
    open_positions(writer, [Trade])
    log = Log()
    writer.write([log.batch(a_trade("1"))], Refusals())
    with reader.hold_snapshot() as snapshot:
        assert snapshot.counts()["trades"] == 1
        writer.write([log.batch(a_trade("2", event_time_us=1_600_000_000_000_000))], Refusals())
        assert snapshot.counts()["trades"] == 1
    assert reader.counts()["trades"] == 2


def test_query_by_event_time_alone_passes_over_other_days(database: Database, make_writer: MakeWriter) -> None:
    writer = make_writer()
    open_positions(writer, [Trade])
    writer.write([Log().batch(a_trade("1"), a_trade("2", event_time_us=1_600_000_000_000_000))], Refusals())
    plan = database.rows("EXPLAIN SELECT * FROM market.named_trades WHERE event_time >= '2023-11-14T00:00:00Z'")
    read = "\n".join(line for (line,) in plan)
    assert "trades_20231114" in read
    assert "trades_20200913" not in read
