"""The PostgreSQL sink's store on a real server: exact rows, once, whatever is given."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import psycopg
import pytest

from coinstream.errors import FatalError, TransientError
from coinstream.messages import (
    AssetSnapshot,
    BookSnapshot,
    Candle,
    Coverage,
    Instrument,
    LogPosition,
    Partition,
    Quote,
    Trade,
)
from coinstream.messages.times import DAY_US
from coinstream.stores import LostPartitionError
from coinstream.stores.postgres.read import PostgresReader
from coinstream.stores.postgres.tables import TRADES
from coinstream.stores.postgres.write import PostgresWriter
from postgres_database import (
    NOW_US,
    TOPIC_ID,
    Database,
    Log,
    MakeWriter,
    Refusals,
    a_trade,
    open_positions,
    state_of,
    until,
)

MINUTE = NOW_US - NOW_US % 60_000_000
TODAY = date(2023, 11, 14)
ALL = (Instrument, Trade, Quote, BookSnapshot, Candle, AssetSnapshot, Coverage)


@pytest.fixture
def log(writer: PostgresWriter) -> Log:
    open_positions(writer, ALL)
    return Log()


@pytest.fixture
def refused() -> Refusals:
    return Refusals()


def test_trade_comes_back_exactly(writer: PostgresWriter, reader: PostgresReader, log: Log, refused: Refusals) -> None:
    trade = a_trade("77", aggressor_side="sell", provenance="backfill", event_time_us=NOW_US + 1, price="1.50")
    written = writer.write([log.batch(trade)], refused)
    assert written.inserted == {"instruments": 1, "trades": 1, "candles": 1}
    assert (written.duplicates, written.refused, refused.taken) == ({}, 0, [])
    key = ("coinbase", "BTC-USD", "77", TODAY)
    assert reader.stored("trades", [key, ("coinbase", "BTC-USD", "78", TODAY)]) == {
        key: (Decimal("1.50"), Decimal("0.5"), "sell", NOW_US + 1, NOW_US + 50_123, "backfill", 1)
    }
    assert writer.positions([LogPosition("market.trades", TOPIC_ID, 0, 0)]) == {
        Partition("market.trades", 0): LogPosition("market.trades", TOPIC_ID, 0, 1)
    }


@pytest.mark.parametrize(
    "digits",
    [
        "0.000000000000000001",
        "999999999999.000000000000000001",
        "9999999999999999.999999999999999999",
        "1.500000000000000000",
    ],
)
def test_exact_number_passes_unchanged(
    digits: str, writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    writer.write([log.batch(a_trade(price=digits, size=digits))], refused)
    assert database.rows("SELECT price::text, size::text FROM market.trades") == [(digits, digits)]
    assert database.rows("SELECT open::text, volume::text FROM market.candles") == [(digits, digits)]


@pytest.mark.parametrize(
    "odd",
    [
        "tab\there",
        "line\nend",
        "back\\slash",
        "\\.",
        "\\N",
        "return\r",
        "'quoted\"",
        "日本 🪙",
        "{a,b}",
        " ",
        "\x7f\x01",
    ],
)
def test_odd_text_in_an_id_passes_unchanged(
    odd: str, writer: PostgresWriter, reader: PostgresReader, log: Log, refused: Refusals
) -> None:
    plain = a_trade("1")
    writer.write([log.batch(a_trade(odd), plain, a_trade("2"))], refused)
    keys = [("coinbase", "BTC-USD", trade_id, TODAY) for trade_id in (odd, "1", "2")]
    assert reader.existing("trades", keys) == set(keys)
    assert refused.taken == []
    again = writer.write([log.batch(a_trade(odd), plain)], refused)
    assert again.duplicates == {"trades": 2}


def test_duplicates_within_a_batch_leave_the_first(
    writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    written = writer.write(
        [log.batch(a_trade("1", price="5"), a_trade("1", price="6"), a_trade("1", price="7"))], refused
    )
    assert (written.inserted["trades"], written.duplicates) == (1, {"trades": 2})
    assert database.rows("SELECT price, (SELECT trades FROM market.candles) FROM market.trades") == [(Decimal(5), 1)]


@pytest.mark.parametrize("memory", ["kept", "fresh"])
def test_duplicates_across_batches_leave_rows_and_candle_unchanged(
    memory: str, writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    writer.write([log.batch(a_trade("1", price="5"), a_trade("2", price="9"))], refused)
    if memory == "fresh":  # then only the table's key knows them
        writer.close()
    written = writer.write([log.batch(a_trade("2", price="1"), a_trade("3", price="6"), a_trade("1"))], refused)
    assert (written.inserted, written.duplicates) == ({"trades": 1}, {"trades": 2})
    assert database.rows("SELECT open, high, low, close, volume, trades, open_id, close_id FROM market.candles") == [
        (Decimal(5), Decimal(9), Decimal(5), Decimal(6), Decimal("1.5"), 3, "1", "3")
    ]


@pytest.mark.parametrize("memory", ["kept", "fresh"])
def test_one_id_on_two_days_is_two_trades(
    memory: str, writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    yesterday = a_trade("1", event_time_us=NOW_US - DAY_US)
    writer.write([log.batch(a_trade("1"), yesterday, a_trade("1"))], refused)
    if memory == "fresh":
        writer.close()
    written = writer.write([log.batch(yesterday, a_trade("1", event_time_us=NOW_US - 2 * DAY_US))], refused)
    assert (written.inserted["trades"], written.duplicates) == (1, {"trades": 1})
    assert database.rows("SELECT day FROM market.trades ORDER BY 1") == [
        (date(2023, 11, 12),),
        (date(2023, 11, 13),),
        (date(2023, 11, 14),),
    ]


def test_quotes_and_books_keep_the_first_of_a_moment(
    writer: PostgresWriter, reader: PostgresReader, log: Log, refused: Refusals
) -> None:
    def quote(bid: str, sequence: int | None = None) -> Quote:
        return Quote(
            venue="v", symbol="A-B", bid=bid, ask="2", ask_size="0", sequence=sequence, received_time_us=NOW_US
        )

    book = BookSnapshot(
        venue="v", symbol="A-B", bids=(("1.50", "2"), ("1", "3.000")), asks=(), sequence=5, received_time_us=NOW_US
    )
    written = writer.write([log.batch(quote("1"), quote("7"), quote("8", 9)), log.batch(book, book)], refused)
    assert written.inserted == {"instruments": 1, "quotes": 2, "book_snapshots": 1}
    assert written.duplicates == {"quotes": 1, "book_snapshots": 1}
    writer.close()
    assert writer.write([log.batch(quote("6"), quote("9", 10)), log.batch(book)], refused).duplicates == {
        "quotes": 1,
        "book_snapshots": 1,
    }
    keys = [("v", "A-B", NOW_US, sequence) for sequence in (0, 5, 9, 10)]
    assert reader.stored("quotes", keys) == {
        keys[0]: (Decimal(1), Decimal(2), None, Decimal(0), None, 1),
        keys[2]: (Decimal(8), Decimal(2), None, Decimal(0), None, 1),
        keys[3]: (Decimal(9), Decimal(2), None, Decimal(0), None, 1),
    }
    levels = ((Decimal("1.5"), Decimal(2)), (Decimal(1), Decimal(3)))
    assert reader.stored("book_snapshots", keys) == {keys[1]: (levels, (), None, 1)}


def test_newest_instrument_wins_and_a_tie_goes_to_the_later(
    writer: PostgresWriter, reader: PostgresReader, log: Log, refused: Refusals
) -> None:
    def instrument(tick: str | None, at: int) -> Instrument:
        return Instrument(
            venue="v",
            symbol="A-B",
            venue_symbol="ab",
            base="A",
            quote="B",
            tick_size=tick,
            status="online",
            received_time_us=NOW_US + at,
        )

    def tick() -> Decimal | None:
        value: Decimal | None = reader.stored("instruments", [("v", "A-B")])["v", "A-B"].tick_size
        return value

    writer.write([log.batch(a_trade(venue="v", symbol="A-B"))], refused)
    assert reader.stored("instruments", [("v", "A-B")]) == {("v", "A-B"): (*[None] * 8, 1)}
    writer.write([log.batch(instrument("1", 5), instrument("2", 5), instrument("3", 4))], refused)
    assert tick() == 2
    writer.write([log.batch(instrument("4", 4))], refused)
    assert tick() == 2
    writer.write([log.batch(instrument(None, 5))], refused)
    assert tick() is None


def test_newest_asset_wins_and_a_tie_stays(
    writer: PostgresWriter, reader: PostgresReader, log: Log, refused: Refusals
) -> None:
    def asset(price: str, at: int, **fields: object) -> AssetSnapshot:
        return AssetSnapshot(
            source="s",
            asset_id="btc",
            symbol="BTC",
            name="Bit\tcoin \\",
            price_usd=price,
            minute=MINUTE,
            received_time_us=NOW_US + at,
            **fields,
        )

    def stored() -> tuple[object, ...]:
        value: tuple[object, ...] = reader.stored("assets", [("s", "btc", MINUTE)])["s", "btc", MINUTE]
        return value

    attributes = {"tags": ["a\nb", "\\"], "n": 7, "deep": {"x": None, "y": "0.10"}}
    writer.write([log.batch(asset("1", 1), asset("2", 2, attributes=attributes, change_percent_24h="-1.5"))], refused)
    change = Decimal("-1.5")
    expected = (
        *(None, "BTC", "Bit\tcoin \\", None, Decimal(2), None, None, None, None, None, change),
        *(attributes, NOW_US + 2, 1),
    )
    assert stored() == expected
    assert writer.write([log.batch(asset("3", 2))], refused).duplicates == {"assets": 1}
    assert stored() == expected
    writer.write([log.batch(asset("4", 3), asset("5", 3))], refused)
    assert stored()[4] == 4


def test_last_coverage_and_venue_candle_win(
    writer: PostgresWriter, reader: PostgresReader, log: Log, refused: Refusals
) -> None:
    def coverage(status: str, messages: int) -> Coverage:
        return Coverage(
            venue="v", symbol="A-B", channel="trades", minute=MINUTE, status=status, first="1", messages=messages
        )

    def candle(close: str) -> Candle:
        return Candle(
            venue="v",
            symbol="A-B",
            minute=MINUTE,
            open="1",
            high="9",
            low="1",
            close=close,
            volume="0",
            provenance="backfill",
        )

    writer.write([log.batch(coverage("gap", 1), coverage("complete", 2)), log.batch(candle("2"), candle("3"))], refused)
    writer.write([log.batch(coverage("backfilled", 1)), log.batch(candle("4"))], refused)
    key = ("v", "A-B", "trades", MINUTE)
    assert reader.stored("coverage", [key]) == {key: ("backfilled", "1", None, 1, 1)}
    one, nine, four = Decimal(1), Decimal(9), Decimal(4)
    assert reader.stored("candles", [("v", "A-B", MINUTE)]) == {
        ("v", "A-B", MINUTE): (one, nine, one, four, Decimal(0), None, "backfill", 1)
    }


def test_candle_opens_and_closes_by_time_then_by_id_as_a_number(
    writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    """Ids: digits as integers before all others by bytes, in one batch and across batches."""
    for trade_id in ("10", "a", "9", "B", "009", "é"):
        writer.write([log.batch(a_trade(trade_id, price=str(ord(trade_id[0]))))], refused)
    assert database.rows("SELECT open_id, close_id FROM market.candles") == [("009", "é")]
    together = [a_trade(trade_id, venue="w") for trade_id in ("10", "a", "9", "B", "009", "é")]
    writer.write([log.batch(*together)], refused)
    assert database.rows("SELECT DISTINCT open_id, close_id FROM market.candles") == [("009", "é")]


def poisons() -> dict[str, Trade]:
    return {
        "nul in the id": a_trade("a\0b"),
        "number out of range": a_trade(price="1" + "0" * 140_000),
        "no number": a_trade(size="much"),
        "half a surrogate": a_trade("\ud800"),
        "nul in the symbol": a_trade(symbol="A\0B"),
        "half a surrogate in the venue": a_trade(venue="\udfff"),
        "day before 2009": a_trade(event_time_us=1_000_000_000_000_000),
        "day after tomorrow": a_trade(event_time_us=NOW_US + 2 * DAY_US),
    }


@pytest.mark.parametrize("poison", poisons())
def test_poison_row_is_refused_and_its_neighbours_written(
    poison: str, writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    good = [a_trade(str(number), price=str(number)) for number in range(1, 8)]
    batch = log.batch(*good[:3], poisons()[poison], *good[3:])
    written = writer.write([batch], refused)
    assert refused.offsets == [3]
    assert refused.taken[0].partition == Partition("market.trades", 0)
    assert str(refused.taken[0].error).startswith("PostgreSQL: ")
    assert (written.refused, written.inserted["trades"], written.duplicates) == (1, 7, {})
    assert database.rows("SELECT count(*), sum(price), max(close_id) FROM market.trades, market.candles") == [
        (7, Decimal(28), "7")
    ]
    assert database.rows("SELECT max(next_offset) FROM pipeline.offsets") == [(8,)]


def test_poison_first_of_its_key_gives_way_to_the_next(
    writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    written = writer.write(
        [log.batch(*(a_trade(i, price=p) for i, p in [("1", "no"), ("1", "no"), ("1", "4"), ("1", "5"), ("2", "6")]))],
        refused,
    )
    assert refused.offsets == [0, 1]
    assert (written.inserted["trades"], written.duplicates) == (2, {"trades": 1})
    assert database.rows("SELECT price FROM market.trades ORDER BY 1") == [(Decimal(4),), (Decimal(6),)]
    assert database.rows("SELECT trades, open, close FROM market.candles") == [(2, Decimal(4), Decimal(6))]


def test_many_poison_rows_among_many_good_ones_are_all_found(
    writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    trades = [a_trade(str(n), size="?" if n % 7 == 0 else "1") for n in range(1, 300)]
    writer.write([log.batch(*trades)], refused)
    assert refused.offsets == [n - 1 for n in range(1, 300) if n % 7 == 0]
    assert database.rows("SELECT count(*), max(trades), max(volume) FROM market.trades, market.candles") == [
        (257, 257, Decimal(257))
    ]


def test_poison_among_duplicates_and_other_kinds_is_found(
    writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    writer.write([log.batch(a_trade("1"), a_trade("2"))], refused)
    writer.close()
    asset = AssetSnapshot(
        source="s", asset_id="a", symbol="A", name="A", price_usd="1", minute=MINUTE, received_time_us=NOW_US
    )
    poisoned = AssetSnapshot(
        source="s",
        asset_id="b",
        symbol="B",
        name="B",
        price_usd="1",
        minute=MINUTE,
        attributes={"text": "\0"},
        received_time_us=NOW_US,
    )
    trades = log.batch(a_trade("1"), a_trade("3", size="?"), a_trade("2"), a_trade("4"))
    written = writer.write([trades, log.batch(asset, poisoned)], refused)
    assert [(r.partition.topic, r.offset) for r in refused.taken] == [("market.trades", 3), ("market.assets", 1)]
    assert written.inserted == {"trades": 1, "assets": 1}
    assert written.duplicates == {"trades": 2}
    assert database.rows("SELECT trades FROM market.candles") == [(3,)]


def test_refuse_that_raises_leaves_nothing_written(writer: PostgresWriter, database: Database, log: Log) -> None:
    before = state_of(database)

    def refuse(_: object) -> None:
        raise TransientError("Kafka is away")

    batch = log.batch(a_trade("1"), a_trade("2", price="no"))
    with pytest.raises(TransientError, match="Kafka is away"):
        writer.write([batch], refuse)
    after = state_of(database)
    assert after.pop("instruments") != before.pop("instruments")  # the name alone, which the next attempt uses
    assert after == before
    refused = Refusals()
    assert writer.write([batch], refused).inserted == {"trades": 1, "candles": 1}
    assert refused.offsets == [1]


def test_batch_that_does_not_start_where_the_store_stands_changes_nothing(
    writer: PostgresWriter, make_writer: MakeWriter, database: Database, log: Log, refused: Refusals
) -> None:
    """A zombie: it read the same offsets, lost its partition, and wakes after its successor wrote."""
    successor, batch = make_writer(), log.batch(a_trade("1"), a_trade("2"))
    successor.write([batch], refused)
    before = state_of(database)
    zombie = Log().batch(a_trade("1"), a_trade("5"), a_trade("6"))
    with pytest.raises(LostPartitionError, match=r"market.trades partition 0 is stored up to 2, not 0"):
        writer.write([zombie], refused)
    other = Log({Partition("market.trades", 0): LogPosition("market.trades", TOPIC_ID, 0, 1)}).batch(a_trade("7"))
    with pytest.raises(LostPartitionError):
        writer.write([other, Log().batch(a_trade("8"), partition=1)], refused)
    assert state_of(database) == before


def test_zombie_that_meets_its_successor_in_mid_transaction_waits_and_loses(
    make_writer: MakeWriter, database: Database, log: Log, refused: Refusals
) -> None:
    """Both stand at offset 0; the successor's rows are loaded but not committed when the zombie begins."""
    steps_of_zombie: list[int] = []
    zombie = make_writer(step=steps_of_zombie.append)
    waiting: list[Future[object]] = []

    def meanwhile(step: int) -> None:
        if step == 5:
            waiting.append(pool.submit(zombie.write, [Log().batch(a_trade("1", price="9"))], refused))
            until(lambda: database.rows("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'") != [])
            assert steps_of_zombie == [1, 2]

    with ThreadPoolExecutor(1) as pool:
        make_writer(step=meanwhile).write([log.batch(a_trade("1"))], refused)
        with pytest.raises(LostPartitionError):
            waiting[0].result(timeout=20)
    assert steps_of_zombie == [1, 2]
    assert database.rows("SELECT price FROM market.trades") == [(Decimal("58012.31"),)]


def test_sink_frozen_in_the_middle_of_a_copy_does_not_keep_its_successor_waiting(
    make_writer: MakeWriter, database: Database, log: Log, refused: Refusals
) -> None:
    """No time-out of the server's ends a COPY whose client says nothing; its locks are the successor's business."""
    batch = log.batch(a_trade("1"))
    refusals: list[str] = []
    with psycopg.connect(database.sink, application_name="coinstream sink") as frozen, frozen.cursor() as cursor:
        frozen.execute("SELECT FROM pipeline.offsets FOR UPDATE")
        copy = cursor.copy(TRADES.copy)
        copying = copy.__enter__()
        copying.write(b"1\t2")
        successor = make_writer(frozen_s=1.5)

        def is_written() -> bool:
            try:
                return successor.write([batch], refused).inserted["trades"] == 1
            except TransientError as error:
                refusals.append(str(error))
                return False

        until(is_written)
        with pytest.raises(psycopg.OperationalError, match="terminating connection"):
            copy.__exit__(None, None, None)
    assert refusals
    assert all("lock timeout" in why for why in refusals)


def test_sink_at_work_is_not_taken_for_a_frozen_one(
    make_writer: MakeWriter, database: Database, log: Log, refused: Refusals
) -> None:
    batch = log.batch(a_trade("1"))
    with psycopg.connect(database.sink, application_name="coinstream sink") as working:
        working.execute("SELECT FROM pipeline.offsets FOR UPDATE")
        with pytest.raises(TransientError, match="lock timeout"):
            make_writer(frozen_s=3).write([batch], refused)
        assert working.execute("SELECT 1").fetchone() == (1,)


def test_topic_that_was_made_again_starts_at_its_own_beginning(
    writer: PostgresWriter, reader: PostgresReader, log: Log, refused: Refusals
) -> None:
    writer.write([log.batch(a_trade("1"), a_trade("2"))], refused)
    partition = Partition("market.trades", 0)
    fresh = LogPosition("market.trades", "second", 0, 0)
    assert writer.positions([fresh]) == {partition: fresh}
    again = Log({partition: fresh}).batch(a_trade("1"), a_trade("3"))
    moved = LogPosition("market.trades", "second", 0, 2)
    batch = type(again)((Trade,), fresh, moved, again.messages, again.offsets, again.timestamps_ms)
    assert writer.write([batch], refused).inserted == {"trades": 1}
    assert reader.positions("postgresql")[partition] == moved


def test_groups_stand_apart(make_writer: MakeWriter, reader: PostgresReader, log: Log, refused: Refusals) -> None:
    other = make_writer(group="other")
    open_positions(other, [Trade], 1)
    other.write([log.batch(a_trade())], refused)
    at = {
        group: reader.positions(group)[Partition("market.trades", 0)].next_offset for group in ("postgresql", "other")
    }
    assert at == {"postgresql": 0, "other": 1}


@pytest.mark.parametrize("step", [2, 3, 4, 5, 6])
def test_connection_cut_in_mid_write_is_transient_and_the_retry_writes_once(
    step: int, database: Database, make_writer: MakeWriter, log: Log, refused: Refusals
) -> None:
    cut: list[int] = []

    def cutting(number: int) -> None:
        if number == step and not cut:
            cut.append(number)
            database.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE application_name = 'coinstream sink' AND datname = current_database()"
            )

    writer = make_writer(step=cutting)
    batch = log.batch(a_trade("1", price="5"), a_trade("2", price="6"))
    writer.positions([batch.start])
    with pytest.raises(TransientError):
        writer.write([batch], refused)
    assert writer.positions([batch.start])[batch.partition].next_offset == 0
    writer.write([batch], refused)
    assert database.rows("SELECT trades, volume FROM market.candles") == [(2, Decimal(1))]


def test_idle_writer_notices_a_dead_connection_and_comes_back(writer: PostgresWriter, database: Database) -> None:
    writer.touch()
    database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'coinstream sink' AND datname = current_database()"
    )
    with pytest.raises(TransientError):
        writer.touch()
    writer.touch()


def test_day_dropped_behind_the_writers_back_is_transient_not_refused(
    writer: PostgresWriter, database: Database, log: Log, refused: Refusals
) -> None:
    writer.write([log.batch(a_trade("1"))], refused)
    database.execute("DROP TABLE market.trades_20231114")
    batch = log.batch(a_trade("2"))
    with pytest.raises(TransientError, match="day was dropped"):
        writer.write([batch], refused)
    writer.write([batch], refused)
    assert refused.taken == []
    assert database.rows("SELECT trade_id FROM market.trades") == [("2",)]


def test_unmigrated_database_is_fatal_and_says_what_to_run(database: Database, writer: PostgresWriter) -> None:
    database.execute("UPDATE pipeline.schema_version SET version_num = '0000'")
    with pytest.raises(FatalError, match="run: coinstream stores migrate"):
        writer.touch()
    database.execute("UPDATE pipeline.schema_version SET version_num = '9999'")
    with pytest.raises(FatalError, match="newer than this program"):
        writer.touch()
    database.execute("DROP SCHEMA pipeline CASCADE")
    with pytest.raises(FatalError, match="run: coinstream stores migrate"):
        writer.touch()


def test_table_that_is_gone_is_fatal(writer: PostgresWriter, database: Database, log: Log, refused: Refusals) -> None:
    database.execute("DROP TABLE market.candles CASCADE")
    with pytest.raises(FatalError, match="run: coinstream stores migrate"):
        writer.write([log.batch(a_trade())], refused)


def test_wrong_password_and_unknown_database_are_fatal(database: Database) -> None:
    for change in ({"password": "wrong"}, {"dbname": "nowhere"}):
        dsn = psycopg.conninfo.make_conninfo(database.sink, **change)
        with pytest.raises(FatalError, match="PostgreSQL refuses the connection"):
            PostgresWriter(dsn, clock_us=lambda: NOW_US).touch()


def test_server_that_is_away_is_transient() -> None:
    with pytest.raises(TransientError):
        PostgresWriter("host=127.0.0.1 port=1 dbname=x user=x", clock_us=lambda: NOW_US).touch()


def test_nothing_to_write_writes_nothing_and_an_empty_batch_moves_its_position(
    writer: PostgresWriter, reader: PostgresReader, log: Log, refused: Refusals
) -> None:
    assert writer.write([], refused).inserted == {}
    empty = log.batch(kind=Quote)
    beyond = LogPosition("market.quotes", TOPIC_ID, 0, 9)  # all that was there did not decode
    writer.write([type(empty)((Quote,), empty.start, beyond, [], [], [])], refused)
    assert reader.positions("postgresql")[Partition("market.quotes", 0)] == beyond


def test_large_batch_of_several_instruments_and_days_is_exact(
    writer: PostgresWriter, reader: PostgresReader, log: Log, refused: Refusals
) -> None:
    trades = [
        a_trade(str(n), symbol=f"S{n % 7}-USD", price=f"{n + 1}.5", event_time_us=NOW_US - n * 10_000_000)
        for n in range(20_000)
    ]
    written = writer.write([log.batch(*trades)], refused)
    assert written.inserted["trades"] == 20_000
    minutes = {(t.venue, t.symbol, t.event_time_us - t.event_time_us % 60_000_000) for t in trades}
    assert reader.candle_disagreements(minutes) == {}
    assert reader.counts()["candles"] == len(minutes)
