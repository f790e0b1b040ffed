"""What a venue's protocol and the server need of each other. A protocol knows no socket, the server no dialect."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, Protocol

from coinstream.simulator.schedule import Schedule

__all__ = ["Outlet", "Publisher", "Reply", "Session", "Skip", "never_skip"]

Skip = Callable[[], int]
"""Tells how many numbers a sequence leaves out before the next frame: none, unless a fault is wanted."""


def never_skip() -> int:
    """Leave nothing out."""
    return 0


class Reply(NamedTuple):
    """An HTTP answer; the body is JSON."""

    status: HTTPStatus
    body: bytes


class Outlet(Protocol):
    """Where a session's messages go: a WebSocket, or a list in a test."""

    def send(self, message: bytes, *, is_market_data: bool) -> None:
        """Send one message; it must not block.

        Args:
            message: Its text.
            is_market_data: Whether it may be lost or spoilt on the way, where faults are wanted.
        """

    def close(self, reason: str) -> None:
        """Hang up on a client that broke a rule of the venue."""


class Session(Protocol):
    """One client's connection, as a protocol keeps it."""

    @property
    def has_subscribed(self) -> bool:
        """Whether the client is subscribed to anything."""

    def receive(self, frame: bytes) -> None:
        """Answer what the client sent."""

    def end(self) -> None:
        """Forget the client."""


class Publisher(Protocol):
    """One venue's protocol over a market that moves.

    Attributes:
        schedule: Moves the market.
        subscribe_timeout_s: Who has subscribed to nothing for so long is hung up on; None: nobody is.
    """

    schedule: Schedule
    subscribe_timeout_s: float | None

    def accepts(self, target: str) -> bool:
        """Tell whether the venue has a WebSocket at this path, with its query."""

    def connect(self, target: str, outlet: Outlet) -> Session:
        """Begin a session.

        Args:
            target: A path, with its query, that is accepted.
            outlet: Takes what the client is sent.
        """

    def advance(self, elapsed_ns: int) -> None:
        """Let all happen that is due by now, and tell the sessions.

        Args:
            elapsed_ns: Nanoseconds since the start, by a clock that never goes back.
        """

    def reply(self, path: str, query: Mapping[str, str]) -> Reply | None:
        """Answer a GET of one of the venue's own REST routes; None where there is no such route."""
