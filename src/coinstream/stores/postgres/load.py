"""Blocks of rows into tables within one database transaction, and which rows the server refuses.

A block goes straight into its table inside a savepoint. A block with a key that is there already is
taken back to the savepoint and goes by way of a staging table; so does every block that may update.
A block that the server refuses is taken back and halved until the row at fault stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import errors

from coinstream.errors import RefusedError
from coinstream.stores.postgres.connection import Connection, refusal_of
from coinstream.stores.postgres.tables import TABLES, Table


@dataclass(slots=True)
class Loaded:
    """What became of some rows.

    Attributes:
        inserted: How many are new.
        present: The places of those whose key was there; of tables whose first row stays.
        refused: The places of those that the server would not take, and why.
    """

    inserted: int = 0
    present: list[int] = field(default_factory=list)
    refused: list[tuple[int, RefusedError]] = field(default_factory=list)


class Loader:
    """Loads rows through one connection, whose staging tables it makes."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._staged: set[Table] = set()
        for table in TABLES:
            connection.execute(table.make_staging)

    def begin(self) -> None:
        """Note that a transaction begins: the one before has emptied the staging tables."""
        self._staged.clear()

    def load(self, table: Table, rows: Sequence[str]) -> Loaded:
        """Load lines of COPY text, each of another key, without their newlines.

        Must run inside a transaction; whatever it raises, nothing of the rows that failed is left.

        Raises:
            psycopg.Error: The rows are not at fault.
        """
        loaded = Loaded()
        if rows:
            self._load(table, rows, 0, loaded)
        return loaded

    def _load(self, table: Table, rows: Sequence[str], first: int, loaded: Loaded) -> None:
        try:
            inserted, present = self._upsert(table, rows) if table.update else self._append(table, rows)
        except (psycopg.Error, UnicodeEncodeError) as error:
            refusal = refusal_of(error)
            if refusal is None:
                raise
            if len(rows) == 1:
                loaded.refused.append((first, refusal))
                return
            half = len(rows) // 2
            self._load(table, rows[:half], first, loaded)
            self._load(table, rows[half:], first + half, loaded)
        else:
            loaded.inserted += inserted
            loaded.present += [first + place for place in present]

    def _append(self, table: Table, rows: Sequence[str]) -> tuple[int, list[int]]:
        try:
            with self._connection.transaction():
                self._copy(table.copy, "\n".join(rows) + "\n")
        except errors.UniqueViolation:
            with self._connection.transaction():
                self._stage(table, rows)
                present = [place for (place,) in self._connection.execute(table.insert_new)]
            return len(rows) - len(present), present
        return len(rows), []

    def _upsert(self, table: Table, rows: Sequence[str]) -> tuple[int, list[int]]:
        with self._connection.transaction():
            self._stage(table, rows)
            row = self._connection.execute(table.upsert).fetchone()
        return row[0] if row else 0, []

    def _stage(self, table: Table, rows: Sequence[str]) -> None:
        if table in self._staged:
            self._connection.execute(table.empty_staging)
        self._copy(table.copy_staging, "".join(f"{place}\t{row}\n" for place, row in enumerate(rows)))
        self._staged.add(table)

    def _copy(self, statement: bytes, block: str) -> None:
        data = block.encode()
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(data)
