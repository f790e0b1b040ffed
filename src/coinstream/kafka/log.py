"""Reading Kafka's log outside any consumer group: where it begins and ends, and what stands between."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka import Message as Record
from confluent_kafka.admin import AdminClient, OffsetSpec

from coinstream.errors import FatalError, TransientError
from coinstream.kafka.batches import RawBatch, by_partition, columns, place_of
from coinstream.kafka.cluster import EARLIEST, LATEST, ids_of, offsets_at, partitions_of
from coinstream.kafka.connection import (
    ANSWER_S,
    OUT_OF_LOG,
    Outage,
    classified,
    client_settings,
    connect_admin,
    made,
)
from coinstream.kafka.dead_letters import DeadLetter, LetterPlace, distinct, letter_from
from coinstream.messages import BY_NAME, TOPICS, LogPosition, Partition, Topic
from coinstream.messages.topics import DEAD_LETTERS

READ_MESSAGES = 10_000
STALL_S = 30.0
"""How long a read may bring nothing before it is given up."""
LETTER_TOPICS = tuple(topic for topic in TOPICS if topic.is_of_dead_letters)
"""The topics of dead letters."""


def start_offsets(
    bootstrap: str, topics: Sequence[Topic], *, topic_prefix: str = "", security: Mapping[str, str] | None = None
) -> dict[Partition, LogPosition]:
    """Return the first position that Kafka still has of every partition of some topics.

    Raises:
        FatalError: No broker answers, or a topic is missing.
        TransientError: The cluster took too long.
    """
    admin = connect_admin(bootstrap, client_id="coinstream-log", security=security)
    return _positions(admin, [topic_prefix + topic.name for topic in topics], EARLIEST)


def end_offsets(
    bootstrap: str, topics: Sequence[Topic], *, topic_prefix: str = "", security: Mapping[str, str] | None = None
) -> dict[Partition, LogPosition]:
    """Return the position after the last readable record (no open Kafka transaction) of every partition.

    Raises:
        FatalError: No broker answers, or a topic is missing.
        TransientError: The cluster took too long.
    """
    admin = connect_admin(bootstrap, client_id="coinstream-log", security=security)
    return _positions(admin, [topic_prefix + topic.name for topic in topics], LATEST)


def last_offsets(
    bootstrap: str, partitions: Iterable[Partition], *, security: Mapping[str, str] | None = None
) -> dict[Partition, LogPosition]:
    """Return the position after the last record of some partitions, those of open Kafka transactions among them.

    Raises:
        FatalError: No broker answers, or a topic is missing.
        TransientError: The cluster took too long.
    """
    admin = connect_admin(bootstrap, client_id="coinstream-log", security=security)
    wanted = set(partitions)
    ids = ids_of(admin, {it.topic for it in wanted})
    ends = offsets_at(admin, wanted, LATEST, isolation=IsolationLevel.READ_UNCOMMITTED)
    return {it: LogPosition(it.topic, ids.get(it.topic, ""), it.partition, at) for it, at in ends.items()}


def offsets_at_time(
    bootstrap: str,
    topic: Topic,
    time_us: int,
    *,
    topic_prefix: str = "",
    security: Mapping[str, str] | None = None,
) -> dict[Partition, LogPosition]:
    """Return the position of the first record of each partition whose Kafka timestamp is not before a time.

    Where there is none, the position is the partition's end.

    Raises:
        FatalError: No broker answers, or the topic is missing.
        TransientError: The cluster took too long.
    """
    admin = connect_admin(bootstrap, client_id="coinstream-log", security=security)
    name = topic_prefix + topic.name
    found = _positions(admin, [name], OffsetSpec.for_timestamp(max(0, time_us // 1000)))
    ends = _positions(admin, [name], LATEST)
    return {it: ends[it] if position.next_offset < 0 else position for it, position in found.items()}


def _positions(admin: AdminClient, names: Sequence[str], spec: OffsetSpec) -> dict[Partition, LogPosition]:
    ids = ids_of(admin, names)
    for name in names:
        if name not in ids:
            raise FatalError(f"topic {name} is missing; run `coinstream topics apply`")
    partitions = partitions_of(admin, names)
    offsets = offsets_at(admin, partitions, spec)
    return {it: LogPosition(it.topic, ids[it.topic], it.partition, offsets[it]) for it in partitions}


def committed_positions(
    bootstrap: str,
    group: str,
    topics: Sequence[Topic],
    *,
    topic_prefix: str = "",
    security: Mapping[str, str] | None = None,
) -> dict[Partition, LogPosition]:
    """Return what a consumer group has committed in Kafka; a partition without a commit is left out.

    The topic id is the commit's metadata, as `BatchConsumer.commit` writes it.

    Raises:
        FatalError: No broker answers.
        TransientError: The cluster took too long.
    """
    admin = connect_admin(bootstrap, client_id="coinstream-log", security=security)
    partitions = partitions_of(admin, [topic_prefix + topic.name for topic in topics])
    # A consumer's question, not the admin client's: while the group's coordinator still loads, as on a
    # cluster's first day, librdkafka answers the admin client's with a crash of the process.
    outage = Outage(bootstrap)
    settings = client_settings(bootstrap, "coinstream-log", outage, security)
    client = made(Consumer, settings | {"group.id": group, "enable.auto.commit": False})
    found: dict[Partition, LogPosition] = {}
    try:
        for it in client.committed([TopicPartition(*it) for it in partitions], timeout=ANSWER_S):
            if it.error is not None:
                raise classified(it.error, f"reading the offsets of group {group}")
            if it.offset >= 0:
                partition = Partition(it.topic, it.partition)
                found[partition] = LogPosition(it.topic, it.metadata or "", it.partition, it.offset)
    except KafkaException as error:
        raise classified(error.args[0], f"reading the offsets of group {group}") from None
    finally:
        client.close()
    return found


def read_range(
    bootstrap: str,
    starts: Mapping[Partition, LogPosition],
    ends: Mapping[Partition, LogPosition],
    *,
    topic_prefix: str = "",
    stall_s: float = STALL_S,
    security: Mapping[str, str] | None = None,
) -> Iterator[RawBatch]:
    """Yield what stands between positions, in order within each partition, without joining a group.

    Args:
        bootstrap: Addresses ``host:port``, separated by commas.
        starts: Where to begin, inclusive, by partition.
        ends: Where to end, exclusive; a partition that is only in one of the two is not read.
        topic_prefix: What stands before the table's names in the positions.
        stall_s: Give up when nothing came for so long.
        security: librdkafka's security settings, if any.

    Raises:
        TransientError: Nothing came for ``stall_s``.
        FatalError: What stood at a start is no longer kept, or the client cannot go on.
    """
    reader = _Reader(bootstrap, starts, ends, security)
    stands = dict(starts)
    try:
        for partition, records in reader.read(stall_s):
            read = columns(records)
            start, goal = stands[partition], ends[partition]
            end = LogPosition(goal.topic, goal.topic_id, goal.partition, read["offsets"][-1] + 1)
            yield RawBatch(topic=BY_NAME[start.topic.removeprefix(topic_prefix)], start=start, end=end, **read)
            stands[partition] = end
    finally:
        reader.close()


class _Reader:
    """Reads ranges of partitions to their ends, which may be holes: then the end of the log tells."""

    def __init__(
        self,
        bootstrap: str,
        starts: Mapping[Partition, LogPosition],
        ends: Mapping[Partition, LogPosition],
        security: Mapping[str, str] | None,
    ) -> None:
        self._ends = {
            it: ends[it].next_offset
            for it, start in starts.items()
            if it in ends and start.next_offset < ends[it].next_offset
        }
        self._outage = Outage(bootstrap)
        settings = client_settings(bootstrap, "coinstream-reader", self._outage, security) | _READER
        self._client = made(Consumer, settings)
        self._client.assign([TopicPartition(*it, starts[it].next_offset) for it in self._ends])

    def read(self, stall_s: float) -> Iterator[tuple[Partition, list[Record]]]:
        heard = time.monotonic()
        while self._ends:
            events = self._client.consume(READ_MESSAGES, 0.1)
            self._outage.raise_fatal()
            if events:
                heard = time.monotonic()
            elif time.monotonic() - heard > stall_s:
                why = self._outage.reason or "no error"
                raise TransientError(f"{len(self._ends)} partitions brought nothing for {stall_s:g} s ({why})")
            failed = [event for event in events if event.error() is not None]
            good = [event for event in events if event.error() is None] if failed else events
            for partition, records in by_partition(good).items():
                wanted = self._before_end(partition, records)
                if wanted:
                    yield partition, wanted
            for event in failed:
                self._ended(event)

    def _before_end(self, partition: Partition, records: list[Record]) -> list[Record]:
        end = self._ends.get(partition)
        if end is None:
            return []
        if (records[-1].offset() or 0) + 1 >= end:
            self._leave(partition)
            return [record for record in records if (record.offset() or 0) < end]
        return records

    def _ended(self, event: Record) -> None:
        error: Any = event.error()
        partition = place_of(event)
        if error.name() == "_PARTITION_EOF":
            # The rest of the range is holes, if the position passed it; else a Kafka transaction is still open there.
            if (event.offset() or 0) >= self._ends.get(partition, math.inf):
                self._leave(partition)
        elif error.name() in OUT_OF_LOG:
            raise FatalError(
                f"Kafka no longer keeps {partition.topic}[{partition.partition}] from offset {event.offset()} on"
                f" ({error.str()}); read from a later position"
            )
        else:
            raise classified(error, f"reading {partition.topic}[{partition.partition}]")

    def _leave(self, partition: Partition) -> None:
        del self._ends[partition]
        self._client.incremental_unassign([TopicPartition(*partition)])

    def close(self) -> None:
        self._client.close()


_READER: dict[str, Any] = {
    "group.id": "coinstream-reader",  # librdkafka wants a name; nothing joins and nothing is committed
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 32_768,
    "check.crcs": True,
}


def read_dead_letters(
    bootstrap: str,
    *,
    topic_prefix: str = "",
    topics: Sequence[str] | None = None,
    security: Mapping[str, str] | None = None,
) -> Iterator[DeadLetter]:
    """Yield dead letters without the repeats that restarts left, in order within each partition of their topics.

    Args:
        bootstrap: Addresses ``host:port``, separated by commas.
        topic_prefix: Stands before every topic's name.
        topics: Names from the table, with or without ``.dead-letters``; by default all.
        security: librdkafka's security settings, if any.

    Raises:
        FatalError: No broker answers, or a topic is missing in the cluster or the table.
        TransientError: The cluster took too long.
    """
    chosen = LETTER_TOPICS if topics is None else [letter_topic(name) for name in topics]
    admin = connect_admin(bootstrap, client_id="coinstream-log", security=security)
    names = [topic_prefix + topic.name for topic in chosen]
    ends = _positions(admin, names, LATEST)
    starts = _positions(admin, names, EARLIEST)
    yield from distinct(_letters(bootstrap, starts, ends, security))


def read_dead_letter(
    bootstrap: str,
    topic: str,
    partition: int,
    offset: int,
    *,
    topic_prefix: str = "",
    security: Mapping[str, str] | None = None,
) -> DeadLetter | None:
    """Return the dead letter at a place of a dead-letters topic; ``None`` where there is none.

    Args:
        bootstrap: Addresses ``host:port``, separated by commas.
        topic: As `read_dead_letters` takes it.
        partition: Of the dead-letters topic.
        offset: In that partition.
        topic_prefix: Stands before every topic's name.
        security: librdkafka's security settings, if any.

    Raises:
        FatalError: No broker answers, or the topic is missing in the cluster or the table.
        TransientError: The cluster took too long.
    """
    admin = connect_admin(bootstrap, client_id="coinstream-log", security=security)
    name = topic_prefix + letter_topic(topic).name
    it = Partition(name, partition)
    first, end = _positions(admin, [name], EARLIEST).get(it), _positions(admin, [name], LATEST).get(it)
    if first is None or end is None or not first.next_offset <= offset < end.next_offset:
        return None
    start = LogPosition(name, first.topic_id, partition, offset)
    stop = LogPosition(name, first.topic_id, partition, offset + 1)
    return next(_letters(bootstrap, {it: start}, {it: stop}, security), None)


def _letters(
    bootstrap: str,
    starts: Mapping[Partition, LogPosition],
    ends: Mapping[Partition, LogPosition],
    security: Mapping[str, str] | None,
) -> Iterator[DeadLetter]:
    reader = _Reader(bootstrap, starts, ends, security)
    try:
        for partition, records in reader.read(STALL_S):
            for record in records:
                place = LetterPlace(*partition, record.offset() or 0, record.timestamp()[1])
                yield letter_from(record.key(), record.value(), _headers(record), place=place)
    finally:
        reader.close()


def letter_topic(name: str) -> Topic:
    """Return a dead-letters topic by its name, or by the name of what it takes letters for.

    Raises:
        FatalError: The table has none; those it has are named.
    """
    found = BY_NAME.get(name.removesuffix(DEAD_LETTERS) + DEAD_LETTERS)
    if found is None:
        known = ", ".join(topic.name.removesuffix(DEAD_LETTERS) for topic in LETTER_TOPICS)
        raise FatalError(f"there are no dead letters of {name!r}; there are of {known}")
    return found


def _headers(record: Record) -> list[tuple[str, bytes | None]]:
    headers: Any = record.headers() or []
    return list(headers.items()) if isinstance(headers, dict) else list(headers)
