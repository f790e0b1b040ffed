"""One loop that keeps a store from Kafka; both stores are driven by it.

The way of a batch, numbered because each step must survive a SIGKILL after it:

1. fetch    records of the assigned partitions, from the position the store stands at
2. decode   into messages; what cannot be decoded is refused
3. refuse   dead letters of what was refused, acknowledged by Kafka before anything is committed
4. write    rows and, where the store keeps them, the next offsets, in one transaction
5. commit   the offsets to Kafka, where the store does not keep them

While the store's server is at step 4 of a full batch, steps 1 and 2 of the next are done, by the same
thread: one batch at most is ahead. It has told nobody anything yet, and is dropped with the batch
before it where that fails. The group may take a partition back in between; then the store's
compare-and-set judges between this sink and the next.

After a crash between 3 and 4 a dead letter may stand twice, with the same offset in it; after one
between 4 and 5 the store is given the same messages again, which its keys and versions recognise.
A store that is away loses nothing: the batch is dropped, the partitions pause with the membership
kept, and reading begins again where the store says that it stands.
"""

from __future__ import annotations

import bisect
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from coinstream.errors import TransientError
from coinstream.kafka import BatchConsumer, DeadLetter, Producer, RawBatch, recover
from coinstream.messages import (
    MARKET_TOPICS,
    DecodedBatch,
    LogPosition,
    Message,
    Partition,
    RefusedMessage,
    decode_batch,
)
from coinstream.stores import Written
from coinstream.telemetry import (
    BATCH_SECONDS,
    CONSUMED,
    DEAD_LETTERS,
    DUPLICATES,
    HEALTHY_UNTIL,
    INSERTED,
    LAG,
    NEWEST_TIME,
    STORE_RETRIES,
    VISIBLE_SECONDS,
    logger,
)

POSTGRES_GROUP = "sink-postgres"
MONGODB_GROUP = "sink-mongodb"
"""Consumer groups, after the prefix of the topics."""
FETCH_MESSAGES = 10_000
FETCH_WAIT_S = 0.05
"""How long a batch gathers: at most this much is added to the latency of a record."""
TOUCH_EVERY_NS = 1_000_000_000
LAG_EVERY_NS = 2_000_000_000
HEALTHY_FOR_S = 60.0
"""How long a turn of the loop, in which the store and Kafka have answered, vouches for the process."""
FLUSH_TIMEOUT_S = 30.0
REMEMBERED_LETTERS = 10_000
LATENCY_SAMPLES = 20

log = logger("sink")


class Store(Protocol):
    """What the loop needs of a store; `write` takes a batch of each of several partitions.

    ``keeps_positions`` says whether the store keeps the log positions itself, in its transactions;
    otherwise they are committed to Kafka after each write.
    """

    name: str
    kinds: frozenset[type[Message]]
    keeps_positions: bool

    def write(
        self,
        batches: Sequence[DecodedBatch],
        refuse: Callable[[Sequence[RefusedMessage]], None],
        meanwhile: Callable[[], None],
    ) -> Written:
        """Write all of the batches or nothing; call ``refuse`` before what it refuses is passed by.

        It may call ``meanwhile`` once, in between, when it would only wait for the server.
        """

    def touch(self) -> None:
        """Ask the server for a sign of life; raise `TransientError` when there is none."""

    def close(self) -> None:
        """Give the connection back."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What was fetched together, as it came and decoded; nobody has been told of it yet."""

    raw: Sequence[RawBatch]
    decoded: Sequence[DecodedBatch]
    undecodable: Sequence[RefusedMessage]


class Sink:
    """The loop. Synchronous; ``stop`` is asked between batches.

    Args:
        store: Where messages go.
        consumer: Where they come from.
        producer: Takes the dead letters.
        stop: Says whether to end after the batch at hand.
        now_ns: The clock, nanoseconds since 1970.
        chance: Source of the jitter between retries.
    """

    def __init__(
        self,
        store: Store,
        consumer: BatchConsumer,
        producer: Producer,
        *,
        stop: Callable[[], bool],
        now_ns: Callable[[], int],
        chance: random.Random,
    ) -> None:
        self._store = store
        self._consumer = consumer
        self._producer = producer
        self._stop = stop
        self._now_ns = now_ns
        self._chance = chance
        self._touched_ns = 0
        self._lag_ns = 0
        self._ahead: _Prepared | None = None
        self._letters: deque[tuple[str, Partition, int]] = deque(maxlen=REMEMBERED_LETTERS)
        HEALTHY_UNTIL.labels("store").set(0)

    def run(self) -> None:
        """Move messages until told to stop; everything handed out by then is stored.

        Raises:
            FatalError: What no retry can mend; its text says what to do.
        """
        while self._ahead is not None or not self._stop():
            try:
                batch = self._next()
                if batch is not None:
                    self._move(batch)
                else:
                    self._idle()
                self._report_lag()
            except TransientError as error:
                self._recover(error)

    def _next(self) -> _Prepared | None:
        if self._ahead is not None:
            self._consumer.tend()
            batch, self._ahead = self._ahead, None
            return batch
        raw = self._consumer.fetch(FETCH_MESSAGES, FETCH_WAIT_S)
        return self._prepare(raw) if raw else None

    def _prepare(self, raw: Sequence[RawBatch]) -> _Prepared:
        decoded: list[DecodedBatch] = []
        undecodable: list[RefusedMessage] = []
        for batch in raw:
            good, refused = decode(batch)
            decoded.append(good)
            undecodable += refused
        return _Prepared(raw, decoded, undecodable)

    def _move(self, batch: _Prepared) -> None:
        began_ns = self._now_ns()
        is_full = sum(len(one.offsets) for one in batch.raw) >= FETCH_MESSAGES

        def refuse(refused: Sequence[RefusedMessage]) -> None:
            self._dead_letter(batch.raw, refused)

        if batch.undecodable:
            refuse(batch.undecodable)
        written = self._store.write(batch.decoded, refuse, self._look_ahead if is_full else _nothing)
        if not self._store.keeps_positions:
            self._consumer.commit([one.end for one in batch.decoded])
        self._touched_ns = self._now_ns()
        self._count(batch.decoded, written, began_ns)

    def _look_ahead(self) -> None:
        """Prepare what has come already, while the store's server is at the batch before it.

        Only behind a full batch: who is not behind would write many small ones, for nothing.
        """
        if not self._stop():
            raw = self._consumer.ready(FETCH_MESSAGES)
            self._ahead = self._prepare(raw) if raw else None

    def _dead_letter(self, raw: Sequence[RawBatch], refused: Iterable[RefusedMessage]) -> None:
        """Publish dead letters and wait for Kafka to have them, for then they are passed by for good."""
        by_partition = {Partition(batch.start.topic, batch.start.partition): batch for batch in raw}
        now_us = self._now_ns() // 1000
        sent: list[tuple[str, Partition, int]] = []
        for partition, offset, error in ((r.partition, r.offset, r.error) for r in refused):
            batch = by_partition[partition]
            identity = (batch.start.topic_id, partition, offset)
            if identity in self._letters:
                continue  # a write begun again after a transient error refuses the same messages again
            place = bisect.bisect_left(batch.offsets, offset)
            letter = DeadLetter.of_record(batch, place, error=error, stage=f"sink {self._store.name}", time_us=now_us)
            self._producer.publish_dead_letter(letter)
            log.warning("refused", topic=partition.topic, partition=partition.partition, offset=offset, why=str(error))
            sent.append(identity)
        if not sent:
            return
        self._producer.flush(FLUSH_TIMEOUT_S)
        self._letters.extend(sent)
        for _, partition, _ in sent:
            DEAD_LETTERS.labels(partition.topic).inc()

    def _idle(self) -> None:
        if self._now_ns() - self._touched_ns >= TOUCH_EVERY_NS:
            self._store.touch()
            self._touched_ns = self._now_ns()

    def _recover(self, error: TransientError) -> None:
        """Wait, with the membership kept, until the store answers; then begin where it stands."""
        self._ahead = None  # it follows what was not written, and is read again

        def waiting(why: TransientError, delay_s: float) -> None:
            STORE_RETRIES.labels(self._store.name).inc()
            log.warning("waiting", store=self._store.name, why=str(why), seconds=round(delay_s, 2))

        touch, stop, chance = self._store.touch, self._stop, self._chance
        recover(self._consumer, error, touch=touch, waiting=waiting, stop=stop, chance=chance)

    def _count(self, decoded: Sequence[DecodedBatch], written: Written, began_ns: int) -> None:
        now_ns = self._now_ns()
        name = self._store.name
        BATCH_SECONDS.labels(name).observe((now_ns - began_ns) / 1e9)
        for table, rows in written.inserted.items():
            INSERTED.labels(name, table).inc(rows)
        for table, rows in written.duplicates.items():
            DUPLICATES.labels(name, table).inc(rows)
        for batch in decoded:
            CONSUMED.labels(name, batch.start.topic).inc(len(batch.messages))
            times_ms = batch.timestamps_ms
            for time_ms in times_ms[:: max(1, len(times_ms) // LATENCY_SAMPLES)]:
                VISIBLE_SECONDS.labels(name).observe(max(0.0, now_ns / 1e9 - time_ms / 1e3))
            if times_ms:
                NEWEST_TIME.labels(name).set(times_ms[-1] / 1e3)

    def _report_lag(self) -> None:
        if self._now_ns() - self._lag_ns < LAG_EVERY_NS:
            return
        self._lag_ns = self._now_ns()
        lag_of_topic: dict[str, int] = {}
        for partition, messages in self._consumer.lag().items():
            lag_of_topic[partition.topic] = lag_of_topic.get(partition.topic, 0) + messages
        for topic, messages in lag_of_topic.items():
            LAG.labels(self._store.name, topic).set(messages)
        # Whoever comes here has written to the store or asked it, and Kafka has just told where its log ends.
        HEALTHY_UNTIL.labels("store").set(self._lag_ns / 1e9 + HEALTHY_FOR_S)


def _nothing() -> None:
    """Do nothing meanwhile."""


def decode(batch: RawBatch) -> tuple[DecodedBatch, list[RefusedMessage]]:
    """Return the messages of a fetched batch, and those that cannot be read.

    Raises:
        RefusedError: Never; what is refused is returned.
    """
    kinds = batch.topic.carries
    if not kinds:
        raise AssertionError(f"{batch.topic.name} carries no messages, and no sink subscribes to it")
    messages, refusals = decode_batch(kinds, batch.values)
    partition = Partition(batch.start.topic, batch.start.partition)
    if not refusals:
        kept: Sequence[Message] = messages  # type: ignore[assignment]  # no refusal: no None
        return DecodedBatch(kinds, batch.start, batch.end, kept, batch.offsets, batch.timestamps_ms), []
    places = [place for place, message in enumerate(messages) if message is not None]
    good = DecodedBatch(
        kinds,
        batch.start,
        batch.end,
        [message for message in messages if message is not None],
        [batch.offsets[place] for place in places],
        [batch.timestamps_ms[place] for place in places],
    )
    return good, [RefusedMessage(partition, batch.offsets[place], error) for place, error in refusals]


def run_postgres_sink(url: str, stop: Callable[[], bool], **kafka: Any) -> None:
    """Keep PostgreSQL from the market's topics until told to stop.

    Args:
        url: Address with the sink's role.
        stop: Says whether to end after the batch at hand.
        kafka: ``bootstrap``, ``topic_prefix`` and ``session_timeout_ms``.

    Raises:
        FatalError: What no retry can mend; its text says what to do.
    """
    from coinstream.stores.postgres.write import PostgresWriter  # noqa: PLC0415 - one process, one driver

    group = kafka["topic_prefix"] + POSTGRES_GROUP
    store = PostgresWriter(url, group=group, clock_us=lambda: time.time_ns() // 1000)
    _run(store, store.positions, group, stop, **kafka)


def run_mongodb_sink(url: str, database: str, stop: Callable[[], bool], **kafka: Any) -> None:
    """Keep MongoDB from the market's topics until told to stop.

    Args:
        url: Address with the sink's user.
        database: Name of the database.
        stop: Says whether to end after the batch at hand.
        kafka: ``bootstrap``, ``topic_prefix`` and ``session_timeout_ms``.

    Raises:
        FatalError: What no retry can mend; its text says what to do.
    """
    from coinstream.stores.mongodb.write import MongoWriter  # noqa: PLC0415 - one process, one driver

    _run(MongoWriter(url, database=database), None, kafka["topic_prefix"] + MONGODB_GROUP, stop, **kafka)


def _run(  # noqa: PLR0913 - the composition of one process
    store: Store,
    positions: Callable[[Sequence[LogPosition]], Mapping[Partition, LogPosition]] | None,
    group: str,
    stop: Callable[[], bool],
    *,
    bootstrap: str,
    topic_prefix: str,
    session_timeout_ms: int,
) -> None:
    client_id = f"coinstream-{group}-{os.getpid()}"
    producer = Producer(bootstrap, client_id=client_id, topic_prefix=topic_prefix)
    consumer = BatchConsumer(
        bootstrap,
        group=group,
        topics=[topic for topic in MARKET_TOPICS if topic.carries_only(store.kinds)],
        topic_prefix=topic_prefix,
        client_id=client_id,
        positions=positions,
        session_timeout_ms=session_timeout_ms,
    )
    try:
        Sink(store, consumer, producer, stop=stop, now_ns=time.time_ns, chance=random.SystemRandom()).run()
    finally:
        consumer.close()
        producer.close()
        store.close()
