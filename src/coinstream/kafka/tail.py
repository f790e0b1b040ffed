"""Following topics outside any consumer group: each reader sees every partition, from its end or its beginning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaException, TopicPartition

from coinstream.kafka.batches import RawBatch, by_partition, columns, place_of
from coinstream.kafka.connection import Outage, classified, client_settings, log, made
from coinstream.kafka.log import end_offsets, offsets_at_time, start_offsets
from coinstream.messages import BY_NAME, LogPosition, Partition, Topic


class Tail:
    """Reads all partitions of some topics as they grow. One thread uses one object.

    It keeps no position: a new one begins anew. Where records were deleted before it came to them it goes on with the
    newest, for who follows the present has no use for a past that nobody kept.

    Args:
        bootstrap: Addresses ``host:port``, separated by commas.
        whole: Topics read from their first record; `is_caught_up` says when.
        newest: Topics read from their present end, or from ``since_us`` on.
        since_us: Kafka's time of the oldest record of ``newest`` that is of interest; `is_caught_up` waits for those.
        client_id: The name in the brokers' logs.
        topic_prefix: Stands before every topic's name.
        security: librdkafka's security settings, if any.

    Raises:
        FatalError: No broker answers, or a topic is missing.
        TransientError: The cluster took too long.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, and each of its own kind
        self,
        bootstrap: str,
        *,
        whole: Sequence[Topic],
        newest: Sequence[Topic],
        since_us: int | None = None,
        client_id: str,
        topic_prefix: str = "",
        security: Mapping[str, str] | None = None,
    ) -> None:
        self._prefix = topic_prefix
        self._outage = Outage(bootstrap)
        self._client = made(Client, client_settings(bootstrap, client_id, self._outage, security) | _SETTINGS)
        known = {"topic_prefix": topic_prefix, "security": security}
        starts = dict(start_offsets(bootstrap, whole, **known)) if whole else {}  # type: ignore[arg-type]
        if since_us is not None:
            for topic in newest:
                starts |= offsets_at_time(bootstrap, topic, since_us, **known)  # type: ignore[arg-type]
        ends = end_offsets(bootstrap, [*whole, *newest], **known)  # type: ignore[arg-type]
        self._behind = {it: ends[it].next_offset for it, at in starts.items() if at.next_offset < ends[it].next_offset}
        self._stands: dict[Partition, LogPosition] = {**ends, **starts}
        self._client.assign([TopicPartition(*it, at.next_offset) for it, at in self._stands.items()])

    @property
    def is_caught_up(self) -> bool:
        """Whether the whole topics are read up to where they ended when this object was made."""
        return not self._behind

    def read(self, max_messages: int, timeout_s: float) -> list[RawBatch]:
        """Return the next records, one batch a partition; empty when none came in time.

        Raises:
            TransientError: The cluster is away or moving; call again.
            FatalError: The client cannot go on.
        """
        try:
            events = self._client.consume(max_messages, timeout_s)
        except KafkaException as error:
            raise classified(error.args[0], "following the market") from None
        self._outage.raise_fatal()
        batches = []
        good = [event for event in events if event.error() is None]
        for partition, records in by_partition(good).items():
            start = self._stands[partition]
            read = columns(records)
            end = LogPosition(start.topic, start.topic_id, start.partition, read["offsets"][-1] + 1)
            batches.append(RawBatch(BY_NAME[partition.topic.removeprefix(self._prefix)], start, end, **read))
            self._stands[partition] = end
            self._reached(partition, end.next_offset)
        if len(good) < len(events):
            for event in events:
                self._take(event)
        return batches

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _reached(self, partition: Partition, offset: int) -> None:
        if self._behind.get(partition, offset + 1) <= offset:
            del self._behind[partition]

    def _take(self, event: Any) -> None:
        error = event.error()
        if error is None:
            return
        partition = place_of(event)
        if error.name() == "_PARTITION_EOF":
            self._reached(partition, event.offset())
        elif error.fatal():
            raise classified(error, f"following {partition.topic}")
        else:
            log.warning("client", topic=partition.topic, why=error.str())


_SETTINGS: dict[str, Any] = {
    "group.id": "coinstream-tail",  # librdkafka wants a name; nothing joins and nothing is committed
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "latest",
    "isolation.level": "read_committed",
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 20,
    "queued.max.messages.kbytes": 32_768,
    "check.crcs": True,
}
