"""Kafka transactions on Apache Kafka: all or nothing, and a member that lost its partitions commits nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer as Client

from coinstream.errors import TransientError
from coinstream.kafka import (
    BatchConsumer,
    Producer,
    RawBatch,
    Tail,
    TransactionalProducer,
    committed_positions,
    end_offsets,
    last_offsets,
    read_range,
    start_offsets,
)
from coinstream.messages import BY_NAME, Partition, Trade, decode
from tests.integration.kafka.conftest import trade

TRADES = BY_NAME["market.trades"]
INSTRUMENTS = BY_NAME["market.instruments"]


@pytest.fixture
def product() -> str:
    """Transactions are Apache Kafka's; the stand-in for it has none."""
    return "apache"


@pytest.fixture
def transactions(bootstrap: str, prefix: str) -> Iterator[TransactionalProducer]:
    it = TransactionalProducer(bootstrap, client_id="test-engine", topic_prefix=prefix)
    yield it
    it.close()


def read(bootstrap: str, prefix: str) -> list[str]:
    starts = start_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    ends = end_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    found = read_range(bootstrap, starts, ends, topic_prefix=prefix)
    return [decode(Trade, value or b"").trade_id for batch in found for value in batch.values]


def fetched(consumer: BatchConsumer) -> list[RawBatch]:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if batches := consumer.fetch(1000, 0.2):
            return batches
    raise AssertionError("nothing came")


def test_messages_and_offsets_are_there_together(
    bootstrap: str,
    prefix: str,
    producer: Producer,
    join: Callable[..., BatchConsumer],
    transactions: TransactionalProducer,
) -> None:
    producer.publish(trade(1))
    producer.flush(10)
    consumer = join()
    batches = fetched(consumer)
    transactions.commit([trade(2), trade(3)], [], [batch.end for batch in batches], consumer)
    assert read(bootstrap, prefix) == ["1", "2", "3"]
    committed = committed_positions(bootstrap, prefix + "group", [TRADES], topic_prefix=prefix)
    assert committed == {batches[0].partition: batches[0].end}


@pytest.mark.slow
def test_member_that_lost_its_partitions_commits_nothing(
    bootstrap: str,
    prefix: str,
    producer: Producer,
    join: Callable[..., BatchConsumer],
    transactions: TransactionalProducer,
) -> None:
    producer.publish(trade(1))
    producer.flush(10)
    zombie = join()
    batches = fetched(zombie)
    successor = join()
    # The first member stays away past its time, as a frozen process does.
    taken = fetched(successor)
    assert [batch.values for batch in taken] == [batch.values for batch in batches]
    with pytest.raises(TransientError):
        transactions.commit([trade(2)], [], [batch.end for batch in batches], zombie)
    assert read(bootstrap, prefix) == ["1"]
    assert committed_positions(bootstrap, prefix + "group", [TRADES], topic_prefix=prefix) == {}
    # and the client is fit for the next transaction
    transactions.commit([trade(3)], [], [batch.end for batch in taken], successor)
    assert read(bootstrap, prefix) == ["1", "3"]


@pytest.mark.slow
def test_partitions_begin_before_their_records_come_and_end_before_others_have_them(
    prefix: str, producer: Producer, join: Callable[..., BatchConsumer]
) -> None:
    told: list[tuple[str, frozenset[Partition]]] = []
    producer.publish(trade(1))
    producer.flush(10)

    def begins(partitions: object) -> None:
        told.append(("begins", frozenset(partitions)))  # type: ignore[call-overload]
        if len(told) == 1:
            raise TransientError("what stands in the state cannot be read yet")

    consumer = join(begins=begins, ends=lambda partitions: told.append(("ends", frozenset(partitions))))
    with pytest.raises(TransientError):
        fetched(consumer)
    assert len(fetched(consumer)) == 1
    everything = frozenset(Partition(prefix + TRADES.name, number) for number in range(12))
    assert told == [("begins", everything), ("begins", everything)]
    consumer.rewind()
    assert told[2:] == [("ends", everything), ("begins", everything)]
    join()
    until = time.monotonic() + 20
    while told[-1][0] != "ends" and time.monotonic() < until:
        consumer.fetch(10, 0.2)
    kind, gone = told[-1]
    assert kind == "ends"
    assert 0 < len(gone) < 12


@pytest.mark.slow
def test_range_up_to_the_last_record_waits_for_an_open_transaction(
    bootstrap: str, prefix: str, producer: Producer, transactions: TransactionalProducer
) -> None:
    producer.publish(trade(1))
    producer.flush(10)
    client = transactions._client
    client.begin_transaction()
    transactions._produce([trade(2)], [])
    client.flush(10)
    partition = next(it for it, at in end_offsets(bootstrap, [TRADES], topic_prefix=prefix).items() if at.next_offset)
    ends = last_offsets(bootstrap, [partition])
    assert ends[partition].next_offset == 2
    starts = start_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    with pytest.raises(TransientError):
        list(read_range(bootstrap, starts, ends, topic_prefix=prefix, stall_s=1.0))
    client.abort_transaction(10)
    values = [it for batch in read_range(bootstrap, starts, ends, topic_prefix=prefix) for it in batch.values]
    assert len(values) == 1


def test_client_that_is_fenced_says_nothing_and_begins_anew(
    bootstrap: str,
    prefix: str,
    producer: Producer,
    join: Callable[..., BatchConsumer],
    transactions: TransactionalProducer,
) -> None:
    producer.publish(trade(1))
    producer.flush(10)
    consumer = join()
    ends = [batch.end for batch in fetched(consumer)]
    before = transactions.transactional_id
    Client({"bootstrap.servers": bootstrap, "transactional.id": before}).init_transactions(10)
    with pytest.raises(TransientError):
        transactions.commit([trade(2)], [], ends, consumer)
    assert transactions.transactional_id != before
    transactions.commit([trade(2)], [], ends, consumer)
    assert read(bootstrap, prefix) == ["1", "2"]


def test_tail_reads_the_past_of_some_topics_and_the_present_of_others(
    bootstrap: str, prefix: str, producer: Producer
) -> None:
    producer.publish(trade(1))
    producer.flush(10)
    tail = Tail(bootstrap, whole=[TRADES], newest=[INSTRUMENTS], client_id="test", topic_prefix=prefix)
    try:
        came: list[bytes | None] = []
        until = time.monotonic() + 20
        while not tail.is_caught_up and time.monotonic() < until:
            came += [value for batch in tail.read(100, 0.2) for value in batch.values]
        assert tail.is_caught_up
        assert len(came) == 1
        producer.publish(trade(2))
        producer.flush(10)
        while len(came) < 2 and time.monotonic() < until:
            came += [value for batch in tail.read(100, 0.2) for value in batch.values]
    finally:
        tail.close()
    assert [decode(Trade, value or b"").trade_id for value in came] == ["1", "2"]


def test_tail_of_the_present_alone_leaves_the_past_out(bootstrap: str, prefix: str, producer: Producer) -> None:
    producer.publish(trade(1))
    producer.flush(10)
    tail = Tail(bootstrap, whole=[], newest=[TRADES], client_id="test", topic_prefix=prefix)
    try:
        assert tail.is_caught_up
        producer.publish(trade(2))
        producer.flush(10)
        until = time.monotonic() + 20
        came: list[bytes | None] = []
        while not came and time.monotonic() < until:
            came = [value for batch in tail.read(100, 0.2) for value in batch.values]
    finally:
        tail.close()
    assert [decode(Trade, value or b"").trade_id for value in came] == ["2"]
