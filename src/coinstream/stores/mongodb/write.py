"""The MongoDB sink's store: every write may be repeated, delayed or overtaken, and changes nothing then (promise 3).

MongoDB keeps no log positions: the sink commits its offsets to Kafka after `MongoWriter.write` has
returned, which is after a majority has acknowledged it. What may come again therefore must not matter:

- ``trades`` are inserted only: an ``_id`` that is there stays what it is. A consumer starts at or
  before what is committed, so the first in the log of an id is always the first to be written.
- Everything else is absolute state with a version. The server itself compares: one update is one
  atomic comparison and replacement, so a process that was frozen and wakes late, its partitions
  long another's, finds newer versions and changes nothing.

The way of a write: trades, then assets, then the parts of instruments, then the dead letters of what
the server would not take. A crash between them, or an error, leaves a part of the batch written,
and the whole batch comes again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from pymongo import WriteConcern
from pymongo.collection import Collection

from coinstream.errors import FatalError, RefusedError, TransientError
from coinstream.messages import DecodedBatch, Message, Partition, RefusedMessage, Trade
from coinstream.stores import Written
from coinstream.stores.mongodb import MONGODB_KINDS, bulk, connection, documents
from coinstream.stores.mongodb.changes import PROJECTIONS, Change, each, merged, newest
from coinstream.stores.mongodb.connection import DUPLICATE_KEY, Client, Document, meaning
from coinstream.stores.mongodb.schema import ASSET_HISTORY, ASSETS, COLLECTIONS, INSTRUMENTS, TRADES

_UPSERT_ATTEMPTS = 5
"""Two upserts of one new ``_id`` may collide; the loser finds the document at its next attempt."""


class MongoWriter:
    """Writes batches of decoded messages; `coinstream.sink` drives it. One thread at a time.

    Args:
        uri: The server's address, as ``coinstream_mongo_sink``; time-outs in it win over ours.
        database: Name of the database that `migrate.migrate` has made.
    """

    name = "mongodb"
    kinds: frozenset[type[Message]] = MONGODB_KINDS
    keeps_positions = False

    def __init__(self, uri: str, *, database: str = "coinstream") -> None:
        self._client: Client = connection.connect(uri, name="coinstream sink")
        concern = WriteConcern(w="majority", j=True, wtimeout=connection.WRITE_CONCERN_TIMEOUT_S * 1000)
        self._database = self._client.get_database(database, write_concern=concern)
        self._is_migrated = False

    def write(
        self,
        batches: Sequence[DecodedBatch],
        refuse: Callable[[Sequence[RefusedMessage]], None],
        meanwhile: Callable[[], None] = lambda: None,  # noqa: ARG002 - each answer is waited for at once
    ) -> Written:
        """Write all of the batches; when this returns, a majority has them on disk.

        Args:
            batches: Any batches; what was written before is recognised.
            refuse: Given the messages that MongoDB will not take, before this returns.
            meanwhile: Never called.

        Raises:
            TransientError: The server is away or busy. Any part of the batches may be written: write all again.
            FatalError: Nobody but a person can mend it.
        """
        if not batches:
            return Written()
        with meaning():
            self._demand_migration()
            write = _Write({name: self._database[name] for name in COLLECTIONS})
            for batch in batches:
                if batch.kind is Trade:
                    write.insert_trades(batch)
            write.replace(batches)
        if write.refused:
            refuse(list(write.refused.values()))
        return Written(write.inserted, write.duplicates, len(write.refused))

    def touch(self) -> None:
        """Ask the server for a sign of life, connecting if need be.

        Raises:
            TransientError: There is none.
            FatalError: Nobody but a person can mend it.
        """
        with meaning():
            self._database.command("ping")
            self._demand_migration()

    def close(self) -> None:
        """Give the connections back; the writer is used no more."""
        self._client.close()

    def _demand_migration(self) -> None:
        """Refuse to let the server make bare collections at the first insert: they would check and expire nothing."""
        if self._is_migrated:
            return
        missing = set(COLLECTIONS) - set(self._database.list_collection_names())
        if missing:
            raise FatalError(
                f"the MongoDB database {self._database.name} lacks {', '.join(sorted(missing))}; {connection.MIGRATE}"
            )
        self._is_migrated = True


class _Write:
    """One write, with what came of it.

    Attributes:
        inserted: Documents that are truly new, by collection.
        duplicates: Trades whose ``_id`` was there already, and updates of documents that were.
        refused: What the server would not take, by partition and offset.
    """

    def __init__(self, collections: Mapping[str, Collection[Document]]) -> None:
        self._collections = collections
        self.inserted: Counter[str] = Counter()
        self.duplicates: Counter[str] = Counter()
        self.refused: dict[tuple[Partition, int], RefusedMessage] = {}

    def insert_trades(self, batch: DecodedBatch) -> None:
        """Insert what is not there yet; of several with one id the first that the server takes."""
        pending = list(zip(documents.trade_documents(batch), batch.offsets, strict=True))
        inserted = refused = 0
        while pending:
            chosen: dict[str, tuple[Document, int]] = {}
            for candidate in pending:
                chosen.setdefault(candidate[0]["_id"], candidate)
            sendable = list(chosen.values())
            sent = bulk.insert(self._collections[TRADES], [document for document, _ in sendable])
            inserted += sent.made
            bad: dict[str, int] = {}
            for place, failure in sent.failures.items():
                if failure.code != DUPLICATE_KEY:
                    document, offset = sendable[place]
                    self._refuse(batch.partition, offset, failure.reason)
                    bad[document["_id"]] = offset
            refused += len(bad)
            pending = [(document, offset) for document, offset in pending if offset > bad.get(document["_id"], offset)]
        self.inserted[TRADES] += inserted
        self.duplicates[TRADES] += len(batch.messages) - inserted - refused

    def replace(self, batches: Sequence[DecodedBatch]) -> None:
        """Bring every document up to date that some batches say something of."""
        changes: dict[str, list[Change]] = defaultdict(list)
        for batch in batches:
            passed = self._passed(batch)
            for projection in PROJECTIONS[batch.kind]:
                changes[projection.collection] += newest(batch, projection, passed=passed)
        for collection in (ASSETS, ASSET_HISTORY, INSTRUMENTS):
            refused = self._apply(collection, merged(changes[collection]))
            if refused:
                # Each was its document's newest. What is older may be good: send it all, one by one.
                self._apply(collection, self._older(batches, collection, refused))

    def _passed(self, batch: DecodedBatch) -> Callable[[int], bool] | None:
        partition = batch.partition
        if not any(refused == partition for refused, _ in self.refused):
            return None
        return lambda offset: (partition, offset) in self.refused

    def _older(
        self, batches: Sequence[DecodedBatch], collection: str, document_ids: frozenset[str]
    ) -> Sequence[Change]:
        return [
            change
            for batch in batches
            for projection in PROJECTIONS[batch.kind]
            if projection.collection == collection
            for change in each(batch, projection, document_ids)
            if (batch.partition, change.causes[0].record.offset) not in self.refused
        ]

    def _apply(self, collection: str, changes: Sequence[Change]) -> frozenset[str]:
        """Run the updates and return the ``_id`` of each whose content the server would not take."""
        refused: set[str] = set()
        pending: Sequence[Change] = changes
        for _ in range(_UPSERT_ATTEMPTS):
            if not pending:
                return frozenset(refused)
            sent = bulk.update(self._collections[collection], [change.update() for change in pending])
            self.inserted[collection] += sent.made
            self.duplicates[collection] += len(pending) - sent.made - len(sent.failures)
            again: list[Change] = []
            for place, failure in sent.failures.items():
                change = pending[place]
                if failure.code == DUPLICATE_KEY:
                    again.append(change)
                elif len(change.causes) > 1:
                    again += change.apart()  # one of its parts is at fault, the others are not
                else:
                    record = change.causes[0].record
                    self._refuse(record.partition, record.offset, failure.reason)
                    refused.add(change.document_id)
            pending = again
        raise TransientError(f"{len(pending)} new documents of {collection} collided with another writer's")

    def _refuse(self, partition: Partition, offset: int, reason: str) -> None:
        self.refused.setdefault(
            (partition, offset), RefusedMessage(partition, offset, RefusedError(f"MongoDB will not take it: {reason}"))
        )
