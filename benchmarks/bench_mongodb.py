"""The MongoDB sink's client: CPU of our process alone, for no rate of the local stand-in is MongoDB's.

Building and encoding is the store's own code that makes documents of a batch, and the driver's
encoder. The whole write adds the driver's bulk write, its sockets and the newest trade of each
instrument; the driver alone is its `insert_many` of documents that are ready.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from benchmarks import market
from benchmarks.report import Cost, Figure, Result, Target, paragraphs
from benchmarks.servers import Bench
from benchmarks.worker import Clock, serve
from coinstream.cli.processes import tune_for_batches

SECONDS = {"encode": 3_000, "slow": 1_500, "write": 500, "driver": 500}
"""Of the market's time; less where the stand-in's server takes part, which is slow."""
BATCH = 10_000


def run(bench: Bench) -> Result:
    """Measure the ways in turn."""

    def part(way: str) -> Any:
        arguments = {
            "way": way,
            "uri": bench.found.mongodb_sink_url,
            "admin": bench.found.mongodb_admin_url,
        }
        return lambda: bench.child("benchmarks.bench_mongodb", arguments, roles=["mongodb"])

    measured = bench.measure({way: part(way) for way in SECONDS})
    cost = {way: measured.cpu_us(way, "ours") for way in SECONDS}
    made, written = (measured.rounds[0].parts[way].units for way in ("encode", "write"))
    return Result(
        "mongodb",
        "Trades to MongoDB",
        [
            Figure(
                "MongoDB: build and encode a `trades` document with Decimal128, CPU",
                "µs",
                cost["encode"],
                Target(5, at_least=False),
                f"{cost['slow'].median:.1f} µs with pymongo's own `Decimal128(str)`",
            ),
            Figure(
                "MongoDB: the whole write of our process, CPU a document",
                "µs",
                cost["write"],
                None,
                f"{cost['driver'].median:.1f} µs for the driver's `insert_many` of ready documents",
            ),
        ],
        [
            Cost("MongoDB sink, build and encode", "document", {"ours": cost["encode"]}),
            Cost("MongoDB sink, whole write (stand-in's server)", "document", _both(measured, "write")),
            Cost("`insert_many` of ready documents (stand-in's server)", "document", _both(measured, "driver")),
        ],
        paragraphs(
            f"""
            {made:,} trades built and encoded, {written:,} written, in batches of {BATCH:,}. The local
            server is {bench.label("mongodb")}: it takes some thousands of documents a second, and neither
            that nor its CPU is a figure of MongoDB's, so only our client's CPU is held to a target. The
            writes wait for it; waiting is no CPU of ours.

            The last 65,536 numbers are remembered packed. The simulated prices repeat, the sizes hardly
            ever: a market of round sizes costs less.
            """
        ),
        measured,
    )


def _both(measured: Any, way: str) -> dict[str, Any]:
    return {name: measured.cpu_us(way, name) for name in ("ours", "server")}


def work(*, way: str, uri: str, admin: str) -> dict[str, Any]:
    """Take the trades once, one way or another."""
    import bson

    from coinstream.stores.mongodb import documents

    batches = _batches(SECONDS[way])
    gc.collect()  # what making the input left behind is none of the store's business
    tune_for_batches()
    units = sum(len(batch.messages) for batch in batches)
    if way == "encode":
        encode = bson.encode
        clock = Clock()
        for batch in batches:
            for document in documents.trade_documents(batch):
                encode(document)
        return clock.figures(units)
    if way == "slow":
        vars(documents)["decimal128"] = bson.decimal128.Decimal128  # the way not taken
        clock = Clock()
        for batch in batches:
            for document in documents.trade_documents(batch):
                bson.encode(document)
        return clock.figures(units)
    return _send(way, uri, admin, batches, units)


def _send(way: str, uri: str, admin: str, batches: list[Any], units: int) -> dict[str, Any]:
    import pymongo

    from coinstream.stores.mongodb import documents
    from coinstream.stores.mongodb.write import MongoWriter

    refused: list[Any] = []
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(admin)
    collection = client["coinstream"]["trades"]
    collection.delete_many({})
    if way == "write":
        writer = MongoWriter(uri)
        writer.touch()
        clock = Clock()
        for batch in batches:
            writer.write([batch], refused.extend)
        figures = clock.figures(units)
        writer.close()
    else:
        ready = [documents.trade_documents(batch) for batch in batches]
        collection.database.command("ping")
        clock = Clock()
        for some in ready:
            collection.insert_many(some, ordered=False)
        figures = clock.figures(units)
    stored = collection.count_documents({})
    client.close()
    if refused or stored != units:
        raise AssertionError(f"{stored} documents of {units} are stored, {len(refused)} were refused")
    return figures


def _batches(seconds: int) -> list[Any]:
    from coinstream.messages import DecodedBatch, LogPosition, Trade

    trades = market.trades(seconds=seconds)
    # The log's own times: a document of last year would be taken away while it is counted.
    now_ms, first_ms = time.time_ns() // 1_000_000, trades[0].received_time_us // 1000
    batches = []
    for first in range(0, len(trades), BATCH):
        some = trades[first : first + BATCH]
        offsets = list(range(first, first + len(some)))
        times_ms = [now_ms + trade.received_time_us // 1000 - first_ms for trade in some]
        ends = [LogPosition("market.trades", "bench", 0, at) for at in (first, first + len(some))]
        batches.append(DecodedBatch((Trade,), ends[0], ends[1], some, offsets, times_ms))
    return batches


if __name__ == "__main__":
    serve(work)
