"""Questions to the cluster: which topic this is, which partitions it has, where their logs begin and end."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from coinstream.errors import FatalError, TransientError
from coinstream.kafka.connection import ANSWER_S, UNKNOWN_TOPIC, classified, name_of
from coinstream.messages import Partition

NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""Kafka's text of the zero UUID: a broker that does not know topic ids answers so."""
EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # the client's types stop here
LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # and here


def ids_of(admin: AdminClient, names: Iterable[str]) -> dict[str, str]:
    """Return each topic's id by full name, ``""`` where the broker does not say; unknown topics are left out."""
    futures = admin.describe_topics(TopicCollection(sorted(set(names))), request_timeout=ANSWER_S)
    found = {}
    for name, future in futures.items():
        try:
            described = future.result(ANSWER_S)
        except KafkaException as error:
            if name_of(error) not in UNKNOWN_TOPIC:
                raise classified(error.args[0], f"describing topic {name}") from None
        else:
            text = str(described.topic_id or "")
            found[name] = "" if text == NO_ID else text
    return found


def partitions_of(admin: AdminClient, names: Iterable[str]) -> list[Partition]:
    """Return every partition of the topics that exist."""
    topics = admin.list_topics(timeout=ANSWER_S).topics
    return [Partition(name, number) for name in names if name in topics for number in sorted(topics[name].partitions)]


def offsets_at(
    admin: AdminClient,
    partitions: Iterable[Partition],
    spec: OffsetSpec,
    *,
    patience_s: float = 3.0,
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
) -> dict[Partition, int]:
    """Return the offset of a kind (`EARLIEST`, `LATEST`) of each partition, in one question a broker.

    The latest is that of the last stable record, unless the isolation says otherwise. A partition whose
    leader is moving, or was made a moment ago and is not yet known to every broker, is asked again.

    Raises:
        TransientError: A partition did not answer within ``patience_s``.
        FatalError: Only a person can mend it.
    """
    deadline = time.monotonic() + patience_s
    offsets: dict[Partition, int] = {}
    waiting = set(partitions)
    while waiting:
        asked = {TopicPartition(*it): spec for it in waiting}
        futures = admin.list_offsets(asked, isolation_level=isolation, request_timeout=ANSWER_S)
        for place, future in futures.items():
            partition = Partition(place.topic, place.partition)
            try:
                offsets[partition] = future.result(ANSWER_S).offset
            except KafkaException as error:
                problem = classified(error.args[0], f"asking where {place.topic}[{place.partition}] stands")
                if isinstance(problem, FatalError) or time.monotonic() > deadline:
                    raise problem from None
            except TimeoutError:
                raise TransientError(f"Kafka did not say where {place.topic}[{place.partition}] stands") from None
        waiting -= offsets.keys()
        if waiting:
            time.sleep(0.05)
            # Only this empties what the client remembers of a topic that it met before its leaders.
            admin.list_topics(timeout=ANSWER_S)
    return offsets
