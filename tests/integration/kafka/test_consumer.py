"""One member of a group: where it begins, what it hands out, how it waits, what it commits."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Producer as Client
from confluent_kafka import TopicPartition

from coinstream.errors import FatalError, TransientError
from coinstream.kafka import Producer, apply_topics, committed_positions, topic_ids
from coinstream.messages import BY_NAME, LogPosition, Partition, Trade, decode
from coinstream.telemetry import LOG_GAPS

TRADES = BY_NAME["market.trades"]
QUOTES = BY_NAME["market.quotes"]


def publish(producer, make_trade, numbers, *, symbol="BTC-USD"):
    for number in numbers:
        producer.publish(make_trade(number, symbol=symbol))
    producer.flush(20)


def trade_ids(batches):
    return [int(decode(Trade, value).trade_id) for batch in batches for value in batch.values]


def place_of_key(batches):
    (partition,) = {batch.partition for batch in batches}
    return partition


def gaps(topic):
    return LOG_GAPS.labels(topic)._value.get()


def test_batches_come_in_order_with_positions_that_meet(producer, make_trade, join, store, prefix):
    publish(producer, make_trade, range(250))
    consumer = join(positions=store.positions)
    batches = []
    while sum(len(it.offsets) for it in batches) < 250:
        fetched = consumer.fetch(40, 0.2)
        assert sum(len(it.offsets) for it in fetched) <= 40
        batches += fetched

    assert trade_ids(batches) == list(range(250))
    assert [offset for it in batches for offset in it.offsets] == list(range(250))
    (topic_id,) = {it.start.topic_id for it in batches}
    assert [it.start for it in batches][1:] == [it.end for it in batches][:-1]
    assert (batches[0].start.next_offset, batches[-1].end.next_offset) == (0, 250)
    assert {it.topic for it in batches} == {TRADES}
    assert topic_id == topic_ids(consumer_address(producer), [prefix + TRADES.name])[prefix + TRADES.name]
    assert len(consumer.assigned) == 12


def consumer_address(producer):
    return producer._outage.bootstrap


def test_store_is_asked_with_ids_and_log_starts_of_what_was_assigned(producer, make_trade, join, store, fetch_until):
    publish(producer, make_trade, range(3))
    consumer = join(positions=store.positions, topics=[TRADES, QUOTES])
    fetch_until(consumer, 3)
    (asked,) = store.asked
    assert {Partition(it.topic, it.partition) for it in asked} == consumer.assigned
    assert len(asked) == 24
    assert {it.next_offset for it in asked} == {0}
    assert {it.topic_id for it in asked} == set(
        topic_ids(consumer_address(producer), {it.topic for it in asked}).values()
    )


def test_reading_begins_at_the_stored_position(producer, make_trade, join, store, fetch_until):
    publish(producer, make_trade, range(10))
    first = join(positions=store.positions)
    batches = fetch_until(first, 10)
    partition = place_of_key(batches)
    at = batches[0].start
    first.close()

    store.rows[partition] = LogPosition(at.topic, at.topic_id, at.partition, 7)
    (batch,) = fetch_until(join(positions=store.positions), 3)
    assert (batch.offsets, batch.start.next_offset) == ([7, 8, 9], 7)


def test_holes_are_inside_the_positions(bootstrap, producer, make_trade, join, store, fetch_until, prefix):
    publish(producer, make_trade, range(2))
    client = Client({"bootstrap.servers": bootstrap, "transactional.id": prefix, "partitioner": "murmur2_random"})
    client.init_transactions(20)
    for outcome in (client.abort_transaction, client.commit_transaction):
        client.begin_transaction()
        client.produce(prefix + TRADES.name, b"{}", b"coinbase:BTC-USD")
        client.flush(20)
        outcome(20)

    consumer = join(positions=store.positions)
    batches = fetch_until(consumer, 3)
    # 0 and 1, an aborted record and its marker (2, 3), a record (4) and its marker (5)
    assert [offset for it in batches for offset in it.offsets] == [0, 1, 4]
    for batch in batches:
        assert store.write(batch)
    deadline = time.monotonic() + 10
    while sum(consumer.lag().values()):
        assert time.monotonic() < deadline, "the markers behind the last record were never passed"
        for batch in consumer.fetch(100, 0.1):
            assert batch.values == []
            assert store.write(batch)
    assert store.rows[place_of_key(batches)].next_offset == 6


def test_rewind_begins_again_where_the_store_stands(producer, make_trade, join, store, fetch_until):
    publish(producer, make_trade, range(20))
    consumer = join(positions=store.positions)
    batches = fetch_until(consumer, 20)
    at = batches[0].start
    store.rows[place_of_key(batches)] = LogPosition(at.topic, at.topic_id, at.partition, 15)

    consumer.rewind()
    (batch,) = fetch_until(consumer, 5)
    assert (batch.start.next_offset, batch.offsets, batch.end.next_offset) == (15, list(range(15, 20)), 20)


def test_store_that_is_away_leaves_partitions_unread_until_it_is_back(producer, make_trade, join, store, fetch_until):
    publish(producer, make_trade, range(5))
    away = [True]

    def positions(starts):
        if away[0]:
            raise TransientError("the store is away")
        return store.positions(starts)

    consumer = join(positions=positions)
    with pytest.raises(TransientError, match="the store is away"):
        fetch_until(consumer, 5)
    consumer.pause()
    consumer.keep_alive(0.3)
    with pytest.raises(TransientError, match="the store is away"):
        consumer.rewind()
    away[0] = False
    consumer.rewind()
    consumer.keep_alive(0.3)
    consumer.resume()
    assert trade_ids(fetch_until(consumer, 5)) == list(range(5))


def test_paused_consumer_holds_nothing_and_goes_on_where_it_stopped(producer, make_trade, join, store, fetch_until):
    publish(producer, make_trade, range(5))
    consumer = join(positions=store.positions)
    assert trade_ids(fetch_until(consumer, 5)) == list(range(5))
    consumer.pause()
    publish(producer, make_trade, range(5, 9))
    assert consumer.fetch(100, 0.5) == []
    consumer.keep_alive(0.5)
    consumer.resume()
    assert trade_ids(fetch_until(consumer, 4)) == [5, 6, 7, 8]


@pytest.mark.slow
def test_paused_consumer_keeps_its_partitions_past_the_poll_interval(producer, make_trade, join, store, fetch_until):
    publish(producer, make_trade, range(3))
    consumer = join(positions=store.positions)
    fetch_until(consumer, 3)
    other = join(positions=store.positions)
    deadline = time.monotonic() + 60
    while len(other.assigned) != 6 or len(consumer.assigned) != 6:
        assert time.monotonic() < deadline
        consumer.fetch(1, 0.1)
        other.fetch(1, 0.1)
    kept = consumer.assigned
    consumer.pause()  # for longer than the join fixture's six seconds
    ends = time.monotonic() + 8
    while time.monotonic() < ends:
        consumer.keep_alive(0.2)
        other.fetch(1, 0.1)
    assert (consumer.assigned, len(other.assigned)) == (kept, 6)


def test_deleted_records_are_a_counted_gap_and_reading_goes_on(
    producer, make_trade, join, store, fetch_until, admin, prefix
):
    publish(producer, make_trade, range(10))
    first = join(positions=store.positions)
    batches = fetch_until(first, 10)
    partition, at = place_of_key(batches), batches[0].start
    first.close()
    store.rows[partition] = LogPosition(at.topic, at.topic_id, at.partition, 2)
    for future in admin.delete_records([TopicPartition(*partition, 6)]).values():
        future.result(10)

    (batch,) = fetch_until(join(positions=store.positions), 4)
    # the compare must be what the store has, though reading began further on
    assert (batch.start.next_offset, batch.offsets, batch.end.next_offset) == (2, [6, 7, 8, 9], 10)
    assert store.write(batch)
    assert gaps(prefix + TRADES.name) == 1


def test_records_deleted_under_a_reader_are_a_counted_gap(
    producer, make_trade, join, store, fetch_until, admin, prefix
):
    publish(producer, make_trade, range(5))
    consumer = join(positions=store.positions)
    (batch,) = fetch_until(consumer, 5)
    assert store.write(batch)
    consumer.pause()
    publish(producer, make_trade, range(5, 10))
    for future in admin.delete_records([TopicPartition(*batch.partition, 8)]).values():
        future.result(10)
    consumer.resume()
    (after,) = fetch_until(consumer, 2)
    assert (after.start.next_offset, after.offsets) == (5, [8, 9])
    assert gaps(prefix + TRADES.name) == 1


def test_position_beyond_the_log_is_a_counted_gap_and_all_is_read(
    producer, make_trade, join, store, fetch_until, prefix
):
    publish(producer, make_trade, range(4))
    first = join(positions=store.positions)
    batches = fetch_until(first, 4)
    partition, at = place_of_key(batches), batches[0].start
    first.close()
    store.rows[partition] = LogPosition(at.topic, at.topic_id, at.partition, 1000)

    (batch,) = fetch_until(join(positions=store.positions), 4)
    assert (batch.start.next_offset, batch.offsets, batch.end.next_offset) == (1000, [0, 1, 2, 3], 4)
    assert store.write(batch)
    assert gaps(prefix + TRADES.name) == 1


def test_position_of_an_earlier_topic_begins_at_the_first_record(
    producer, make_trade, join, store, fetch_until, prefix
):
    publish(producer, make_trade, range(4))
    first = join(positions=store.positions)
    batches = fetch_until(first, 4)
    partition = place_of_key(batches)
    first.close()
    store.rows[partition] = LogPosition(partition.topic, "an-earlier-topic", partition.partition, 3)

    (batch,) = fetch_until(join(positions=store.positions), 4)
    assert (batch.start, batch.offsets) == (store.rows[partition], [0, 1, 2, 3])
    assert batch.end.topic_id == batches[0].end.topic_id
    assert gaps(prefix + TRADES.name) == 0


def test_lag_is_counted_from_the_stored_positions(producer, make_trade, join, store, fetch_until):
    publish(producer, make_trade, range(30))
    consumer = join(positions=store.positions)
    batches = fetch_until(consumer, 30)
    partition = place_of_key(batches)
    assert consumer.lag() == dict.fromkeys(consumer.assigned, 0) | {partition: 30}
    for batch in batches:
        store.write(batch)
    assert consumer.lag() == dict.fromkeys(consumer.assigned, 0)
    publish(producer, make_trade, range(30, 42))
    assert consumer.lag()[partition] == 12


def test_positions_in_kafka_are_kept_with_the_topic_id(bootstrap, producer, make_trade, join, fetch_until, prefix):
    publish(producer, make_trade, range(10))
    first = join()
    batches = fetch_until(first, 10)
    assert first.lag()[place_of_key(batches)] == 10
    first.commit([it.end for it in batches])
    assert first.lag()[place_of_key(batches)] == 0
    first.close()

    found = committed_positions(bootstrap, prefix + "group", [TRADES], topic_prefix=prefix)
    assert found == {place_of_key(batches): batches[-1].end}
    publish(producer, make_trade, range(10, 13))
    second = join()
    assert trade_ids(fetch_until(second, 3)) == [10, 11, 12]


def test_uncommitted_batch_is_read_again_after_a_restart(producer, make_trade, join, fetch_until):
    publish(producer, make_trade, range(6))
    first = join()
    assert trade_ids(fetch_until(first, 6)) == list(range(6))
    first.close()
    assert trade_ids(fetch_until(join(), 6)) == list(range(6))


def test_commit_of_a_consumer_whose_store_keeps_positions_is_a_mistake(join, store):
    with pytest.raises(FatalError, match="store keeps the positions"):
        join(positions=store.positions).commit([LogPosition("t", "", 0, 1)])


@pytest.mark.slow
def test_topic_re_created_while_reading_is_read_from_its_beginning(
    bootstrap, product, producer, make_trade, join, store, fetch_until, admin, prefix
):
    publish(producer, make_trade, range(5))
    consumer = join(positions=store.positions)
    for batch in fetch_until(consumer, 5):
        assert store.write(batch)
    old_id = batch.end.topic_id
    name = prefix + TRADES.name
    admin.delete_topics([name])[name].result(10)
    deadline = time.monotonic() + 20
    while name in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        consumer.fetch(100, 0.1)
    apply_topics(bootstrap, topic_prefix=prefix)
    # Anew, for a producer's sequence belongs to the partition it has known.
    fresh = Producer(bootstrap, client_id="test", topic_prefix=prefix)
    publish(fresh, make_trade, range(100, 103))
    fresh.close()

    batches = fetch_until(consumer, 3, timeout_s=60)
    assert trade_ids(batches) == [100, 101, 102]
    assert batches[0].offsets[0] == 0
    if product == "apache":
        assert batches[0].end.topic_id not in ("", old_id)


@pytest.mark.slow
def test_consumer_of_a_missing_topic_waits_for_it(bootstrap, join, store, admin, prefix):
    name = prefix + QUOTES.name
    admin.delete_topics([name])[name].result(10)
    consumer = join(positions=store.positions, topics=[TRADES, QUOTES])
    deadline = time.monotonic() + 20
    while len(consumer.assigned) < 12:
        assert time.monotonic() < deadline
        consumer.fetch(100, 0.1)
    assert {it.topic for it in consumer.assigned} == {prefix + TRADES.name}
    apply_topics(bootstrap, topic_prefix=prefix)
    while len(consumer.assigned) < 24:
        assert time.monotonic() < deadline + 20
        consumer.fetch(100, 0.1)


def test_what_is_ready_goes_on_where_fetch_stopped_and_waits_for_nothing(producer, make_trade, join, store):
    publish(producer, make_trade, range(200))
    consumer = join(positions=store.positions)
    batches = []
    while not batches:
        batches += consumer.fetch(40, 0.2)
    asked = len(store.asked)
    deadline = time.monotonic() + 20
    while sum(len(it.offsets) for it in batches) < 200:
        assert time.monotonic() < deadline
        some = consumer.ready(40)
        assert sum(len(it.offsets) for it in some) <= 40
        batches += some
        consumer.tend()
    assert trade_ids(batches) == list(range(200))
    assert [it.start for it in batches][1:] == [it.end for it in batches][:-1]
    began = time.monotonic()
    assert consumer.ready(40) == []
    assert time.monotonic() - began < 0.1
    assert len(store.asked) == asked


@pytest.mark.slow
def test_who_only_asks_for_what_is_ready_is_given_new_partitions(producer, make_trade, join, store):
    consumer = join(positions=store.positions)
    publish(producer, make_trade, range(5))
    batches = []
    deadline = time.monotonic() + 30
    while sum(len(it.offsets) for it in batches) < 5:
        assert time.monotonic() < deadline
        consumer.tend()
        batches += consumer.ready(100)
        time.sleep(0.01)
    assert trade_ids(batches) == list(range(5))


def test_what_fails_while_asking_for_what_is_ready_is_raised_in_between(join, store, monkeypatch):
    consumer = join(positions=store.positions)

    def fail(_max_messages, _left_s):
        raise TransientError("the cluster is away")

    monkeypatch.setattr(consumer, "_consume", fail)
    assert consumer.ready(10) == []
    with pytest.raises(TransientError, match="away"):
        consumer.tend()
    consumer.tend()
