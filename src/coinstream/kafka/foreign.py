"""A record as a program that is not ours would write it: any bytes, into any of the market's topics."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Record

from coinstream.errors import TransientError
from coinstream.kafka.connection import Outage, classified, client_settings, made
from coinstream.messages import Partition, Topic

TIMEOUT_S = 30.0


def publish_foreign(
    bootstrap: str,
    topic: Topic,
    *,
    key: bytes,
    value: bytes,
    topic_prefix: str = "",
    security: Mapping[str, str] | None = None,
) -> tuple[Partition, int]:
    """Publish one record that no encoder of ours has made, and return where it stands, with its offset.

    For proofs and tests: what the sinks do with it is the question.

    Raises:
        TransientError: Kafka does not acknowledge it within 30 s.
        FatalError: No broker answers, or the topic is missing.
    """
    placed: list[tuple[Partition, int]] = []
    failed: list[KafkaError] = []

    def delivered(error: KafkaError | None, record: Record) -> None:
        if error is not None:
            failed.append(error)
        else:
            placed.append((Partition(str(record.topic()), int(record.partition() or 0)), int(record.offset() or 0)))

    settings = {"partitioner": "murmur2_random", "acks": "all", "delivery.timeout.ms": int(TIMEOUT_S * 1000)}
    client = made(Producer, client_settings(bootstrap, "coinstream-foreign", Outage(bootstrap), security) | settings)
    try:
        client.produce(topic_prefix + topic.name, value, key, on_delivery=delivered)
        client.flush(TIMEOUT_S)
    except KafkaException as error:
        raise classified(error.args[0], f"publishing to {topic_prefix}{topic.name}") from None
    if failed:
        raise classified(failed[0], f"publishing to {topic_prefix}{topic.name}")
    if not placed:
        raise TransientError(f"Kafka did not acknowledge a record of {topic_prefix}{topic.name} in {TIMEOUT_S:g} s")
    return placed[0]
