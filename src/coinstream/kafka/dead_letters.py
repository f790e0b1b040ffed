"""Dead letters: what could not be read or stored, with its bytes untouched and the reason beside them.

The record's value and key are the original's; all else is in headers, so that a repaired value can
be sent again by any Kafka tool. At least once: a sink that dies between publishing a letter and
committing publishes it again, and `distinct` drops the second.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from coinstream.errors import RefusedError
from coinstream.kafka.batches import RawBatch
from coinstream.messages.topics import DEAD_LETTERS, FRAMES

MAX_VALUE_BYTES = 15 * 1024 * 1024
"""A longer value is cut to this, and the header ``value_bytes`` keeps its length. A venue's first book has 3 MB."""
MAX_REASON_CHARACTERS = 2000
MOST_REMEMBERED = 100_000
"""So many letters are compared with when repeats are dropped: some 50 MB."""


class LetterPlace(NamedTuple):
    """Where a dead letter stands in Kafka, and since when.

    Attributes:
        topic: Full name of the dead-letters topic.
        partition: Of that topic.
        offset: In that partition.
        time_ms: Kafka's timestamp, milliseconds since 1970: what orders letters, for a frame's own time may be
            that of a recording made years ago.
    """

    topic: str
    partition: int
    offset: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record or frame.

    Attributes:
        topic: Full name of the topic it stood in or was meant for; `messages.topics.FRAMES` (after the
            prefix) for a frame that no adapter could read.
        partition: Where it stood; ``None`` for a frame.
        offset: Where it stood; ``None`` for a frame.
        key: The original's key; for a frame its venue or source.
        value: The raw bytes, unchanged; ``None`` for a tombstone.
        reason: Why, in words.
        error: The error's class.
        stage: Who refused it: ``adapter``, ``sink postgresql``, ….
        time_us: When, microseconds since 1970, UTC.
        value_bytes: Length of the original value; more than ``value`` holds where that was cut.
        place: Where the letter itself stands; ``None`` before it is sent, and no part of what it says.
    """

    topic: str
    partition: int | None
    offset: int | None
    key: bytes | None
    value: bytes | None
    reason: str
    error: str
    stage: str
    time_us: int
    value_bytes: int = 0
    place: LetterPlace | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.value_bytes and self.value:
            object.__setattr__(self, "value_bytes", len(self.value))

    @classmethod
    def of_record(cls, batch: RawBatch, place: int, *, error: RefusedError, stage: str, time_us: int) -> DeadLetter:
        """Return the letter for the record at a place of a batch."""
        return cls(
            topic=batch.start.topic,
            partition=batch.start.partition,
            offset=batch.offsets[place],
            key=batch.keys[place],
            value=batch.values[place],
            reason=str(error),
            error=type(error).__name__,
            stage=stage,
            time_us=time_us,
        )

    @classmethod
    def of_frame(
        cls, frame: bytes, *, venue: str, error: RefusedError, time_us: int, topic_prefix: str = ""
    ) -> DeadLetter:
        """Return the letter for what a venue or source sent and no adapter could read."""
        return cls(
            topic=topic_prefix + FRAMES,
            partition=None,
            offset=None,
            key=venue.encode(),
            value=frame,
            reason=str(error),
            error=type(error).__name__,
            stage="adapter",
            time_us=time_us,
        )

    @property
    def goes_to(self) -> str:
        """Full name of the topic that takes this letter."""
        return self.topic + DEAD_LETTERS


def headers_of(letter: DeadLetter) -> list[tuple[str, bytes]]:
    """Return everything but key and value, as UTF-8 text; an absent partition or offset has no header."""
    texts: dict[str, object] = {
        "reason": letter.reason[:MAX_REASON_CHARACTERS],
        "error": letter.error,
        "stage": letter.stage,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time_us": letter.time_us,
        "value_bytes": letter.value_bytes,
    }
    # backslashreplace: a reason may quote half of a surrogate pair that the bad input held
    return [(name, str(it).encode(errors="backslashreplace")) for name, it in texts.items() if it is not None]


def letter_from(
    key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]], *, place: LetterPlace
) -> DeadLetter:
    """Return the letter that a record of a dead-letters topic holds.

    A header that is missing or unreadable (another tool wrote there) is empty or zero: a letter must
    be shown, whatever it looks like.

    Args:
        key: The record's.
        value: The record's.
        headers: The record's.
        place: Where it was read.
    """
    texts = {name: (it or b"").decode(errors="backslashreplace") for name, it in headers}
    return DeadLetter(
        topic=texts.get("topic", place.topic.removesuffix(DEAD_LETTERS)),
        partition=_number(texts, "partition"),
        offset=_number(texts, "offset"),
        key=key,
        value=value,
        reason=texts.get("reason", ""),
        error=texts.get("error", ""),
        stage=texts.get("stage", ""),
        time_us=_number(texts, "time_us") or 0,
        value_bytes=_number(texts, "value_bytes") or 0,
        place=place,
    )


def _number(texts: Mapping[str, str], name: str) -> int | None:
    text = texts.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None


def distinct(letters: Iterable[DeadLetter], *, remembered: int = MOST_REMEMBERED) -> Iterator[DeadLetter]:
    """Yield letters without the repeats that a restart left; the first of each stays.

    Letters of one record by one stage with one error are repeats. Frames have no offset: each stays.
    Only the last ``remembered`` letters are compared with: what a restart repeats, it repeats at once.
    """
    seen: dict[tuple[object, ...], None] = {}  # in the order met
    for letter in letters:
        if letter.offset is None:
            yield letter
            continue
        identity = (letter.topic, letter.partition, letter.offset, letter.stage, letter.error)
        if identity not in seen:
            seen[identity] = None
            if len(seen) > remembered:
                del seen[next(iter(seen))]
            yield letter


def newest(letters: Iterable[DeadLetter], limit: int) -> Sequence[DeadLetter]:
    """Return the newest ``limit`` letters by Kafka's timestamp, newest last; no more are held at a time."""
    return heapq.nlargest(limit, letters, key=_when)[::-1]


def _when(letter: DeadLetter) -> tuple[int, str, int, int]:
    place = letter.place
    return (0, "", 0, 0) if place is None else (place.time_ms, place.topic, place.partition, place.offset)
