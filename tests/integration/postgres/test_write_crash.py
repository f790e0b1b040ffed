"""A crash after any numbered step of a write, then a restart: the same rows and candles as without it."""

from __future__ import annotations

import pytest

from coinstream.messages import (
    AssetSnapshot,
    BookSnapshot,
    Candle,
    Coverage,
    DecodedBatch,
    Instrument,
    Quote,
    Trade,
)
from coinstream.messages.times import DAY_US
from coinstream.stores.postgres.write import PostgresWriter
from postgres_database import NOW_US, Database, Log, MakeWriter, Refusals, a_trade, open_positions, state_of

KINDS = (Instrument, Trade, Quote, BookSnapshot, Candle, AssetSnapshot, Coverage)
MINUTE = NOW_US - NOW_US % 60_000_000


class Crash(BaseException):
    """Stands in for SIGKILL: nothing of the process runs on."""


def batches() -> list[list[DecodedBatch]]:
    """Return two writes: every kind, repeats within and across them, a poison row, two days."""
    log, name, at = Log(), {"venue": "v", "symbol": "A-B"}, {"received_time_us": NOW_US}
    others = [
        Instrument(**name, venue_symbol="ab", base="A", quote="B", tick_size="0.01", **at),
        Quote(**name, bid="1", ask="2", **at),
        BookSnapshot(**name, bids=(("1", "2"),), asks=(("3", "4"),), **at),
        Candle(**name, minute=MINUTE, open="1", high="2", low="1", close="2", volume="9", provenance="backfill"),
        AssetSnapshot(source="s", asset_id="a", symbol="A", name="A", price_usd="1", minute=MINUTE, **at),
        Coverage(**name, channel="trades", minute=MINUTE, status="complete", messages=3),
    ]
    first = [a_trade(str(n), price=str(n), **name) for n in (1, 2, 3, 2)]
    second = [
        a_trade("3", price="99", **name),
        a_trade("4", size="bad", **name),
        a_trade("5", price="7", event_time_us=NOW_US - DAY_US, **name),
        a_trade("0", price="8", **name),
    ]
    return [
        [log.batch(*first), *(log.batch(message) for message in others)],
        [log.batch(*second), log.batch(a_trade("6", symbol="C-D"), partition=1), *(log.batch(m) for m in others)],
    ]


def undisturbed(make_writer: MakeWriter, database: Database) -> dict[str, list[tuple[object, ...]]]:
    writer = make_writer()
    open_positions(writer, KINDS)
    for some in batches():
        writer.write(some, Refusals())
    state = state_of(database)
    writer.close()
    database.execute(
        "TRUNCATE market.instruments, market.trades, market.quotes, market.book_snapshots, market.candles, "
        "market.assets, market.coverage, pipeline.offsets RESTART IDENTITY"
    )
    return state


@pytest.mark.parametrize("step", range(1, 9))
@pytest.mark.parametrize("crashed_write", [0, 1])
def test_crash_after_step_leaves_the_rows_of_an_undisturbed_run(
    step: int, crashed_write: int, make_writer: MakeWriter, database: Database
) -> None:
    expected = undisturbed(make_writer, database)
    assert [len(expected[table]) for table in ("trades", "candles", "quotes", "assets", "offsets")] == [6, 4, 1, 1, 14]
    writes, refused = batches(), Refusals()
    writer = make_writer()
    open_positions(writer, KINDS)
    for some in writes[:crashed_write]:
        writer.write(some, refused)

    def crash(number: int) -> None:
        if number == step:
            raise Crash

    doomed = make_writer(step=crash)
    doomed.touch()
    with pytest.raises(Crash):
        doomed.write(writes[crashed_write], refused)

    survivor = make_writer()
    for some in writes[crashed_write:]:
        stands = survivor.positions([batch.start for batch in some])
        is_stored = [stands[batch.partition] == batch.end for batch in some]
        assert all(is_stored) or not any(is_stored)
        assert all(is_stored) == (step >= 7 and some is writes[crashed_write])
        if not all(is_stored):
            survivor.write(some, refused)
    assert state_of(database) == expected
    assert set(refused.offsets) == {5}


def test_crash_while_the_next_batch_is_prepared_leaves_the_rows_of_an_undisturbed_run(
    make_writer: MakeWriter, database: Database
) -> None:
    expected = undisturbed(make_writer, database)
    writes, refused = batches(), Refusals()
    doomed = make_writer()
    open_positions(doomed, KINDS)

    def crash() -> None:
        assert state_of(database)["trades"] == []
        raise Crash

    with pytest.raises(Crash):
        doomed.write(writes[0], refused, crash)

    survivor = make_writer()
    for some in writes:
        stands = survivor.positions([batch.start for batch in some])
        assert all(stands[batch.partition] == batch.start for batch in some)
        survivor.write(some, refused)
    assert state_of(database) == expected


def test_caller_is_called_once_a_write_also_where_trades_are_loaded_again(
    writer: PostgresWriter, database: Database
) -> None:
    open_positions(writer, KINDS)
    calls: list[int] = []
    # The second write meets a key that is there, a row at fault, and the next best of that row's key.
    log, refused = Log(), Refusals()
    for trades in ([a_trade("1")], [a_trade("1", price="9"), a_trade("2", size="bad"), a_trade("2")]):
        writer.write([log.batch(*trades)], refused, lambda: calls.append(len(calls)))
    assert calls == [0, 1]
    assert database.rows("SELECT trade_id, price::text FROM market.trades ORDER BY trade_id") == [
        ("1", a_trade("1").price),
        ("2", a_trade("2").price),
    ]
