"""From a trade's receiving to its being visible in PostgreSQL, at 5,000 trades a second.

Four commands of this project as processes of their own: the simulated exchange, ingest, the sink, and
beside them a reader that asks PostgreSQL every few milliseconds how far the sink's committed offsets
are, as anybody else could. A trade is visible when a reader first sees an offset beyond it; the time
it was received stands in it.
"""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import psycopg

from benchmarks.bench_postgres import Table
from benchmarks.load import watching
from benchmarks.report import Cost, Figure, Result, Target, paragraphs
from benchmarks.rounds import Part
from benchmarks.servers import Bench
from coinstream.cli.servers import tell
from coinstream.cli.workers import Child
from coinstream.errors import FatalError
from coinstream.kafka import end_offsets, read_range
from coinstream.messages import TOPIC_OF, LogPosition, Partition, Trade, decode
from coinstream.simulator.products import PRODUCTS
from coinstream.stores.postgres.write import PostgresWriter

TRADES_PER_S = 5_000
EVENTS_PER_S = 6_500
"""Orders that come or go at the simulated exchange, of which each makes 0.8 trades."""
REACHED = 0.97
"""Of the trades a second that are wanted; less is no measurement."""
PREFIX = "bench.latency."
WARM_UP_S = 6.0
SECONDS = 12.0
POLL_S = 0.004
SETTLE_TIMEOUT_S = 20.0

_positions = "SELECT partition, next_offset FROM pipeline.offsets WHERE topic = %s"


def run(bench: Bench) -> Result:
    """Measure the way through all processes, again and again."""
    table = Table(bench)
    bench.topics(PREFIX)
    environment = {
        "COINSTREAM_DATA_FOLDER": str(bench.servers.folder),
        "COINSTREAM_TOPIC_PREFIX": PREFIX,
        "COINSTREAM_LOG_LEVEL": "warning",
        "COINSTREAM_SYMBOLS": ",".join(product.symbol for product in PRODUCTS),
        "COINSTREAM_KAFKA_BOOTSTRAP": bench.found.kafka_bootstrap,
        "COINSTREAM_POSTGRES_SINK_URL": bench.found.postgres_sink_url,
    }
    with ExitStack() as stack:
        table.empty()
        processes = _start(bench, environment, stack)
        tell(f"  {WARM_UP_S:g} s to warm up")
        time.sleep(WARM_UP_S)
        measured = bench.measure({"latency": lambda: _part(bench, processes)})
        commit = _sink_setting(bench)
    table.close()
    reached = measured.rate("latency").median
    if reached < REACHED * TRADES_PER_S:
        raise FatalError(
            f"the exchange made {reached:,.0f} trades/s, not {TRADES_PER_S:,}: this machine is too slow for it"
        )
    middle, longest = measured.value("latency", "p50_ms").median, measured.value("latency", "max_ms").greatest
    return Result(
        "latency",
        "From received to visible in PostgreSQL",
        [
            Figure(
                f"received to visible in PostgreSQL at {TRADES_PER_S:,} trades/s, p99, `synchronous_commit = {commit}`",
                "ms",
                measured.value("latency", "p99_ms"),
                Target(250, at_least=False),
                f"{reached:,.0f} trades/s; p50 {middle:.0f} ms, longest {longest:.0f} ms",
            )
        ],
        [
            Cost(
                "latency run: ingest of trades and quotes, sink beside it",
                "trade",
                {name: measured.cpu_us("latency", name) for name in measured.processes("latency")},
            )
        ],
        paragraphs(
            f"""
            `coinstream simulate exchange` ({EVENTS_PER_S:,} orders a second), `coinstream ingest` and
            `coinstream sink postgres` on the same two cores as the servers; *ours* is ingest and sink
            together. Books, quotes and trades all flow; trades are what is measured, every one of
            {SECONDS:g} seconds. The exchange sends the trades of 250 ms in one frame, as Coinbase
            documents it, so they come in bursts. Received is the time at which ingest got the frame;
            visible, when a reader that asks every {POLL_S * 1000:g} ms first saw the sink's offset beyond
            it. The sink gathers a batch for at most 50 ms.
            """
        ),
        measured,
    )


def _start(bench: Bench, environment: Mapping[str, str], stack: ExitStack) -> dict[str, Child]:
    """Start exchange, sink and ingest; they end with the stack."""
    log = bench.folder
    exchange = Child(
        "exchange",
        *("simulate", "exchange", "--rate", str(EVENTS_PER_S)),
        log_path=log / "exchange.log",
        environment=dict(environment),
        capture=True,
    )
    stack.callback(_end, exchange)
    addresses = json.loads(exchange.first_line())
    sink = Child("sink", "sink", "postgres", log_path=log / "sink.log", environment=dict(environment))
    stack.callback(_end, sink)
    ingest = Child(
        "ingest",
        *("ingest", "--simulated"),
        log_path=log / "ingest.log",
        environment={
            **environment,
            "COINSTREAM_COINBASE_WEBSOCKET_URL": addresses["websocket_url"],
            "COINSTREAM_COINBASE_REST_URL": addresses["http_url"],
        },
    )
    stack.callback(_end, ingest)
    return {"exchange": exchange, "sink": sink, "ingest": ingest}


def _end(child: Child) -> None:
    child.terminate()
    child.join()


def _part(bench: Bench, processes: Mapping[str, Child]) -> Part:
    """Watch the positions for a while, then look up every trade that passed meanwhile."""
    topic = PREFIX + "market.trades"
    pids = {name: child.pid for name, child in processes.items()}
    servers = {"broker": bench.pid("kafka"), "server": bench.pid("postgresql")}
    seen: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)  # of a partition: next offset, when first seen
    with psycopg.connect(bench.found.postgres_reader_url, autocommit=True) as reader:
        before: dict[int, int] = dict(reader.execute(_positions, [topic]).fetchall())
        first_us = time.time_ns() // 1000
        last_us = first_us + int(SECONDS * 1e6)
        deadline = time.monotonic() + SECONDS + SETTLE_TIMEOUT_S
        with watching(pids | servers) as watched:
            while time.time_ns() // 1000 < last_us:
                _look(reader, topic, seen)
        ends = end_offsets(bench.found.kafka_bootstrap, [TOPIC_OF[Trade]], topic_prefix=PREFIX)
        while any(not seen[it.partition] or seen[it.partition][-1][0] < end.next_offset for it, end in ends.items()):
            if time.monotonic() > deadline:
                raise FatalError("the sink does not keep up with the exchange")
            _look(reader, topic, seen)
    latencies_ms = sorted(
        (_visible_us(seen[partition], offset) - time_us) / 1000
        for partition, offset, time_us in _received(bench, before, ends)
        if first_us <= time_us < last_us
    )
    for child in processes.values():
        if not child.is_running():
            raise child.failure()
    cpu_s = dict(watched.cpu_s)
    ours_s = cpu_s.pop("ingest") + cpu_s.pop("sink")
    cpu_s.pop("exchange")
    return Part(
        units=len(latencies_ms),
        seconds=SECONDS,
        cpu_s={"ours": ours_s, **cpu_s},
        foreign_cores=watched.foreign_cores,
        values={
            "p50_ms": quantile(latencies_ms, 0.5),
            "p99_ms": quantile(latencies_ms, 0.99),
            "max_ms": latencies_ms[-1],
        },
    )


def _look(reader: psycopg.Connection[Any], topic: str, seen: Mapping[int, list[tuple[int, int]]]) -> None:
    rows = reader.execute(_positions, [topic]).fetchall()
    now_us = time.time_ns() // 1000  # after the answer: visible by then
    for partition, next_offset in rows:
        passed = seen[partition]
        if not passed or next_offset > passed[-1][0]:
            passed.append((next_offset, now_us))
    time.sleep(POLL_S)


def _visible_us(passed: Sequence[tuple[int, int]], offset: int) -> int:
    """Return when a position beyond an offset was first seen; the last that was seen is beyond it."""
    return passed[bisect_right(passed, (offset, 2**63))][1]


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of ascending values: the least that so great a share of them does not exceed.

    >>> quantile([1, 2, 3, 4], 0.5), quantile([1, 2, 3, 4], 0.99)
    (2, 4)
    """
    if not ordered:
        raise AssertionError("nothing was measured")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _received(
    bench: Bench, before: Mapping[int, int], ends: Mapping[Partition, LogPosition]
) -> Iterator[tuple[int, int, int]]:
    """Yield partition, offset and time of receiving of every trade from some positions on."""
    starts = {it: replace(end, next_offset=before.get(it.partition, 0)) for it, end in ends.items()}
    for batch in read_range(bench.found.kafka_bootstrap, starts, ends, topic_prefix=PREFIX):
        for offset, value in zip(batch.offsets, batch.values, strict=True):
            yield batch.start.partition, offset, decode(Trade, value or b"").received_time_us


def _sink_setting(bench: Bench) -> str:
    """Ask a connection as the sink opens it for its ``synchronous_commit``."""
    writer = PostgresWriter(bench.found.postgres_sink_url, group="bench", clock_us=lambda: time.time_ns() // 1000)
    connection = writer._connect()  # noqa: SLF001  # the very connection, settings and all
    try:
        row = connection.execute("SHOW synchronous_commit").fetchone()
    finally:
        connection.close()
    return str(row[0]) if row else ""
