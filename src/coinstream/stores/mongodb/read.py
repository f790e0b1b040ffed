"""What operations ask of MongoDB: how many documents there are, and what exactly some of them hold.

Reads are of what a majority has, so that nothing counted can be rolled back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

from pymongo.read_concern import ReadConcern

from coinstream.messages import AssetSnapshot, BookSnapshot, Instrument, Message, Quote, Trade, time_us_of
from coinstream.stores.mongodb import MONGODB_KINDS, connection
from coinstream.stores.mongodb.connection import Client, Document, meaning
from coinstream.stores.mongodb.documents import message_of
from coinstream.stores.mongodb.schema import (
    ASSET_HISTORY,
    ASSETS,
    COLLECTIONS,
    EXPIRING,
    INSTRUMENTS,
    KIND_OF_PART,
    TRADES,
)

__all__ = ["MONGODB_KINDS", "LogStamp", "MongoReader", "Stored", "StoredInstrument"]

M = TypeVar("M", bound=Message)

_CHUNK = 100
"""Ids in one question. The local stand-in takes time by their square: 0.2 ms an id at 100, 1.3 at 1,000."""
_SCAN_ABOVE = 0.1
"""From this share of a collection on, reading all of it is quicker than asking for ids."""


class LogStamp(NamedTuple):
    """The place of one record in the log; its topic's name follows from the collection."""

    topic_id: str
    partition: int
    offset: int


class Stored(NamedTuple, Generic[M]):
    """What a document, or a part of one, holds.

    Attributes:
        message: Equal to the message that was stored, digits and absent fields included.
        log: The record that the content is from.
        first: The record that made the document: it tells whether this run or an earlier one did. Where
            content is never replaced, or the question makes no sense (parts), the same as ``log``.
        expires_time_us: When it is removed, microseconds since 1970; ``None``: never.
    """

    message: M
    log: LogStamp
    first: LogStamp
    expires_time_us: int | None


class StoredInstrument(NamedTuple):
    """The parts of one instrument's document; ``None`` where nothing of the kind has come yet."""

    facts: Stored[Instrument] | None
    last_trade: Stored[Trade] | None
    best: Stored[Quote] | None
    book: Stored[BookSnapshot] | None


class MongoReader:
    """Reads one database. One thread at a time.

    Args:
        uri: The server's address, as ``coinstream_mongo_reader`` or any user who may read.
        database: Name of the database.

    Every method raises `TransientError` while the server is away and `FatalError` where the address or
    the user's rights cannot be used.
    """

    def __init__(self, uri: str, database: str = "coinstream") -> None:
        self._client: Client = connection.connect(uri, name="coinstream reader")
        self._database = self._client.get_database(database, read_concern=ReadConcern("majority"))

    def counts(self, expires_after: datetime | None = None) -> dict[str, int]:
        """Return the number of documents of each collection.

        Args:
            expires_after: An aware time: of documents that expire, count only those that still stand
                then. Two counts with one such time differ by what was written between them, and by
                nothing that the server removed.
        """
        with meaning():
            return {
                name: self._database[name].count_documents(
                    {"expires": {"$gt": expires_after}} if expires_after is not None and name in EXPIRING else {}
                )
                for name in COLLECTIONS
            }

    def trades(self, ids: Collection[str]) -> dict[str, Stored[Trade]]:
        """Return those of the trades that are there, by ``_id`` (`documents.trade_document_id`)."""
        return {one["_id"]: _stored(Trade, one) for one in self._documents(TRADES, ids)}

    def asset_history(self, ids: Collection[str]) -> dict[str, Stored[AssetSnapshot]]:
        """Return those of the snapshots that are there (`documents.asset_history_document_id`)."""
        return {one["_id"]: _stored(AssetSnapshot, one) for one in self._documents(ASSET_HISTORY, ids)}

    def assets(self, ids: Collection[str]) -> dict[str, Stored[AssetSnapshot]]:
        """Return those of the assets that are there (`documents.asset_document_id`)."""
        return {one["_id"]: _stored(AssetSnapshot, one) for one in self._documents(ASSETS, ids)}

    def instruments(self, ids: Collection[str]) -> dict[str, StoredInstrument]:
        """Return those of the instruments that are there (`documents.instrument_document_id`)."""
        return {one["_id"]: _instrument(one) for one in self._documents(INSTRUMENTS, ids)}

    def validators(self) -> dict[str, Document]:
        """Return each collection's ``$jsonSchema`` as the server has it; empty where it has none."""
        with meaning():
            return {
                one["name"]: one.get("options", {}).get("validator", {}).get("$jsonSchema", {})
                for one in self._database.list_collections()
                if one["name"] in COLLECTIONS
            }

    def indexes(self) -> dict[str, Mapping[str, Any]]:
        """Return each collection's indexes by name, as pymongo's ``index_information`` has them."""
        with meaning():
            return {name: self._database[name].index_information() for name in COLLECTIONS}

    def close(self) -> None:
        """Give the connections back; the reader is used no more."""
        self._client.close()

    def _documents(self, name: str, ids: Collection[str]) -> Iterator[Document]:
        collection = self._database[name]
        wanted = frozenset(ids)
        with meaning():
            if len(wanted) > _CHUNK and len(wanted) > _SCAN_ABOVE * collection.estimated_document_count():
                yield from (one for one in collection.find() if one["_id"] in wanted)
                return
            for chunk in _chunks(wanted):
                yield from collection.find({"_id": {"$in": chunk}})


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(sorted(ids))
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk


def _stamp(position: Mapping[str, Any]) -> LogStamp:
    return LogStamp(position["topic_id"], int(position["partition"]), int(position["offset"]))


def _stored(kind: type[M], document: Mapping[str, Any]) -> Stored[M]:
    at = _stamp(document["log"])
    expires = document.get("expires")
    return Stored(
        message_of(kind, document),
        at,
        _stamp(document["first"]) if "first" in document else at,
        None if expires is None else time_us_of(expires.replace(tzinfo=UTC)),
    )


def _instrument(document: Mapping[str, Any]) -> StoredInstrument:
    names = {"venue": document["venue"], "symbol": document["symbol"]}
    parts: dict[str, Any] = {
        part: _stored(kind, names | document[part]) if part in document else None for part, kind in KIND_OF_PART.items()
    }
    return StoredInstrument(**parts)
