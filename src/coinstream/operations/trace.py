"""One trade's way: where it stands in the log and in both stores, and how long each step took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from coinstream.errors import RefusedError
from coinstream.kafka import end_offsets, offsets_at_time, partition_of, read_range, start_offsets
from coinstream.messages import (
    BY_NAME,
    MINUTE_US,
    LogPosition,
    Partition,
    Trade,
    decode,
    minute_of,
)
from coinstream.stores.mongodb.read import MongoReader, Stored
from coinstream.stores.postgres.read import Neighbour, PostgresReader, TradeRow

TRADES = BY_NAME["market.trades"]
TELL_EVERY_S = 2.0
SLACK_US = 60_000_000
"""A record may carry a time so much before the moment at which its trade was received: clocks differ."""
MOST_MINUTES = 60
"""Coverage of so many minutes is asked for between the neighbours of a trade that is nowhere."""


class Record(NamedTuple):
    """A trade as it stands in the log.

    Attributes:
        time_us: Kafka's time of the record, microseconds (in whole milliseconds) since 1970: when it was produced.
    """

    partition: Partition
    offset: int
    time_us: int
    trade: Trade


class Step(NamedTuple):
    """One step of the way.

    Attributes:
        time_us: When, microseconds since 1970; ``None``: nobody knows.
        delay_us: Since the step before; ``None``: unknown. Of two clocks, and so it may be negative.
        note: Why it is unknown, or whose clock it is.
    """

    name: str
    time_us: int | None
    delay_us: int | None
    note: str = ""


@dataclass(slots=True)
class TradeTrace:
    """What is known of one trade.

    Attributes:
        record: The first record of it, or the one its document is from; ``None``: not found in the log.
        rows: PostgreSQL's.
        document: MongoDB's.
        steps: Empty when it is nowhere.
        hint: What to look at next, in a sentence; empty when all is there.
    """

    venue: str
    symbol: str
    trade_id: str
    record: Record | None = None
    rows: list[TradeRow] = field(default_factory=list)
    document: Stored[Trade] | None = None
    steps: list[Step] = field(default_factory=list)
    hint: str = ""

    @property
    def is_found(self) -> bool:
        """Whether it is anywhere."""
        return self.record is not None or bool(self.rows) or self.document is not None

    @property
    def facts(self) -> Any:
        """What was traded: the message, or the row where there is no other witness; ``None`` where there is none."""
        if self.record is not None:
            return self.record.trade
        return self.document.message if self.document is not None else next(iter(self.rows), None)


def trace_trade(  # noqa: PLR0913 - all keyword-only: addresses, the trade, the bounds of the search
    *,
    kafka_bootstrap: str,
    topic_prefix: str,
    postgres_url: str,
    mongodb_url: str,
    mongodb_database: str,
    venue: str,
    symbol: str,
    trade_id: str,
    since_us: int,
    progress: Callable[[str], None],
) -> TradeTrace:
    """Find a trade in the log and in both stores.

    A document names its record; without one the key's partition is searched from the time at which the
    row says that the trade was received, and without that from ``since_us`` on.

    Args:
        kafka_bootstrap: ``host:port``.
        topic_prefix: Goes before every topic's name.
        postgres_url: Address with the reader's role.
        mongodb_url: Address with the reader's user.
        mongodb_database: Name of the database.
        venue: The venue's name, as messages have it.
        symbol: ``BASE-QUOTE``.
        trade_id: The venue's.
        since_us: Where a search of the log begins that no store helps, microseconds since 1970.
        progress: Told now and then how far a search is.

    Raises:
        TransientError: A server is away.
        FatalError: A topic, a schema or a right is missing.
    """
    trace = TradeTrace(venue, symbol, trade_id)
    postgres, mongodb = PostgresReader(postgres_url), MongoReader(mongodb_url, mongodb_database)
    try:
        trace.rows = postgres.trade(venue, symbol, trade_id)
        document_id = f"{venue}:{symbol}:{trade_id}"
        trace.document = mongodb.trades([document_id]).get(document_id)
        log = _Log(kafka_bootstrap, topic_prefix, progress)
        trace.record = log.record_of(trace, since_us)
        if not trace.is_found:
            trace.hint = _where_to_look(postgres, trace)
            return trace
    finally:
        postgres.close()
        mongodb.close()
    trace.steps = _steps(trace)
    trace.hint = _what_is_missing(trace)
    return trace


class _Log:
    def __init__(self, bootstrap: str, topic_prefix: str, progress: Callable[[str], None]) -> None:
        self._bootstrap = bootstrap
        self._prefix = topic_prefix
        self._progress = progress

    def record_of(self, trace: TradeTrace, since_us: int) -> Record | None:
        starts = start_offsets(self._bootstrap, [TRADES], topic_prefix=self._prefix)
        ends = end_offsets(self._bootstrap, [TRADES], topic_prefix=self._prefix)
        if trace.document is not None:
            stamp = trace.document.log
            partition = Partition(self._prefix + TRADES.name, stamp.partition)
            start, end = starts.get(partition), ends.get(partition)
            if start is None or end is None or start.topic_id != stamp.topic_id:
                return None  # the topic it stood in was deleted
            if not start.next_offset <= stamp.offset < end.next_offset:
                return None  # Kafka no longer keeps it
            place = LogPosition(partition.topic, start.topic_id, partition.partition, stamp.offset)
            after = LogPosition(partition.topic, start.topic_id, partition.partition, stamp.offset + 1)
            return self._search(trace, {partition: place}, {partition: after})
        key = f"{trace.venue}:{trace.symbol}".encode()
        partition = Partition(self._prefix + TRADES.name, partition_of(key, len(ends)))
        if trace.rows:
            since_us = trace.rows[0].received_time_us - SLACK_US
        begins = offsets_at_time(self._bootstrap, TRADES, since_us, topic_prefix=self._prefix)
        return self._search(trace, {partition: begins[partition]}, {partition: ends[partition]})

    def _search(
        self, trace: TradeTrace, starts: Mapping[Partition, LogPosition], ends: Mapping[Partition, LogPosition]
    ) -> Record | None:
        """Return the first record of the trade between two positions."""
        # Most records are passed over by a look for the id, at a hundredth of what decoding costs.
        wanted = trace.trade_id.encode()
        told_s = time.monotonic()
        for batch in read_range(self._bootstrap, starts, ends, topic_prefix=self._prefix):
            for offset, time_ms, value in zip(batch.offsets, batch.timestamps_ms, batch.values, strict=True):
                if value is None or wanted not in value:
                    continue
                try:
                    trade = decode(Trade, value)
                except RefusedError:
                    continue
                if (trade.venue, trade.symbol, trade.trade_id) == (trace.venue, trace.symbol, trace.trade_id):
                    return Record(batch.partition, offset, time_ms * 1000, trade)
            if time.monotonic() - told_s > TELL_EVERY_S:
                told_s = time.monotonic()
                left = ends[batch.partition].next_offset - batch.end.next_offset
                self._progress(f"searching {batch.partition.topic}[{batch.partition.partition}]: {left:,} records left")
        return None


def _steps(trace: TradeTrace) -> list[Step]:
    event_us, received_us = trace.facts.event_time_us, trace.facts.received_time_us
    produced_us = trace.record.time_us if trace.record else None
    committed_us = trace.rows[0].committed_time_us if trace.rows else None
    if not trace.rows:
        in_postgres = "not there"
    elif committed_us is None:
        in_postgres = "the server keeps no commit times (track_commit_timestamp)"
    else:
        in_postgres = "commit time, PostgreSQL's clock"
    return [
        Step("traded", event_us, None, "the venue's clock"),
        Step("received", received_us, received_us - event_us, "ingest's clock"),
        # Kafka's times are milliseconds: the difference is known to one.
        Step(
            "produced",
            produced_us,
            None if produced_us is None else produced_us - received_us,
            "ingest's clock, whole milliseconds" if trace.record else "its record is not in the log",
        ),
        Step(
            "visible in PostgreSQL",
            committed_us,
            None if committed_us is None or produced_us is None else committed_us - produced_us,
            in_postgres,
        ),
        Step(
            "visible in MongoDB", None, None, "not there" if trace.document is None else "MongoDB keeps no time of it"
        ),
    ]


def _what_is_missing(trace: TradeTrace) -> str:
    missing = [
        name
        for name, is_there in (
            ("PostgreSQL", bool(trace.rows)),
            ("MongoDB", trace.document is not None),
        )
        if not is_there
    ]
    if trace.record is None:
        return "its record was not found in the log: Kafka keeps trades for 7 days"
    if not missing:
        return ""
    return (
        f"{' and '.join(missing)} {'does' if len(missing) == 1 else 'do'} not have it: look at the lag of the sink,"
        " then at `coinstream dead-letters list --topic market.trades`; MongoDB keeps a day of trades"
    )


def _where_to_look(postgres: PostgresReader, trace: TradeTrace) -> str:
    """Say what coverage says of the time in which a trade that is nowhere should have come."""
    beside = postgres.neighbours(trace.venue, trace.symbol, trace.trade_id)
    before = next((one for one in beside if one.trade_id < trace.trade_id), None)
    after = next((one for one in beside if one.trade_id > trace.trade_id), None)
    if before is None or after is None:
        known = f" (the nearest stored is {beside[0].trade_id})" if beside else ""
        return (
            f"no trades on both sides of this id are stored{known}: check venue and symbol, the lag of the sinks,"
            " and market.coverage of the minute in which you expect it"
        )
    return f"it lies between {before.trade_id} and {after.trade_id}; {_said(postgres, trace, before, after)}"


def _said(postgres: PostgresReader, trace: TradeTrace, before: Neighbour, after: Neighbour) -> str:
    first, last = minute_of(before.event_time_us), minute_of(after.event_time_us)
    minutes = range(first, last + 1, MINUTE_US)[:MOST_MINUTES]
    words = postgres.stored("coverage", [(trace.venue, trace.symbol, "trades", minute) for minute in minutes])
    said = sorted({word.status for word in words.values()})
    between = f"from {_clock(first)} to {_clock(last + MINUTE_US)} UTC"
    if not said:
        return f"market.coverage says nothing of its trades {between}: look at the log of ingest"
    return f"market.coverage calls its trades {between} {', '.join(said)}"


def _clock(time_us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(time_us // 1_000_000))
