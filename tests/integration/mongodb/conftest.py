"""A database of its own for each test, on whatever server `mongodb_uri` is."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pymongo
import pytest

from coinstream.stores.mongodb.migrate import READER, SINK, migrate
from coinstream.stores.mongodb.read import MongoReader
from coinstream.stores.mongodb.write import MongoWriter

PASSWORDS = {SINK: "sink:pass/word", READER: "reader@pass"}


def as_user(uri: str, user: str, password: str) -> str:
    """The same server for another user."""
    quoted = "".join(f"%{ord(c):02X}" if not c.isalnum() else c for c in password)
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=f"{user}:{quoted}@{parts.netloc.rpartition('@')[2]}"))


@dataclass
class Database:
    """A migrated database, and ways to it."""

    admin_uri: str
    name: str
    cleanup: ExitStack = field(default_factory=ExitStack)

    @property
    def sink_uri(self) -> str:
        return as_user(self.admin_uri, SINK, PASSWORDS[SINK])

    @property
    def reader_uri(self) -> str:
        return as_user(self.admin_uri, READER, PASSWORDS[READER])

    def writer(self) -> MongoWriter:
        writer = MongoWriter(self.sink_uri, database=self.name)
        self.cleanup.callback(writer.close)
        return writer

    def reader(self) -> MongoReader:
        reader = MongoReader(self.reader_uri, self.name)
        self.cleanup.callback(reader.close)
        return reader

    def raw(self, uri: str | None = None) -> pymongo.database.Database[dict[str, Any]]:
        """The driver's own view, by default the administrator's."""
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri or self.admin_uri)
        self.cleanup.callback(client.close)
        return client[self.name]


@pytest.fixture
def new_database(mongodb_uri: str) -> Iterator[Callable[[], Database]]:
    """Names databases that nobody has made yet."""
    with ExitStack() as stack:

        def name_one() -> Database:
            database = Database(mongodb_uri, f"test_{uuid.uuid4().hex[:12]}")

            def drop() -> None:
                with pymongo.MongoClient[dict[str, Any]](mongodb_uri) as client:
                    client.drop_database(database.name)

            stack.callback(drop)
            stack.callback(database.cleanup.close)
            return database

        yield name_one


@pytest.fixture
def database(new_database: Callable[[], Database]) -> Database:
    made = new_database()
    migrate(made.admin_uri, passwords=PASSWORDS, database=made.name)
    return made
