"""Lag: records in the log that a store has not got yet, always from the stored positions."""

from __future__ import annotations

from collections.abc import Mapping

from coinstream.kafka import committed_positions, end_offsets, start_offsets
from coinstream.messages import MARKET_TOPICS, LogPosition, Partition
from coinstream.stores.mongodb import MONGODB_KINDS
from coinstream.stores.postgres.read import POSTGRES_KINDS, PostgresReader


class Lag:
    """Asks Kafka for its ends, and each store (or Kafka, for MongoDB) for its positions.

    Args:
        kafka_bootstrap: ``host:port``.
        topic_prefix: Goes before every topic's name.
        postgres_url: Address with the reader's role.
        postgres_group: The consumer group whose positions PostgreSQL keeps.
        mongodb_group: The consumer group whose positions Kafka keeps.
    """

    def __init__(
        self, *, kafka_bootstrap: str, topic_prefix: str, postgres_url: str, postgres_group: str, mongodb_group: str
    ) -> None:
        self._bootstrap = kafka_bootstrap
        self._prefix = topic_prefix
        self._reader = PostgresReader(postgres_url)
        self._postgres_group = postgres_group
        self._mongodb_group = mongodb_group

    def by_store(self) -> dict[str, int]:
        """Return the messages that ``postgresql`` and ``mongodb`` have not stored.

        Raises:
            TransientError: A server is away.
            FatalError: A topic is missing.
        """
        ends = end_offsets(self._bootstrap, MARKET_TOPICS, topic_prefix=self._prefix)
        starts = start_offsets(self._bootstrap, MARKET_TOPICS, topic_prefix=self._prefix)
        stored = self._reader.positions(self._postgres_group)
        committed = committed_positions(self._bootstrap, self._mongodb_group, MARKET_TOPICS, topic_prefix=self._prefix)
        return {
            "postgresql": lag_of(ends, starts, stored, self._names(POSTGRES_KINDS)),
            "mongodb": lag_of(ends, starts, committed, self._names(MONGODB_KINDS)),
        }

    def _names(self, kinds: frozenset[type]) -> frozenset[str]:
        return frozenset(self._prefix + topic.name for topic in MARKET_TOPICS if topic.carries_only(kinds))

    def close(self) -> None:
        """Give the connection back."""
        self._reader.close()


def lag_of(
    ends: Mapping[Partition, LogPosition],
    starts: Mapping[Partition, LogPosition],
    stored: Mapping[Partition, LogPosition],
    topics: frozenset[str],
) -> int:
    """Return how many messages stand between the stored positions and the ends.

    A partition without a stored position, or with one of an earlier topic of the same name, lags from
    its start. Holes in the log count as messages until the position has passed them.
    """
    total = 0
    for partition, end in ends.items():
        if partition.topic not in topics:
            continue
        begin = starts[partition].next_offset
        position = stored.get(partition)
        if position is not None and position.topic_id == end.topic_id:
            begin = max(begin, position.next_offset)
        total += max(0, end.next_offset - begin)
    return total
