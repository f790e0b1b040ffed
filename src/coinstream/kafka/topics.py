"""Making the cluster's topics match the table in `coinstream.messages.topics`.

A topic is created or its settings altered; none is ever deleted, and a partition count is never
changed, for that would move keys between partitions and break their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
    TopicMetadata,
)

from coinstream.errors import FatalError
from coinstream.kafka.cluster import LATEST, ids_of, offsets_at
from coinstream.kafka.connection import ANSWER_S, classified, connect_admin, name_of, outcome
from coinstream.kafka.dead_letters import MAX_VALUE_BYTES
from coinstream.messages import TOPICS, Partition, Topic

_HEADROOM_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TopicChange:
    """One thing that `apply_topics` did.

    Attributes:
        topic: Full name.
        setting: ``partitions`` for a topic that was created, else the altered setting's name.
        before: What it was; ``None`` where the topic was not there.
        after: What it is now.
    """

    topic: str
    setting: str
    before: str | None
    after: str


def apply_topics(
    bootstrap: str,
    *,
    topic_prefix: str = "",
    replication_factor: int | None = None,
    security: Mapping[str, str] | None = None,
) -> list[TopicChange]:
    """Make the cluster's topics match the table; nothing is changed when one of them cannot be.

    Args:
        bootstrap: Addresses ``host:port``, separated by commas.
        topic_prefix: Stands before every topic's name.
        replication_factor: Of topics created now; by default three, or as many as there are brokers.
            ``min.insync.replicas`` is one less, at least one.
        security: librdkafka's security settings, if any.

    Returns:
        What was changed, empty the second time.

    Raises:
        FatalError: No broker answers, or a topic has another number of partitions.
        TransientError: The cluster took too long.
    """
    admin = connect_admin(bootstrap, client_id="coinstream-topics", security=security)
    metadata = admin.list_topics(timeout=ANSWER_S)
    wanted = {topic_prefix + topic.name: topic for topic in TOPICS}
    present = {name: metadata.topics[name] for name in wanted if name in metadata.topics}
    for name, found in present.items():
        if len(found.partitions) != wanted[name].partitions:
            raise FatalError(
                f"topic {name} has {len(found.partitions)} partitions and must have {wanted[name].partitions};"
                " changing the count would break the order of its keys: use another topic prefix, or move the topic"
                " away by hand"
            )
    factor = replication_factor or min(3, len(metadata.brokers))
    changes = _create(admin, {name: topic for name, topic in wanted.items() if name not in present}, factor)
    changes += _alter(admin, {name: settings_of(wanted[name], _replicas(found)) for name, found in present.items()})
    # Every partition has a leader that answers, so that who publishes next need not wait.
    every = [Partition(name, number) for name, topic in wanted.items() for number in range(topic.partitions)]
    offsets_at(admin, every, LATEST, patience_s=ANSWER_S)
    return changes


def settings_of(topic: Topic, replicas: int) -> dict[str, str]:
    """Return the settings that a topic must have, by Kafka's names."""
    settings = {"min.insync.replicas": str(max(1, replicas - 1))}
    if topic.retention_ms is None:
        settings["cleanup.policy"] = "compact"
    else:
        settings |= {"cleanup.policy": "delete", "retention.ms": str(topic.retention_ms)}
    if topic.is_of_dead_letters:
        settings["max.message.bytes"] = str(MAX_VALUE_BYTES + _HEADROOM_BYTES)
    return settings


def _replicas(found: TopicMetadata) -> int:
    return min(len(partition.replicas) for partition in found.partitions.values())


def _create(admin: AdminClient, missing: Mapping[str, Topic], factor: int) -> list[TopicChange]:
    if not missing:
        return []
    futures = admin.create_topics(
        [
            NewTopic(name, topic.partitions, factor, config=settings_of(topic, factor))
            for name, topic in missing.items()
        ],
        operation_timeout=ANSWER_S,
    )
    changes = []
    for name, future in futures.items():
        try:
            future.result(ANSWER_S)
        except KafkaException as error:
            if name_of(error) != "TOPIC_ALREADY_EXISTS":  # another process applied the same table
                raise classified(error.args[0], f"creating topic {name}") from None
        else:
            changes.append(TopicChange(name, "partitions", None, str(missing[name].partitions)))
    return changes


def _alter(admin: AdminClient, settings: Mapping[str, Mapping[str, str]]) -> list[TopicChange]:
    if not settings:
        return []
    changes = []
    described = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in settings])
    for resource, future in described.items():
        has = {name: str(entry.value) for name, entry in outcome(future, "reading topic settings").items()}
        differ = {name: value for name, value in settings[resource.name].items() if has.get(name) != value}
        changes += [TopicChange(resource.name, name, has.get(name), value) for name, value in differ.items()]
    entries: dict[str, list[ConfigEntry]] = {}
    for change in changes:
        entry = ConfigEntry(change.setting, change.after, incremental_operation=AlterConfigOpType.SET)
        entries.setdefault(change.topic, []).append(entry)
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=it) for name, it in entries.items()]
    if resources:
        for future in admin.incremental_alter_configs(resources).values():
            outcome(future, "altering topic settings")
    return changes


def topic_ids(bootstrap: str, names: Iterable[str], *, security: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return each topic's id by full name, ``""`` where the broker does not say.

    A topic that does not exist is left out.

    Raises:
        FatalError: No broker answers at all.
        TransientError: The cluster took too long.
    """
    return ids_of(connect_admin(bootstrap, client_id="coinstream-topic-ids", security=security), names)
