"""What came of a frame, into Kafka: messages to their topics, refusals to dead letters.

A live feed and a replay share it, so that both publish the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from coinstream.adapters import Frame, Gap
from coinstream.errors import FieldError, RefusedError
from coinstream.ingest.stream import Received
from coinstream.kafka import DeadLetter
from coinstream.messages import Message, encode
from coinstream.telemetry import FRAMES, GAPS, REFUSED_FRAMES, logger

MOST_KINDS = 1000
"""Kinds of refusals and gaps that are logged once each; further ones are only counted."""

log = logger("ingest")


class Outlet(Protocol):
    """What publishing needs of `kafka.Producer`."""

    topic_prefix: str

    def publish(self, message: Message) -> None:
        """Queue a message."""

    def publish_dead_letter(self, letter: DeadLetter) -> None:
        """Queue a dead letter."""

    def serve(self) -> None:
        """Run delivery callbacks."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all is acknowledged."""


class Publisher:
    """Publishes for one venue or source, and keeps count.

    Args:
        outlet: The producer.
        venue: The venue or source, key of its dead letters.
        now_us: The clock, microseconds since 1970.

    Attributes:
        messages: Published, by type as the schema header names it.
        refused: Frames and messages dead-lettered, by class of error and field.
        gaps: By channel.
    """

    def __init__(self, outlet: Outlet, *, venue: str, now_us: Callable[[], int]) -> None:
        self._outlet = outlet
        self._venue = venue
        self._now_us = now_us
        self._frames = FRAMES.labels(venue)
        self._told: set[tuple[str, ...]] = set()
        self.messages: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.gaps: Counter[str] = Counter()

    def take(self, frame: Frame, received: Received) -> None:
        """Publish all that came of a frame.

        Raises:
            TransientError: Kafka's queue is full; what was not published yet is lost to this call, and
                its caller must count the connection as broken.
            FatalError: The producer cannot go on.
        """
        self._frames.inc()
        self.publish(received.messages)
        if received.refusals:
            self.refuse(frame.data, received.refusals)
        for gap in received.gaps:
            self._note_gap(gap)

    def publish(self, messages: Iterable[Message]) -> None:
        """Publish messages in order; one that Kafka would not take goes to dead letters.

        Raises:
            TransientError: Kafka's queue is full.
            FatalError: The producer cannot go on.
        """
        publish = self._outlet.publish
        for message in messages:
            try:
                publish(message)
            except RefusedError as error:
                self.refuse(encode(message), [error])
            else:
                self.messages[message.SCHEMA] += 1

    def refuse(self, raw: bytes, errors: Sequence[RefusedError]) -> None:
        """Dead-letter raw bytes once, with all the reasons; each kind of reason is logged once."""
        now_us = self._now_us()
        reasons = "; ".join(dict.fromkeys(str(error) for error in errors))
        first = errors[0]
        whole = first if len(errors) == 1 else RefusedError(reasons)
        prefix = self._outlet.topic_prefix
        letter = DeadLetter.of_frame(raw, venue=self._venue, error=whole, time_us=now_us, topic_prefix=prefix)
        self._outlet.publish_dead_letter(letter)
        for error in errors:
            kind = type(error).__name__
            field = error.field if isinstance(error, FieldError) else ""
            self.refused[f"{kind} {field}".strip()] += 1
            if self._is_new("refused", kind, field):
                log.warning("refused", venue=self._venue, why=str(error), raw=raw[:200], next="dead-lettered")
        REFUSED_FRAMES.labels(self._venue, type(first).__name__).inc()

    def _note_gap(self, gap: Gap) -> None:
        channel = gap.channel or "all"
        GAPS.labels(self._venue, channel).inc()
        self.gaps[channel] += 1
        if self._is_new("gap", channel, gap.symbol or ""):
            log.warning("gap", venue=self._venue, channel=channel, symbol=gap.symbol, why=gap.reason)

    def _is_new(self, *kind: str) -> bool:
        if kind in self._told or len(self._told) >= MOST_KINDS:
            return False
        self._told.add(kind)
        return True
