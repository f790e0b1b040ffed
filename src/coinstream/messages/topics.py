"""The table of topics: names, keys, partitions, retention, and what each carries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from coinstream.messages.market import (
    AssetSnapshot,
    BookSnapshot,
    Candle,
    Coverage,
    Instrument,
    Message,
    Quote,
    Trade,
)

DAY_MS = 86_400_000
DEAD_LETTERS = ".dead-letters"
FRAMES = "market.frames"
"""Not a topic: the name before ``.dead-letters`` for what no adapter could read."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as the cluster must have it.

    Attributes:
        carries: The type of its messages; ``None`` for dead letters, which are bytes.
        retention_ms: How long a record is kept by its Kafka timestamp; ``None``: as long as its key
            has no newer one (compacted).
    """

    name: str
    carries: type[Message] | None
    partitions: int
    retention_ms: int | None

    @property
    def is_compacted(self) -> bool:
        """Whether the topic keeps the last record of each key instead of a span of time."""
        return self.retention_ms is None

    @property
    def dead_letters(self) -> str:
        """The topic that takes this one's dead letters."""
        return self.name + DEAD_LETTERS


MARKET_TOPICS: tuple[Topic, ...] = (
    Topic("market.trades", Trade, 12, 7 * DAY_MS),
    Topic("market.quotes", Quote, 12, DAY_MS),
    Topic("market.books", BookSnapshot, 12, DAY_MS),
    Topic("market.candles", Candle, 12, 7 * DAY_MS),
    Topic("market.instruments", Instrument, 12, None),
    Topic("market.assets", AssetSnapshot, 6, 30 * DAY_MS),
    Topic("market.coverage", Coverage, 6, 30 * DAY_MS),
)

TOPICS: tuple[Topic, ...] = (
    *MARKET_TOPICS,
    *(Topic(name + DEAD_LETTERS, None, 3, 30 * DAY_MS) for name in (FRAMES, *(topic.name for topic in MARKET_TOPICS))),
)

BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
TOPIC_OF: dict[type[Any], Topic] = {topic.carries: topic for topic in MARKET_TOPICS if topic.carries}

_keys: dict[type[Any], Callable[[Any], str]] = dict.fromkeys(
    (Instrument, Trade, Quote, BookSnapshot, Candle, Coverage), lambda m: f"{m.venue}:{m.symbol}"
) | {AssetSnapshot: lambda m: f"{m.source}:{m.asset_id}"}


def key_of(message: Message) -> str:
    """Return the record key of a message: what is in order with what."""
    return _keys[type(message)](message)
