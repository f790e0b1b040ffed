"""Topics of a test's own on Apache Kafka, and engines that run beside it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient

from coinstream.engine import ENGINE_GROUP, run_engine
from coinstream.kafka import (
    Producer,
    apply_topics,
    committed_positions,
    end_offsets,
    last_offsets,
    read_range,
    start_offsets,
)
from coinstream.messages import (
    ACCOUNTS,
    COMMANDS,
    EVENTS,
    AccountState,
    Command,
    Event,
    Message,
    Topic,
    decode_batch,
)


class Exchange:
    """What a test does with the engine's topics."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = prefix
        self.producer = Producer(bootstrap, client_id="test-user", topic_prefix=prefix)
        self._engines: list[tuple[threading.Thread, threading.Event]] = []

    def start(self) -> Callable[[], None]:
        """Start an engine in a thread; returns what stops it."""
        stop = threading.Event()
        options = {"bootstrap": self.bootstrap, "topic_prefix": self.prefix, "session_timeout_ms": 6000}
        failures: list[BaseException] = []

        def run() -> None:
            try:
                run_engine(stop.is_set, **options)  # type: ignore[arg-type]
            except BaseException as error:
                failures.append(error)
                raise

        thread = threading.Thread(target=run)
        thread.start()
        self._engines.append((thread, stop))

        def end() -> None:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()
            assert failures == []

        return end

    def send(self, *commands: Message) -> None:
        """Publish commands, acknowledged."""
        for command in commands:
            self.producer.publish(command)
        self.producer.flush(30)

    def wait_until_answered(self, timeout_s: float = 60) -> None:
        """Wait until the group has committed all commands that are in the log."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            ends = end_offsets(self.bootstrap, [COMMANDS], topic_prefix=self.prefix)
            group = self.prefix + ENGINE_GROUP
            done = committed_positions(self.bootstrap, group, [COMMANDS], topic_prefix=self.prefix)
            if all(
                it in done and done[it].next_offset >= end.next_offset for it, end in ends.items() if end.next_offset
            ):
                return
            time.sleep(0.1)
        raise AssertionError(f"commands are unanswered after {timeout_s} s")

    def events(self) -> list[Event]:
        """All committed events, in order per account."""
        return self._read(EVENTS)  # type: ignore[return-value]

    def states(self) -> dict[str, AccountState]:
        """The newest committed state of each account."""
        found = self._read(ACCOUNTS)
        return {state.account_id: state for state in found if isinstance(state, AccountState)}

    def _read(self, topic: Topic) -> list[Message]:
        starts = start_offsets(self.bootstrap, [topic], topic_prefix=self.prefix)
        ends = last_offsets(self.bootstrap, starts)
        found: list[Message] = []
        for batch in read_range(self.bootstrap, starts, ends, topic_prefix=self.prefix):
            messages, refusals = decode_batch(topic.carries, batch.values)
            assert refusals == []
            found += [message for message in messages if message is not None]
        return found

    def close(self) -> None:
        """Stop whatever still runs."""
        for thread, stop in self._engines:
            stop.set()
            thread.join(30)
        self.producer.close()


@pytest.fixture
def exchange(kafka_bootstrap: str) -> Iterator[Exchange]:
    prefix = f"t{uuid.uuid4().hex[:12]}."
    apply_topics(kafka_bootstrap, topic_prefix=prefix)
    it = Exchange(kafka_bootstrap, prefix)
    yield it
    it.close()
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    for future in admin.delete_topics(names).values():
        future.result(10)


__all__ = ["Command", "Exchange", "exchange"]
