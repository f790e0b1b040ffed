"""The PostgreSQL sink's store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from coinstream.messages import DecodedBatch, LogPosition, Message, Partition, RefusedMessage
from coinstream.messages.topics import MARKET_TOPICS
from coinstream.stores import Written


class PostgresWriter:
    """Signatures; the body follows within the hour."""

    name = "postgresql"
    kinds: frozenset[type[Message]] = frozenset(topic.carries for topic in MARKET_TOPICS if topic.carries)
    keeps_positions = True

    def __init__(
        self,
        dsn: str,
        *,
        group: str = "postgresql",
        clock_us: Callable[[], int],
        step: Callable[[int], None] = lambda _: None,
    ) -> None:
        raise NotImplementedError

    def positions(self, starts: Sequence[LogPosition]) -> Mapping[Partition, LogPosition]:
        raise NotImplementedError

    def write(self, batches: Sequence[DecodedBatch], refuse: Callable[[Sequence[RefusedMessage]], None]) -> Written:
        raise NotImplementedError

    def touch(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
