"""One bulk write: sent unordered, its failures found one by one, the server's and the driver's alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from bson.errors import BSONError
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, ConnectionFailure, OperationFailure

from coinstream.errors import TransientError
from coinstream.stores.mongodb.connection import (
    DUPLICATE_KEY,
    Document,
    meaning_of,
    raise_unless_refusal,
    reason_of,
)

_UNENCODABLE = (BSONError, OverflowError, RecursionError, UnicodeEncodeError)
"""What the driver raises for a document that BSON cannot hold: integers over 64 bits, names with a NUL."""

T = TypeVar("T")


class Failure(NamedTuple):
    """Why one document was not written; code 0 is the driver's own refusal."""

    code: int
    reason: str


@dataclass(slots=True)
class Sent:
    """What came of a bulk write.

    Attributes:
        made: Documents that are truly new.
        failures: By place in what was sent; duplicate keys and documents that are at fault themselves.
    """

    made: int = 0
    failures: dict[int, Failure] = field(default_factory=dict)


def insert(collection: Collection[Document], documents: Sequence[Document]) -> Sent:
    """Insert documents, each on its own merits.

    Raises:
        TransientError: No majority acknowledged it; any of it may be written.
        FatalError: The server or the user's rights are at fault.
        PyMongoError: The connection or the whole command failed.
    """
    return _send(lambda some: len(collection.insert_many(some, ordered=False).inserted_ids), "nInserted", documents)


def update(collection: Collection[Document], updates: Sequence[UpdateOne]) -> Sent:
    """Run updates, each on its own merits; those of one document must not depend on each other's order.

    Raises:
        As `insert`.
    """
    return _send(lambda some: collection.bulk_write(some, ordered=False).upserted_count, "nUpserted", updates)


def _send(send: Callable[[Sequence[T]], int], made: str, items: Sequence[T]) -> Sent:
    try:
        return Sent(send(items))
    except BulkWriteError as error:
        return Sent(int(error.details[made]), _failures(error.details))
    except ConnectionFailure:
        raise
    except _UNENCODABLE as error:
        at_fault: Exception = error
        failure = Failure(0, f"BSON cannot hold it: {error}"[:300])
    except OperationFailure as error:
        # A document can make the server refuse the whole command, for nesting that it will not parse.
        raise_unless_refusal(error.code or 0, str(error))
        at_fault, failure = error, Failure(error.code or 0, reason_of(error.details or {"errmsg": str(error)}))
    if len(items) == 1:
        return Sent(0, {0: failure})
    middle = len(items) // 2
    halves = _send(send, made, items[:middle]), _send(send, made, items[middle:])
    sent = Sent(halves[0].made + halves[1].made, dict(halves[0].failures))
    sent.failures |= {middle + place: failure for place, failure in halves[1].failures.items()}
    if len(sent.failures) == len(items) and isinstance(at_fault, OperationFailure):
        raise meaning_of(at_fault)  # it takes none at all: not the documents are at fault, but this server
    return sent


def _failures(details: Mapping[str, Any]) -> dict[int, Failure]:
    concern = details.get("writeConcernErrors") or ()
    if concern:
        raise TransientError(f"no majority has acknowledged a write: {concern[0].get('errmsg', concern[0])}"[:300])
    failures: dict[int, Failure] = {}
    for one in details.get("writeErrors", ()):
        code = int(one.get("code", 0))
        if code == DUPLICATE_KEY:
            failures[one["index"]] = Failure(code, "duplicate key")
            continue
        reason = reason_of(one)
        raise_unless_refusal(code, reason)
        failures[one["index"]] = Failure(code, reason)
    return failures
