"""Messages and batches for the tests of MongoDB."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coinstream.messages import (
    TOPIC_OF,
    AssetSnapshot,
    BookSnapshot,
    DecodedBatch,
    Instrument,
    LogPosition,
    Message,
    Quote,
    Trade,
)

TIME_US = 1_795_488_019_000_123
MINUTE_US = 1_795_488_000_000_000
RECORD_MS = 1_795_488_020_456
"""The records' Kafka timestamp, later than the messages' own times."""
TOPIC_ID = "Wz9mX1l2QnO0b9v9r5c1dA"


def trade(trade_id: str = "1", *, event_time_us: int = TIME_US, **fields: Any) -> Trade:
    given = {
        "venue": "coinbase",
        "symbol": "BTC-USD",
        "price": "58012.310",
        "size": "0.01",
        "aggressor_side": "buy",
        "received_time_us": TIME_US + 5,
        "provenance": "live",
    }
    return Trade(**(given | fields), trade_id=trade_id, event_time_us=event_time_us)


def instrument(**fields: Any) -> Instrument:
    given = {
        "venue": "coinbase",
        "symbol": "BTC-USD",
        "venue_symbol": "BTC-USD",
        "base": "BTC",
        "quote": "USD",
        "tick_size": "0.010",
        "status": "online",
        "received_time_us": TIME_US,
    }
    return Instrument(**(given | fields))


def quote(**fields: Any) -> Quote:
    given = {
        "venue": "coinbase",
        "symbol": "BTC-USD",
        "bid": "58012.30",
        "ask": "58012.31",
        "received_time_us": TIME_US,
    }
    return Quote(**(given | fields))


def book(**fields: Any) -> BookSnapshot:
    given = {
        "venue": "coinbase",
        "symbol": "BTC-USD",
        "bids": (("58012.30", "1.50"), ("58012.29", "0.000000000000000001")),
        "asks": (("58012.31", "2"),),
        "received_time_us": TIME_US,
    }
    return BookSnapshot(**(given | fields))


def asset(**fields: Any) -> AssetSnapshot:
    given = {
        "source": "coinpaprika",
        "asset_id": "btc-bitcoin",
        "symbol": "BTC",
        "name": "Bitcoin",
        "price_usd": "58012.30",
        "minute": MINUTE_US,
        "received_time_us": TIME_US,
    }
    return AssetSnapshot(**(given | fields))


def batch(
    kind: type[Message],
    messages: Sequence[Message],
    *,
    start: int = 0,
    partition: int = 3,
    record_ms: int = RECORD_MS,
    topic_id: str = TOPIC_ID,
) -> DecodedBatch:
    """Messages of one partition at consecutive offsets from ``start``."""
    topic = "test." + TOPIC_OF[kind].name
    offsets = list(range(start, start + len(messages)))
    return DecodedBatch(
        (kind,),
        LogPosition(topic, topic_id, partition, start),
        LogPosition(topic, topic_id, partition, start + len(messages)),
        messages,
        offsets,
        [record_ms] * len(messages),
    )


def none_refused(refused: Sequence[Any]) -> None:
    raise AssertionError(f"refused: {refused}")
