"""What a feed sends to its venue, at a pace that venues allow. Pure: times are arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

SPACING_S = 0.125
"""Coinbase takes eight messages a second from who is not logged in; a dialect that takes fewer says so."""
MOST_WAITING = 200
"""So many frames may wait, 25 s of them; one more, and a new connection mends the feed sooner."""


class Requests:
    """The frames to send on one connection after the other.

    A repair is a group of frames that makes the venue send books anew. How often a book is asked for
    is the stream's matter (`coinstream.ingest.stream.ASK_AGAIN_US`); here a repair that waits to be
    sent is not sent twice.

    Args:
        spacing_s: Least time between two frames.
    """

    def __init__(self, spacing_s: float = SPACING_S) -> None:
        self._spacing_s = spacing_s
        self._waiting: deque[tuple[str, ...]] = deque()
        self._free_s = 0.0

    def begin(self, texts: Sequence[str]) -> None:
        """Take the subscriptions of a new connection; whatever waited was for the old one."""
        self._waiting = deque((text,) for text in texts)

    def repair(self, texts: Sequence[str]) -> bool:
        """Take a repair; return whether there was room for it."""
        group = tuple(texts)
        if group in self._waiting:
            return True
        if sum(map(len, self._waiting)) + len(group) > MOST_WAITING:
            return False
        self._waiting.append(group)
        return True

    def due(self, now_s: float) -> list[str]:
        """Return the frames to send now: a group at a time, then nothing for the spacing a frame."""
        if not self._waiting or now_s < self._free_s:
            return []
        group = self._waiting.popleft()
        self._free_s = now_s + self._spacing_s * len(group)
        return list(group)
