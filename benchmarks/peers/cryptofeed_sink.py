"""Cryptofeed's PostgreSQL backend, given trades in memory: no exchange, no Kafka, no decoding.

Its own queue and its own writer, filled by 10,000 trades at a time so that each of its inserts is as
large as a batch of ours. Its numbers are floats, as it hands them out by default. The table is the
one of its `examples/postgres_tables.sql`: an id of its own, no key of the trade, no partitions.
"""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from typing import Any

import asyncpg
from cryptofeed.backends.postgres import TradePostgres
from cryptofeed.types import Trade

from benchmarks.peers.own_process import serve

BATCH = 10_000
_table = """
CREATE TABLE {table} (
    id serial PRIMARY KEY, timestamp timestamp, receipt timestamp, exchange varchar(32), symbol varchar(32),
    side varchar(8), amount numeric(64, 32), price numeric(64, 32), trade_id varchar(64), order_type varchar(32)
)
"""


def work(*, rows: int, table: str, postgres: dict[str, Any]) -> dict[str, Any]:
    """Write so many trades, and say how long it took."""
    return asyncio.run(_work(rows, table, postgres))


async def _work(rows: int, table: str, postgres: dict[str, Any]) -> dict[str, Any]:
    connection = await asyncpg.connect(
        host=postgres["host"],
        port=postgres["port"],
        user=postgres["user"],
        password=postgres["password"],
        database=postgres["dbname"],
    )
    await connection.execute(f"DROP TABLE IF EXISTS {table}")
    await connection.execute(_table.format(table=table))
    backend = TradePostgres(
        host=postgres["host"],
        port=postgres["port"],
        user=postgres["user"],
        pw=postgres["password"],
        db=postgres["dbname"],
        table=table,
    )
    trades = [
        Trade(
            "COINBASE",
            "BTC-USD",
            "buy" if place % 2 else "sell",
            Decimal(f"0.{place % 9999 + 1:08}"),
            Decimal(f"{97_000 + place % 700}.{place % 100:02}"),
            1_760_000_000 + place / 100,
            id=str(1_000_000_000 + place),
        )
        for place in range(rows)
    ]
    await backend._connect()  # noqa: SLF001  # before the clock starts: it would connect at its first write
    backend.start(asyncio.get_running_loop())
    began = time.perf_counter(), time.process_time()
    for first in range(0, rows, BATCH):
        for trade in trades[first : first + BATCH]:
            await backend(trade, trade.timestamp)
        await backend.queue.join()
    ended = time.perf_counter(), time.process_time()
    await backend.stop()
    await backend.worker
    stored = await connection.fetchval(f"SELECT count(*) FROM {table}")
    await connection.execute(f"DROP TABLE {table}")
    await connection.close()
    if stored != rows:
        raise AssertionError(f"{stored} rows are stored, not {rows}")
    return {"units": rows, "seconds": ended[0] - began[0], "cpu_s": ended[1] - began[1]}


if __name__ == "__main__":
    serve(work)
