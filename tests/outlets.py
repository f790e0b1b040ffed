"""A producer that keeps what it is given, and fails as it is told."""

from __future__ import annotations

from coinstream.errors import RefusedError, TransientError
from coinstream.kafka import DeadLetter
from coinstream.messages import Message, decode, encode


class KeptOutlet:
    """Stands where `kafka.Producer` stands; what it takes must survive the wire."""

    topic_prefix = "t."

    def __init__(self, *, full_for: int = 0, longest: int = 1_000_000) -> None:
        self.messages: list[Message] = []
        self.letters: list[DeadLetter] = []
        self.flushed = 0
        self.full_for = full_for
        self._longest = longest

    def publish(self, message: Message) -> None:
        if self.full_for:
            self.full_for -= 1
            raise TransientError("the queue is full")
        value = encode(message)
        if len(value) > self._longest:
            raise RefusedError("too long")
        assert decode(type(message), value) == message
        self.messages.append(message)

    def publish_dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def serve(self) -> None:
        pass

    def flush(self, timeout_s: float) -> None:
        assert timeout_s > 0
        self.flushed = len(self.messages)
