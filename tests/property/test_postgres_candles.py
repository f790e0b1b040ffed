"""Any batches of trades, in any pieces, with any repeats and restarts: the candles are the trades' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinstream.market.candle import fold_candles
from coinstream.messages import LogPosition, Partition, Trade
from coinstream.messages.times import MINUTE_US
from coinstream.stores.postgres.read import PostgresReader
from coinstream.stores.postgres.write import PostgresWriter
from postgres_database import (
    NOW_US,
    Database,
    Log,
    Refusals,
    a_trade,
    migrated_database,
    reader_of,
    state_of,
    writer_of,
)

TOPIC = "market.trades"


@pytest.fixture(scope="module")
def database(postgres_admin_dsn: str) -> Iterator[Database]:
    with migrated_database(postgres_admin_dsn) as made:
        yield made


@pytest.fixture(scope="module")
def writer(database: Database) -> Iterator[PostgresWriter]:
    made = writer_of(database)
    yield made
    made.close()


@pytest.fixture(scope="module")
def reader(database: Database) -> Iterator[PostgresReader]:
    made = reader_of(database)
    yield made
    made.close()


TRADES = st.builds(
    a_trade,
    st.sampled_from(["1", "2", "9", "10", "010", "a", "A", "é", "t\tab", "b\\s"]),
    symbol=st.sampled_from(["A-B", "C-D"]),
    price=st.sampled_from(["1", "1.0", "2", "0.000000000000000001", "9999999999999999.999999999999999999"]),
    size=st.sampled_from(["1", "0.000000000000000001", "9999999999999999.999999999999999999"]),
    event_time_us=st.sampled_from([NOW_US, NOW_US + 1, NOW_US - MINUTE_US, NOW_US - 1440 * MINUTE_US]),
)
WRITES = st.lists(st.tuples(st.lists(TRADES, min_size=1, max_size=8), st.booleans()), min_size=1, max_size=5)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(writes=WRITES)
def test_candles_are_the_sum_of_the_trades_stored(
    writes: list[tuple[list[Trade], bool]], writer: PostgresWriter, reader: PostgresReader, database: Database
) -> None:
    database.execute("TRUNCATE market.trades, market.candles, pipeline.offsets")
    writer.close()
    writer.positions([LogPosition(TOPIC, "first", 0, 0)])
    log, first_of_key, refused = Log(), {}, Refusals()
    for trades, forgets in writes:
        written = writer.write([log.batch(*trades)], refused)
        before = len(first_of_key)
        for trade in trades:
            first_of_key.setdefault((trade.symbol, trade.trade_id, trade.event_time_us // (1440 * MINUTE_US)), trade)
        assert written.inserted.get("trades", 0) == len(first_of_key) - before
        assert written.duplicates.get("trades", 0) == len(trades) - (len(first_of_key) - before)
        if forgets:
            writer.close()
    expected = fold_candles(first_of_key.values())
    stored = database.rows(
        "SELECT venue, symbol, (extract(epoch FROM minute) * 1000000)::bigint, open, high, low, close, volume, trades, "
        "(extract(epoch FROM open_time) * 1000000)::bigint, open_id, "
        "(extract(epoch FROM close_time) * 1000000)::bigint, close_id "
        "FROM market.candles c JOIN market.instruments i ON i.id = c.instrument_id"
    )
    assert {row[:3]: row[3:] for row in stored} == expected
    assert reader.candle_disagreements(expected) == {}
    assert refused.taken == []

    state = state_of(database)
    log.positions = {Partition(TOPIC, 0): log.positions[Partition(TOPIC, 0)]}
    for trades, _ in writes:  # the feed repeats all it ever said, under new offsets
        assert writer.write([log.batch(*trades)], refused).inserted == {}
    after = state_of(database)
    assert (after["trades"], after["candles"]) == (state["trades"], state["candles"])


def test_disagreement_is_seen(writer: PostgresWriter, reader: PostgresReader, database: Database) -> None:
    """The comparison itself can fail: a candle that was tampered with, one that is missing, one too many."""
    database.execute("TRUNCATE market.trades, market.candles, pipeline.offsets")
    writer.close()
    writer.positions([LogPosition(TOPIC, "first", 0, 0)])
    minutes = [NOW_US - NOW_US % MINUTE_US - n * MINUTE_US for n in range(3)]
    trades = [a_trade(str(n), event_time_us=minute, symbol="A-B") for n, minute in enumerate(minutes)]
    writer.write([Log().batch(*trades)], Refusals())
    keys = [("coinbase", "A-B", minute) for minute in minutes]
    assert reader.candle_disagreements(keys) == {}
    database.execute("UPDATE market.candles SET volume = volume + 0.000000000000000001 WHERE open_id = '0'")
    database.execute("DELETE FROM market.candles WHERE open_id = '1'")
    database.execute("DELETE FROM market.trades WHERE trade_id = '2'")
    found = reader.candle_disagreements(keys)
    assert set(found) == set(keys)
    assert [(pair.stored is None, pair.summed is None) for pair in (found[key] for key in keys)] == [
        (False, False),
        (True, False),
        (False, True),
    ]
