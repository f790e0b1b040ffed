"""The sinks' loop, with a store, a consumer and a producer that do as they are told."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coinstream.errors import FatalError, RefusedError, TransientError
from coinstream.kafka import DeadLetter, RawBatch
from coinstream.messages import (
    BY_NAME,
    DecodedBatch,
    LogPosition,
    Message,
    Partition,
    RefusedMessage,
    Trade,
    encode,
)
from coinstream.sink import HEALTHY_FOR_S, Sink, decode
from coinstream.stores import Written
from coinstream.telemetry import HEALTHY_UNTIL

T = 1_700_000_000_000_000


def trade(number: int) -> Trade:
    return Trade(
        venue="v",
        symbol="A-B",
        trade_id=str(number),
        price="1",
        size="1",
        aggressor_side="sell",
        event_time_us=T,
        received_time_us=T,
        provenance="live",
    )


def fetched(*values: bytes | None, first_offset: int = 0, start: int | None = None) -> RawBatch:
    """A batch of market.trades/3 with consecutive offsets."""

    def position(offset: int) -> LogPosition:
        return LogPosition("market.trades", "id", 3, offset)

    return RawBatch(
        topic=BY_NAME["market.trades"],
        start=position(first_offset if start is None else start),
        end=position(first_offset + len(values)),
        values=list(values),
        offsets=[first_offset + n for n in range(len(values))],
        timestamps_ms=[T // 1000] * len(values),
        keys=[b"v:A-B"] * len(values),
    )


class Journal(list[tuple[Any, ...]]):
    """What happened, in order, across all the fakes."""


class FakeConsumer:
    """Hands out the batches it was given, then asks the loop to stop."""

    def __init__(self, journal: Journal, batches: Sequence[list[RawBatch]]) -> None:
        self._journal = journal
        self._batches = list(batches)
        self.is_done = False
        self.rewinds_that_fail = 0
        self.tend_failures: list[Exception] = []

    def fetch(self, _max: int, _timeout_s: float) -> list[RawBatch]:
        if not self._batches:
            self.is_done = True
            return []
        self._journal.append(("fetch",))
        return self._batches.pop(0)

    def tend(self) -> None:
        self._journal.append(("tend",))
        if self.tend_failures:
            raise self.tend_failures.pop(0)

    def ready(self, _max: int) -> list[RawBatch]:
        self._journal.append(("ready",))
        return self._batches.pop(0) if self._batches else []

    def commit(self, ends: Sequence[LogPosition]) -> None:
        self._journal.append(("commit", [end.next_offset for end in ends]))

    def rewind(self) -> None:
        if self.rewinds_that_fail:
            self.rewinds_that_fail -= 1
            raise TransientError("still away")
        self._journal.append(("rewind",))

    def pause(self) -> None:
        self._journal.append(("pause",))

    def resume(self) -> None:
        self._journal.append(("resume",))

    def keep_alive(self, timeout_s: float) -> None:
        assert 0 < timeout_s <= 5
        self._journal.append(("keep alive",))

    def lag(self) -> dict[Partition, int]:
        return {Partition("market.trades", 3): 7}


class FakeProducer:
    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.letters: list[DeadLetter] = []

    def publish_dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)
        self._journal.append(("letter", letter.offset))

    def flush(self, timeout_s: float) -> None:
        assert timeout_s > 0
        self._journal.append(("flush",))


class FakeStore:
    """Keeps what it is given; refuses some offsets; fails as often as it is told, before it commits."""

    name = "fake"
    kinds: frozenset[type[Message]] = frozenset({Trade})

    def __init__(self, journal: Journal, *, keeps_positions: bool = True, refuses: Sequence[int] = ()) -> None:
        self._journal = journal
        self.keeps_positions = keeps_positions
        self._refuses = refuses
        self.failures: list[Exception] = []
        self.stored: list[str] = []

    def write(
        self,
        batches: Sequence[DecodedBatch],
        refuse: Callable[[Sequence[RefusedMessage]], None],
        meanwhile: Callable[[], None],
    ) -> Written:
        meanwhile()
        for batch in batches:
            bad = [offset for offset in batch.offsets if offset in self._refuses]
            if bad:
                refuse([RefusedMessage(batch.partition, offset, RefusedError("no room")) for offset in bad])
        if self.failures:
            raise self.failures.pop(0)
        kept = [
            message.trade_id
            for batch in batches
            for message, offset in zip(batch.messages, batch.offsets, strict=True)
            if offset not in self._refuses and isinstance(message, Trade)
        ]
        self.stored += kept
        self._journal.append(("write", kept))
        return Written(inserted={"trades": len(kept)})

    def touch(self) -> None:
        self._journal.append(("touch",))

    def close(self) -> None:
        self._journal.append(("close",))


def run(
    *batches: list[RawBatch],
    store: FakeStore | None = None,
    rewinds_that_fail: int = 0,
    tend_failures: Sequence[Exception] = (),
    stop: Callable[[], bool] | None = None,
) -> tuple[Journal, FakeStore, FakeProducer]:
    journal = store._journal if store else Journal()
    store = store or FakeStore(journal)
    consumer = FakeConsumer(journal, batches)
    consumer.rewinds_that_fail = rewinds_that_fail
    consumer.tend_failures = list(tend_failures)
    producer = FakeProducer(journal)
    clock = iter(range(T * 1000, T * 1000 + 10**9, 1000))
    sink = Sink(
        store,
        consumer,  # type: ignore[arg-type]
        producer,  # type: ignore[arg-type]
        stop=stop or (lambda: consumer.is_done),
        now_ns=lambda: next(clock),
        chance=random.Random(1),
    )
    sink.run()
    return journal, store, producer


def test_messages_are_stored_in_order_and_positions_left_to_the_store() -> None:
    journal, store, _ = run([fetched(encode(trade(1)), encode(trade(2)))], [fetched(encode(trade(3)), first_offset=2)])
    assert store.stored == ["1", "2", "3"]
    assert not [entry for entry in journal if entry[0] == "commit"]


def test_offsets_are_committed_after_the_write_where_the_store_keeps_none() -> None:
    journal = Journal()
    run([fetched(encode(trade(1)), first_offset=41)], store=FakeStore(journal, keeps_positions=False))
    assert [entry for entry in journal if entry[0] in {"write", "commit"}] == [("write", ["1"]), ("commit", [42])]


def test_undecodable_record_is_dead_lettered_before_its_neighbours_are_written() -> None:
    raw = b'{"venue":"v"}'
    journal, store, producer = run([fetched(encode(trade(1)), raw, None, encode(trade(2)), first_offset=10)])
    assert store.stored == ["1", "2"]
    assert [entry[0] for entry in journal[:5]] == ["fetch", "letter", "letter", "flush", "write"]
    letter = producer.letters[0]
    assert (letter.value, letter.offset, letter.partition, letter.key) == (raw, 11, 3, b"v:A-B")
    assert (letter.error, letter.reason, letter.stage) == ("FieldError", "symbol: is missing", "sink fake")
    assert producer.letters[1].value is None


def test_what_the_store_refuses_is_acknowledged_before_the_commit() -> None:
    journal = Journal()
    _, store, producer = run([fetched(encode(trade(1)), encode(trade(2)))], store=FakeStore(journal, refuses=[1]))
    assert store.stored == ["1"]
    assert [entry[0] for entry in journal[:4]] == ["fetch", "letter", "flush", "write"]
    assert producer.letters[0].value == encode(trade(2))


def test_transient_error_drops_the_batch_and_reads_again_from_the_stored_position() -> None:
    journal = Journal()
    store = FakeStore(journal)
    store.failures = [TransientError("away")]
    batch = [fetched(encode(trade(1)))]
    run(batch, batch, store=store, rewinds_that_fail=2)
    once = [("pause",), ("keep alive",), ("touch",)]
    assert journal[:12] == [("fetch",), *once, *once, *once, ("rewind",), ("resume",)]
    assert store.stored == ["1"]


def test_a_batch_tried_again_leaves_one_dead_letter() -> None:
    journal = Journal()
    store = FakeStore(journal, refuses=[0])
    store.failures = [TransientError("away")]
    batch = [fetched(encode(trade(1)), encode(trade(2)))]
    _, _, producer = run(batch, batch, store=store)
    assert [letter.offset for letter in producer.letters] == [0]
    assert store.stored == ["2"]


@pytest.fixture
def full_at_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every batch with a record count as full."""
    monkeypatch.setattr("coinstream.sink.FETCH_MESSAGES", 1)


def one(number: int) -> list[RawBatch]:
    return [fetched(encode(trade(number)), first_offset=number)]


@pytest.mark.usefixtures("full_at_one")
def test_next_batch_is_prepared_while_a_full_one_is_written_and_written_after_it() -> None:
    journal, store, _ = run(one(1), one(2), one(3))
    assert store.stored == ["1", "2", "3"]
    assert journal[:8] == [
        ("fetch",),
        ("ready",),
        ("write", ["1"]),
        ("tend",),
        ("ready",),
        ("write", ["2"]),
        ("tend",),
        ("ready",),
    ]


def test_nothing_is_prepared_behind_a_batch_that_is_not_full() -> None:
    journal, store, _ = run(one(1), one(2))
    assert store.stored == ["1", "2"]
    assert not [entry for entry in journal if entry[0] in {"ready", "tend"}]


@pytest.mark.usefixtures("full_at_one")
def test_transient_error_drops_what_was_prepared_behind_the_batch_that_failed() -> None:
    store = FakeStore(Journal())
    store.failures = [TransientError("away")]
    journal, _, _ = run(one(1), one(2), one(1), one(2), store=store)
    assert store.stored == ["1", "2"]
    assert [entry[0] for entry in journal[:7]] == [
        "fetch",
        "ready",
        "pause",
        "keep alive",
        "touch",
        "rewind",
        "resume",
    ]
    assert journal[7] == ("fetch",)


@pytest.mark.usefixtures("full_at_one")
def test_failure_between_two_batches_drops_what_was_prepared() -> None:
    journal, store, _ = run(one(1), one(2), one(2), tend_failures=[TransientError("the cluster is away")])
    assert store.stored == ["1", "2"]
    assert [entry[0] for entry in journal].count("rewind") == 1


@pytest.mark.usefixtures("full_at_one")
def test_dead_letters_of_what_is_prepared_wait_for_their_turn() -> None:
    journal, store, producer = run(one(1), [fetched(b"{", encode(trade(3)), first_offset=2)])
    assert store.stored == ["1", "3"]
    assert [entry[0] for entry in journal[:6]] == ["fetch", "ready", "write", "tend", "letter", "flush"]
    assert [letter.offset for letter in producer.letters] == [2]


@pytest.mark.usefixtures("full_at_one")
def test_dead_letters_of_what_was_dropped_were_never_sent() -> None:
    store = FakeStore(Journal())
    store.failures = [FatalError("wrong password")]
    with pytest.raises(FatalError):
        run(one(1), [fetched(b"{", first_offset=2)], store=store)
    assert not [entry for entry in store._journal if entry[0] == "letter"]


@pytest.mark.usefixtures("full_at_one")
def test_sink_told_to_stop_stores_what_is_prepared_and_prepares_no_more() -> None:
    store = FakeStore(Journal())
    run(
        one(1),
        one(2),
        one(3),
        store=store,
        stop=lambda: ("write", ["1"]) in store._journal,
    )
    assert store.stored == ["1", "2"]


def test_fatal_error_ends_the_loop() -> None:
    journal = Journal()
    store = FakeStore(journal)
    store.failures = [FatalError("wrong password")]
    with pytest.raises(FatalError, match="wrong password"):
        run([fetched(encode(trade(1)))], store=store)


def test_idle_sink_touches_its_store() -> None:
    journal, _, _ = run()
    assert ("touch",) in journal


def test_decoding_keeps_offsets_beside_their_messages() -> None:
    batch = fetched(b"{", encode(trade(7)), b"[]", first_offset=5, start=2)
    good, refused = decode(batch)
    assert [m.trade_id for m in good.messages if isinstance(m, Trade)] == ["7"]
    assert (good.offsets, good.start.next_offset, good.end.next_offset) == ([6], 2, 8)
    assert [message.offset for message in refused] == [5, 7]


def healthy_until_s() -> float:
    (metric,) = HEALTHY_UNTIL.collect()
    return next(sample.value for sample in metric.samples if sample.labels == {"part": "store"})


def test_sink_vouches_for_itself_once_the_store_and_kafka_have_answered() -> None:
    run([fetched(encode(trade(1)))])
    assert healthy_until_s() == pytest.approx(T / 1_000_000 + HEALTHY_FOR_S, abs=1)


def test_sink_whose_store_is_away_does_not_vouch_for_itself() -> None:
    store = FakeStore(Journal())
    store.failures = [TransientError("away")]
    seen: list[float] = []
    store.touch = lambda: seen.append(healthy_until_s())  # type: ignore[method-assign]
    batch = [fetched(encode(trade(1)))]
    run(batch, batch, store=store)
    assert seen[0] == 0
