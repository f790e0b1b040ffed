"""The proof: both stores against an independent fold of the log.

`take_baseline` is called while the lag is 0 and nothing publishes; `Baseline.compare` when the lag is
0 again. Between the two lies a run. Every distinct natural key that the run published must be in
PostgreSQL exactly once with the folded values, and the tables must have grown by exactly the keys
that a snapshot taken before the run did not have. MongoDB's documents are held to the same, its
latest states to the newest of the run or what an earlier run left that is newer by their own rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta

from coinstream.errors import FatalError, RefusedError
from coinstream.kafka import end_offsets, read_dead_letters, read_range
from coinstream.messages import MARKET_TOPICS, TOPIC_OF, TOPICS, LogPosition, Message, Partition, decode, utc
from coinstream.operations.fold import RunFold
from coinstream.operations.held import (
    Before,
    Findings,
    NothingBefore,
    Unreadable,
    held_to_letters,
    held_to_mongodb,
    held_to_postgres,
)
from coinstream.stores.mongodb.read import LogStamp, MongoReader
from coinstream.stores.postgres.read import PostgresReader

MOST_DISAGREEMENTS = 50
"""More than so many are counted, not listed."""


@dataclass(slots=True)
class Comparison:
    """What a run published and what the stores made of it.

    Attributes:
        messages: Published by the run, by topic without prefix.
        rows: In PostgreSQL afterwards, by table.
        new_rows: How many of them the run added.
        documents: In MongoDB afterwards, by collection.
        new_documents: How many of them the run added.
        duplicates: Messages whose key was there already, in the run or before it, by table.
        dead_letters: Letters written during the run.
        lost: Keys of the run that a store does not have, by store and table.
        doubled: Rows and documents more than there are keys, by store and table.
        unreadable: Records of the run that no decoder accepts.
        lettered: How many of those each store's sink left in dead letters with their bytes, by store.
        disagreements: In words, what is not as the log says; at most `MOST_DISAGREEMENTS`.
        run: What the run's messages come to.
    """

    messages: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    new_rows: dict[str, int] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    new_documents: dict[str, int] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    dead_letters: int = 0
    lost: dict[str, dict[str, int]] = field(default_factory=dict)
    doubled: dict[str, dict[str, int]] = field(default_factory=dict)
    unreadable: int = 0
    lettered: dict[str, int] = field(default_factory=dict)
    disagreements: list[str] = field(default_factory=list)
    run: RunFold = field(default_factory=RunFold, repr=False)

    @property
    def agreed(self) -> bool:
        """Whether both stores hold exactly what the log says."""
        return not self.disagreements


def take_baseline(  # noqa: PLR0913 - all keyword-only: addresses, and the time
    *,
    kafka_bootstrap: str,
    topic_prefix: str,
    postgres_url: str,
    mongodb_url: str,
    mongodb_database: str,
    now_us: int,
    longest_run_s: float,
    from_nothing: bool = False,
) -> Baseline:
    """Note how everything stands before a run; close the result when done with it.

    Args:
        kafka_bootstrap: ``host:port``.
        topic_prefix: Goes before every topic's name.
        postgres_url: Address with the reader's role.
        mongodb_url: Address with the reader's user.
        mongodb_database: Name of the database.
        now_us: The time, microseconds since 1970.
        longest_run_s: Documents that expire before the run can have ended are left out of the counts.
        from_nothing: PostgreSQL is empty, and may be stopped and started during the run, which no
            snapshot outlives: so none is held.

    Raises:
        TransientError: A server is away.
        FatalError: A topic, a schema or a right is missing, or PostgreSQL is not empty but should be.
    """
    cleanup = ExitStack()
    try:
        postgres = PostgresReader(postgres_url)
        cleanup.callback(postgres.close)
        mongodb = MongoReader(mongodb_url, mongodb_database)
        cleanup.callback(mongodb.close)
        before: Before = cleanup.enter_context(postgres.hold_snapshot()) if not from_nothing else _nothing_in(postgres)
        return Baseline(
            kafka_bootstrap=kafka_bootstrap,
            topic_prefix=topic_prefix,
            starts=end_offsets(kafka_bootstrap, TOPICS, topic_prefix=topic_prefix),
            postgres=postgres,
            before=before,
            mongodb=mongodb,
            documents=mongodb.counts(utc(now_us) + timedelta(seconds=longest_run_s)),
            expires_after_us=now_us + int(longest_run_s * 1_000_000),
            cleanup=cleanup,
        )
    except BaseException:
        cleanup.close()
        raise


@dataclass(frozen=True, slots=True)
class Baseline:
    """How everything stood before a run."""

    kafka_bootstrap: str
    topic_prefix: str
    starts: Mapping[Partition, LogPosition]
    postgres: PostgresReader
    before: Before
    mongodb: MongoReader
    documents: Mapping[str, int]
    expires_after_us: int
    cleanup: ExitStack

    def close(self) -> None:
        """Give the connections and the snapshot back."""
        self.cleanup.close()

    def compare(self, *, progress: Callable[[str], None]) -> Comparison:
        """Read the run's messages from the log and hold both stores to them.

        Raises:
            TransientError: A server is away.
        """
        ends = end_offsets(self.kafka_bootstrap, TOPICS, topic_prefix=self.topic_prefix)
        comparison = Comparison()
        unreadable: list[Unreadable] = []
        comparison.run = fold = self._fold(ends, comparison, unreadable)
        progress(f"comparing {sum(comparison.messages.values()):,} messages with both stores")
        letters = [topic for topic in TOPICS if topic.is_of_dead_letters]
        comparison.dead_letters = sum(self._written(topic.name, ends) for topic in letters)
        rows_before, comparison.rows = self.before.counts(), self.postgres.counts()
        comparison.new_rows = {table: count - rows_before[table] for table, count in comparison.rows.items()}
        in_postgres = held_to_postgres(fold, self.before, self.postgres, comparison.new_rows)
        comparison.documents = self.mongodb.counts()
        after = self.mongodb.counts(utc(self.expires_after_us))
        comparison.new_documents = {name: count - self.documents.get(name, 0) for name, count in after.items()}
        in_mongodb = held_to_mongodb(fold, self._is_of_run, self.mongodb, comparison.new_documents)
        in_letters = self._held_to_letters(unreadable)
        comparison.unreadable = len(unreadable)
        comparison.lettered = dict(in_letters.lettered)
        comparison.duplicates = {name: count for name, count in in_postgres.duplicates.items() if count}
        for store, findings in (("postgresql", in_postgres), ("mongodb", in_mongodb)):
            comparison.lost[store] = dict(findings.lost)
            comparison.doubled[store] = dict(findings.doubled)
        comparison.disagreements = _listed(in_postgres, in_mongodb, in_letters)
        return comparison

    def _held_to_letters(self, unreadable: list[Unreadable]) -> Findings:
        if not unreadable:
            return Findings()
        topics = sorted({one.topic.name for one in unreadable})
        letters = read_dead_letters(self.kafka_bootstrap, topic_prefix=self.topic_prefix, topics=topics)
        return held_to_letters(unreadable, letters)

    def _fold(
        self, ends: Mapping[Partition, LogPosition], comparison: Comparison, unreadable: list[Unreadable]
    ) -> RunFold:
        fold = RunFold()
        market = {self.topic_prefix + topic.name for topic in MARKET_TOPICS}
        starts = {partition: start for partition, start in self.starts.items() if partition.topic in market}
        comparison.messages = {topic.name: 0 for topic in MARKET_TOPICS}
        for batch in read_range(self.kafka_bootstrap, starts, ends, topic_prefix=self.topic_prefix):
            comparison.messages[batch.topic.name] += len(batch.values)
            (kind,) = batch.topic.carries
            for offset, value in zip(batch.offsets, batch.values, strict=True):
                try:
                    fold.add(decode(kind, value or b""))
                except RefusedError:
                    unreadable.append(Unreadable(batch.topic, batch.partition, offset, value))
        comparison.messages = {name: count for name, count in comparison.messages.items() if count}
        return fold

    def _written(self, topic: str, ends: Mapping[Partition, LogPosition]) -> int:
        name = self.topic_prefix + topic
        return sum(
            end.next_offset - self.starts[partition].next_offset
            for partition, end in ends.items()
            if partition.topic == name
        )

    def _is_of_run(self, kind: type[Message], stamp: LogStamp) -> bool:
        """Whether the record of a document was published in this run."""
        start = self.starts.get(Partition(self.topic_prefix + TOPIC_OF[kind].name, stamp.partition))
        return start is not None and start.topic_id == stamp.topic_id and stamp.offset >= start.next_offset


def count_rows(postgres_url: str, table: str, columns: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Return how often each combination of some columns' values, as text, stands in a table that is not ours.

    Raises:
        TransientError: The server is away.
        FatalError: There is no such table.
    """
    reader = PostgresReader(postgres_url)
    try:
        return reader.tally(table, columns)
    finally:
        reader.close()


def _nothing_in(postgres: PostgresReader) -> NothingBefore:
    counts = postgres.counts()
    if any(counts.values()):
        raise FatalError(f"PostgreSQL should be empty, but it holds {counts}")
    postgres.close()  # a connection held through a restart of the server would be a broken one
    return NothingBefore()


def _listed(*findings: Findings) -> list[str]:
    every = [line for found in findings for line in found.disagreements]
    if len(every) <= MOST_DISAGREEMENTS:
        return every
    return [*every[:MOST_DISAGREEMENTS], f"… and {len(every) - MOST_DISAGREEMENTS} more"]
