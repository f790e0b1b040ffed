"""Guarded updates: what replaces a document or a part of one only if it is newer, decided by the server.

An update is an aggregation pipeline, so that comparing and replacing are one atomic act: two
writers, one of them late, leave the newer state whatever their order. The server compares versions
as lists, element by element; an absent one is below all. Contents are ``$literal``: a name that
begins with ``$`` is text, no expression.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from pymongo import UpdateOne

from coinstream.messages import AssetSnapshot, BookSnapshot, DecodedBatch, Instrument, Quote, Trade
from coinstream.stores.mongodb import documents
from coinstream.stores.mongodb.connection import Document
from coinstream.stores.mongodb.documents import Record, Version
from coinstream.stores.mongodb.schema import ASSET_HISTORY, ASSETS, INSTRUMENTS, PARTS


class Cause(NamedTuple):
    """A record whose content an update carries, and the stage that carries it."""

    record: Record
    stage: Document


class Change(NamedTuple):
    """One document to bring up to date, from one record or several."""

    document_id: str
    causes: tuple[Cause, ...]

    def update(self) -> UpdateOne:
        """Return it as the driver sends it; a document that is not there is made."""
        return UpdateOne({"_id": self.document_id}, [cause.stage for cause in self.causes], upsert=True)

    def apart(self) -> Iterator[Change]:
        """Return the same as a change for each record."""
        return (Change(self.document_id, (cause,)) for cause in self.causes)


class Projection(NamedTuple):
    """How messages of one kind become the newest state of documents.

    Attributes:
        collection: Where the documents stand.
        identify: Gives the ``_id`` of a message's document.
        newer: Gives what is compared first of a message, cheaply: the head of its version.
        version: Gives a message's version, of the message and its offset.
        stage: Gives the stage of the update, of the winning record and the earliest of its batch.
    """

    collection: str
    identify: Callable[[Any], str]
    newer: Callable[[Any], int]
    version: Callable[[Any, int], Version]
    stage: Callable[[Record, Record], Document]


def newest(batch: DecodedBatch, projection: Projection, *, passed: Callable[[int], bool] | None = None) -> list[Change]:
    """Return a change for each document that a batch says something of: its newest, with all older left out.

    Args:
        batch: Messages of one partition.
        projection: What they are projected to.
        passed: Says of an offset whether its message is to be passed by.
    """
    identify, newer, version = projection.identify, projection.newer, projection.version
    held: dict[str, tuple[int, int, Any]] = {}  # _id: head of the version, place, message
    earliest: dict[str, int] = {}
    offsets = batch.offsets
    for place, message in enumerate(batch.messages):
        if passed is not None and passed(offsets[place]):
            continue
        document_id = identify(message)
        head = newer(message)
        holder = held.get(document_id)
        if holder is None:
            earliest[document_id] = place
        elif head < holder[0] or (
            head == holder[0] and version(message, offsets[place]) < version(holder[2], offsets[holder[1]])
        ):
            continue
        held[document_id] = (head, place, message)
    return [
        _change(projection, document_id, documents.record(batch, place), documents.record(batch, earliest[document_id]))
        for document_id, (_, place, _) in held.items()
    ]


def each(batch: DecodedBatch, projection: Projection, document_ids: frozenset[str]) -> Iterator[Change]:
    """Return a change for every single message of some documents, for when the newest was refused."""
    for place, message in enumerate(batch.messages):
        document_id = projection.identify(message)
        if document_id in document_ids:
            record = documents.record(batch, place)
            yield _change(projection, document_id, record, record)


def merged(changes: Iterable[Change]) -> list[Change]:
    """Return the changes with those of one document in one, so that it is written once."""
    causes: dict[str, tuple[Cause, ...]] = {}
    for change in changes:
        causes[change.document_id] = causes.get(change.document_id, ()) + change.causes
    return [Change(document_id, some) for document_id, some in causes.items()]


def _change(projection: Projection, document_id: str, record: Record, earliest: Record) -> Change:
    return Change(document_id, (Cause(record, projection.stage(record, earliest)),))


def _part_stage(record: Record, _: Record) -> Document:
    message = record.message
    part = PARTS[type(message)]
    version = list(documents.PART_VERSIONS[type(message)](message, record.offset))
    content = documents.fields_of(message)
    venue, symbol = content.pop("venue"), content.pop("symbol")
    content |= {"log": record.log, "version": version}
    return {
        "$set": {
            "venue": {"$literal": venue},
            "symbol": {"$literal": symbol},
            part: _if_newer(f"${part}.version", version, {"$literal": content}, f"${part}"),
        }
    }


def _asset_stage(record: Record, _: Record) -> Document:
    version = list(documents.asset_version(record.message, record.offset))
    content = documents.fields_of(record.message)
    content |= {"_id": documents.asset_document_id(record.message), "log": record.log, "version": version}
    return {"$replaceWith": _if_newer("$version", version, {"$literal": content}, "$$ROOT")}


def _asset_history_stage(record: Record, earliest: Record) -> Document:
    version = list(documents.asset_history_version(record.message, record.offset))
    content = documents.fields_of(record.message)
    content |= {"_id": documents.asset_history_document_id(record.message), "log": record.log, "version": version}
    content["expires"] = documents.expires(record.timestamp_ms)
    first = {"first": {"$ifNull": ["$first", {"$literal": earliest.log}]}}
    return {"$replaceWith": _if_newer("$version", version, {"$mergeObjects": [{"$literal": content}, first]}, "$$ROOT")}


def _if_newer(held: str, version: Sequence[int | str], content: Any, otherwise: str) -> Document:
    return {"$cond": [{"$lt": [held, {"$literal": version}]}, content, otherwise]}


_event_time: Callable[[Any], int] = attrgetter("event_time_us")
_received: Callable[[Any], int] = attrgetter("received_time_us")

PROJECTIONS: dict[type[Any], tuple[Projection, ...]] = {
    kind: (Projection(INSTRUMENTS, documents.instrument_document_id, head, documents.PART_VERSIONS[kind], _part_stage),)
    for kind, head in ((Instrument, _received), (Trade, _event_time), (Quote, _received), (BookSnapshot, _received))
} | {
    AssetSnapshot: (
        Projection(ASSETS, documents.asset_document_id, attrgetter("minute"), documents.asset_version, _asset_stage),
        Projection(
            ASSET_HISTORY,
            documents.asset_history_document_id,
            _received,
            documents.asset_history_version,
            _asset_history_stage,
        ),
    )
}
"""What each kind of message brings up to date."""
