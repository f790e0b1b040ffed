"""Reading the log outside any group."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer as Client
from confluent_kafka import TopicPartition

from coinstream.errors import FatalError
from coinstream.kafka import end_offsets, offsets_at_time, partition_of, publish_foreign, read_range, start_offsets
from coinstream.messages import BY_NAME, LogPosition, Partition, Trade, decode

TRADES = BY_NAME["market.trades"]


def publish(producer, make_trade, numbers, symbols=1):
    for number in numbers:
        producer.publish(make_trade(number, symbol=f"COIN{number % symbols}-USD"))
    producer.flush(20)


def ids(batches):
    return sorted(int(decode(Trade, value).trade_id) for batch in batches for value in batch.values)


def test_empty_topic_starts_where_it_ends(bootstrap, prefix):
    starts = start_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    assert starts == end_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    assert {it.next_offset for it in starts.values()} == {0}
    assert sorted(starts) == [Partition(prefix + TRADES.name, number) for number in range(12)]
    assert list(read_range(bootstrap, starts, starts, topic_prefix=prefix)) == []


def test_range_is_read_from_its_start_to_before_its_end(bootstrap, prefix, producer, make_trade):
    publish(producer, make_trade, range(500), symbols=30)
    starts = end_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    publish(producer, make_trade, range(500, 900), symbols=30)
    ends = end_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    publish(producer, make_trade, range(900, 1000), symbols=30)

    batches = list(read_range(bootstrap, starts, ends, topic_prefix=prefix))
    assert ids(batches) == list(range(500, 900))
    for partition, start in starts.items():
        of_it = [it for it in batches if it.partition == partition]
        offsets = [offset for it in of_it for offset in it.offsets]
        assert offsets == list(range(start.next_offset, ends[partition].next_offset))
        if of_it:
            assert (of_it[0].start, of_it[-1].end) == (start, ends[partition])


def test_range_whose_tail_is_holes_ends(bootstrap, prefix, producer, make_trade):
    publish(producer, make_trade, range(3))
    client = Client({"bootstrap.servers": bootstrap, "transactional.id": prefix, "partitioner": "murmur2_random"})
    client.init_transactions(20)
    client.begin_transaction()
    client.produce(prefix + TRADES.name, b"{}", b"coinbase:COIN0-USD")
    client.flush(20)
    client.abort_transaction(20)

    starts = start_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    ends = end_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    assert sum(it.next_offset for it in ends.values()) == 5
    assert ids(read_range(bootstrap, starts, ends, topic_prefix=prefix, stall_s=10)) == [0, 1, 2]


def test_range_that_is_no_longer_kept_says_so(bootstrap, prefix, producer, make_trade, admin):
    publish(producer, make_trade, range(10))
    starts = start_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    ends = end_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    (partition,) = (it for it, end in ends.items() if end.next_offset)
    for future in admin.delete_records([TopicPartition(*partition, 4)]).values():
        future.result(10)
    assert start_offsets(bootstrap, [TRADES], topic_prefix=prefix)[partition].next_offset == 4
    with pytest.raises(FatalError, match=r"no longer keeps .* from offset 0 on"):
        list(read_range(bootstrap, starts, ends, topic_prefix=prefix, stall_s=10))


def test_partition_only_in_the_starts_is_not_read(bootstrap, prefix, producer, make_trade):
    publish(producer, make_trade, range(50), symbols=20)
    starts = start_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    ends = end_offsets(bootstrap, [TRADES], topic_prefix=prefix)
    chosen = max(ends, key=lambda it: ends[it].next_offset)
    batches = list(read_range(bootstrap, starts, {chosen: ends[chosen]}, topic_prefix=prefix))
    assert {it.partition for it in batches} == {chosen}
    assert sum(len(it.offsets) for it in batches) == ends[chosen].next_offset


def test_missing_topic_is_told(bootstrap, empty_prefix):
    with pytest.raises(FatalError, match="is missing; run `coinstream topics apply`"):
        end_offsets(bootstrap, [TRADES], topic_prefix=empty_prefix)


def test_positions_carry_the_topic_id(bootstrap, product, prefix):
    found = {it.topic_id for it in start_offsets(bootstrap, [TRADES], topic_prefix=prefix).values()}
    assert len(found) == 1
    assert (found == {""}) == (product == "noida")  # the fallback broker tells no topic ids
    assert (
        LogPosition(prefix + TRADES.name, *found, 0, 0)
        in start_offsets(bootstrap, [TRADES], topic_prefix=prefix).values()
    )


def test_offsets_at_a_time_are_of_the_first_records_not_before_it(bootstrap, prefix):
    client = Client({"bootstrap.servers": bootstrap})
    for time_ms in (1_700_000_001_000, 1_700_000_002_000, 1_700_000_003_000):
        client.produce(prefix + TRADES.name, b"{}", partition=5, timestamp=time_ms)
    client.flush(20)
    partition = Partition(prefix + TRADES.name, 5)

    def at(time_us):
        return offsets_at_time(bootstrap, TRADES, time_us, topic_prefix=prefix)[partition].next_offset

    assert at(0) == 0
    assert at(1_700_000_002_000_000) == 1
    assert at(1_700_000_002_001_000) == 2
    assert at(1_800_000_000_000_000) == 3  # the end: nothing is so late


def test_foreign_record_stands_where_it_is_said_to_and_where_its_key_belongs(bootstrap, prefix):
    for key in (b"coinbase:BTC-USD", b"x", b"poison", b"coinbase:ETH-USD"):
        partition, offset = publish_foreign(bootstrap, TRADES, key=key, value=b"\xff" + key, topic_prefix=prefix)
        assert partition == Partition(prefix + TRADES.name, partition_of(key, TRADES.partitions))
        start = start_offsets(bootstrap, [TRADES], topic_prefix=prefix)[partition]
        end = end_offsets(bootstrap, [TRADES], topic_prefix=prefix)[partition]
        read = list(read_range(bootstrap, {partition: start}, {partition: end}, topic_prefix=prefix))
        assert (read[-1].offsets[-1], read[-1].values[-1], read[-1].keys[-1]) == (offset, b"\xff" + key, key)
