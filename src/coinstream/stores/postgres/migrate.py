"""Make a database match the code: roles, grants and Alembic's revisions, safe to run twice at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from psycopg import errors, sql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from coinstream.errors import FatalError
from coinstream.stores.postgres import migrations
from coinstream.stores.postgres.connection import Connection, connect, meaning_of

OWNER = "coinstream_owner"
SINK = "coinstream_sink"
READER = "coinstream_reader"

_LOCK = 0x636F696E  # "coin": one migration of a database at a time
_ROLE_ATTEMPTS = 20
_ADVICE = "migrate as the database's owner, with CREATEROLE, or as a superuser"
_alembic = threading.Lock()  # its environment is one for the whole process


def migrate(
    admin_dsn: str, *, passwords: Mapping[str, str], progress: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Make roles, schemas and tables what this code needs; does nothing where they are.

    Args:
        admin_dsn: The database, as a role that may create roles and owns the database.
        passwords: Of the roles that log in, ``coinstream_sink`` and ``coinstream_reader``; sent as
            SCRAM hashes, never in clear. A role without one here keeps the password it has, and
            names that are no role of ours are another store's.
        progress: Told each step in words.

    Returns:
        The revisions applied, oldest first; empty when the database was current.

    Raises:
        FatalError: The database is not UTF-8, its schema is newer than this code, or the role may
            not do this.
        TransientError: The server is away, or another migration holds the lock for over a minute.
    """
    settings = {"lock_timeout": "60s", "statement_timeout": "10min", "idle_in_transaction_session_timeout": "0"}
    connection = connect(admin_dsn, name="coinstream migrate", settings=settings, is_migrated=False)
    try:
        with connection:
            _demand_utf8(connection)
            connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            _make_roles(connection, passwords, progress)
            _prepare_database(connection)
            with _alembic:
                return _upgrade(admin_dsn, settings, progress)
    except psycopg.Error as error:
        raise meaning_of(error, _ADVICE) from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise meaning_of(error.orig, _ADVICE) from error
        raise


def _demand_utf8(connection: Connection) -> None:
    row = connection.execute("SELECT current_setting('server_encoding'), current_database()").fetchone()
    if row is not None and row[0] != "UTF8":
        raise FatalError(
            f"database {row[1]} has the encoding {row[0]}; create it with ENCODING 'UTF8' TEMPLATE template0"
        )


def _make_roles(connection: Connection, passwords: Mapping[str, str], progress: Callable[[str], None]) -> None:
    for role, kind in ((OWNER, "NOLOGIN"), (SINK, "LOGIN"), (READER, "LOGIN")):
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
            progress(f"creating role {role}")
            _role(connection, sql.SQL("CREATE ROLE {} " + kind).format(sql.Identifier(role)))
        if role in passwords:
            secret = connection.pgconn.encrypt_password(passwords[role].encode(), role.encode(), b"scram-sha-256")
            _role(
                connection,
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(secret.decode())),
            )
    # From 16 on, who made a role may grant it but not take its part.
    kind = "SET" if connection.info.server_version >= 160_000 else "MEMBER"
    row = connection.execute("SELECT pg_has_role(current_user, %s, %s)", [OWNER, kind]).fetchone()
    if row is None or not row[0]:
        _role(connection, sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(OWNER)))


def _role(connection: Connection, statement: sql.Composed) -> None:
    """Change a role. Roles belong to the whole cluster, which the lock of one database does not guard."""
    for _ in range(_ROLE_ATTEMPTS):
        try:
            connection.execute(statement)
        except (errors.DuplicateObject, errors.UniqueViolation):
            return  # another database's migration has just made it
        except errors.InternalError_:
            time.sleep(0.05)  # "tuple concurrently updated": the same from elsewhere at the same moment
        else:
            return
    connection.execute(statement)


def _prepare_database(connection: Connection) -> None:
    """Take from PUBLIC what PostgreSQL gives it, and give each role only what it uses."""
    row = connection.execute("SELECT current_database()").fetchone()
    database = sql.Identifier(row[0] if row else "")
    owner, sink, reader = map(sql.Identifier, (OWNER, SINK, READER))
    for statement in (
        sql.SQL("REVOKE ALL ON DATABASE {d} FROM PUBLIC"),
        sql.SQL("REVOKE ALL ON SCHEMA public FROM PUBLIC"),
        sql.SQL("GRANT CREATE ON DATABASE {d} TO {owner}"),
        # TEMPORARY is for the sink's staging tables, which are gone with its connection.
        sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {d} TO {sink}"),
        sql.SQL("GRANT CONNECT ON DATABASE {d} TO {reader}"),
        sql.SQL("ALTER DATABASE {d} SET timezone = 'UTC'"),
        sql.SQL("ALTER ROLE {reader} IN DATABASE {d} SET default_transaction_read_only = on"),
        sql.SQL("CREATE SCHEMA IF NOT EXISTS pipeline AUTHORIZATION {owner}"),
    ):
        connection.execute(statement.format(d=database, owner=owner, sink=sink, reader=reader))


def _upgrade(admin_dsn: str, settings: dict[str, str], progress: Callable[[str], None]) -> list[str]:
    applied: list[str] = []

    def note(*, step: Any, **_: Any) -> None:
        applied.append(str(step.up_revision_id))
        progress(f"applied revision {step.up_revision_id}: {step.up_revision.doc}")

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["on_version_apply"] = note
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(admin_dsn, name="coinstream migrate", settings=settings, is_migrated=False),
        poolclass=NullPool,
    )
    with engine.connect() as connection:
        version = _version(connection)
        if version is not None and version > migrations.HEAD:
            raise FatalError(
                f"the PostgreSQL schema is at version {version}, newer than this program's {migrations.HEAD}"
            )
        connection.exec_driver_sql(f"SET ROLE {OWNER}")
        connection.commit()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    engine.dispose()
    return applied


def _version(connection: sqlalchemy.Connection) -> str | None:
    if connection.exec_driver_sql("SELECT to_regclass('pipeline.schema_version')").scalar() is None:
        return None
    version: str | None = connection.exec_driver_sql("SELECT max(version_num) FROM pipeline.schema_version").scalar()
    return version
