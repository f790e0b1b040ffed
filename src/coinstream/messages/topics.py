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
    MarketMessage,
    Quote,
    Trade,
)
from coinstream.messages.trading import COMMAND_KINDS, EVENT_KINDS, AccountState, TradingMessage

Message = MarketMessage | TradingMessage
"""Whatever a topic carries."""

DAY_MS = 86_400_000
FOR_EVER_MS = -1
DEAD_LETTERS = ".dead-letters"
FRAMES = "market.frames"
"""Not a topic: the name before ``.dead-letters`` for what no adapter could read."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic as the cluster must have it.

    Attributes:
        carries: The types of its messages, one in each topic of the market; where there are several, the
            field ``type`` tells them apart. None in dead letters, which are bytes.
        retention_ms: How long a record is kept by its Kafka timestamp, -1: for ever; ``None``: as long
            as its key has no newer one (compacted).
    """

    name: str
    carries: tuple[type[Message], ...]
    partitions: int
    retention_ms: int | None

    @property
    def is_compacted(self) -> bool:
        """Whether the topic keeps the last record of each key instead of a span of time."""
        return self.retention_ms is None

    @property
    def is_of_dead_letters(self) -> bool:
        """Whether its records are what could not be accepted, as bytes."""
        return not self.carries

    def carries_only(self, kinds: frozenset[type[Message]]) -> bool:
        """Whether it carries messages, and each of them is of one of these types."""
        return bool(self.carries) and kinds.issuperset(self.carries)

    @property
    def dead_letters(self) -> str:
        """The topic that takes this one's dead letters."""
        return self.name + DEAD_LETTERS


MARKET_TOPICS: tuple[Topic, ...] = (
    Topic("market.trades", (Trade,), 12, 7 * DAY_MS),
    Topic("market.quotes", (Quote,), 12, DAY_MS),
    Topic("market.books", (BookSnapshot,), 12, DAY_MS),
    Topic("market.candles", (Candle,), 12, 7 * DAY_MS),
    Topic("market.instruments", (Instrument,), 12, None),
    Topic("market.assets", (AssetSnapshot,), 6, 30 * DAY_MS),
    Topic("market.coverage", (Coverage,), 6, 30 * DAY_MS),
)

# Equal partition counts: what is asked of an account, what came of it and where it stands share a partition number.
COMMANDS = Topic("trading.commands", COMMAND_KINDS, 12, 7 * DAY_MS)
EVENTS = Topic("trading.events", EVENT_KINDS, 12, FOR_EVER_MS)
ACCOUNTS = Topic("trading.accounts", (AccountState,), 12, None)
TRADING_TOPICS: tuple[Topic, ...] = (COMMANDS, EVENTS, ACCOUNTS)

_LOG = (*MARKET_TOPICS, *TRADING_TOPICS)
TOPICS: tuple[Topic, ...] = (
    *_LOG,
    *(Topic(name + DEAD_LETTERS, (), 3, 30 * DAY_MS) for name in (FRAMES, *(topic.name for topic in _LOG))),
)

BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
TOPIC_OF: dict[type[Any], Topic] = {kind: topic for topic in _LOG for kind in topic.carries}

_keys: dict[type[Any], Callable[[Any], str]] = (
    dict.fromkeys((Instrument, Trade, Quote, BookSnapshot, Candle, Coverage), lambda m: f"{m.venue}:{m.symbol}")
    | {AssetSnapshot: lambda m: f"{m.source}:{m.asset_id}"}
    | dict.fromkeys((kind for topic in TRADING_TOPICS for kind in topic.carries), lambda m: str(m.account_id))
)


def key_of(message: Message) -> str:
    """Return the record key of a message: what is in order with what."""
    return _keys[type(message)](message)
