"""Reading in a consumer group, batch by batch, from the positions that a store keeps.

The way of a partition:

1. The group gives it to this member; the client is not yet told to read it.
2. `fetch` asks for the topic's id, the log's ends and the stored position, and assigns the partition
   to the client at that very offset. A store that is away leaves it unread.
3. Each batch handed out carries where the store must stand (``start``) and will stand (``end``).
4. The group takes it back, or it is found lost: nothing more of it is handed out. What was handed
   out before is the store's compare-and-set to judge, or `commit`'s.

`pause` takes every partition from the client again and keeps the membership: nothing is fetched and
nothing is held while the store is away. One thread uses one object.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer as Client
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka import Message as Record

from coinstream.errors import FatalError, TransientError
from coinstream.kafka.batches import RawBatch, by_partition, columns, place_of
from coinstream.kafka.cluster import EARLIEST, LATEST, NO_ID, ids_of, offsets_at, partitions_of
from coinstream.kafka.connection import (
    ANSWER_S,
    OUT_OF_LOG,
    UNKNOWN_TOPIC,
    Outage,
    classified,
    client_settings,
    connect_admin,
    log,
    made,
    name_of,
)
from coinstream.kafka.placement import beginning
from coinstream.messages import LogPosition, Partition, Topic
from coinstream.telemetry import LOG_GAPS, LOST_COMMITS

Positions = Callable[[Sequence[LogPosition]], Mapping[Partition, LogPosition]]
Partitions = Callable[[Collection[Partition]], None]

SLICE_S = 0.1
"""Longest wait within the client, so that a partition just assigned is read soon."""
WATCH_TOPICS_S = 5.0
"""How often it is asked whether a topic is still the same."""
PLACE_AGAIN_S = 0.5
COMMIT_WAIT_S = 10.0
HEARTBEAT_MS = 500
"""A member hears of a rebalance with a heartbeat: at the default of 3 s one takes 3 to 6 s, at this 1 s, and
noida-db's cooperative rebalances, of which half hung until the poll interval's end, were six of six in time."""
HOLES_S = 1.0
"""How often, while nothing comes, positions are looked at for holes that were passed."""

_LOST = {"_ASSIGNMENT_LOST", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "FENCED_INSTANCE_ID", "_FENCED"}
_HEALS_ALONE = {"_MAX_POLL_EXCEEDED", "_ALL_BROKERS_DOWN", "_TRANSPORT"}


@dataclass(slots=True)
class _Standing:
    """A partition that is being read.

    Attributes:
        stored: Where the store stands once it has written all that was handed out.
        committed: The highest offset committed by this object, or found committed.
        offset: The next offset to hand out.
    """

    topic_id: str
    stored: LogPosition
    committed: int
    offset: int


class BatchConsumer:
    """Reads topics as a member of a group, cooperative rebalancing, explicit positions only.

    Args:
        bootstrap: Addresses ``host:port``, separated by commas.
        group: The group's name.
        topics: What to read.
        client_id: The name in the brokers' logs.
        topic_prefix: Stands before every topic's name.
        positions: Asked on every assignment and `rewind`: given the first position of each partition
            in the log (with the topic's present id), it returns where the store stands; a partition
            that is left out begins at its first record. It may raise `TransientError`. ``None``:
            positions are kept in Kafka by `commit`, the topic id in the commit's metadata; a commit
            without one (an operator's tool moved it) is taken as of the present topic.
        begins: Told of partitions whose stored positions have just been read, before any of their records is
            fetched; it may raise `TransientError`, and is then told of them again.
        ends: Told of partitions of which nothing more is handed out until ``begins`` hears of them anew.
        session_timeout_ms: Silence after which the group gives this member's partitions to others.
        max_poll_interval_ms: Longest time between two calls of `fetch` or `keep_alive`.
        buffer_kbytes: Bound of what is fetched ahead.
        security: librdkafka's security settings, if any.

    Raises:
        FatalError: No broker answers, or the credentials are refused.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, and each of its own kind
        self,
        bootstrap: str,
        *,
        group: str,
        topics: Sequence[Topic],
        client_id: str,
        topic_prefix: str = "",
        positions: Positions | None = None,
        begins: Partitions | None = None,
        ends: Partitions | None = None,
        session_timeout_ms: int = 10_000,
        max_poll_interval_ms: int = 300_000,
        buffer_kbytes: int = 65_536,
        security: Mapping[str, str] | None = None,
    ) -> None:
        self._topics = {topic_prefix + topic.name: topic for topic in topics}
        self._positions = positions
        self._begins = begins or _ignore
        self._ends = ends or _ignore
        self._admin = connect_admin(bootstrap, client_id=client_id, security=security)
        self._outage = Outage(bootstrap)
        self._client = made(
            Client,
            client_settings(bootstrap, client_id, self._outage, security)
            | _SETTINGS
            | {
                "group.id": group,
                "session.timeout.ms": session_timeout_ms,
                "heartbeat.interval.ms": HEARTBEAT_MS,
                "max.poll.interval.ms": max_poll_interval_ms,
                "queued.max.messages.kbytes": buffer_kbytes,
            },
        )
        self._unplaced: set[Partition] = set()
        self._standing: dict[Partition, _Standing] = {}
        self._is_paused = False
        self._is_closed = False
        self._failure: Exception | None = None
        self._place_at_s = 0.0
        self._holes_at_s = 0.0
        self._watch_at_s = time.monotonic() + WATCH_TOPICS_S
        self._watched: dict[str, Future[Any]] = {}
        self._missing: set[str] = set()
        self.lost_commits = 0
        self._client.subscribe(
            list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    @property
    def assigned(self) -> frozenset[Partition]:
        """The partitions that the group has given to this member."""
        return frozenset(self._standing) | self._unplaced

    def fetch(self, max_messages: int, timeout_s: float) -> list[RawBatch]:
        """Return the next records, one batch a partition; empty when none came in time.

        Args:
            max_messages: At most so many in all.
            timeout_s: How long to gather; less where ``max_messages`` came, at least as soon as any
                came within a tenth of a second.

        Raises:
            TransientError: The store (its ``positions``) or the cluster is away or moving; wait with
                `pause` and `keep_alive`, then `rewind`.
            FatalError: The client cannot go on.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self.tend()
            left_s = deadline - time.monotonic()
            batches = self._hand_out(self._consume(max_messages, left_s))
            if batches or time.monotonic() >= deadline:
                return batches

    def tend(self) -> None:
        """Do what `fetch` does besides fetching: who only asks for what is `ready` calls it in between.

        Raises:
            TransientError: As `fetch`.
            FatalError: As `fetch`.
        """
        self._raise_failure()
        self._watch_topics()
        if self._unplaced and not self._is_paused:
            self._place()

    def ready(self, max_messages: int) -> list[RawBatch]:
        """Return what has come already, like `fetch`, but wait for nothing and ask neither store nor cluster.

        For the middle of a store's write: what fails is raised by the next `tend` or `fetch`, and a
        partition that the group takes back here is given up while its batch is still being written.

        Args:
            max_messages: At most so many in all.
        """
        try:
            return self._hand_out(self._consume(max_messages, 0.0))
        except (TransientError, FatalError) as error:
            self._failure = error
            return []

    def commit(self, ends: Sequence[LogPosition]) -> None:
        """Keep the positions in Kafka, topic id in the metadata; returns when Kafka has them.

        A position of a partition that was lost since, or given again since, is left out and counted:
        who reads it now decides.

        Args:
            ends: ``end`` of batches that are written.

        Raises:
            TransientError: Kafka did not take them in time.
            FatalError: This consumer's store keeps the positions, or the group may not commit.
        """
        if self._positions is not None:
            raise FatalError("this consumer's store keeps the positions; Kafka must not keep them too")
        deadline = time.monotonic() + COMMIT_WAIT_S
        waiting = [end for end in ends if self._may_commit(end)]
        while waiting:
            waiting = self._commit_once(waiting)
            if waiting and time.monotonic() > deadline:
                raise TransientError(
                    f"Kafka did not take the offsets of {len(waiting)} partitions in {COMMIT_WAIT_S:g} s"
                )
            if waiting:
                time.sleep(0.05)  # the group is rebalancing; its own thread carries that through

    def group_metadata(self) -> Any:
        """Return what tells the group's coordinator which member, of which generation, sends offsets."""
        return self._client.consumer_group_metadata()

    def stands(self, numbers: Collection[int]) -> list[LogPosition]:
        """Return where the store stands once it has all that was handed out, of partitions being read, by number."""
        return [at.stored for it, at in self._standing.items() if it.partition in numbers]

    def rewind(self) -> None:
        """Read the stored positions anew and begin there, after a write that failed or may have.

        Raises:
            TransientError: The store or the cluster is away; call it again.
        """
        self._place_anew(list(self._standing))
        self._place_at_s = 0.0
        self._place()

    def pause(self) -> None:
        """Stop fetching and let go of what was fetched ahead; the membership stays with `keep_alive`."""
        if not self._is_paused:
            self._withdraw(list(self._standing))
            self._is_paused = True

    def resume(self) -> None:
        """Go on reading where it stopped, or where `rewind` put it."""
        if self._is_paused:
            self._is_paused = False
            self._assign(self._standing)

    def keep_alive(self, timeout_s: float) -> None:
        """Stay a member of the group while paused, for so long; rebalances are served.

        Raises:
            FatalError: The client cannot go on.
        """
        if not self._is_paused:
            raise AssertionError("keep_alive would drop what is fetched; pause first")
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = deadline - time.monotonic()
            self._hand_out(self._consume(1, left_s))
            if isinstance(self._failure, FatalError):
                raise self._failure
            self._failure = None
            if left_s <= 0:
                return

    def lag(self) -> dict[Partition, int]:
        """Return, for each assigned partition, how many offsets stand after the stored position.

        The store is asked; a partition without a stored position lags by all that the log has.

        Raises:
            TransientError: The store or the cluster is away.
        """
        partitions = self.assigned
        firsts, ends = self._ends_of(partitions)
        stored = self._stored(list(firsts.values()))
        return {
            it: max(0, ends[it] - beginning(stored.get(it), first, ends[it]).offset) for it, first in firsts.items()
        }

    def close(self) -> None:
        """Leave the group; what was handed out and not stored is read again by who comes next."""
        if not self._is_closed:
            self._is_closed = True
            self._client.close()

    # What the group says; called by the client within consume() and close().

    def _on_assign(self, client: Client, partitions: list[TopicPartition]) -> None:
        client.incremental_assign([])  # accepted; `_place` tells the client where to read
        given = {Partition(it.topic, it.partition) for it in partitions}
        self._unplaced |= given
        self._place_at_s = 0.0
        log.info("assigned", new=len(given), all=len(self.assigned))

    def _on_revoke(self, client: Client, partitions: list[TopicPartition]) -> None:
        self._give_up(client, partitions)
        if not self._is_closed:
            log.info("revoked", partitions=len(partitions), left=len(self.assigned))

    def _on_lost(self, client: Client, partitions: list[TopicPartition]) -> None:
        self._give_up(client, partitions)
        log.warning("lost", partitions=len(partitions), why="the group went on without this member")

    def _give_up(self, client: Client, partitions: list[TopicPartition]) -> None:
        taken = {Partition(it.topic, it.partition) for it in partitions}
        gone = taken & self._standing.keys()
        reading = [] if self._is_paused else [TopicPartition(*it) for it in gone]
        self._unplaced -= taken
        for it in gone:
            del self._standing[it]
        self._ends(gone)
        client.incremental_unassign(reading)

    # Where to read.

    def _place(self) -> None:
        """Find where each unplaced partition begins, and have it read from there."""
        if time.monotonic() < self._place_at_s:
            return
        self._place_at_s = time.monotonic() + PLACE_AGAIN_S
        firsts, ends = self._ends_of(self._unplaced)
        stored = self._stored(list(firsts.values()))
        placed: dict[Partition, _Standing] = {}
        for partition, first in firsts.items():
            begin = beginning(stored.get(partition), first, ends[partition])
            if begin.gap:
                LOG_GAPS.labels(partition.topic).inc()
                log.error("gap", topic=partition.topic, partition=partition.partition, why=begin.gap)
            committed = begin.stored.next_offset if begin.stored.topic_id == first.topic_id and not begin.gap else 0
            placed[partition] = _Standing(first.topic_id, begin.stored, committed, begin.offset)
        self._begins(placed.keys())
        self._unplaced -= placed.keys()
        self._standing |= placed
        if not self._is_paused:
            self._assign(placed)

    def _ends_of(self, partitions: Iterable[Partition]) -> tuple[dict[Partition, LogPosition], dict[Partition, int]]:
        """Return the first position and the end offset of those that exist."""
        wanted = set(partitions)
        if not wanted:
            return {}, {}
        ids = ids_of(self._admin, {it.topic for it in wanted})
        there = wanted.intersection(partitions_of(self._admin, ids))
        firsts = offsets_at(self._admin, there, EARLIEST)
        ends = offsets_at(self._admin, there, LATEST)
        return {it: LogPosition(it.topic, ids[it.topic], it.partition, at) for it, at in firsts.items()}, ends

    def _stored(self, firsts: Sequence[LogPosition]) -> Mapping[Partition, LogPosition]:
        if not firsts:
            return {}
        if self._positions is not None:
            return self._positions(firsts)
        asked = {Partition(it.topic, it.partition): it for it in firsts}
        try:
            found = self._client.committed([TopicPartition(*it) for it in asked], timeout=ANSWER_S)
        except KafkaException as error:
            raise classified(error.args[0], "reading committed offsets") from None
        stored = {}
        for it in found:
            if it.error is not None:
                raise classified(it.error, "reading committed offsets")
            if it.offset >= 0:
                partition = Partition(it.topic, it.partition)
                topic_id = it.metadata or asked[partition].topic_id
                stored[partition] = LogPosition(it.topic, topic_id, it.partition, it.offset)
        return stored

    def _assign(self, standings: Mapping[Partition, _Standing]) -> None:
        if standings:
            self._client.incremental_assign([TopicPartition(*it, at.offset) for it, at in standings.items()])

    def _withdraw(self, partitions: Sequence[Partition]) -> None:
        """Take partitions from the client, with whatever it has fetched of them."""
        if partitions and not self._is_paused:
            self._client.incremental_unassign([TopicPartition(*it) for it in partitions])

    def _place_anew(self, partitions: Sequence[Partition]) -> None:
        self._withdraw(partitions)
        for it in partitions:
            del self._standing[it]
        self._unplaced |= set(partitions)
        self._ends(partitions)

    def _watch_topics(self) -> None:
        """Notice a topic that was deleted or re-created; asks now and then, and waits for no answer."""
        now_s = time.monotonic()
        if not self._watched:
            if now_s >= self._watch_at_s and self._standing:
                names = sorted({it.topic for it in self._standing})
                self._watched = self._admin.describe_topics(TopicCollection(names), request_timeout=ANSWER_S)
            return
        if not all(future.done() for future in self._watched.values()):
            return
        answers, self._watched = self._watched, {}
        self._watch_at_s = now_s + WATCH_TOPICS_S
        for name, future in answers.items():
            error = future.exception()
            if error is None:
                self._missing.discard(name)
                self._compare_id(name, str(future.result().topic_id or ""))
            elif name_of(error) in UNKNOWN_TOPIC:
                self._miss(name)

    def _compare_id(self, name: str, topic_id: str) -> None:
        present = "" if topic_id == NO_ID else topic_id
        others = [it for it, at in self._standing.items() if it.topic == name and at.topic_id != present]
        if others:
            log.error("topic re-created", topic=name, next="reading it from its beginning")
            self._place_anew(others)

    def _miss(self, name: str) -> None:
        if name not in self._missing:
            self._missing.add(name)
            log.error("topic missing", topic=name, next="waiting for it; `coinstream topics apply` makes it")

    # What came.

    def _consume(self, max_messages: int, left_s: float) -> list[Record]:
        try:
            return self._client.consume(max_messages, max(0.0, min(left_s, SLICE_S)))
        except KafkaException as error:
            raise classified(error.args[0], "reading Kafka") from None

    def _hand_out(self, events: list[Record]) -> list[RawBatch]:
        """Return batches of what the client gave, and move each partition's standing behind them."""
        if not events:
            return self._passed_holes()
        self._outage.answered()
        records = events
        if any(map(Record.error, events)):
            records = [event for event in events if event.error() is None]
            for event in events:
                self._take_error(event)
        groups = {it: group for it, group in by_partition(records).items() if it in self._standing}
        return self._batches(groups) if groups else []

    def _batches(self, groups: Mapping[Partition, list[Record]]) -> list[RawBatch]:
        batches = []
        for at in self._client.position([TopicPartition(*it) for it in groups]):
            partition = Partition(at.topic, at.partition)
            standing = self._standing[partition]
            read = columns(groups[partition], standing.offset)
            if not read["offsets"]:
                continue
            next_offset = max(at.offset, read["offsets"][-1] + 1)
            batches.append(self._batch(partition, standing, next_offset, read))
        return batches

    def _batch(self, partition: Partition, standing: _Standing, next_offset: int, read: dict[str, Any]) -> RawBatch:
        start = standing.stored
        end = LogPosition(partition.topic, standing.topic_id, partition.partition, next_offset)
        standing.stored, standing.offset = end, next_offset
        return RawBatch(topic=self._topics[partition.topic], start=start, end=end, **read)

    def _passed_holes(self) -> list[RawBatch]:
        """Return empty batches for partitions whose position moved over markers alone.

        Without them a store would lag by the markers behind the last record for ever.
        """
        now_s = time.monotonic()
        if self._is_paused or not self._standing or now_s < self._holes_at_s:
            return []
        self._holes_at_s = now_s + HOLES_S
        batches = []
        for at in self._client.position([TopicPartition(*it) for it in self._standing]):
            partition = Partition(at.topic, at.partition)
            standing = self._standing[partition]
            if at.error is None and at.offset > standing.offset:
                batches.append(self._batch(partition, standing, at.offset, columns([])))
        return batches

    def _take_error(self, event: Record) -> None:
        error = event.error()
        if error is None:
            return
        partition = place_of(event)
        if error.name() in OUT_OF_LOG and partition in self._standing:
            self._place_anew([partition])  # `beginning` says what is wrong and where to go on
        elif error.name() in UNKNOWN_TOPIC:
            self._miss(partition.topic)
            self._watch_at_s = 0.0
        elif error.name() in _HEALS_ALONE:
            log.warning("client", why=error.str())
        elif partition.topic == "" or partition in self._standing or error.fatal():
            self._failure = classified(error, f"reading {partition.topic or 'Kafka'}")

    def _raise_failure(self) -> None:
        self._outage.raise_fatal()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    # What Kafka keeps.

    def _may_commit(self, end: LogPosition) -> bool:
        standing = self._standing.get(Partition(end.topic, end.partition))
        if (
            standing is not None
            and standing.topic_id == end.topic_id
            and standing.committed <= end.next_offset <= standing.offset
        ):
            return True
        self._count_lost(end.topic)
        return False

    def _count_lost(self, topic: str) -> None:
        self.lost_commits += 1
        LOST_COMMITS.labels(topic).inc()
        log.warning("commit left out", topic=topic, why="its partition has moved")

    def _commit_once(self, ends: Sequence[LogPosition]) -> list[LogPosition]:
        """Commit, and return what must be tried again."""
        by_place = {Partition(end.topic, end.partition): end for end in ends}
        offsets = [TopicPartition(end.topic, end.partition, end.next_offset, metadata=end.topic_id) for end in ends]
        try:
            results = self._client.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            return self._after_refusal(error.args[0], ends)
        again: list[LogPosition] = []
        for result in results:
            end = by_place[Partition(result.topic, result.partition)]
            if result.error is None:
                self._standing[Partition(end.topic, end.partition)].committed = end.next_offset
            else:
                again += self._after_refusal(result.error, [end])
        return again

    def _after_refusal(self, error: KafkaError, ends: Sequence[LogPosition]) -> list[LogPosition]:
        if error.name() in _LOST or error.name() in UNKNOWN_TOPIC:
            for end in ends:
                self._count_lost(end.topic)
            return []
        problem = classified(error, "committing offsets")
        if isinstance(problem, FatalError):
            raise problem
        if error.retriable() or error.name() in ("REBALANCE_IN_PROGRESS", "_WAIT_COORD"):
            return list(ends)
        raise problem


def _ignore(partitions: Collection[Partition]) -> None:
    """Take no notice of what begins or ends."""


_SETTINGS: dict[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "partition.assignment.strategy": "cooperative-sticky",
    "isolation.level": "read_committed",
    # The default of a second stalls whoever reads faster than the brokers' first answer fills.
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 100,
    "check.crcs": True,
}
