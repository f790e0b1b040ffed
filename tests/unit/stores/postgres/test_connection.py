"""What PostgreSQL's errors mean."""

from __future__ import annotations

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import DataError, OperationalError, errors

from coinstream.errors import FatalError, RefusedError, TransientError
from coinstream.stores.postgres import migrations
from coinstream.stores.postgres.connection import meaning_of, refusal_of


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OperationalError("the connection is lost"), TransientError),
        (errors.AdminShutdown("going down"), TransientError),
        (errors.CannotConnectNow("starting up"), TransientError),
        (errors.SerializationFailure("again"), TransientError),
        (errors.DeadlockDetected("again"), TransientError),
        (errors.DiskFull("could not extend file"), TransientError),
        (errors.TooManyConnections("sorry"), TransientError),
        (errors.QueryCanceled("statement timeout"), TransientError),
        (errors.LockNotAvailable("lock timeout"), TransientError),
        (errors.ReadOnlySqlTransaction("a standby"), TransientError),
        (errors.UndefinedTable("no market.trades"), FatalError),
        (errors.InsufficientPrivilege("permission denied"), FatalError),
        (errors.InvalidPassword("wrong"), FatalError),
        (errors.DataCorrupted("broken page"), FatalError),
        (OperationalError('FATAL:  password authentication failed for user "x"'), FatalError),
        (OperationalError('FATAL:  database "x" does not exist'), FatalError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_error_is_transient_or_fatal_and_never_refused(error: OperationalError, kind: type[Exception]) -> None:
    assert type(meaning_of(error)) is kind
    assert refusal_of(error) is None


def test_fatal_error_says_what_to_run() -> None:
    assert "run: coinstream stores migrate" in str(meaning_of(errors.UndefinedTable("no market.trades")))


@pytest.mark.parametrize(
    "error",
    [
        errors.NumericValueOutOfRange("overflow"),
        errors.CharacterNotInRepertoire("0x00"),
        errors.UntranslatableCharacter("u0000"),
        errors.NotNullViolation("null"),
        errors.StatementTooComplex("stack depth limit exceeded"),
        DataError("PostgreSQL text fields cannot contain NUL"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_of_the_rows_themselves_is_a_refusal(error: Exception) -> None:
    assert type(refusal_of(error)) is RefusedError


def test_key_that_is_there_is_no_refusal() -> None:
    assert refusal_of(errors.UniqueViolation("duplicate key")) is None


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD
