"""Where a message stands in the log, and a batch of messages that stand there together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coinstream.errors import RefusedError
from coinstream.messages.topics import Message


class Partition(NamedTuple):
    """One partition of a topic, by the topic's full name."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The next offset to read of a partition.

    ``topic_id`` tells a topic from an earlier one of the same name: a re-created topic starts at its
    beginning. It is ``""`` where the broker does not say.
    """

    topic: str
    topic_id: str
    partition: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """Messages of one partition, in order, with the positions before and after them.

    Attributes:
        kinds: The types that the messages may have: those of the topic, one in each topic of the market.
        start: Where the store must stand for the batch to be written: the compare of its
            compare-and-set. Offsets have holes, so ``start.next_offset`` may be below ``offsets[0]``.
        end: Where the store stands afterwards.
        messages: The messages that decoded.
        offsets: Of each message, its offset.
        timestamps_ms: Of each message, the broker's record time in milliseconds since 1970.
    """

    kinds: tuple[type[Message], ...]
    start: LogPosition
    end: LogPosition
    messages: Sequence[Message]
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]

    @property
    def kind(self) -> type[Message]:
        """The one type of all its messages; only topics of the market have one."""
        (kind,) = self.kinds
        return kind

    @property
    def partition(self) -> Partition:
        """The partition that all of it stands in."""
        return Partition(self.start.topic, self.start.partition)


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A message that a store would not take, by its place, and why: the sink dead-letters it."""

    partition: Partition
    offset: int
    error: RefusedError
