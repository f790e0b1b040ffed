"""What operations and analysts read."""

from __future__ import annotations

from decimal import Decimal

import pytest

from coinstream.errors import FatalError, TransientError
from coinstream.messages import Candle, Coverage, LogPosition, Partition, Quote, Trade
from coinstream.messages.times import MINUTE_US, day_of
from coinstream.stores.postgres.read import PostgresReader
from coinstream.stores.postgres.write import PostgresWriter
from postgres_database import NOW_US, Database, Log, Refusals, a_trade, open_positions, reader_of

MINUTE = NOW_US - NOW_US % MINUTE_US


@pytest.fixture
def log(writer: PostgresWriter) -> Log:
    open_positions(writer, [Trade, Quote, Candle, Coverage])
    return Log()


def test_held_snapshot_sees_only_what_was_there(writer: PostgresWriter, reader: PostgresReader, log: Log) -> None:
    old, new = a_trade("old"), a_trade("new")
    keys = {("coinbase", "BTC-USD", trade.trade_id, day_of(NOW_US)) for trade in (old, new)}
    writer.write([log.batch(old)], Refusals())
    with reader.hold_snapshot() as snapshot:
        writer.write([log.batch(new)], Refusals())
        assert {key[2] for key in snapshot.existing("trades", keys)} == {"old"}
        assert snapshot.existing("instruments", [("coinbase", "BTC-USD"), ("x", "y")]) == {("coinbase", "BTC-USD")}
        assert reader.existing("trades", keys) == keys
        assert snapshot.counts()["trades"] == 1
    assert reader.counts() == {
        "instruments": 1,
        "trades": 2,
        "quotes": 0,
        "book_snapshots": 0,
        "candles": 1,
        "assets": 0,
        "coverage": 0,
    }


def test_many_keys_are_found_in_pieces(writer: PostgresWriter, reader: PostgresReader, log: Log) -> None:
    trades = [a_trade(f"m{n}", price=str(n + 1)) for n in range(25_000)]
    writer.write([log.batch(*trades)], Refusals())
    keys = [("coinbase", "BTC-USD", f"m{n}", day_of(NOW_US)) for n in range(0, 50_000, 2)]
    stored = reader.stored("trades", keys)
    assert len(stored) == 12_500
    assert all(value.price == int(key[2][1:]) + 1 for key, value in stored.items())


def test_row_that_stands_twice_is_counted_twice(
    writer: PostgresWriter, reader: PostgresReader, database: Database, log: Log
) -> None:
    """The key forbids it; the comparison must see it even so."""
    writer.write([log.batch(a_trade("1"))], Refusals())
    database.execute("ALTER TABLE market.trades DROP CONSTRAINT trades_pkey")
    database.execute("INSERT INTO market.trades SELECT * FROM market.trades")
    key = ("coinbase", "BTC-USD", "1", day_of(NOW_US))
    assert reader.stored("trades", [key])[key].rows == 2


def test_reader_comes_back_after_its_connection_was_cut(reader: PostgresReader, database: Database) -> None:
    assert reader.positions("nobody") == {}
    database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE application_name = 'coinstream reader' AND datname = current_database()"
    )
    with pytest.raises(TransientError):
        reader.positions("nobody")
    assert reader.positions("nobody") == {}


def test_reader_of_an_unmigrated_database_says_what_to_run(database: Database) -> None:
    database.execute("DROP SCHEMA pipeline CASCADE")
    with pytest.raises(FatalError, match="run: coinstream stores migrate"):
        reader_of(database).counts()


def test_positions_are_those_of_the_group(writer: PostgresWriter, reader: PostgresReader, log: Log) -> None:
    writer.write([log.batch(a_trade(), a_trade())], Refusals())
    positions = reader.positions("postgresql")
    assert len(positions) == 8
    assert positions[Partition("market.trades", 0)] == LogPosition("market.trades", "first", 0, 2)
    assert positions[Partition("market.trades", 1)].next_offset == 0


def _candle(close: str, minute: int) -> Candle:
    numbers = {"open": "1", "high": "999999", "low": "1", "close": close, "volume": "5"}
    return Candle(venue="coinbase", symbol="BTC-USD", minute=minute, **numbers, provenance="backfill")


def _coverage(status: str, minute: int) -> Coverage:
    name = {"venue": "coinbase", "symbol": "BTC-USD", "channel": "trades"}
    return Coverage(**name, minute=minute, status=status, messages=1)


def test_candle_view_prefers_our_trades_only_where_they_are_complete(
    writer: PostgresWriter, database: Database, log: Log
) -> None:
    minutes = [MINUTE + n * MINUTE_US for n in range(-6, 1)]
    traded = [a_trade(str(n), price="7", event_time_us=minutes[n]) for n in (0, 1, 2, 3, 5)]
    venue = [_candle("8", minutes[n]) for n in (0, 1, 2, 3, 4)]
    states = {0: "complete", 1: "backfilled", 2: "gap", 4: "complete", 5: "disconnected"}
    coverage = [_coverage(status, minutes[n]) for n, status in states.items()]
    writer.write([log.batch(*traded), log.batch(*venue), log.batch(*coverage)], Refusals())
    assert database.rows("SELECT close, origin, coverage FROM market.candles_1m ORDER BY minute") == [
        (Decimal(7), "trades", "complete"),
        (Decimal(7), "trades", "backfilled"),
        (Decimal(8), "venue", "gap"),
        (Decimal(8), "venue", "unknown"),
        (Decimal(8), "venue", "complete"),
        (Decimal(7), "trades", "disconnected"),
    ]


def test_coarser_candles_are_made_of_minutes(writer: PostgresWriter, database: Database, log: Log) -> None:
    hour = NOW_US - NOW_US % 3_600_000_000
    at = {"1": 0, "2": 59, "3": 61, "4": 299, "5": 300, "6": 899}
    prices = {"1": "5", "2": "9", "3": "2", "4": "6", "5": "7", "6": "8"}
    trades = [
        a_trade(trade_id, price=prices[trade_id], size="0.1", event_time_us=hour + second * 1_000_000)
        for trade_id, second in at.items()
    ]
    writer.write([log.batch(*trades), log.batch(_coverage("complete", hour))], Refusals())
    columns = "open, high, low, close, volume, trades, minutes_traded, minutes_complete"
    five, tenth = map(Decimal, ("5", "0.1"))
    assert database.rows(f"SELECT {columns} FROM market.candles_5m ORDER BY start") == [
        (five, Decimal(9), Decimal(2), Decimal(6), 4 * tenth, 4, 3, 1),
        (Decimal(7), Decimal(7), Decimal(7), Decimal(7), tenth, 1, 1, 0),
        (Decimal(8), Decimal(8), Decimal(8), Decimal(8), tenth, 1, 1, 0),
    ]
    for view in ("15m", "1h", "1d"):
        assert database.rows(f"SELECT {columns} FROM market.candles_{view}") == [
            (five, Decimal(9), Decimal(2), Decimal(8), 6 * tenth, 6, 5, 1)
        ]


def test_named_views_spell_everything_out(writer: PostgresWriter, database: Database, log: Log) -> None:
    quote = Quote(venue="v", symbol="A-B", bid="1.50", ask="2", received_time_us=NOW_US)
    writer.write([log.batch(a_trade("1", aggressor_side="sell", provenance="simulated")), log.batch(quote)], Refusals())
    assert database.rows("SELECT venue, symbol, aggressor_side, provenance FROM market.named_trades") == [
        ("coinbase", "BTC-USD", "sell", "simulated")
    ]
    assert database.rows("SELECT symbol, bid::text, bid_size, sequence FROM market.named_quotes") == [
        ("A-B", "1.50", None, None)
    ]
    assert database.rows("SELECT count(*) FROM market.named_book_snapshots") == [(0,)]


def test_every_table_and_column_of_the_market_says_what_it_is(database: Database) -> None:
    obvious = {"venue", "base", "quote", "channel", "symbol", "name", "rank", "source", "status", "consumer_group"}
    obvious |= {"topic", "partition", "stored_time"}
    rows = database.rows(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
        "WHERE c.relnamespace IN ('market'::regnamespace, 'pipeline'::regnamespace) AND c.relkind IN ('r', 'p') "
        "AND NOT c.relispartition AND c.relname <> 'schema_version' AND a.attnum > 0 "
        "AND col_description(c.oid, a.attnum) IS NULL"
    )
    assert {column for _, column in rows} <= obvious


def test_trade_is_found_by_its_id_alone_with_the_time_of_its_commit(
    writer: PostgresWriter, reader: PostgresReader, log: Log, database: Database
) -> None:
    ((before,),) = database.rows("SELECT (extract(epoch FROM now()) * 1000000)::bigint")
    writer.write([log.batch(a_trade("1002"), a_trade("1003"))], Refusals())
    (row,) = reader.trade("coinbase", "BTC-USD", "1002")
    assert (row.price, row.size, row.aggressor_side) == (Decimal("58012.31"), Decimal("0.5"), "buy")
    assert (row.event_time_us, row.received_time_us, row.day) == (NOW_US, NOW_US + 50_123, day_of(NOW_US))
    ((tracked, now),) = database.rows(
        "SELECT current_setting('track_commit_timestamp'), (extract(epoch FROM now()) * 1000000)::bigint"
    )
    if tracked == "on":
        assert row.committed_time_us is not None
        assert before <= row.committed_time_us <= now
    else:
        assert row.committed_time_us is None
    assert reader.trade("coinbase", "ETH-USD", "1002") == []


def test_neighbours_of_an_absent_id_are_the_nearest_of_its_length(
    writer: PostgresWriter, reader: PostgresReader, log: Log
) -> None:
    ids = ("999", "1001", "1002", "1005", "10000")
    writer.write([log.batch(*(a_trade(it, event_time_us=NOW_US + int(it)) for it in ids))], Refusals())
    assert reader.neighbours("coinbase", "BTC-USD", "1003") == [("1002", NOW_US + 1002), ("1005", NOW_US + 1005)]
    assert reader.neighbours("coinbase", "BTC-USD", "1000") == [("1001", NOW_US + 1001)]
    assert reader.neighbours("coinbase", "ETH-USD", "1003") == []


def test_rows_of_any_table_are_tallied_by_columns(database: Database, reader: PostgresReader) -> None:
    database.execute("CREATE TABLE public.theirs (symbol text, number int)")
    database.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
    database.execute("GRANT SELECT ON public.theirs TO PUBLIC")
    database.execute("INSERT INTO public.theirs VALUES ('a', 1), ('a', 1), ('b', 2)")
    assert reader.tally("public.theirs", ("symbol", "number")) == {("a", "1"): 2, ("b", "2"): 1}
    with pytest.raises(FatalError):
        reader.tally("public.nobodys", ("symbol",))
