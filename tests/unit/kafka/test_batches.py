from confluent_kafka import Message as Record

from coinstream.kafka.batches import by_partition, columns
from coinstream.messages import Partition


def record(topic, partition, offset):
    return Record(
        topic=topic,
        partition=partition,
        offset=offset,
        key=b"k%d" % offset,
        value=b"v%d" % offset if offset != 2 else None,
        timestamp=(1, 1000 + offset),
    )


def test_runs_of_a_partition_are_joined_in_order():
    records = [record("a", 0, 1), record("a", 0, 2), record("b", 0, 5), record("a", 1, 9), record("a", 0, 3)]
    groups = by_partition(records)
    assert {it: [record.offset() for record in group] for it, group in groups.items()} == {
        Partition("a", 0): [1, 2, 3],
        Partition("b", 0): [5],
        Partition("a", 1): [9],
    }


def test_nothing_fetched_is_no_group():
    assert by_partition([]) == {}


def test_columns_keep_place_and_tombstones():
    assert columns([record("a", 0, 1), record("a", 0, 2), record("a", 0, 4)]) == {
        "values": [b"v1", None, b"v4"],
        "offsets": [1, 2, 4],
        "timestamps_ms": [1001, 1002, 1004],
        "keys": [b"k1", b"k2", b"k4"],
    }


def test_records_handed_out_before_are_left_out():
    assert columns([record("a", 0, 1), record("a", 0, 3), record("a", 0, 4)], 3)["offsets"] == [3, 4]
