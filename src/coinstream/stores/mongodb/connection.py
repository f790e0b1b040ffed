"""How this room reaches MongoDB, and what its errors mean for the work at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pymongo
from pymongo import MongoClient
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from coinstream.errors import CoinstreamError, FatalError, TransientError

Document = dict[str, Any]
Client = MongoClient[Document]

SELECTION_TIMEOUT_S = 5
"""How long a server is looked for; then it counts as away, and the sink waits between its tries."""
SOCKET_TIMEOUT_S = 60
WRITE_CONCERN_TIMEOUT_S = 30
"""How long a majority may take to acknowledge a write; after it nobody knows, and the write is done again."""
MIGRATE = "run `coinstream stores migrate` with the administrator's address"

DUPLICATE_KEY = 11000
UNSUPPORTED = frozenset({59, 115, 238})
"""CommandNotFound, CommandNotSupported, NotImplemented: what a server says that lacks a command."""
_DENIED = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, and Atlas' own."""
_TRANSIENT = frozenset(
    {
        *(6, 7, 89, 9001),  # host unreachable or not found, network time-out, socket exception
        *(91, 189, 10058, 10107, 11600, 11602, 13435, 13436),  # shutting down, stepping down, no longer primary
        *(24, 46, 50, 112, 202, 262),  # lock, time or conflict: the same write may pass a moment later
        *(64, 134, 246),  # no majority yet, snapshot gone
        14031,  # disk full: a person mends it while the sink waits
        *(1, 8),  # InternalError, UnknownError: the server's own fault says nothing against the document
    }
)
"""Of MongoDB's error codes (``src/mongo/base/error_codes.yml``), those that pass without a change of ours."""
_UNUSABLE = UNSUPPORTED | {20, 72, 79, 100}
"""… and those that no retry mends: illegal here (20), invalid options, unknown or unsatisfiable write concern."""


def connect(uri: str, *, name: str) -> Client:
    """Make a client; it connects at its first use. Every wait is bounded; what the URI says wins.

    Raises:
        FatalError: The URI is none.
    """
    try:
        given = pymongo.uri_parser.parse_uri(uri, validate=True)["options"]
        defaults: dict[str, Any] = {
            "appname": name,
            "connectTimeoutMS": SELECTION_TIMEOUT_S * 1000,
            "serverSelectionTimeoutMS": SELECTION_TIMEOUT_S * 1000,
            "socketTimeoutMS": SOCKET_TIMEOUT_S * 1000,
            "waitQueueTimeoutMS": SELECTION_TIMEOUT_S * 1000,
            "maxPoolSize": 4,
        }
        present = {option.lower() for option in given}
        return MongoClient(uri, **{key: value for key, value in defaults.items() if key.lower() not in present})
    except (InvalidURI, ConfigurationError, ValueError, TypeError) as error:
        raise FatalError(f"the MongoDB address cannot be used ({error}); it looks like mongodb://user@host/") from None


@contextmanager
def meaning() -> Iterator[None]:
    """Raise pymongo's errors as this project's own; ours pass through."""
    try:
        yield
    except PyMongoError as error:
        raise meaning_of(error) from error


def meaning_of(error: PyMongoError) -> CoinstreamError:
    """Return what a failure of a whole command or connection means: wait, or stop."""
    reason = _reason(error)
    if isinstance(error, OperationFailure) and error.code in _DENIED:
        return FatalError(f"MongoDB refuses this user ({reason}); check the password in its address, or {MIGRATE}")
    if _passes(error):
        return TransientError(f"MongoDB is away or busy: {reason}")
    if isinstance(error, ConfigurationError):
        return FatalError(f"the MongoDB address cannot be used: {reason}")
    return FatalError(f"MongoDB refuses to work: {reason}; it must be 7.0 or later and a replica set")


def _passes(error: PyMongoError) -> bool:
    if isinstance(error, ConnectionFailure | WaitQueueTimeoutError | WriteConcernError | ExecutionTimeout):
        return True
    if error.has_error_label("RetryableWriteError") or error.has_error_label("TransientTransactionError"):
        return True
    return isinstance(error, OperationFailure) and error.code in _TRANSIENT


def raise_unless_refusal(code: int, reason: str) -> None:
    """Raise what one write's error means, unless the document itself is at fault.

    Raises:
        TransientError: The same write may pass a moment later.
        FatalError: The server or the user's rights are at fault.
    """
    if code in _TRANSIENT:
        raise TransientError(f"MongoDB did not take a write: {reason}")
    if code in _DENIED or code in _UNUSABLE:
        raise FatalError(f"MongoDB refuses to write ({reason}); check the user's role, or {MIGRATE}")


def reason_of(failure: Mapping[str, Any]) -> str:
    """Return a write error's words, and what of the document broke which rule of a validator."""
    said = str(failure.get("errmsg", "no reason given"))
    details = failure.get("errInfo", {}).get("details")
    return f"{said}: {_broken_rules(details)}"[:1000] if details else said[:1000]


def _broken_rules(details: Any, path: str = "") -> str:
    """Fold the server's tree of unmet rules to ``price: minimum; symbol: pattern``."""
    if isinstance(details, list):
        return "; ".join(filter(None, (_broken_rules(item, path) for item in details)))
    if not isinstance(details, dict):
        return ""
    here = ".".join(filter(None, (path, str(details.get("propertyName", "")))))
    trees = ("schemaRulesNotSatisfied", "propertiesNotSatisfied", "details", "clausesNotSatisfied")
    below = "; ".join(filter(None, (_broken_rules(details.get(tree), here) for tree in trees)))
    if below:
        return below
    about = details.get("missingProperties") or details.get("additionalProperties") or ""
    return f"{here or 'document'} {details.get('operatorName', '')} {about or details.get('reason', '')}".strip()


def _reason(error: PyMongoError) -> str:
    """Return the first of what pymongo says; its topology descriptions fill screens."""
    return str(error).split(", full error:")[0].split(", Timeout:")[0].split(" (configured timeouts:")[0][:300]
