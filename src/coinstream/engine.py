"""The trading engine's process: `trading` decides, and Kafka keeps each decision with what caused it.

The way of a turn, numbered because each step must survive a SIGKILL after it:

1. follow   what the market published since: rules, books, quotes, trades
2. fetch    commands of the partitions that the group gave to this member
3. decide   in memory: events, and the accounts as they leave them
4. commit   events, the state of each account that changed, dead letters, and the offset of every partition that
            was decided for, in one Kafka transaction

What is in memory runs ahead of what is committed only within a turn. After an error, and whenever a partition comes
here, memory is thrown away and read anew: first the group's committed offset, which no open transaction can still
move; then `trading.accounts` up to its end, waiting for transactions that are open there. A member that lost its
partitions meanwhile is refused in 4, where the group's coordinator compares generations.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

from coinstream.errors import FatalError, RefusedError, TransientError
from coinstream.kafka import (
    BatchConsumer,
    DeadLetter,
    RawBatch,
    Tail,
    TransactionalProducer,
    last_offsets,
    read_range,
    recover,
    start_offsets,
)
from coinstream.messages import (
    ACCOUNTS,
    BY_NAME,
    COMMANDS,
    EVENTS,
    AccountState,
    BookSnapshot,
    LogPosition,
    Message,
    Partition,
    Trade,
    decode_batch,
)
from coinstream.telemetry import ANSWER_SECONDS, BATCH_SECONDS, CONSUMED, HEALTHY_UNTIL, LAG, STORE_RETRIES, logger
from coinstream.trading import STALE_AFTER_US, Account, Decision, Markets, Resting, decide, wake

ENGINE_GROUP = "engine"
"""Consumer group, after the prefix of the topics."""
FETCH_COMMANDS = 2_000
FETCH_WAIT_S = 0.01
"""How long commands gather, and how long a message of the market waits: an order's latency has both."""
FOLLOW_MESSAGES = 20_000
CATCH_UP_S = 60.0
LAG_EVERY_NS = 10_000_000_000
HEALTHY_FOR_S = 60.0
LATENCY_SAMPLES = 20
INSTRUMENTS = BY_NAME["market.instruments"]
RECENT = (BY_NAME["market.books"], BY_NAME["market.quotes"], BY_NAME["market.trades"])

log = logger("engine")

Restore = Callable[[Collection[int]], Iterable[tuple[int, AccountState]]]
Commit = Callable[[Sequence[Message], Sequence[DeadLetter], Sequence[LogPosition]], None]


class Commands(Protocol):
    """What the loop needs of its member of the consumer group: `BatchConsumer`."""

    def fetch(self, max_messages: int, timeout_s: float) -> list[RawBatch]: ...  # noqa: D102 - as there
    def stands(self, numbers: Collection[int]) -> list[LogPosition]: ...  # noqa: D102
    def rewind(self) -> None: ...  # noqa: D102
    def pause(self) -> None: ...  # noqa: D102
    def resume(self) -> None: ...  # noqa: D102
    def keep_alive(self, timeout_s: float) -> None: ...  # noqa: D102
    def lag(self) -> dict[Partition, int]: ...  # noqa: D102


class Follows(Protocol):
    """What the loop needs to follow the market: `Tail`."""

    @property
    def is_caught_up(self) -> bool: ...  # noqa: D102 - as there
    def read(self, max_messages: int, timeout_s: float) -> list[RawBatch]: ...  # noqa: D102


class Accounts:
    """The accounts of the partitions that are this member's, and the orders that rest for them.

    Args:
        restore: Yields the committed states of some partitions, by their numbers, each partition's in the order of
            its log: an account's last one counts. It may raise `TransientError`.
    """

    def __init__(self, restore: Restore) -> None:
        self._restore = restore
        self._of_partition: dict[int, dict[str, Account]] = {}
        self._partition_of: dict[str, int] = {}
        self.resting = Resting()
        self.has_begun = False
        """Whether partitions came since this was last set to false: their orders have not met the market yet."""

    def begins(self, partitions: Collection[Partition]) -> None:
        """Read the accounts of partitions that are this member's from now on.

        Raises:
            TransientError: Kafka is away or moving; nothing is here of any of them.
            FatalError: A state cannot be read: what it says of money must not be guessed.
        """
        if not partitions:
            return
        self.ends(partitions)
        began_s = time.monotonic()
        newest: dict[int, dict[str, AccountState]] = {it.partition: {} for it in partitions}
        for number, state in self._restore(newest.keys()):
            newest[number][state.account_id] = state
        for number, states in newest.items():
            self._of_partition[number] = {}
            for state in states.values():
                self.put(number, Account.restore(state))
        self.has_begun = True
        count = sum(map(len, newest.values()))
        log.info("restored", partitions=len(newest), accounts=count, seconds=round(time.monotonic() - began_s, 3))

    def ends(self, partitions: Collection[Partition]) -> None:
        """Forget the accounts of partitions that are not this member's any more, or are read anew."""
        for it in partitions:
            for account in self._of_partition.pop(it.partition, {}).values():
                self.resting.replace(account, None)
                del self._partition_of[account.account_id]

    def get(self, number: int, account_id: str) -> Account | None:
        """Return an account of a partition; ``None`` where it is not open."""
        return self._of_partition[number].get(account_id)

    def of_id(self, account_id: str) -> tuple[int, Account]:
        """Return an account that is here, and its partition's number."""
        number = self._partition_of[account_id]
        return number, self._of_partition[number][account_id]

    def put(self, number: int, account: Account) -> None:
        """Take in what an account is now."""
        accounts = self._of_partition[number]
        self.resting.replace(accounts.get(account.account_id), account)
        accounts[account.account_id] = account
        self._partition_of[account.account_id] = number


class _Outcome:
    """What a turn has decided, for its transaction."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.letters: list[DeadLetter] = []
        self.ends: dict[int, LogPosition] = {}
        self.changed: dict[str, int] = {}


class Engine:
    """The loop. Synchronous; ``stop`` is asked between turns.

    Args:
        commands: Where commands come from; it tells ``accounts`` which partitions begin and end.
        market: Where the market is followed.
        accounts: The state.
        commit: Carries out a turn's transaction: messages, dead letters, positions of the commands.
        stop: Says whether to end after the turn at hand.
        now_ns: The clock, nanoseconds since 1970.
        chance: Source of the jitter between retries.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, the seams of a process
        self,
        *,
        commands: Commands,
        market: Follows,
        accounts: Accounts,
        commit: Commit,
        stop: Callable[[], bool],
        now_ns: Callable[[], int],
        chance: random.Random,
    ) -> None:
        self._commands = commands
        self._market = market
        self._accounts = accounts
        self._commit = commit
        self._stop = stop
        self._now_ns = now_ns
        self._chance = chance
        self._markets = Markets()
        self._books: dict[tuple[str, str], tuple[BookSnapshot, int]] = {}
        self._lag_ns = 0
        HEALTHY_UNTIL.labels("kafka").set(0)

    def run(self) -> None:
        """Decide until told to stop; what was fetched by then is committed.

        Raises:
            FatalError: What no retry can mend; its text says what to do.
        """
        self._catch_up()
        while not self._stop():
            try:
                self.turn()
                self._report_lag()
            except TransientError as error:
                self._recover(error)

    def turn(self) -> None:
        """Fetch, follow, decide and commit once.

        Raises:
            TransientError: What is in memory may be ahead of what is committed: rewind before the next turn.
            FatalError: What no retry can mend.
        """
        # Partitions come and go within the fetch alone: what is decided after it is for the partitions of now.
        batches = self._commands.fetch(FETCH_COMMANDS, FETCH_WAIT_S)
        began_ns = self._now_ns()
        outcome = _Outcome()
        self._follow(outcome, began_ns // 1000)
        for batch in batches:
            self._decide(batch, outcome, began_ns // 1000)
        if not (batches or outcome.messages):
            return
        woken = set(outcome.changed.values()) - outcome.ends.keys()
        ends = [*outcome.ends.values(), *self._commands.stands(woken)]
        states = [self._accounts.get(number, account_id) for account_id, number in outcome.changed.items()]
        outcome.messages += [account.state() for account in states if account is not None]
        self._commit(outcome.messages, outcome.letters, ends)
        self._count(batches, began_ns)

    def _catch_up(self) -> None:
        """Learn the instruments' rules and the newest books before the first command is decided."""
        until_ns = self._now_ns() + int(CATCH_UP_S * 1e9)
        while not (self._market.is_caught_up or self._stop()):
            if self._now_ns() > until_ns:
                raise FatalError(f"the market's topics could not be read within {CATCH_UP_S:g} s; is Kafka overloaded?")
            self._follow(_Outcome(), self._now_ns() // 1000, wait_s=0.1)

    def _follow(self, outcome: _Outcome, now_us: int, wait_s: float = 0.0) -> None:
        """Take in what the market published, and let the orders that it reaches have it."""
        for batch in self._market.read(FOLLOW_MESSAGES, wait_s):
            # What cannot be read is the sinks' to dead-letter: they read the same topics.
            messages, _ = decode_batch(batch.topic.carries, batch.values)
            for message, time_ms in zip(messages, batch.timestamps_ms, strict=True):
                if message is not None:
                    self._take(message, time_ms * 1000, outcome, now_us)
        if self._accounts.has_begun:
            self._accounts.has_begun = False
            for book, published_us in list(self._books.values()):
                self._wake(book, published_us, outcome, now_us)

    def _take(self, message: Message, published_us: int, outcome: _Outcome, now_us: int) -> None:
        self._markets.take(message, published_us)  # type: ignore[arg-type]  # of the topics followed
        # A quote tells of prices alone: the depth that fills an order comes with the next book.
        if isinstance(message, BookSnapshot):
            self._books[message.venue, message.symbol] = (message, published_us)
            self._wake(message, published_us, outcome, now_us)
        elif isinstance(message, Trade):
            self._wake(message, published_us, outcome, now_us)

    def _wake(self, cause: BookSnapshot | Trade, published_us: int, outcome: _Outcome, now_us: int) -> None:
        reached = self._accounts.resting.reached_by(cause)
        if not reached or now_us - published_us > STALE_AFTER_US:
            return
        market = self._markets.get(cause.venue, cause.symbol)
        if market is None:
            return
        for account_id in sorted(reached):
            number, account = self._accounts.of_id(account_id)
            decision = wake(account, market, cause, published_time_us=published_us, now_us=now_us)
            self._keep(number, account, decision, outcome)

    def _decide(self, batch: RawBatch, outcome: _Outcome, now_us: int) -> None:
        commands, refusals = decode_batch(batch.topic.carries, batch.values)
        number = batch.partition.partition
        outcome.ends[number] = batch.end
        for refusal in refusals:
            self._refuse(batch, refusal.place, refusal.error, outcome, now_us)
        for place, command in enumerate(commands):
            if command is None:
                continue
            key = batch.keys[place]
            if key is None:
                error = RefusedError("a command without a key cannot be in order with its account's others")
                self._refuse(batch, place, error, outcome, now_us)
                continue
            account = self._accounts.get(number, command.account_id)  # type: ignore[union-attr]  # of this topic
            decision = decide(account, self._markets, command, key=key.decode("utf-8", "replace"), now_us=now_us)  # type: ignore[arg-type]
            self._keep(number, account, decision, outcome)

    def _refuse(self, batch: RawBatch, place: int, error: RefusedError, outcome: _Outcome, now_us: int) -> None:
        log.warning("refused", partition=batch.partition.partition, offset=batch.offsets[place], why=str(error))
        outcome.letters.append(DeadLetter.of_record(batch, place, error=error, stage="engine", time_us=now_us))

    def _keep(self, number: int, before: Account | None, decision: Decision, outcome: _Outcome) -> None:
        outcome.messages += decision.events
        after = decision.account
        if after is not None and after is not before:
            self._accounts.put(number, after)
            outcome.changed[after.account_id] = number

    def _recover(self, error: TransientError) -> None:
        """Wait, with the membership kept, until Kafka answers; then decide anew from what is committed."""

        def waiting(why: TransientError, delay_s: float) -> None:
            STORE_RETRIES.labels("engine").inc()
            log.warning("waiting", why=str(why), seconds=round(delay_s, 2))

        stop, chance = self._stop, self._chance
        # The rewind is itself a question to Kafka.
        recover(self._commands, error, touch=lambda: None, waiting=waiting, stop=stop, chance=chance)

    def _count(self, batches: Sequence[RawBatch], began_ns: int) -> None:
        now_ns = self._now_ns()
        BATCH_SECONDS.labels("engine").observe((now_ns - began_ns) / 1e9)
        HEALTHY_UNTIL.labels("kafka").set(now_ns / 1e9 + HEALTHY_FOR_S)
        for batch in batches:
            CONSUMED.labels("engine", COMMANDS.name).inc(len(batch.values))
            times_ms = batch.timestamps_ms
            for time_ms in times_ms[:: max(1, len(times_ms) // LATENCY_SAMPLES)]:
                ANSWER_SECONDS.observe(max(0.0, now_ns / 1e9 - time_ms / 1e3))

    def _report_lag(self) -> None:
        if self._now_ns() - self._lag_ns < LAG_EVERY_NS:
            return
        self._lag_ns = self._now_ns()
        LAG.labels("engine", COMMANDS.name).set(sum(self._commands.lag().values()))
        HEALTHY_UNTIL.labels("kafka").set(self._lag_ns / 1e9 + HEALTHY_FOR_S)


def run_engine(stop: Callable[[], bool], *, bootstrap: str, topic_prefix: str, session_timeout_ms: int) -> None:
    """Be one engine of the group until told to stop.

    Args:
        stop: Says whether to end after the turn at hand.
        bootstrap: Kafka's addresses ``host:port``, separated by commas.
        topic_prefix: Stands before every topic's name, and the group's.
        session_timeout_ms: Silence after which the group gives this member's partitions to others.

    Raises:
        FatalError: What no retry can mend; its text says what to do.
    """
    check_partition_counts(bootstrap, topic_prefix)
    client_id = f"coinstream-{topic_prefix}{ENGINE_GROUP}-{os.getpid()}"
    accounts = Accounts(lambda numbers: restored_states(bootstrap, topic_prefix, numbers))
    transactions = TransactionalProducer(bootstrap, client_id=client_id, topic_prefix=topic_prefix)
    market = Tail(
        bootstrap,
        whole=[INSTRUMENTS],
        newest=RECENT,
        since_us=time.time_ns() // 1000 - STALE_AFTER_US,
        client_id=client_id,
        topic_prefix=topic_prefix,
    )
    commands = BatchConsumer(
        bootstrap,
        group=topic_prefix + ENGINE_GROUP,
        topics=[COMMANDS],
        topic_prefix=topic_prefix,
        client_id=client_id,
        begins=accounts.begins,
        ends=accounts.ends,
        session_timeout_ms=session_timeout_ms,
    )
    engine = Engine(
        commands=commands,
        market=market,
        accounts=accounts,
        commit=lambda messages, letters, ends: transactions.commit(messages, letters, ends, commands),
        stop=stop,
        now_ns=time.time_ns,
        chance=random.SystemRandom(),
    )
    try:
        engine.run()
    finally:
        commands.close()
        market.close()
        transactions.close()


def restored_states(bootstrap: str, topic_prefix: str, numbers: Collection[int]) -> Iterator[tuple[int, AccountState]]:
    """Yield the committed states of some partitions of `trading.accounts`, each partition's in the order of its log.

    It waits for Kafka transactions that are still open there, for they began before this member had the partitions:
    when the last record known at the call has been passed, no other member can add one.

    Raises:
        TransientError: Kafka is away, moving, or a transaction stays open.
        FatalError: A state cannot be read.
    """
    wanted = [Partition(topic_prefix + ACCOUNTS.name, number) for number in numbers]
    starts = start_offsets(bootstrap, [ACCOUNTS], topic_prefix=topic_prefix)
    ends = last_offsets(bootstrap, wanted)
    for batch in read_range(bootstrap, {it: starts[it] for it in wanted}, ends, topic_prefix=topic_prefix):
        states, refusals = decode_batch(ACCOUNTS.carries, batch.values)
        for refusal in refusals:
            place = f"{batch.start.topic}[{batch.partition.partition}] at offset {batch.offsets[refusal.place]}"
            raise FatalError(f"an account's state cannot be read ({place}: {refusal.error}); no order is decided on it")
        for state in states:
            if isinstance(state, AccountState):
                yield batch.partition.partition, state


def check_partition_counts(bootstrap: str, topic_prefix: str) -> None:
    """Raise `FatalError` unless the three topics of trading have equal numbers of partitions."""
    found = start_offsets(bootstrap, [COMMANDS, EVENTS, ACCOUNTS], topic_prefix=topic_prefix)
    counts = {
        topic.name: sum(it.topic == topic_prefix + topic.name for it in found) for topic in (COMMANDS, EVENTS, ACCOUNTS)
    }
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise FatalError(f"the topics of trading must have equal numbers of partitions, but {told}; make them anew")
