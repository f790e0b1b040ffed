"""What a migration makes, and that a second one makes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymongo
import pytest
from bson.decimal128 import Decimal128

from coinstream.errors import FatalError, TransientError
from coinstream.messages import Trade
from coinstream.stores.mongodb.documents import trade_documents
from coinstream.stores.mongodb.migrate import READER, SINK, migrate
from coinstream.stores.mongodb.schema import VALIDATORS
from coinstream.stores.mongodb.write import MongoWriter
from integration.mongodb.conftest import PASSWORDS, Database, as_user
from integration.mongodb.samples import RECORD_MS, batch, none_refused, trade


def test_second_migration_changes_nothing(new_database: Callable[[], Database]) -> None:
    fresh = new_database()
    told: list[str] = []
    first = migrate(fresh.admin_uri, passwords=PASSWORDS, database=fresh.name, progress=told.append)
    assert "collection trades made" in first
    assert "index expires of asset_history made" in first
    assert told == [f"mongodb: {change}" for change in first]
    assert migrate(fresh.admin_uri, passwords=PASSWORDS, database=fresh.name) == []


def test_indexes_are_those_that_the_questions_need(database: Database) -> None:
    indexes = {name: {key: dict(one) for key, one in of.items()} for name, of in database.reader().indexes().items()}
    for name in ("trades", "asset_history"):
        assert indexes[name]["expires"]["key"] == [("expires", 1)]
        assert indexes[name]["expires"]["expireAfterSeconds"] == 0
    assert indexes["trades"]["newest_of_instrument"]["key"] == [("venue", 1), ("symbol", 1), ("event_time_us", -1)]
    assert indexes["asset_history"]["newest_of_asset"]["key"] == [("source", 1), ("asset_id", 1), ("minute", -1)]
    assert indexes["instruments"]["venue"]["key"] == [("venue", 1), ("symbol", 1)]
    assert database.reader().validators() == VALIDATORS


def test_a_validator_and_an_index_that_differ_are_brought_back(database: Database) -> None:
    raw = database.raw()
    raw.command("collMod", "trades", validator={}, validationLevel="off")
    raw["trades"].drop_index("expires")
    raw["trades"].create_index([("expires", 1)], name="expires", expireAfterSeconds=60)
    assert migrate(database.admin_uri, passwords={}, database=database.name) == [
        "validator of trades set",
        "index expires of trades made",
    ]
    assert database.reader().validators() == VALIDATORS
    assert database.reader().indexes()["trades"]["expires"]["expireAfterSeconds"] == 0


def test_documents_survive_a_migration(database: Database) -> None:
    database.writer().write([batch(Trade, [trade()])], none_refused)
    migrate(database.admin_uri, passwords=PASSWORDS, database=database.name)
    assert database.reader().counts()["trades"] == 1


BROKEN: list[dict[str, Any]] = [
    {"price": "58012.31"},
    {"price": 58012},
    {"aggressor_side": "up"},
    {"event_time_us": 1_795_488_019_000},
    {"trade_id": ""},
    {"venue": "a:b"},
    {"provenance": None},
    {"surprise": 1},
    {"log": {"offset": 1}},
    {"expires": RECORD_MS},
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_validator_refuses_a_document_that_no_trade_makes(database: Database, broken: dict[str, Any]) -> None:
    (document,) = trade_documents(batch(Trade, [trade()]))
    trades = database.raw()["trades"]
    with pytest.raises(pymongo.errors.WriteError) as refused:
        trades.insert_one(document | broken)
    assert refused.value.code == 121
    trades.insert_one(document | {"price": Decimal128("1.0")})
    assert trades.count_documents({}) == 1


def test_each_user_may_do_what_its_process_does_and_no_more(database: Database, new_database: Any) -> None:
    other = new_database()
    migrate(other.admin_uri, passwords={}, database=other.name)
    database.writer().write([batch(Trade, [trade()])], none_refused)
    for uri, name, allowed in (
        (database.sink_uri, database.name, True),
        (database.reader_uri, database.name, False),
        (database.sink_uri, other.name, False),
    ):
        with pymongo.MongoClient[dict[str, Any]](uri) as client:
            if allowed:
                client[name]["instruments"].insert_one({"_id": "v:s", "venue": "v", "symbol": "s"})
                continue
            with pytest.raises(pymongo.errors.OperationFailure) as refused:
                client[name]["instruments"].insert_one({"_id": "v:s2", "venue": "v", "symbol": "s2"})
            assert refused.value.code == 13
    with pytest.raises(pymongo.errors.OperationFailure) as refused:
        database.raw(database.reader_uri).client[other.name]["trades"].find_one()
    assert refused.value.code == 13
    with pytest.raises(pymongo.errors.OperationFailure) as refused:
        database.raw(database.sink_uri).client["admin"].command("createUser", "x", pwd="x", roles=[])
    assert refused.value.code == 13


def test_two_databases_of_one_server_share_the_users(database: Database, new_database: Any) -> None:
    other = new_database()
    changes = migrate(other.admin_uri, passwords=PASSWORDS, database=other.name)
    assert f"user {SINK} given readWrite on {other.name}" in changes
    assert f"user {READER} given read on {other.name}" in changes
    for one in (database, other):
        one.writer().write([batch(Trade, [trade()])], none_refused)
        assert one.reader().counts()["trades"] == 1


def test_a_new_password_takes_effect(database: Database) -> None:
    try:
        migrate(database.admin_uri, passwords={SINK: "another"}, database=database.name)
        writer = MongoWriter(as_user(database.admin_uri, SINK, "another"), database=database.name)
        writer.touch()
        writer.close()
        old = database.writer()
        with pytest.raises(FatalError, match=r"refuses this user .*check the password"):
            old.touch()
    finally:
        migrate(database.admin_uri, passwords=PASSWORDS, database=database.name)
    database.writer().touch()


def test_an_unprivileged_user_cannot_migrate(database: Database) -> None:
    with pytest.raises(FatalError, match="refuses this user"):
        migrate(database.reader_uri, passwords=PASSWORDS, database=database.name + "_2")


@pytest.mark.parametrize("uri", ["postgresql://localhost/", "mongodb://", "mongodb://h/?w=sometimes&tls=perhaps"])
def test_an_address_that_is_none_is_fatal(uri: str) -> None:
    with pytest.raises(FatalError, match="MongoDB address cannot be used"):
        migrate(uri, passwords={})


def test_a_server_that_is_away_is_transient() -> None:
    with pytest.raises(TransientError, match="away or busy"):
        migrate("mongodb://127.0.0.1:1/?directConnection=true&serverSelectionTimeoutMS=200", passwords={})
