"""Reaching the cluster: settings that every client shares, and what each error means for the work.

librdkafka reconnects by itself and for ever, so an absent broker is only a warning once the process
runs; at the start it is fatal, for then it is a wrong address far more often than an outage.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Protocol, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from coinstream.errors import CoinstreamError, FatalError, TransientError
from coinstream.telemetry import logger

REACH_S = 10.0
"""How long a process that starts waits for the first answer of a broker."""
ANSWER_S = 15.0
"""How long one question to the cluster may take before it is asked again by the caller."""

log = logger("kafka")
client_log = logging.getLogger("coinstream.kafka.client")
T = TypeVar("T")

# Names, as `KafkaError.name` gives them; those with an underscore are librdkafka's own.
_AUTHENTICATION = {"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED"}
_FOR_A_PERSON = _AUTHENTICATION | {
    "CLUSTER_AUTHORIZATION_FAILED",
    "GROUP_AUTHORIZATION_FAILED",
    "TOPIC_AUTHORIZATION_FAILED",
    "INVALID_CONFIG",
    "INVALID_REPLICATION_FACTOR",
    "INVALID_SESSION_TIMEOUT",
    "POLICY_VIOLATION",
    "UNSUPPORTED_VERSION",
    "UNSUPPORTED_SASL_MECHANISM",
    "_INVALID_ARG",
    "_UNSUPPORTED_FEATURE",
}
UNKNOWN_TOPIC = {
    "UNKNOWN_TOPIC_OR_PART",
    "UNKNOWN_TOPIC_ID",
    "INCONSISTENT_TOPIC_ID",
    "_UNKNOWN_TOPIC",
    "_UNKNOWN_PARTITION",
}
OUT_OF_LOG = {"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE", "_LOG_TRUNCATION"}


class _Client(Protocol):
    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata: ...


class Outage:
    """Hears a client's general errors: warns once when every broker is away, keeps what is fatal."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.reason = ""
        self._fatal: FatalError | None = None
        self._is_down = False

    def heard(self, error: KafkaError) -> None:
        """Take an error from librdkafka's ``error_cb``; called while the client is polled."""
        if error.name() in _AUTHENTICATION:
            self._fatal = FatalError(
                f"Kafka at {self.bootstrap} refused the credentials ({error.str()}); correct them in the settings"
            )
        elif error.fatal():
            self._fatal = FatalError(f"the Kafka client cannot go on ({error.str()}); restart this process")
        elif error.name() == "_ALL_BROKERS_DOWN":
            if not self._is_down:
                log.warning("brokers away", bootstrap=self.bootstrap, why=self.reason, next="reconnecting for ever")
            self._is_down = True
        self.reason = error.str()

    def answered(self) -> None:
        """Note a sign of life: the next outage is worth a warning again."""
        if self._is_down:
            log.warning("brokers back", bootstrap=self.bootstrap)
            self._is_down = False

    @property
    def is_down(self) -> bool:
        """Whether every broker was away when last heard of."""
        return self._is_down

    def raise_fatal(self) -> None:
        """Raise what only a person can mend, if it was heard."""
        if self._fatal is not None:
            raise self._fatal


def client_settings(
    bootstrap: str, client_id: str, outage: Outage, security: Mapping[str, str] | None
) -> dict[str, Any]:
    """Return the settings that producers, consumers and admin clients share.

    Args:
        bootstrap: Addresses ``host:port``, separated by commas.
        client_id: The name in the brokers' logs.
        outage: Hears the client's errors.
        security: librdkafka's own names (``security.protocol``, ``sasl.username``, …), if any.
    """
    return {
        "bootstrap.servers": bootstrap,
        "client.id": client_id,
        "error_cb": outage.heard,
        "logger": client_log,
        # A laptop's or a test's broker restarts within seconds; the default backs off to ten.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 2000,
        "topic.metadata.refresh.interval.ms": 10_000,
        **(security or {}),
    }


def connect_admin(bootstrap: str, *, client_id: str, security: Mapping[str, str] | None = None) -> AdminClient:
    """Return an admin client that has reached a broker.

    Raises:
        FatalError: No broker answered within `REACH_S`, or it refused the credentials.
    """
    outage = Outage(bootstrap)
    admin = made(AdminClient, client_settings(bootstrap, client_id, outage, security))
    reach(admin, outage, lambda: admin.poll(0))
    return admin


def made(make: Callable[[dict[str, Any]], T], settings: dict[str, Any]) -> T:
    """Return a client of the given class.

    Raises:
        FatalError: librdkafka does not take a setting; the text names it.
    """
    try:
        return make(settings)
    except KafkaException as error:
        raise FatalError(f"a Kafka setting cannot be used ({reason_of(error)}); correct it") from None


def reach(client: _Client, outage: Outage, serve: Callable[[], object]) -> ClusterMetadata:
    """Return the cluster's metadata, asked for until it answers.

    Args:
        client: Any client.
        outage: The one its errors go to.
        serve: Runs the client's callbacks, without waiting.

    Raises:
        FatalError: No broker answered within `REACH_S`, or it refused the credentials.
    """
    deadline = time.monotonic() + REACH_S
    while True:
        try:
            metadata = client.list_topics(timeout=1.0)
        except KafkaException as error:
            serve()
            outage.raise_fatal()
            if time.monotonic() > deadline:
                raise FatalError(
                    f"no Kafka broker answers at {outage.bootstrap} within {REACH_S:.0f} s"
                    f" ({outage.reason or reason_of(error)}); start it (`coinstream local up` does, on this machine)"
                    " or correct the bootstrap address"
                ) from None
        else:
            outage.answered()
            return metadata


def outcome(future: Future[T], doing: str) -> T:
    """Wait for an admin client's answer, `ANSWER_S` at most.

    Raises:
        TransientError: The cluster is away, moving or slow.
        FatalError: Only a person can mend it.
    """
    try:
        return future.result(ANSWER_S)
    except KafkaException as error:
        raise classified(error.args[0], doing) from None
    except FutureTimeoutError:
        raise TransientError(f"{doing}: Kafka did not answer within {ANSWER_S:.0f} s") from None


def name_of(error: BaseException) -> str:
    """Return the name of the Kafka error that an exception carries, or ``""``."""
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        return error.args[0].name()
    return ""


def reason_of(error: KafkaException) -> str:
    """Return the text of a client's exception without its wrapping."""
    inner = error.args[0] if error.args else error
    return inner.str() if isinstance(inner, KafkaError) else str(inner)


def classified(error: KafkaError, doing: str) -> CoinstreamError:
    """Return what a Kafka error means: `FatalError` for what waiting cannot mend, else `TransientError`."""
    text = f"{doing}: {error.str()} ({error.name()})"
    if error.fatal():
        return FatalError(f"{text}; restart this process")
    if error.name() in _FOR_A_PERSON:
        return FatalError(f"{text}; correct the Kafka settings or permissions")
    return TransientError(text)
