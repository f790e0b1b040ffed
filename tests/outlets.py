"""A producer that keeps what it is given, and fails as it is told."""

from __future__ import annotations

from typing import TypeVar

from coinstream.errors import RefusedError, TransientError
from coinstream.kafka import DeadLetter
from coinstream.messages import Message, decode, encode

M = TypeVar("M", bound=Message)


class KeptOutlet:
    """Stands where `kafka.Producer` stands; what it takes must survive the wire.

    Attributes:
        room: After so many more messages and letters the queue is full; ``None``: never.
        full_for: So often the queue is full, whatever the room.
    """

    topic_prefix = "t."

    def __init__(self, *, room: int | None = None, full_for: int = 0, longest: int = 1_000_000) -> None:
        self.messages: list[Message] = []
        self.letters: list[DeadLetter] = []
        self.flushed = 0
        self.room = room
        self.full_for = full_for
        self._longest = longest

    def publish(self, message: Message) -> None:
        value = encode(message)
        if len(value) > self._longest:
            raise RefusedError("too long")
        self._take()
        assert decode(type(message), value) == message
        self.messages.append(message)

    def publish_dead_letter(self, letter: DeadLetter) -> None:
        self._take()
        self.letters.append(letter)

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]

    def serve(self) -> None:
        pass

    def flush(self, timeout_s: float) -> None:
        assert timeout_s > 0
        self.flushed = len(self.messages)

    def _take(self) -> None:
        if self.full_for or self.room == 0:
            self.full_for = max(0, self.full_for - 1)
            raise TransientError("the queue is full")
        if self.room is not None:
            self.room -= 1
