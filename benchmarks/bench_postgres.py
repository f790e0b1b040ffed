"""The PostgreSQL sink, one worker, against the server's own COPY of the same rows into the same table.

Ours is the whole process: from the group's giving it the partitions until the last batch is
committed, with the rows' candles and the offsets in every transaction. The ceiling is one COPY of a
file on the server's own disk, whose rows stand in the order in which the sink wrote them.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg import sql

from benchmarks import market
from benchmarks.load import watching
from benchmarks.report import Cost, Figure, Result, Target, paragraphs
from benchmarks.rounds import Part
from benchmarks.servers import Bench
from benchmarks.worker import serve
from coinstream.cli.processes import tune_for_batches
from coinstream.cli.servers import tell
from coinstream.sink import POSTGRES_GROUP
from coinstream.stores.postgres.tables import TRADES

SECONDS = 9_000
PREFIX = "bench.postgres."
TIMEOUT_S = 120.0


def run(bench: Bench) -> Result:
    """Measure sink and COPY in turn."""
    table = Table(bench)
    rows = fill_log(bench)
    # The first run fills the table that the file is written from; it also makes the days.
    sink_part(bench, table, rows)
    table.write_file()
    candles = table.count("market.candles")
    measured = bench.measure({"sink": lambda: sink_part(bench, table, rows), "copy": lambda: table.copy_part(rows)})
    ours, ceiling = measured.rate("sink"), measured.rate("copy")
    cost = {name: measured.cpu_us("sink", name) for name in measured.processes("sink")}
    table.close()
    return Result(
        "postgres",
        "Trades to PostgreSQL",
        [
            Figure(
                "PostgreSQL sink, one worker, candles and offsets included",
                "of the server's own COPY",
                measured.ratio("sink", "copy"),
                Target(0.45, at_least=True),
                f"{ours.median:,.0f} rows/s against {ceiling.median:,.0f}",
            ),
            Figure("PostgreSQL sink, its own process, CPU a row", "µs", cost["ours"], Target(3.5, at_least=False)),
        ],
        [
            Cost("PostgreSQL sink", "row", cost),
            Cost("the server's own COPY", "row", {"server": measured.cpu_us("copy", "server")}),
        ],
        paragraphs(
            f"""
            {rows:,} trades of ten symbols ({candles:,} candles) stand in Kafka before the sink starts.
            Measured from the last empty fetch to the last commit, so the first questions for positions
            and the first fetch count and the start of the process does not. `synchronous_commit` is off
            for both, as the sink sets it: its offsets are in the same transactions. Before each part the
            tables are emptied and a checkpoint is made.

            The COPY reads a file of the same rows in the order in which the sink stored them, into the
            same partitioned table with its key, in one transaction, no client but the one that asks for
            it.

            What held it back when this was written: one thread does all but the library's fetching. The
            server does not wait for it to fetch and decode any more, nor it for the server: behind a full
            batch it prepares the next while the server is at the rows. Each step, measured by hand inside
            the running sink and not by this run, in µs a row of that thread's CPU: taking records from
            the library 0.33 and making columns of them 0.2; decoding JSON and checking digits 0.45; lines of
            COPY text 0.8 and their check 0.1; candles 0.4; grouping 0.18; repeats 0.2; positions and
            candles sent 0.15. The library's own threads are not in these. Lines are the largest part left.
            """
        ),
        measured,
    )


def fill_log(bench: Bench, *, prefix: str = PREFIX, seconds: int = SECONDS) -> int:
    """Publish a market's trades; return how many."""
    from coinstream.kafka import Producer

    bench.topics(prefix)
    producer = Producer(bench.found.kafka_bootstrap, client_id="bench-fill", topic_prefix=prefix)
    trades = market.trades(seconds=seconds)
    for place, trade in enumerate(trades):
        producer.publish(trade)
        if place % 1000 == 0:
            producer.serve()
    producer.flush(60)
    producer.close()
    tell(f"  {len(trades):,} trades in Kafka")
    return len(trades)


class Table:
    """The table of trades, from the administrator's side."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._connection = psycopg.connect(bench.found.postgres_admin_url, autocommit=True)
        self._connection.execute("SET synchronous_commit = off")
        (folder,) = self._connection.execute("SELECT current_setting('data_directory')").fetchone() or ("",)
        self._file = f"{folder}/bench-trades.copy"

    def empty(self) -> None:
        """Forget all rows and positions, and have what is dirty written before anything is measured."""
        self._connection.execute("TRUNCATE market.trades, market.candles, pipeline.offsets")
        self._connection.execute("CHECKPOINT")

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        row = self._connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        return int(row[0]) if row else 0

    def write_file(self) -> None:
        """Write the rows to a file of the server's, in the order in which they stand in the table."""
        columns = sql.SQL(", ").join(map(sql.Identifier, TRADES.columns))
        query = sql.SQL("COPY (SELECT {} FROM market.trades ORDER BY tableoid, ctid) TO {}").format(columns, self._file)
        self._connection.execute(query)

    def copy_part(self, rows: int) -> Part:
        """Measure the server's own COPY of the file."""
        self.empty()
        columns = sql.SQL(", ").join(map(sql.Identifier, TRADES.columns))
        query = sql.SQL("COPY market.trades ({}) FROM {}").format(columns, self._file)
        with watching({"server": self._bench.pid("postgresql")}) as watched:
            began = time.perf_counter()
            copied = self._connection.execute(query).rowcount
            seconds = time.perf_counter() - began
        if copied != rows:
            raise AssertionError(f"{copied} rows were copied, not {rows}")
        return Part(rows, seconds, watched.cpu_s, watched.foreign_cores)

    def close(self) -> None:
        """Leave the tables empty for the next benchmark."""
        self.empty()
        self._connection.close()


def sink_part(bench: Bench, table: Table, rows: int, *, prefix: str = PREFIX) -> Part:
    """Measure one run of the sink over the whole log, and hold it to every row."""
    table.empty()
    arguments = {
        "url": bench.found.postgres_sink_url,
        "bootstrap": bench.found.kafka_bootstrap,
        "prefix": prefix,
        "rows": rows,
    }
    part = bench.child("benchmarks.bench_postgres", arguments, roles=["kafka", "postgresql"])
    stored = table.count("market.trades")
    if stored != rows:
        raise AssertionError(f"the sink of group {prefix}{POSTGRES_GROUP} stored {stored} rows, not {rows}")
    return part


def work(*, url: str, bootstrap: str, prefix: str, rows: int) -> dict[str, Any]:
    """Run the sink until the rows are stored; what it counts itself says how far it is."""
    from coinstream.sink import run_postgres_sink
    from coinstream.telemetry import INSERTED

    tune_for_batches()
    inserted = INSERTED.labels("postgresql", "trades")
    began_s = time.monotonic()
    start = end = (0.0, 0.0)

    def stop() -> bool:
        nonlocal start, end
        stored = sum(sample.value for metric in inserted.collect() for sample in metric.samples[:1])
        end = time.perf_counter(), time.process_time()
        if not stored:
            start = end
        return stored >= rows or time.monotonic() - began_s > TIMEOUT_S

    run_postgres_sink(url, stop, bootstrap=bootstrap, topic_prefix=prefix, session_timeout_ms=10_000)
    return {"units": rows, "seconds": end[0] - start[0], "cpu_s": end[1] - start[1]}


if __name__ == "__main__":
    serve(work)
