"""Connections with bounded waits, and what each of PostgreSQL's errors means for the work at hand.

Source of the codes: https://www.postgresql.org/docs/current/errcodes-appendix.html; the first two
characters are the class.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict

from coinstream.errors import CoinstreamError, FatalError, RefusedError, TransientError
from coinstream.stores.postgres.migrations import HEAD

MIGRATE = "run: coinstream stores migrate"

Connection = psycopg.Connection[tuple[Any, ...]]

# A server that vanished without a word is noticed within 10 to 20 s, by whichever comes first.
_DEFAULTS: dict[str, str] = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "client_encoding": "UTF8",
}
_TRANSIENT_CLASSES = frozenset({"08", "40", "53", "55", "57", "58"})
_TRANSIENT_CODES = frozenset({"25006", "25P03", "25P04"})  # a standby took over; a timeout of the server's
_FATAL_CLASSES = frozenset({"28", "3D", "3F", "42"})  # which a migration may mend
# Errors while connecting carry no code, only libpq's text.
_FATAL_TEXTS = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "does not exist",
    "permission denied for database",
    "is not permitted to log in",
    "invalid connection option",
    'missing "="',
)


def connect(dsn: str, *, name: str, settings: dict[str, str] | None = None, is_migrated: bool = True) -> Connection:
    """Open a connection in autocommit mode whose every wait is bounded.

    Args:
        dsn: libpq's connection string or URL; what it says of time-outs and TLS wins.
        name: Shown in ``pg_stat_activity``.
        settings: Server settings of the session, by name.
        is_migrated: Whether to demand the schema version of this code.

    Raises:
        TransientError: The server is away or full.
        FatalError: Wrong password, unknown database, or another schema version.
    """
    session = {
        "timezone": "UTC",
        "datestyle": "ISO",
        "statement_timeout": "60s",
        "lock_timeout": "30s",
        "idle_in_transaction_session_timeout": "120s",
        "client_min_messages": "warning",
    } | (settings or {})
    options = " ".join(f"-c {key}={value}" for key, value in session.items())
    try:
        given: dict[str, Any] = dict(conninfo_to_dict(dsn))
        merged = _DEFAULTS | {"application_name": name} | given | {"options": options}
        connection = psycopg.connect(autocommit=True, **merged)
    except psycopg.Error as error:
        raise meaning_of(error) from error
    if is_migrated:
        try:
            _check_version(connection)
        except psycopg.Error as error:
            connection.close()
            raise meaning_of(error) from error
        except CoinstreamError:
            connection.close()
            raise
    return connection


def _check_version(connection: Connection) -> None:
    row = connection.execute("SELECT max(version_num) FROM pipeline.schema_version").fetchone()
    version = row[0] if row else None
    if version is None or version < HEAD:
        raise FatalError(f"the PostgreSQL schema is at version {version}, this program needs {HEAD}; {MIGRATE}")
    if version > HEAD:
        raise FatalError(f"the PostgreSQL schema is at version {version}, newer than this program's {HEAD}; upgrade it")


def refusal_of(error: Exception) -> RefusedError | None:
    """Return the error as a refusal where the rows are at fault, ``None`` where something else is.

    Rows are at fault for values out of range or of a wrong form, broken constraints, and limits of
    size or nesting. A key that is there already is no refusal, and neither is a missing partition.
    """
    if isinstance(error, UnicodeEncodeError):
        return RefusedError("PostgreSQL: text with half a surrogate pair is not UTF-8")
    if not isinstance(error, psycopg.Error) or isinstance(error, errors.UniqueViolation):
        return None
    state = error.sqlstate
    if is_missing_day(error):
        return None
    if state is None:
        return RefusedError(f"PostgreSQL: {_first_line(error)}") if isinstance(error, psycopg.DataError) else None
    if state[:2] in {"22", "23", "54"}:
        return RefusedError(f"PostgreSQL: {error.diag.message_primary or _first_line(error)}")
    return None


def is_missing_day(error: Exception) -> bool:
    """Return whether a row found no partition: PostgreSQL reports it as a check that has no name."""
    return isinstance(error, errors.CheckViolation) and not error.diag.constraint_name


def meaning_of(error: psycopg.Error, advice: str = MIGRATE) -> CoinstreamError:
    """Return what an error means for whoever called: wait and try again, or stop.

    Args:
        error: What PostgreSQL or its driver said.
        advice: What to do where the schema or a privilege is at fault.
    """
    text = error.diag.message_primary or _first_line(error)
    state = error.sqlstate
    if state is None:
        return _meaning_of_text(error, text)
    if is_missing_day(error):
        return TransientError(f"PostgreSQL: {text}: its day was dropped meanwhile")
    if state in _TRANSIENT_CODES or state[:2] in _TRANSIENT_CLASSES:
        return TransientError(f"PostgreSQL: {text} ({state})")
    return FatalError(f"PostgreSQL: {text} ({state})" + (f"; {advice}" if state[:2] in _FATAL_CLASSES else ""))


def _meaning_of_text(error: psycopg.Error, text: str) -> CoinstreamError:
    if any(known in str(error) for known in _FATAL_TEXTS):
        return FatalError(f"PostgreSQL refuses the connection: {text}; check its address, user and password")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return TransientError(f"PostgreSQL: {text}")
    return FatalError(f"PostgreSQL: {text}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
