"""Publishing: idempotent, acknowledged by all replicas in sync, in order per key.

One object a process, used from one thread; from an asyncio loop directly, since `publish` only puts
a record into librdkafka's queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as Record
from confluent_kafka import Producer as Client

from coinstream.errors import CoinstreamError, FatalError, RefusedError, TransientError
from coinstream.kafka.connection import Outage, classified, client_settings, made, reach
from coinstream.kafka.dead_letters import MAX_VALUE_BYTES, DeadLetter, headers_of
from coinstream.messages import TOPIC_OF, TOPICS, Message, encode, key_of
from coinstream.telemetry import HEALTHY_UNTIL, PUBLISHED

QUEUE_MESSAGES = 200_000
QUEUE_KBYTES = 131_072
"""Memory for what is not yet acknowledged; at the bound `publish` waits, then raises."""
MAX_MESSAGE_BYTES = 1_000_000
"""Kafka's default limit of a record, less its frame."""
LINGER_MS = 5
QUEUE_WAIT_S = 5.0

Delivered = Callable[[KafkaError | None, Record], None]


class UndeliveredError(TransientError):
    """Something published is not acknowledged: publish it again, or begin anew from the source."""


class Producer:
    """Publishes messages and dead letters.

    Args:
        bootstrap: Addresses ``host:port``, separated by commas.
        client_id: The name in the brokers' logs.
        topic_prefix: Stands before every topic's name.
        queue_wait_s: Longest that `publish` waits while the queue is full; in an asyncio loop nothing
            else runs meanwhile.
        security: librdkafka's security settings, if any.
        healthy_for_s: How long an acknowledgement vouches for the process's health; ``None``: it says nothing of it.

    Raises:
        FatalError: No broker answers, the credentials are refused, or a topic of the table is missing.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str,
        topic_prefix: str = "",
        queue_wait_s: float = QUEUE_WAIT_S,
        security: Mapping[str, str] | None = None,
        healthy_for_s: float | None = None,
    ) -> None:
        self.topic_prefix = topic_prefix
        self._outage = Outage(bootstrap)
        self._queue_wait_s = queue_wait_s
        self._healthy_for_s = healthy_for_s
        if healthy_for_s is not None:
            HEALTHY_UNTIL.labels("kafka").set(0)
        self._client = made(Client, client_settings(bootstrap, client_id, self._outage, security) | _SETTINGS)
        self._produce = self._client.produce
        self._acknowledged = dict.fromkeys((topic.name for topic in TOPICS), 0)
        self._reported = dict(self._acknowledged)
        self._undelivered = 0
        self._failure: CoinstreamError | None = None
        self._callbacks = {topic_prefix + topic.name: self._callback(topic.name) for topic in TOPICS}
        self._routes: dict[type[Message], tuple[str, Delivered, Any]] = {
            kind: (
                topic_prefix + topic.name,
                self._callbacks[topic_prefix + topic.name],
                [("schema", kind.SCHEMA.encode())],
            )
            for kind, topic in TOPIC_OF.items()
        }
        present = reach(self._client, self._outage, lambda: self._client.poll(0)).topics
        missing = [name for name in self._callbacks if name not in present]
        if missing:
            # A broker may create a missing topic by itself, with another number of partitions.
            raise FatalError(f"topic {missing[0]} is missing at {bootstrap}; run `coinstream topics apply`")

    @property
    def acknowledged(self) -> Mapping[str, int]:
        """How many records Kafka has acknowledged so far, by the topic's name without prefix."""
        return self._acknowledged

    @property
    def waiting(self) -> int:
        """How many records are not yet acknowledged."""
        return len(self._client)

    def publish(self, message: Message) -> None:
        """Encode a message and put it into the queue of its topic and key.

        Raises:
            RefusedError: It is longer than Kafka takes.
            TransientError: The queue stayed full for ``queue_wait_s``; the message is not in it.
            FatalError: The client cannot go on.
        """
        topic, delivered, headers = self._routes[type(message)]
        value = encode(message)
        if len(value) > MAX_MESSAGE_BYTES:
            raise RefusedError(f"{topic}: a message of {len(value)} bytes is longer than {MAX_MESSAGE_BYTES}")
        try:
            self._produce(topic, value, key_of(message), on_delivery=delivered, headers=headers)
        except (BufferError, KafkaException) as error:
            self._produce_late(error, topic, value, key_of(message), on_delivery=delivered, headers=headers)

    def publish_dead_letter(self, letter: DeadLetter) -> None:
        """Put a dead letter into the queue of its topic; `flush` says whether Kafka has it.

        Raises:
            TransientError: The queue stayed full for ``queue_wait_s``.
            FatalError: The client cannot go on.
        """
        value = None if letter.value is None else letter.value[:MAX_VALUE_BYTES]
        record: dict[str, Any] = {"on_delivery": self._callbacks[letter.goes_to], "headers": headers_of(letter)}
        try:
            self._produce(letter.goes_to, value, letter.key, **record)
        except (BufferError, KafkaException) as error:
            self._produce_late(error, letter.goes_to, value, letter.key, **record)

    def serve(self) -> None:
        """Run delivery callbacks without waiting; call often.

        Raises:
            FatalError: The client cannot go on.
        """
        self._serving(self._client.poll, 0)
        self._report()
        self._raise_fatal()

    def flush(self, timeout_s: float) -> None:
        """Wait until everything published so far is acknowledged.

        Raises:
            UndeliveredError: Something is not, or failed since the last flush; what still waits is
                tried on, so publishing it again may double it.
            FatalError: The client cannot go on.
        """
        waiting = self._serving(self._client.flush, timeout_s)
        self._report()
        self._raise_fatal()
        undelivered, failure = self._undelivered, self._failure
        self._undelivered, self._failure = 0, None
        if undelivered or waiting:
            reason = failure or self._outage.reason or f"no acknowledgement within {timeout_s:g} s"
            raise UndeliveredError(f"{undelivered + waiting} records are not acknowledged by Kafka ({reason})")

    def close(self, timeout_s: float = 10.0) -> None:
        """Wait for what is queued, `timeout_s` at most, and let go of the connections.

        Raises:
            UndeliveredError: Something was not acknowledged; it is given up.
        """
        try:
            self.flush(timeout_s)
        finally:
            self._client.purge()
            self._client.poll(0)

    def _produce_late(self, error: BaseException, *args: Any, **record: Any) -> None:
        """Try again while the queue is full, serving callbacks meanwhile."""
        deadline = time.monotonic() + self._queue_wait_s
        while True:
            if isinstance(error, KafkaException):
                raise classified(error.args[0], f"publishing to {args[0]}") from None
            self._serving(self._client.poll, 0.01)
            self._raise_fatal()
            try:
                self._produce(*args, **record)
            except (BufferError, KafkaException) as again:
                error = again
            else:
                return
            if time.monotonic() > deadline:
                raise TransientError(
                    f"{len(self._client)} records wait for Kafka's acknowledgement and the queue is full"
                    f" ({self._outage.reason or 'the brokers are slow'})"
                )

    def _serving(self, call: Callable[[float], int], timeout_s: float) -> int:
        """Call what runs callbacks; a fatal error of the client comes out of it as an exception.

        Where delivery callbacks follow in the same call, the client loses that exception's object and
        Python reports a `SystemError` (confluent-kafka 2.16); nothing else raises one here.
        """
        try:
            return call(timeout_s)
        except KafkaException as error:
            problem = classified(error.args[0], "publishing")
        except SystemError:
            problem = FatalError("publishing: the Kafka client met a fatal error; restart this process")
        if isinstance(problem, FatalError):
            self._failure = problem  # it stays so: nothing is published any more
        raise problem

    def _callback(self, topic: str) -> Delivered:
        counts = self._acknowledged

        def delivered(error: KafkaError | None, record: Record) -> None:
            if error is None:
                counts[topic] += 1
                return
            self._undelivered += 1
            if self._failure is None or error.fatal():
                self._failure = classified(error, f"publishing to {record.topic()}")

        return delivered

    def _report(self) -> None:
        for topic, count in self._acknowledged.items():
            new = count - self._reported[topic]
            if new:
                PUBLISHED.labels(topic).inc(new)
                self._reported[topic] = count
                self._outage.answered()
                if self._healthy_for_s is not None:
                    HEALTHY_UNTIL.labels("kafka").set(time.time_ns() / 1e9 + self._healthy_for_s)

    def _raise_fatal(self) -> None:
        self._outage.raise_fatal()
        if isinstance(self._failure, FatalError):
            raise self._failure


_SETTINGS: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",  # as Java's tools do, so that they find a key where we put it
    "linger.ms": LINGER_MS,
    "compression.type": "lz4",
    "queue.buffering.max.messages": QUEUE_MESSAGES,
    "queue.buffering.max.kbytes": QUEUE_KBYTES,
    "message.max.bytes": MAX_VALUE_BYTES + 64 * 1024,
    # Five minutes of a broker's absence; longer, and the feed's coverage says what was lost.
    "delivery.timeout.ms": 300_000,
}
