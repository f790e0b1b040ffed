"""Publishing in Kafka transactions: messages and the group's offsets become readable together, or not at all.

The way of a transaction, numbered because each step must survive a SIGKILL after it:

1. begin    nothing is at the broker yet
2. produce  records stand in the log; who reads what is committed does not see them
3. offsets  the group's coordinator has the offsets, pending; a member that lost its partitions is refused here
4. commit   all of it is readable and the offsets are the group's

After a crash before 4 the coordinator aborts the transaction, `TIMEOUT_MS` later at most. Whoever takes the
partitions meanwhile waits for that: an offset is not read while a transaction has one pending.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Producer as Client

from coinstream.errors import FatalError, TransientError
from coinstream.kafka.connection import Outage, classified, client_settings, log, made, reach
from coinstream.kafka.consumer import BatchConsumer
from coinstream.kafka.dead_letters import MAX_VALUE_BYTES, DeadLetter, headers_of
from coinstream.messages import TOPIC_OF, LogPosition, Message, encode, key_of
from coinstream.telemetry import DEAD_LETTERS, PUBLISHED

TIMEOUT_MS = 10_000
"""How long a transaction may stay open before its coordinator aborts it: the longest that a killed process's
last transaction keeps readers waiting. Longer than any batch takes, by far."""
STEP_S = 30.0
"""How long one step is tried while brokers are away; then the process ends, and its successor finds out."""
_QUEUE_MESSAGES = 500_000
_SLICE_S = 5.0


class TransactionalProducer:
    """Publishes batches, each in a transaction with the offsets of what caused it. One thread uses one object.

    Two things fence it: the group's generation, checked in step 3, against a member whose partitions were given to
    another; and the transactional id, which is this object's own and renewed after an error that ends the client.

    Args:
        bootstrap: Addresses ``host:port``, separated by commas.
        client_id: The name in the brokers' logs, and the beginning of the transactional id.
        topic_prefix: Stands before every topic's name.
        security: librdkafka's security settings, if any.

    Attributes:
        transactional_id: The present client's.

    Raises:
        FatalError: No broker answers, or the credentials are refused.
        TransientError: The coordinator of transactions did not answer in time.
    """

    def __init__(
        self, bootstrap: str, *, client_id: str, topic_prefix: str = "", security: Mapping[str, str] | None = None
    ) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._security = security
        self._prefix = topic_prefix
        self._client = self._new_client()

    def commit(
        self,
        messages: Sequence[Message],
        letters: Sequence[DeadLetter],
        ends: Sequence[LogPosition],
        consumer: BatchConsumer,
    ) -> None:
        """Publish messages and dead letters and move the group to the given positions, all or nothing.

        Args:
            messages: In order; those of one key stay so.
            letters: Dead letters.
            ends: Of every partition that the messages were decided for, where its commands are read up to.
            consumer: The member of the group that those partitions belong to.

        Raises:
            TransientError: Nothing of it will be readable, or nobody here knows: rewind the consumer and restore
                from what is committed.
            FatalError: The client cannot go on.
        """
        try:
            self._client.begin_transaction()
            self._produce(messages, letters)
            offsets = [TopicPartition(it.topic, it.partition, it.next_offset, metadata=it.topic_id) for it in ends]
            group = consumer.group_metadata()
            self._step(lambda: self._client.send_offsets_to_transaction(offsets, group, _SLICE_S))
            self._step(lambda: self._client.commit_transaction(_SLICE_S))
        except BufferError:
            self._abort()
            raise TransientError(
                f"the Kafka client's queue is full ({self._outage.reason or 'slow brokers'})"
            ) from None
        except KafkaException as error:
            raise self._after(error.args[0]) from None
        self._outage.answered()
        for kind, count in _count(messages).items():
            PUBLISHED.labels(TOPIC_OF[kind].name).inc(count)
        for letter in letters:
            DEAD_LETTERS.labels(letter.topic).inc()

    def close(self) -> None:
        """Let go of the connections; nothing is under way between two calls of `commit`."""
        self._client.purge()

    def _new_client(self) -> Client:
        self._outage = Outage(self._bootstrap)  # an earlier client's end is not this one's
        settings = client_settings(self._bootstrap, self._client_id, self._outage, self._security) | _SETTINGS
        self.transactional_id = f"{self._client_id}-{uuid.uuid4().hex}"
        settings["transactional.id"] = self.transactional_id
        client = made(Client, settings)
        reach(client, self._outage, lambda: client.poll(0))
        try:
            self._step(lambda: client.init_transactions(_SLICE_S))
        except KafkaException as error:
            raise classified(error.args[0], "beginning to use Kafka transactions") from None
        return client

    def _produce(self, messages: Sequence[Message], letters: Sequence[DeadLetter]) -> None:
        produce = self._client.produce
        for message in messages:
            kind = type(message)
            topic = self._prefix + TOPIC_OF[kind].name
            headers: Any = [("schema", kind.SCHEMA.encode())]
            produce(topic, encode(message), key_of(message), headers=headers)
        for letter in letters:
            value = None if letter.value is None else letter.value[:MAX_VALUE_BYTES]
            marks: Any = headers_of(letter)
            produce(letter.goes_to, value, letter.key, headers=marks)

    def _step(self, attempt: Callable[[], object]) -> None:
        """Carry a step through, however often the brokers ask for patience."""
        deadline = time.monotonic() + STEP_S
        while True:
            try:
                attempt()
            except KafkaException as error:
                reason = error.args[0]
                if not reason.retriable() or reason.txn_requires_abort() or reason.fatal():
                    raise
                self._outage.raise_fatal()
                if time.monotonic() > deadline:
                    raise FatalError(
                        f"Kafka does not carry a transaction through ({reason.str()}); restart this process:"
                        " what was not committed is decided again"
                    ) from None
            else:
                return

    def _after(self, error: KafkaError) -> TransientError | FatalError:
        """Leave a transaction that failed; the client is fit for the next one afterwards."""
        problem = classified(error, "a Kafka transaction")
        if error.fatal():
            # A frozen process wakes after its coordinator gave it up: another client begins anew, and what this
            # one meant to say is decided again by whoever has the partitions now.
            log.warning("transactions begun anew", why=error.str())
            self.close()
            self._client = self._new_client()
            return TransientError(str(problem))
        self._abort()
        return problem if isinstance(problem, FatalError) else TransientError(str(problem))

    def _abort(self) -> None:
        try:
            self._step(lambda: self._client.abort_transaction(_SLICE_S))
        except KafkaException as error:
            if not error.args[0].fatal():
                raise classified(error.args[0], "leaving a Kafka transaction") from None
            self.close()
            self._client = self._new_client()


def _count(messages: Sequence[Message]) -> dict[type[Any], int]:
    counts: dict[type[Any], int] = {}
    for message in messages:
        kind = type(message)
        counts[kind] = counts.get(kind, 0) + 1
    return counts


_SETTINGS: dict[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",
    "linger.ms": 0,  # the commit flushes at once; waiting would only add to an order's latency
    "compression.type": "lz4",
    "queue.buffering.max.messages": _QUEUE_MESSAGES,
    "message.max.bytes": MAX_VALUE_BYTES + 64 * 1024,
    "transaction.timeout.ms": TIMEOUT_MS,
    "delivery.timeout.ms": TIMEOUT_MS,
    "delivery.report.only.error": True,
}
