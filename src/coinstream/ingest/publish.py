"""What came of frames goes to Kafka: one way for a live feed, a poll and a replay."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from coinstream.adapters import Frame, Gap
from coinstream.errors import FieldError, RefusedError, TransientError
from coinstream.ingest.stream import Received
from coinstream.kafka import DeadLetter
from coinstream.messages import AssetSnapshot, Candle, Coverage, MarketMessage, encode
from coinstream.messages.topics import FRAMES
from coinstream.telemetry import DEAD_LETTERS, GAPS, REFUSED_FRAMES, logger

MOST_KINDS_LOGGED = 200
"""Refusals and gaps of more different kinds than this are counted only."""
MOST_REASONS = 20
"""So many of a frame's reasons stand in its dead letter."""

log = logger("ingest")
_place = re.compile(r"^\[\d+\]\.?|\[\d+\]")


class Publisher(Protocol):
    """What ingest needs of `coinstream.kafka.Producer`.

    Attributes:
        topic_prefix: What stands before every topic's name.
    """

    topic_prefix: str

    def publish(self, message: MarketMessage) -> None:
        """Queue a message; raise `TransientError` when there is no room, `RefusedError` for one too long."""

    def publish_dead_letter(self, letter: DeadLetter) -> None:
        """Queue a dead letter; raise `TransientError` when there is no room."""

    def serve(self) -> None:
        """Run delivery callbacks without waiting."""

    def flush(self, timeout_s: float) -> None:
        """Wait until all is acknowledged; raise `TransientError` when something is not."""


class Outbox:
    """Messages and dead letters in order, until the producer has taken them.

    Nothing is dropped: when the producer has no room, `push` says so, and whoever fills the outbox
    waits and pushes again before it reads on. So it holds what a few frames came to.

    Args:
        producer: Takes them.

    Attributes:
        reason: Why the producer last had no room.
        refused: By class of error and field.
        gaps: By channel.
    """

    def __init__(self, producer: Publisher) -> None:
        self.reason = ""
        self.refused: Counter[str] = Counter()
        self.gaps: Counter[str] = Counter()
        self._producer = producer
        self._waiting: deque[MarketMessage | DeadLetter] = deque()
        self._logged: set[tuple[str, ...]] = set()
        self._published: Counter[type[Any]] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def published(self) -> Counter[str]:
        """How many messages the producer has taken, by type as the schema header names it (``trade``)."""
        return Counter({kind.SCHEMA.partition("/")[0]: count for kind, count in self._published.items()})

    def put(self, messages: Iterable[MarketMessage]) -> None:
        """Add messages."""
        self._waiting.extend(messages)

    def take(self, frame: Frame, received: Received, *, venue: str) -> None:
        """Add all that came of a frame, and count its gaps."""
        self._waiting.extend(received.messages)
        if received.refusals:
            self.refuse(frame, received.refusals, venue=venue)
        for gap in received.gaps:
            self._note_gap(gap, venue)

    def refuse(self, frame: Frame, errors: Sequence[RefusedError], *, venue: str) -> None:
        """Add one dead letter for a frame, with its raw bytes and every reason; log each kind once.

        Args:
            frame: As received.
            errors: At least one.
            venue: The venue or source: the letter's key and the label of metrics.
        """
        for error in errors:
            field = _place.sub("", error.field) if isinstance(error, FieldError) else ""
            kind = type(error).__name__
            self.refused[f"{kind} {field}".rstrip()] += 1
            if self._is_new(venue, kind, field):
                raw = frame.data[:200].decode(errors="backslashreplace")
                log.warning(
                    "refused", venue=venue, url=frame.url, why=str(error)[:300], frame=raw, next="dead-lettered"
                )
        REFUSED_FRAMES.labels(venue, type(errors[0]).__name__).inc()
        reason = "; ".join(dict.fromkeys(str(error) for error in errors[:MOST_REASONS]))
        if len(errors) > 1:
            reason = f"{len(errors)} refused: {reason}"
        self._waiting.append(self._letter(venue, frame.data, reason, errors[0], frame.received_time_us))

    def push(self) -> bool:
        """Give the producer what waits, oldest first; return whether it took everything.

        Raises:
            FatalError: The producer cannot go on.
        """
        waiting, publish, published = self._waiting, self._producer.publish, self._published
        try:
            while waiting:
                item = waiting[0]
                if isinstance(item, DeadLetter):
                    self._producer.publish_dead_letter(item)
                    DEAD_LETTERS.labels(item.topic).inc()
                else:
                    try:
                        publish(item)
                    except RefusedError as error:
                        waiting[0] = self._too_long(item, error)
                        continue
                    published[type(item)] += 1
                waiting.popleft()
        except TransientError as error:
            self.reason = str(error)
            return False
        return True

    def _note_gap(self, gap: Gap, venue: str) -> None:
        channel = gap.channel or "all"
        GAPS.labels(venue, channel).inc()
        self.gaps[channel] += 1
        if self._is_new(venue, "gap", channel, gap.symbol or ""):
            log.warning("gap", venue=venue, channel=channel, symbol=gap.symbol, why=gap.reason, next="coverage says so")

    def _is_new(self, *kind: str) -> bool:
        if kind in self._logged or len(self._logged) >= MOST_KINDS_LOGGED:
            return False
        self._logged.add(kind)
        return True

    def _too_long(self, message: MarketMessage, error: RefusedError) -> DeadLetter:
        """Return the letter for a message that Kafka would not take."""
        venue = message.source if isinstance(message, AssetSnapshot) else message.venue
        time_us = message.minute if isinstance(message, Candle | Coverage) else message.received_time_us
        self.refused[type(error).__name__] += 1
        REFUSED_FRAMES.labels(venue, type(error).__name__).inc()
        log.warning("message refused", venue=venue, why=str(error), next="dead-lettered")
        return self._letter(venue, encode(message), str(error), error, time_us)

    def _letter(self, venue: str, value: bytes, reason: str, error: RefusedError, time_us: int) -> DeadLetter:
        return DeadLetter(
            topic=self._producer.topic_prefix + FRAMES,
            partition=None,
            offset=None,
            key=venue.encode(),
            value=value,
            reason=reason,
            error=type(error).__name__,
            stage="adapter",
            time_us=time_us,
        )
