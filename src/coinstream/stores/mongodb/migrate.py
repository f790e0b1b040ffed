"""Makes a MongoDB database match the code: collections, validators, indexes, users. Idempotent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from coinstream.stores.mongodb import connection
from coinstream.stores.mongodb.connection import UNSUPPORTED, Document, meaning
from coinstream.stores.mongodb.schema import INDEXES, VALIDATORS, Index
from coinstream.telemetry import logger

SINK = "coinstream_mongo_sink"
READER = "coinstream_mongo_reader"
ROLES: dict[str, str] = {SINK: "readWrite", READER: "read"}
"""What each user may do, in this one database and nowhere else."""
USERS_DATABASE = "admin"
"""Where users are made, and so the ``authSource`` of their addresses."""

_ALREADY_EXISTS = frozenset({48, 51003})
"""NamespaceExists, and the same of a user: another migration has just made it."""

log = logger("stores.mongodb")


def migrate(
    admin_uri: str,
    *,
    passwords: Mapping[str, str],
    database: str = "coinstream",
    progress: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Bring collections, validators, indexes and users up to date.

    What a server says it does not support is left out with a warning in the log that names it; anything
    else that fails is an error.

    Args:
        admin_uri: The server's address, as a user who may do all of this.
        passwords: By user name; those of `ROLES` that are named are made or changed, others left alone.
        database: Name of the database.
        progress: Told of each change.

    Returns:
        What was changed, in words; nothing the second time. Passwords are set every time and not told.

    Raises:
        TransientError: The server is away.
        FatalError: The address, the user's rights, or the server cannot be used.
    """
    changes: list[str] = []

    def changed(what: str) -> None:
        changes.append(what)
        progress(f"mongodb: {what}")

    client = connection.connect(admin_uri, name="coinstream migrate")
    try:
        with meaning():
            target = client[database]
            _make_collections(target, changed)
            for name, indexes in INDEXES.items():
                for index in indexes:
                    _make_index(target, name, index, changed)
            for user, role in ROLES.items():
                if user in passwords:
                    grant = {"role": role, "db": database}
                    _make_user(client[USERS_DATABASE], user, passwords[user], grant, changed)
    finally:
        client.close()
    return changes


@contextmanager
def _if_supported(feature: str) -> Iterator[None]:
    """Go on without a feature, and say so, if the server's own words are that it has no such thing."""
    try:
        yield
    except OperationFailure as error:
        if error.code not in UNSUPPORTED:
            raise
        log.warning("not supported by this server", feature=feature, why=str(error).split(", full error:")[0])


def _make_collections(target: Database[Document], changed: Callable[[str], None]) -> None:
    present = {one["name"]: one.get("options", {}) for one in target.list_collections()}
    for name, schema in VALIDATORS.items():
        rules: dict[str, Any] = {
            "validator": {"$jsonSchema": schema},
            "validationLevel": "strict",
            "validationAction": "error",
        }
        if name not in present:
            try:
                target.create_collection(name)
                changed(f"collection {name} made")
            except OperationFailure as error:
                if error.code not in _ALREADY_EXISTS:
                    raise
        elif all(present[name].get(key) == value for key, value in rules.items()):
            continue
        with _if_supported(f"the validator of {name}"):
            target.command({"collMod": name} | rules)
            changed(f"validator of {name} set")


def _make_index(target: Database[Document], name: str, index: Index, changed: Callable[[str], None]) -> None:
    options: dict[str, Any] = {"name": index.name}
    if index.expire_after_s is not None:
        options["expireAfterSeconds"] = index.expire_after_s
    collection = target[name]
    present = collection.index_information()
    held = present.get(index.name)
    if (
        held is not None
        and [tuple(key) for key in held["key"]] == list(index.keys)
        and held.get("expireAfterSeconds") == index.expire_after_s
    ):
        return
    with _if_supported(f"the index {index.name} of {name}"):
        if held is not None:
            collection.drop_index(index.name)
        collection.create_index(list(index.keys), **options)
        changed(f"index {index.name} of {name} made")


def _make_user(
    users: Database[Document], user: str, password: str, grant: Mapping[str, str], changed: Callable[[str], None]
) -> None:
    with _if_supported(f"the user {user}"):
        found = users.command("usersInfo", user)["users"]
        if not found:
            try:
                users.command("createUser", user, pwd=password, roles=[grant])
                changed(f"user {user} made, with {grant['role']} on {grant['db']}")
            except OperationFailure as error:
                if error.code not in _ALREADY_EXISTS:
                    raise
            else:
                return
            found = users.command("usersInfo", user)["users"]
        users.command("updateUser", user, pwd=password)
        if dict(grant) not in [dict(role) for one in found for role in one["roles"]]:
            # Added to, never replaced: one server may hold several databases of ours.
            users.command("grantRolesToUser", user, roles=[grant])
            changed(f"user {user} given {grant['role']} on {grant['db']}")
