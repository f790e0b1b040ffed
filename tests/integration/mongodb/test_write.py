"""What the writer makes of messages, on a real server: the contract that MongoDB 7 passes too."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from bson.decimal128 import Decimal128

from coinstream.errors import FatalError, TransientError
from coinstream.messages import (
    AssetSnapshot,
    BookSnapshot,
    Instrument,
    Partition,
    Quote,
    RefusedMessage,
    Trade,
    time_us_of,
)
from coinstream.stores.mongodb.write import MongoWriter
from integration.mongodb.conftest import Database
from integration.mongodb.samples import (
    MINUTE_US,
    RECORD_MS,
    TIME_US,
    TOPIC_ID,
    asset,
    batch,
    book,
    instrument,
    none_refused,
    quote,
    trade,
)

EXPIRES = datetime(1970, 1, 1) + timedelta(milliseconds=RECORD_MS, days=1)  # noqa: DTZ001 - as pymongo returns it
ID = "coinbase:BTC-USD"


def test_trade_becomes_one_document_with_its_digits_its_record_and_a_day_to_live(database: Database) -> None:
    written = database.writer().write([batch(Trade, [trade("007")], start=41)], none_refused)
    assert (written.inserted["trades"], written.duplicates["trades"], written.refused) == (1, 0, 0)
    assert list(database.raw()["trades"].find()) == [
        {
            "_id": "coinbase:BTC-USD:007",
            "venue": "coinbase",
            "symbol": "BTC-USD",
            "trade_id": "007",
            "price": Decimal128("58012.310"),
            "size": Decimal128("0.01"),
            "aggressor_side": "buy",
            "event_time_us": TIME_US,
            "received_time_us": TIME_US + 5,
            "provenance": "live",
            "log": {"topic_id": TOPIC_ID, "partition": 3, "offset": 41},
            "expires": EXPIRES,
        }
    ]


@pytest.mark.parametrize("number", ["0.000000000000000001", "999999999999.000000000000000001", "1.50", "5.000"])
def test_number_comes_back_digit_for_digit(database: Database, number: str) -> None:
    database.writer().write(
        [
            batch(Trade, [trade(price=number, size=number)]),
            batch(BookSnapshot, [book(bids=((number, number),))]),
            batch(AssetSnapshot, [asset(price_usd=number, change_percent_24h=f"-{number}")]),
        ],
        none_refused,
    )
    raw = database.raw()
    (stored,) = raw["trades"].find()
    assert (str(stored["price"].to_decimal()), stored["size"].to_decimal()) == (str(Decimal(number)), Decimal(number))
    reader = database.reader()
    assert reader.trades(["coinbase:BTC-USD:1"])["coinbase:BTC-USD:1"].message.price == number
    parts = reader.instruments([ID])[ID]
    assert parts.book is not None
    assert parts.book.message.bids == ((number, number),)
    assert reader.assets(["coinpaprika:btc-bitcoin"])["coinpaprika:btc-bitcoin"].message.change_percent_24h == (
        f"-{number}"
    )


def test_repeated_trade_is_counted_and_the_first_stays(database: Database) -> None:
    writer = database.writer()
    first, repeat = trade("1", price="1"), trade("1", price="2", provenance="backfill")
    written = writer.write([batch(Trade, [first, repeat, trade("2")])], none_refused)
    assert (written.inserted["trades"], written.duplicates["trades"]) == (2, 1)
    written = writer.write([batch(Trade, [repeat, trade("3")], start=3)], none_refused)
    assert (written.inserted["trades"], written.duplicates["trades"]) == (1, 1)
    stored = database.reader().trades(["coinbase:BTC-USD:1"])["coinbase:BTC-USD:1"]
    assert stored.message == first
    assert (stored.log.offset, stored.first.offset) == (0, 0)


def test_each_part_of_an_instrument_is_the_newest_of_its_kind(database: Database) -> None:
    old = TIME_US - 1
    database.writer().write(
        [
            batch(Instrument, [instrument(status="online"), instrument(status="offline", received_time_us=old)]),
            batch(Trade, [trade("10"), trade("9"), trade("11", event_time_us=old)]),
            batch(Quote, [quote(sequence=7, bid="2"), quote(sequence=6, bid="1"), quote(bid="3")]),
            batch(BookSnapshot, [book(received_time_us=old, sequence=9), book(sequence=1)]),
        ],
        none_refused,
    )
    parts = database.reader().instruments([ID])[ID]
    assert [part and part.message for part in parts] == [
        instrument(status="online"),
        trade("10"),
        quote(sequence=7, bid="2"),
        book(sequence=1),
    ]


def test_of_two_with_equal_times_and_sequence_the_later_in_the_log_is_the_newer(database: Database) -> None:
    writer = database.writer()
    writer.write([batch(Quote, [quote(bid="1"), quote(bid="2")], start=5)], none_refused)
    writer.write([batch(Quote, [quote(bid="0.5")], start=4)], none_refused)
    best = database.reader().instruments([ID])[ID].best
    assert best is not None
    assert (best.message.bid, best.log.offset) == ("2", 6)


@pytest.mark.parametrize(
    ("older", "newer"),
    [("9", "10"), ("999999999999999999999", "1000000000000000000000"), ("9", "a"), ("a", "b"), ("A", "a"), ("z", "é")],
)
def test_trades_of_one_microsecond_are_ordered_by_id(database: Database, older: str, newer: str) -> None:
    """Digits as integers, before all other ids, which go by their bytes; each in a write of its own."""
    writer = database.writer()
    writer.write([batch(Trade, [trade(newer)], start=0)], none_refused)
    writer.write([batch(Trade, [trade(older)], start=1)], none_refused)
    last = database.reader().instruments([ID])[ID].last_trade
    assert last is not None
    assert last.message.trade_id == newer


def test_asset_history_keeps_the_latest_received_of_a_minute_and_of_equals_the_first(database: Database) -> None:
    key = f"coinpaprika:btc-bitcoin:{MINUTE_US}"
    writer = database.writer()
    writer.write([batch(AssetSnapshot, [asset(price_usd="1")], start=10)], none_refused)
    later = asset(price_usd="3", received_time_us=TIME_US + 1)
    written = writer.write(
        [
            batch(
                AssetSnapshot,
                [asset(price_usd="2"), later, asset(price_usd="4", received_time_us=TIME_US + 1)],
                start=11,
            )
        ],
        none_refused,
    )
    assert (written.inserted["asset_history"], written.duplicates["asset_history"]) == (0, 1)
    stored = database.reader().asset_history([key])[key]
    assert stored.message == later
    assert (stored.log.offset, stored.first.offset) == (12, 10)
    assert stored.expires_time_us == RECORD_MS * 1000 + 86_400_000_000


def test_assets_hold_the_newest_minute(database: Database) -> None:
    newer = asset(minute=MINUTE_US + 60_000_000, received_time_us=TIME_US - 9)
    writer = database.writer()
    writer.write([batch(AssetSnapshot, [newer])], none_refused)
    writer.write([batch(AssetSnapshot, [asset(received_time_us=TIME_US + 9)], start=1)], none_refused)
    reader = database.reader()
    assert reader.assets(["coinpaprika:btc-bitcoin"])["coinpaprika:btc-bitcoin"].message == newer
    assert reader.counts() == {"trades": 0, "instruments": 0, "assets": 1, "asset_history": 2}


def test_every_field_of_every_message_comes_back(database: Database) -> None:
    """Absent ones stay absent; text that looks like MongoDB's own language is text."""
    full_asset = asset(
        canonical_id="bitcoin",
        symbol="$BTC",
        name="$$ROOT",
        rank=1,
        market_cap_usd="1.0",
        volume_usd_24h="0",
        supply="0.000",
        max_supply="21000000",
        vwap_24h="1",
        change_percent_24h="-0.0",
        attributes={"$set": {"a.b": ["$x", None, True, -(2**63)]}, "": {"deep": [[{}]]}},
    )
    full_quote = quote(bid="0", ask="0.00", bid_size="1", ask_size="0.0", sequence=2**63 - 1, event_time_us=TIME_US)
    full_book = book(bids=(), asks=(), sequence=0, event_time_us=TIME_US)
    full_instrument = instrument(lot_size="0.1", minimum_notional="0", venue_symbol="$BTC:USD")
    one_trade = trade("$id:1", aggressor_side="sell", provenance="simulated")
    database.writer().write(
        [
            batch(AssetSnapshot, [full_asset]),
            batch(Quote, [full_quote]),
            batch(BookSnapshot, [full_book]),
            batch(Instrument, [full_instrument]),
            batch(Trade, [one_trade]),
        ],
        none_refused,
    )
    reader = database.reader()
    assert reader.assets(["coinpaprika:btc-bitcoin"])["coinpaprika:btc-bitcoin"].message == full_asset
    parts = reader.instruments([ID])[ID]
    assert [part and part.message for part in parts] == [full_instrument, one_trade, full_quote, full_book]
    assert reader.trades(["coinbase:BTC-USD:$id:1"])["coinbase:BTC-USD:$id:1"].message == one_trade


class Refused:
    """Takes what is refused, and looks at the database at that moment."""

    def __init__(self) -> None:
        self.messages: list[RefusedMessage] = []

    def __call__(self, refused: Sequence[RefusedMessage]) -> None:
        self.messages += refused

    @property
    def places(self) -> list[tuple[str, int]]:
        return sorted((message.partition.topic, message.offset) for message in self.messages)


def test_what_a_validator_refuses_is_handed_over_and_its_neighbours_are_written(database: Database) -> None:
    """A ``:`` in a venue would let two documents share an ``_id``."""
    refused = Refused()
    written = database.writer().write(
        [
            batch(Trade, [trade("1"), trade("2", venue="a:b"), trade("3")], start=7),
            batch(Quote, [quote(symbol="A:B"), quote()], start=3),
            batch(AssetSnapshot, [asset(source="a:b"), asset()], start=1),
        ],
        refused,
    )
    assert refused.places == [("test.market.assets", 1), ("test.market.quotes", 3), ("test.market.trades", 8)]
    assert written.refused == 3
    reasons = {message.partition: str(message.error) for message in refused.messages}
    assert "venue pattern" in reasons[Partition("test.market.trades", 3)]
    assert "symbol pattern" in reasons[Partition("test.market.quotes", 3)]
    assert "source pattern" in reasons[Partition("test.market.assets", 3)]
    reader = database.reader()
    assert reader.counts() == {"trades": 2, "instruments": 1, "assets": 1, "asset_history": 1}
    assert sorted(one["trade_id"] for one in database.raw()["trades"].find()) == ["1", "3"]
    parts = reader.instruments([ID])[ID]
    assert parts.last_trade is not None
    assert parts.best is not None
    assert (parts.last_trade.message.trade_id, parts.best.message) == ("3", quote())


@pytest.mark.parametrize(
    "attributes",
    [{"n": 2**64}, {"a\0b": 1}, {"deep": None}],
    ids=["integer over 64 bits", "NUL in a name", "nested deeper than the driver can go"],
)
def test_what_bson_cannot_hold_is_refused_alone(database: Database, attributes: dict[str, Any]) -> None:
    if "deep" in attributes:
        for _ in range(5000):
            attributes = {"deep": attributes}
    refused = Refused()
    messages = [asset(asset_id=f"a{n}", attributes=attributes if n == 5 else {"n": n}) for n in range(9)]
    written = database.writer().write([batch(AssetSnapshot, messages)], refused)
    assert refused.places == [("test.market.assets", 5)]
    assert written.refused == 1
    assert database.reader().counts() == {"trades": 0, "instruments": 0, "assets": 8, "asset_history": 8}


def test_where_the_newest_is_refused_the_next_newest_is_kept(database: Database) -> None:
    refused = Refused()
    bad = asset(received_time_us=TIME_US + 2, attributes={"n": 2**64})
    good = asset(received_time_us=TIME_US + 1)
    database.writer().write([batch(AssetSnapshot, [asset(), good, bad])], refused)
    assert refused.places == [("test.market.assets", 2)]
    assert database.reader().assets(["coinpaprika:btc-bitcoin"])["coinpaprika:btc-bitcoin"].message == good


def test_a_part_that_is_refused_leaves_the_other_parts_written(database: Database) -> None:
    """The parts of one instrument travel in one update. A stricter validator stands for any refusal."""
    schema = database.reader().validators()["instruments"]
    schema["properties"]["best"]["properties"]["sequence"] = {"maximum": 10}
    database.raw().command("collMod", "instruments", validator={"$jsonSchema": schema})
    refused = Refused()
    written = database.writer().write(
        [
            batch(Instrument, [instrument()]),
            batch(Quote, [quote(sequence=10), quote(sequence=11)], start=4),
            batch(Trade, [trade()]),
        ],
        refused,
    )
    assert refused.places == [("test.market.quotes", 5)]
    assert written.refused == 1
    parts = database.reader().instruments([ID])[ID]
    assert [part and part.message for part in parts] == [instrument(), trade(), quote(sequence=10), None]


def test_an_error_of_refuse_is_raised_and_the_batch_may_come_again(database: Database) -> None:
    def fail(_: Sequence[RefusedMessage]) -> None:
        raise TransientError("Kafka is away")

    writer, refused = database.writer(), Refused()
    batches = [batch(Trade, [trade("1"), trade("2", venue="a:b")])]
    with pytest.raises(TransientError, match="Kafka is away"):
        writer.write(batches, fail)
    written = writer.write(batches, refused)
    assert refused.places == [("test.market.trades", 1)]
    assert (written.inserted["trades"], written.duplicates["trades"], written.refused) == (0, 1, 1)


LATE: list[tuple[type[Any], Any, Any]] = [
    (Instrument, instrument(status="offline"), instrument(received_time_us=TIME_US + 1)),
    (Trade, trade("1"), trade("2")),
    (Quote, quote(bid="1"), quote(bid="2", received_time_us=TIME_US + 1)),
    (BookSnapshot, book(sequence=1), book(sequence=2)),
    (AssetSnapshot, asset(price_usd="1"), asset(price_usd="2", received_time_us=TIME_US + 1)),
]


@pytest.mark.parametrize(("kind", "older", "newer"), LATE, ids=lambda value: getattr(value, "__name__", None))
def test_a_writer_that_wakes_late_overwrites_nothing_newer(
    database: Database, kind: type[Any], older: Any, newer: Any
) -> None:
    """What a sink does that was frozen while its successor wrote on: the same batch again, long after."""
    frozen, successor = database.writer(), database.writer()
    frozen.touch()
    successor.write([batch(kind, [older, newer], start=10)], none_refused)
    raw = database.raw()
    before = {name: list(raw[name].find()) for name in ("trades", "instruments", "assets", "asset_history")}
    frozen.write([batch(kind, [older], start=10)], none_refused)
    assert {name: list(raw[name].find()) for name in before} == before
    assert any(before.values())


def test_a_trade_repeated_by_the_feed_keeps_its_first_document_whoever_writes_late(database: Database) -> None:
    first, repeat = trade("1", price="1"), trade("1", price="2")
    frozen, successor = database.writer(), database.writer()
    successor.write([batch(Trade, [first], start=10)], none_refused)
    successor.write([batch(Trade, [repeat], start=11)], none_refused)
    frozen.write([batch(Trade, [repeat], start=11)], none_refused)
    assert database.reader().trades(["coinbase:BTC-USD:1"])["coinbase:BTC-USD:1"].message == first


def test_an_empty_write_needs_no_server() -> None:
    writer = MongoWriter("mongodb://127.0.0.1:1/?directConnection=true")
    written = writer.write([], none_refused)
    writer.close()
    assert (dict(written.inserted), written.refused) == ({}, 0)


def test_a_database_that_was_never_migrated_is_fatal_and_stays_empty(new_database: Any) -> None:
    fresh = new_database()
    writer = MongoWriter(fresh.admin_uri, database=fresh.name)
    with pytest.raises(
        FatalError, match=r"lacks asset_history, assets, instruments, trades; run `coinstream stores mi"
    ):
        writer.write([batch(Trade, [trade()])], none_refused)
    writer.close()
    assert fresh.raw().list_collection_names() == []


def test_expiry_follows_the_record_and_never_the_message(database: Database) -> None:
    """A replayed recording of 2021 is fresh data."""
    long_ago = trade("old", event_time_us=1_619_000_000_000_000, received_time_us=1_619_000_000_000_000)
    database.writer().write([batch(Trade, [long_ago])], none_refused)
    stored = database.reader().trades(["coinbase:BTC-USD:old"])["coinbase:BTC-USD:old"]
    assert stored.expires_time_us == time_us_of(datetime.fromisoformat("2026-11-25T02:40:20.456+00:00"))
