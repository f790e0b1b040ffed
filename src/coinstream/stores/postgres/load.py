"""Blocks of rows into tables within one database transaction, and which rows the server refuses.

A block goes straight into its table inside a savepoint. A block with a key that is there already is
taken back to the savepoint and goes by way of a staging table; so does every block that may update.
A block that the server refuses is taken back and halved until the row at fault stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import errors

from coinstream.errors import RefusedError
from coinstream.stores.postgres.connection import Connection, refusal_of
from coinstream.stores.postgres.tables import TABLES, Table

_SAVE = b"SAVEPOINT block"
_TAKE_BACK = b"ROLLBACK TO SAVEPOINT block"
_RELEASE = b"RELEASE SAVEPOINT block"
_DEPTH = 16
"""Savepoints left standing at most; each costs the server memory until the commit."""


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
        self._is_saved = False
        self._depth = 0
        for table in TABLES:
            connection.execute(table.make_staging)

    def begin(self) -> None:
        """Open a savepoint in a new transaction, which has found the staging tables empty.

        Needs no answer of its own, so that it can travel in a pipeline with the transaction's first
        statements: an answer costs a batch a third of a millisecond or more.
        """
        self._staged.clear()
        self._depth = 0
        self._save()

    def stream(
        self, table: Table, blocks: Iterable[Sequence[str]], meanwhile: Callable[[], None]
    ) -> psycopg.Error | UnicodeEncodeError | None:
        """Copy blocks straight into the table while the next are made; all of them or none.

        Args:
            table: One whose first row of a key stays.
            blocks: Lines as `load` takes them; the server reads each while the next is being built.
            meanwhile: Called when all are sent, while the server is still at them.

        Returns:
            ``None`` when all rows are in, else why none is: a key was there, or a row is at fault. Then
            some of the blocks may not have been asked for.
        """
        try:
            with self._savepoint(), self._connection.cursor() as cursor, cursor.copy(table.copy) as copy:
                for lines in blocks:
                    if lines:
                        copy.write(("\n".join(lines) + "\n").encode())
                meanwhile()
        except (psycopg.Error, UnicodeEncodeError) as error:
            if not isinstance(error, errors.UniqueViolation) and refusal_of(error) is None:
                raise
            return error
        return None

    def load(self, table: Table, rows: Sequence[str], *, is_clashing: bool = False) -> Loaded:
        """Load lines of COPY text, each of another key, without their newlines.

        Must run inside a transaction; whatever it raises, nothing of the rows that failed is left.

        Args:
            table: Where they go.
            rows: The lines.
            is_clashing: Whether a key among them is known to be there, so that plain copying would fail.

        Raises:
            psycopg.Error: The rows are not at fault.
        """
        loaded = Loaded()
        if rows:
            self._load(table, rows, 0, loaded, is_clashing=is_clashing)
        return loaded

    def _load(
        self, table: Table, rows: Sequence[str], first: int, loaded: Loaded, *, is_clashing: bool = False
    ) -> None:
        try:
            inserted, present = self._upsert(table, rows) if table.update else self._append(table, rows, is_clashing)
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

    def _append(self, table: Table, rows: Sequence[str], is_clashing: bool) -> tuple[int, list[int]]:  # noqa: FBT001  # private
        if not is_clashing:
            try:
                with self._savepoint():
                    self._copy(table.copy, "\n".join(rows) + "\n")
            except errors.UniqueViolation:
                pass
            else:
                return len(rows), []
        with self._savepoint():
            self._stage(table, rows)
            present = [place for (place,) in self._connection.execute(table.insert_new)]
        return len(rows) - len(present), present

    def _upsert(self, table: Table, rows: Sequence[str]) -> tuple[int, list[int]]:
        with self._savepoint():
            self._stage(table, rows)
            row = self._connection.execute(table.upsert).fetchone()
        return row[0] if row else 0, []

    def upsert_few(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert or update some tens of rows in one statement, without a savepoint; return how many are new.

        Any number above a thousand is better staged.
        """
        found = self._connection.execute(table.upsert_arrays, [list(column) for column in zip(*rows, strict=True)])
        row = found.fetchone()
        return row[0] if row else 0

    def _save(self) -> None:
        if self._depth >= _DEPTH:
            self._connection.execute(_RELEASE)
            self._depth -= 1
        self._connection.execute(_SAVE)
        self._depth += 1
        self._is_saved = True

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        """Take back to the savepoint what fails; keep one open, which then belongs to the next block.

        A savepoint that is set anew while the old one stands keeps the old one's rows, and costs one
        answer where release and set cost two.
        """
        if not self._is_saved:
            self._save()
        self._is_saved = False
        try:
            yield
        except (psycopg.Error, UnicodeEncodeError):
            if not self._connection.closed:
                self._connection.execute(_TAKE_BACK)
                self._is_saved = True
            raise

    def _stage(self, table: Table, rows: Sequence[str]) -> None:
        if table in self._staged:
            self._connection.execute(table.empty_staging)
        self._copy(table.copy_staging, "".join(f"{place}\t{row}\n" for place, row in enumerate(rows)))
        self._staged.add(table)

    def _copy(self, statement: bytes, block: str) -> None:
        data = block.encode()
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(data)
