"""Each test has a database of its own, copied from one that was migrated once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coinstream.stores.postgres.read import PostgresReader
from coinstream.stores.postgres.write import PostgresWriter
from postgres_database import Database, MakeWriter, migrated_database, new_database, reader_of, writer_of


@pytest.fixture(scope="session")
def postgres_template(postgres_admin_dsn: str) -> Iterator[str]:
    with migrated_database(postgres_admin_dsn) as database:
        yield database.name


@pytest.fixture
def database(postgres_admin_dsn: str, postgres_template: str) -> Iterator[Database]:
    with new_database(postgres_admin_dsn, template=postgres_template) as made:
        yield made


@pytest.fixture
def make_writer(database: Database) -> Iterator[MakeWriter]:
    made: list[PostgresWriter] = []

    def make(**options: object) -> PostgresWriter:
        made.append(writer_of(database, **options))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


@pytest.fixture
def writer(make_writer: MakeWriter) -> PostgresWriter:
    return make_writer()


@pytest.fixture
def reader(database: Database) -> Iterator[PostgresReader]:
    made = reader_of(database)
    yield made
    made.close()
