"""Kafka: the log between all processes. The only room that knows its client."""

from coinstream.kafka.batches import RawBatch
from coinstream.kafka.consumer import BatchConsumer
from coinstream.kafka.dead_letters import DeadLetter, newest
from coinstream.kafka.foreign import publish_foreign
from coinstream.kafka.log import (
    LETTER_TOPICS,
    committed_positions,
    end_offsets,
    last_offsets,
    offsets_at_time,
    read_dead_letter,
    read_dead_letters,
    read_range,
    start_offsets,
)
from coinstream.kafka.partitioner import partition_of
from coinstream.kafka.producer import Producer, UndeliveredError
from coinstream.kafka.recovery import recover
from coinstream.kafka.tail import Tail
from coinstream.kafka.topics import TopicChange, apply_topics, topic_ids
from coinstream.kafka.transactions import TransactionalProducer

__all__ = [
    "LETTER_TOPICS",
    "BatchConsumer",
    "DeadLetter",
    "Producer",
    "RawBatch",
    "Tail",
    "TopicChange",
    "TransactionalProducer",
    "UndeliveredError",
    "apply_topics",
    "committed_positions",
    "end_offsets",
    "last_offsets",
    "newest",
    "offsets_at_time",
    "partition_of",
    "publish_foreign",
    "read_dead_letter",
    "read_dead_letters",
    "read_range",
    "recover",
    "start_offsets",
    "topic_ids",
]
