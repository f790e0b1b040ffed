"""What operations are told of the collections."""

from __future__ import annotations

from datetime import timedelta

import pytest

from coinstream.errors import FatalError
from coinstream.messages import AssetSnapshot, Quote, Trade, utc
from coinstream.stores.mongodb.read import LogStamp, MongoReader, Stored
from integration.mongodb.conftest import Database
from integration.mongodb.samples import (
    MINUTE_US,
    RECORD_MS,
    TOPIC_ID,
    asset,
    batch,
    none_refused,
    quote,
    trade,
)


def test_counts_leave_out_what_will_have_expired(database: Database) -> None:
    """Two counts with one such time differ by what was written between them, whatever the server removed."""
    writer = database.writer()
    writer.write([batch(Trade, [trade("1"), trade("2")])], none_refused)
    writer.write([batch(Trade, [trade("3")], start=2, record_ms=RECORD_MS + 60_000)], none_refused)
    writer.write([batch(AssetSnapshot, [asset()]), batch(Quote, [quote()])], none_refused)
    first_expires = utc(RECORD_MS * 1000) + timedelta(days=1)
    reader = database.reader()
    assert reader.counts() == {"trades": 3, "instruments": 1, "assets": 1, "asset_history": 1}
    assert reader.counts(first_expires - timedelta(milliseconds=1)) == reader.counts()
    assert reader.counts(first_expires) == {"trades": 1, "instruments": 1, "assets": 1, "asset_history": 0}


@pytest.mark.parametrize("asked", [1, 99, 100, 101, 300], ids=lambda n: f"{n} ids")
def test_any_number_of_ids_is_answered_and_the_absent_are_left_out(database: Database, asked: int) -> None:
    """Few are asked for by id, in chunks; many are picked from a reading of all."""
    messages = [trade(str(n)) for n in range(300)]
    database.writer().write([batch(Trade, messages)], none_refused)
    ids = [f"coinbase:BTC-USD:{n}" for n in range(asked)]
    stored = database.reader().trades([*ids, "coinbase:BTC-USD:none"])
    assert {key: one.message for key, one in stored.items()} == dict(zip(ids, messages, strict=False))


def test_log_places_tell_this_run_from_an_earlier_one(database: Database) -> None:
    writer = database.writer()
    writer.write([batch(AssetSnapshot, [asset(price_usd="1")], start=7, topic_id="earlier")], none_refused)
    newer = asset(price_usd="2", received_time_us=asset().received_time_us + 1)
    writer.write([batch(AssetSnapshot, [newer], start=2)], none_refused)
    key = f"coinpaprika:btc-bitcoin:{MINUTE_US}"
    assert database.reader().asset_history([key]) == {
        key: Stored(
            newer,
            log=LogStamp(TOPIC_ID, 3, 2),
            first=LogStamp("earlier", 3, 7),
            expires_time_us=RECORD_MS * 1000 + 86_400_000_000,
        )
    }
    latest = database.reader().assets(["coinpaprika:btc-bitcoin"])["coinpaprika:btc-bitcoin"]
    assert (latest.first, latest.expires_time_us) == (latest.log, None)


def test_parts_that_have_not_come_are_none(database: Database) -> None:
    database.writer().write([batch(Quote, [quote()])], none_refused)
    (parts,) = database.reader().instruments(["coinbase:BTC-USD", "coinbase:ETH-USD"]).values()
    assert (parts.facts, parts.last_trade, parts.book) == (None, None, None)
    assert parts.best is not None
    assert parts.best.message == quote()


def test_a_database_without_collections_counts_nothing(database: Database) -> None:
    reader = MongoReader(database.admin_uri, database.name + "_none")
    assert set(reader.counts().values()) == {0}
    assert reader.trades(["a:b:c"]) == {}
    reader.close()


def test_a_user_without_the_right_to_read_is_fatal(database: Database) -> None:
    reader = MongoReader(database.reader_uri, "another_database")
    with pytest.raises(FatalError, match="refuses this user"):
        reader.counts()
    reader.close()
