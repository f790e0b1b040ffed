"""`coinstream trace` finds what the sinks stored, and says where to look for what it does not find."""

from __future__ import annotations

import json
import time
from typing import Any

import pymongo
import pytest

from coinstream.kafka import end_offsets, read_range, start_offsets
from coinstream.messages import BY_NAME, Coverage, Trade, decode, minute_of
from pipeline import Pipeline, end

pytestmark = pytest.mark.slow

NOW_US = time.time_ns() // 1000
SYMBOL = "BTC-USD"
MISSED = "1003"


def trade(trade_id: str, symbol: str = SYMBOL) -> Trade:
    return Trade(
        venue="made_up",
        symbol=symbol,
        trade_id=trade_id,
        price="101.50",
        size="0.25",
        aggressor_side="sell",
        event_time_us=NOW_US - 40_000,
        received_time_us=NOW_US,
        provenance="live",
    )


def coverage(status: str) -> Coverage:
    return Coverage(
        venue="made_up",
        symbol=SYMBOL,
        channel="trades",
        minute=minute_of(NOW_US - 40_000),
        status=status,  # type: ignore[arg-type]
        messages=4,
    )


def places(pipeline: Pipeline) -> dict[tuple[str, str], dict[str, Any]]:
    """Where the log really has each trade, by symbol and id."""
    trades = [BY_NAME["market.trades"]]
    starts = start_offsets(pipeline.kafka, trades, topic_prefix=pipeline.prefix)
    ends = end_offsets(pipeline.kafka, trades, topic_prefix=pipeline.prefix)
    found = {}
    for batch in read_range(pipeline.kafka, starts, ends, topic_prefix=pipeline.prefix):
        for offset, time_ms, value in zip(batch.offsets, batch.timestamps_ms, batch.values, strict=True):
            message = decode(Trade, value or b"")
            place = {**batch.partition._asdict(), "offset": offset, "time_us": time_ms * 1000}
            found.setdefault((message.symbol, message.trade_id), place)
    return found


def traced(pipeline: Pipeline, trade_id: str, symbol: str = SYMBOL, *, status: int = 0) -> tuple[dict[str, Any], str]:
    done = pipeline.run("trace", "made_up", symbol, trade_id, "--json", status=status)
    found: dict[str, Any] = json.loads(done.stdout)
    return found, done.stderr


@pytest.mark.timeout(240)
def test_a_trade_is_followed_from_the_log_into_both_stores(pipeline: Pipeline) -> None:
    symbols = (SYMBOL, "ETH-USD", "SOL-USD", "XRP-USD")
    pipeline.publish([trade(trade_id, symbol) for trade_id in ("1001", "1002", "1004") for symbol in symbols])
    pipeline.publish([trade("1002"), coverage("gap")])
    sinks = [pipeline.start("sink", name) for name in ("postgres", "mongodb")]
    for store in ("postgresql", "mongodb"):
        pipeline.wait_until_stored(store)
    for sink in sinks:
        end(sink)
    where = places(pipeline)

    found, said = traced(pipeline, "1002")
    assert found["found"]
    assert found["kafka"] == where[SYMBOL, "1002"]
    (row,) = found["postgresql"]
    assert (row["price"], row["size"], row["aggressor_side"]) == ("101.50", "0.25", "sell")
    assert (found["mongodb"]["price"], found["mongodb"]["received_time_us"]) == ("101.50", NOW_US)
    steps = {step["name"]: step for step in found["steps"]}
    assert list(steps) == ["traded", "received", "produced", "visible in PostgreSQL", "visible in MongoDB"]
    assert steps["received"]["delay_us"] == 40_000
    assert steps["produced"]["time_us"] == where[SYMBOL, "1002"]["time_us"]
    committed_us = steps["visible in PostgreSQL"]["time_us"]
    assert steps["produced"]["time_us"] <= committed_us <= time.time_ns() // 1000
    assert steps["visible in PostgreSQL"]["delay_us"] == committed_us - steps["produced"]["time_us"]
    assert steps["visible in MongoDB"]["time_us"] is None
    assert said == ""
    table = pipeline.run("trace", "made_up", SYMBOL, "1002").stdout
    assert "sell 0.25 at 101.5" in table
    assert "unknown" in table

    # Without its document the record is found by a search of the key's partition, whichever that is.
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(pipeline.mongodb_admin)
    with client:
        client[pipeline.database]["trades"].delete_many({"trade_id": "1004"})
    for symbol in symbols:
        found, said = traced(pipeline, "1004", symbol)
        assert found["kafka"] == where[symbol, "1004"]
        assert found["mongodb"] is None
        assert "MongoDB does not have it" in said

    # In the log alone, for the sinks have ended.
    pipeline.publish([trade("1005")])
    found, said = traced(pipeline, "1005")
    assert found["kafka"] == places(pipeline)[SYMBOL, "1005"]
    assert found["postgresql"] == []
    assert "lag" in said

    found, said = traced(pipeline, MISSED, status=1)
    assert not found["found"]
    assert "between 1002 and 1004" in said
    assert "gap" in said
    _, said = traced(pipeline, "1", "DOGE-USD", status=1)
    assert "market.coverage" in said
