"""What the broker that stands in for Apache Kafka lacks, found by the contract suite and asserted here.

The rest of the suite holds for it as for Apache Kafka.

1. It tells no topic ids: a position carries ``""``, and a re-created topic that has grown past the stored
   position is not recognised (one that is shorter is: the position stands beyond the log's end).
2. A producer's sequence outlives its topic: publishing to a re-created one is fatal to that producer.
3. A cooperative rebalance that follows another at once may wait until ``max.poll.interval.ms`` has passed,
   now and then; so the suite's consumers set that to its least, and only time is lost.
"""

from __future__ import annotations

import time

import pytest
from confluent_kafka.admin import AdminClient

from coinstream.errors import FatalError
from coinstream.kafka import Producer, apply_topics, topic_ids
from coinstream.messages import TOPICS


@pytest.fixture
def product():
    return "noida"


def test_no_topic_id_is_told(bootstrap, prefix):
    names = [prefix + topic.name for topic in TOPICS]
    assert topic_ids(bootstrap, names) == dict.fromkeys(names, "")


def test_publishing_to_a_re_created_topic_is_fatal_and_said_so(bootstrap, prefix, admin: AdminClient, make_trade):
    producer = Producer(bootstrap, client_id="test", topic_prefix=prefix)
    producer.publish(make_trade(1))
    producer.flush(20)
    name = prefix + "market.trades"
    admin.delete_topics([name])[name].result(10)
    deadline = time.monotonic() + 10
    while name in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
    apply_topics(bootstrap, topic_prefix=prefix)

    producer.publish(make_trade(2))
    with pytest.raises(FatalError, match="restart this process"):
        producer.flush(20)
    with pytest.raises(FatalError):
        producer.close(0.1)
