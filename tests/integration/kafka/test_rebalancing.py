"""Several members of a group: partitions move, and nothing is lost or stored twice."""

from __future__ import annotations

import time

import pytest

from coinstream.kafka import committed_positions
from coinstream.messages import BY_NAME, Trade, decode

TRADES = BY_NAME["market.trades"]
SYMBOLS = 40


def publish(producer, make_trade, numbers):
    for number in numbers:
        producer.publish(make_trade(number, symbol=f"COIN{number % SYMBOLS}-USD"))
    producer.flush(20)


def ids(values):
    return [int(decode(Trade, value).trade_id) for value in values]


def write_all(store, consumer, max_messages=50):
    for batch in consumer.fetch(max_messages, 0.05):
        store.write(batch)


def share(store, consumers, sizes, timeout_s=60):
    """Fetch and write with each member in turn until they hold so many partitions."""
    deadline = time.monotonic() + timeout_s
    while [len(it.assigned) for it in consumers] != sizes:
        assert time.monotonic() < deadline, [len(it.assigned) for it in consumers]
        for it in consumers:
            write_all(store, it)


@pytest.mark.slow
def test_partitions_that_move_are_stored_once_and_in_order(producer, make_trade, join, store):
    publish(producer, make_trade, range(2000))
    first = join(positions=store.positions, client_id="first")
    while len(store.values) < 100:
        write_all(store, first)
    second = join(positions=store.positions, client_id="second")
    share(store, [first, second], [6, 6])
    assert not first.assigned & second.assigned
    publish(producer, make_trade, range(2000, 3000))
    second.close()
    share(store, [first], [12])
    deadline = time.monotonic() + 20
    while len(store.values) < 3000:
        assert time.monotonic() < deadline, len(store.values)
        write_all(store, first, 1000)

    assert sorted(ids(value for _, _, value in store.values)) == list(range(3000))
    for partition in first.assigned:
        offsets = [offset for it, offset, _ in store.values if it == partition]
        assert offsets == list(range(len(offsets)))


class Overlapping:
    """A member that asks for its next batch before the one at hand is written, as the sink does when it is behind."""

    def __init__(self, store, consumer):
        self._store = store
        self._consumer = consumer
        self._ahead = []

    @property
    def assigned(self):
        return self._consumer.assigned

    def turn(self, max_messages=50):
        if self._ahead:
            self._consumer.tend()
        batches = self._ahead or self._consumer.fetch(max_messages, 0.05)
        self._ahead = self._consumer.ready(max_messages) if batches else []
        if not all(self._store.write(batch) for batch in batches):
            self._ahead = []
            self._consumer.rewind()


@pytest.mark.slow
def test_partitions_that_move_while_a_batch_is_ahead_are_stored_once_and_in_order(producer, make_trade, join, store):
    publish(producer, make_trade, range(2000))
    first = Overlapping(store, join(positions=store.positions, client_id="first"))
    while len(store.values) < 100:
        first.turn()
    leaving = join(positions=store.positions, client_id="second")
    second = Overlapping(store, leaving)
    deadline = time.monotonic() + 60
    number = 2000
    while [len(it.assigned) for it in (first, second)] != [6, 6]:
        assert time.monotonic() < deadline
        publish(producer, make_trade, range(number, number + 200))
        number += 200
        first.turn()
        second.turn()
    publish(producer, make_trade, range(number, number + 1000))
    number += 1000
    second.turn()
    leaving.close()  # with a batch ahead, which nobody wrote
    while len(store.values) < number:
        assert time.monotonic() < deadline, len(store.values)
        first.turn(1000)

    assert sorted(ids(value for _, _, value in store.values)) == list(range(number))
    for partition in first.assigned:
        offsets = [offset for it, offset, _ in store.values if it == partition]
        assert offsets == list(range(len(offsets)))


@pytest.mark.slow
def test_batch_of_a_partition_that_moved_meanwhile_is_refused_by_the_store(producer, make_trade, join, store):
    publish(producer, make_trade, range(400))
    first = join(positions=store.positions)
    held = []
    while sum(len(it.offsets) for it in held) < 400:
        held += first.fetch(1000, 0.1)
    second = join(positions=store.positions)
    deadline = time.monotonic() + 60
    while len(second.assigned) != 6 or not written_of(second, held) <= {it for it, _, _ in store.values}:
        assert time.monotonic() < deadline
        first.fetch(1000, 0.05)  # keeps up its membership; what it reads is not written
        write_all(store, second, 1000)

    successors = {it for it, _, _ in store.values}
    written = [store.write(it) for it in held]
    assert written == [it.partition not in successors for it in held]
    assert False in written
    assert sorted(ids(value for _, _, value in store.values)) == list(range(400))


def written_of(consumer, batches):
    """The partitions of a member that have records among these batches."""
    return consumer.assigned & {it.partition for it in batches}


@pytest.mark.slow
def test_commit_after_the_group_went_on_is_counted_and_changes_nothing(
    bootstrap, producer, make_trade, join, fetch_until, prefix
):
    publish(producer, make_trade, range(200))
    sleeper = join(client_id="sleeper")
    asleep = fetch_until(sleeper, 200)
    successor = join(client_id="successor")
    batches = fetch_until(successor, 200, timeout_s=40)
    assert sorted(ids(value for it in batches for value in it.values)) == list(range(200))
    successor.commit([it.end for it in batches])
    stands = committed_positions(bootstrap, prefix + "group", [TRADES], topic_prefix=prefix)

    sleeper.commit([it.end for it in asleep])
    assert sleeper.lost_commits == len(asleep)
    deadline = time.monotonic() + 60
    while len(sleeper.assigned) != 6 or len(successor.assigned) != 6:
        assert time.monotonic() < deadline
        assert sleeper.fetch(100, 0.1) == []
        assert successor.fetch(100, 0.1) == []
    sleeper.commit([asleep[0].start])
    assert committed_positions(bootstrap, prefix + "group", [TRADES], topic_prefix=prefix) == stands


@pytest.mark.slow
def test_commit_while_the_group_rebalances_is_kept(bootstrap, producer, make_trade, join, fetch_until, prefix):
    publish(producer, make_trade, range(400))
    first = join()
    batches = fetch_until(first, 400)
    second = join()
    deadline = time.monotonic() + 60
    seen = []
    while len(second.assigned) != 6 or len(first.assigned) != 6:
        assert time.monotonic() < deadline
        first.commit([it.end for it in batches if it.partition in first.assigned])
        seen += first.fetch(100, 0.05)
        seen += second.fetch(1000, 0.05)
    assert seen == []
    found = committed_positions(bootstrap, prefix + "group", [TRADES], topic_prefix=prefix)
    assert sum(it.next_offset for it in found.values()) == 400
