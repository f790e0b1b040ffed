"""The table of topics applied to a cluster."""

from __future__ import annotations

import time

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from coinstream.errors import FatalError
from coinstream.kafka import TopicChange, apply_topics, topic_ids
from coinstream.messages import TOPICS


def settings_at(admin, name):
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    return {entry.name: entry.value for entry in future.result(10).values()}


def create(admin, topic):
    admin.create_topics([topic])[topic.topic].result(10)
    deadline = time.monotonic() + 10
    while topic.topic not in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline, f"{topic.topic} was never seen"
        time.sleep(0.05)


def await_setting(admin, name, setting, value):
    """Brokers learn of a change a moment after it was accepted."""
    deadline = time.monotonic() + 10
    while settings_at(admin, name)[setting] != value:
        assert time.monotonic() < deadline, f"{name} {setting} never became {value}"
        time.sleep(0.05)


def test_every_topic_of_the_table_is_created_with_its_partitions(bootstrap, empty_prefix, admin):
    changes = apply_topics(bootstrap, topic_prefix=empty_prefix)

    assert sorted(changes, key=lambda it: it.topic) == sorted(
        (TopicChange(empty_prefix + it.name, "partitions", None, str(it.partitions)) for it in TOPICS),
        key=lambda it: it.topic,
    )
    found = admin.list_topics(timeout=10).topics
    assert {name: len(it.partitions) for name, it in found.items() if name.startswith(empty_prefix)} == {
        empty_prefix + it.name: it.partitions for it in TOPICS
    }


def test_second_application_changes_nothing(bootstrap, prefix):
    assert apply_topics(bootstrap, topic_prefix=prefix) == []


def test_topics_have_retention_or_compaction_of_the_table(prefix, admin):
    trades = settings_at(admin, prefix + "market.trades")
    assert (trades["cleanup.policy"], trades["retention.ms"]) == ("delete", str(7 * 86_400_000))
    assert settings_at(admin, prefix + "market.instruments")["cleanup.policy"] == "compact"
    assert settings_at(admin, prefix + "market.trades.dead-letters")["retention.ms"] == str(30 * 86_400_000)
    assert trades["min.insync.replicas"] == "1"


def test_setting_that_differs_is_altered_back_and_reported(bootstrap, prefix, admin):
    name = prefix + "market.quotes"
    entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)
    await_setting(admin, name, "retention.ms", "1000")

    assert apply_topics(bootstrap, topic_prefix=prefix) == [TopicChange(name, "retention.ms", "1000", "86400000")]
    await_setting(admin, name, "retention.ms", "86400000")


def test_other_partition_count_is_refused_and_nothing_is_made(bootstrap, empty_prefix, admin):
    name = empty_prefix + "market.trades"
    create(admin, NewTopic(name, 5, 1))

    with pytest.raises(FatalError, match=rf"{name} has 5 partitions and must have 12"):
        apply_topics(bootstrap, topic_prefix=empty_prefix)

    assert [it for it in admin.list_topics(timeout=10).topics if it.startswith(empty_prefix)] == [name]


def test_topic_of_no_table_is_left_alone(bootstrap, prefix, admin):
    name = prefix + "somebody.elses"
    create(admin, NewTopic(name, 2, 1))
    assert apply_topics(bootstrap, topic_prefix=prefix) == []
    assert len(admin.list_topics(timeout=10).topics[name].partitions) == 2


def test_missing_topic_has_no_id(bootstrap, prefix):
    ids = topic_ids(bootstrap, [prefix + "market.trades", prefix + "nowhere"])
    assert list(ids) == [prefix + "market.trades"]


def test_unreachable_broker_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr("coinstream.kafka.connection.REACH_S", 1.5)
    with pytest.raises(FatalError, match=r"no Kafka broker answers at 127\.0\.0\.1:1 within .*coinstream local up"):
        apply_topics("127.0.0.1:1")
