"""Binance's rule that joins a book's snapshot, fetched by HTTP, to the changes that the stream brings.

Every change says which update ids it covers: ``U`` to ``u``. A snapshot says with which id it ends. Changes that
come before the snapshot are held; once it is here, those that it holds already are dropped and the rest must
join on to it without a hole, as each later one must to the one before.

Sources:
    https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams (spot) and
    https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams, each
    under "How to manage a local order book correctly".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

MOST_HELD = 256
"""Changes held of a book without a snapshot, 25 s of them. The oldest go first, which is harmless: a
snapshot that is fetched later holds them, and one that does not fails to join."""


class Depth(NamedTuple):
    """One change of a book.

    Attributes:
        first: The first update id it covers, ``U``.
        last: The last, ``u``.
        previous: The last id of the change before it, ``pu``; ``None`` on spot, which has none.
        bids: (price, size) in plain digits.
        asks: The same.
    """

    first: int
    last: int
    previous: int | None
    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]
    event_time_us: int | None


class DepthSequence:
    """One book's place in the venue's sequence, on one connection.

    Attributes:
        connection: Which connection brings the changes.
        last: The id of the last change, or of the snapshot, that the book holds; ``None``: it has none.
    """

    __slots__ = ("_held", "_is_snapshot", "connection", "last")

    def __init__(self, connection: str) -> None:
        self.connection = connection
        self.last: int | None = None
        self._is_snapshot = False  # no change was applied since the snapshot
        self._held: deque[Depth] = deque(maxlen=MOST_HELD)

    def begin_anew(self, connection: str | None = None) -> None:
        """Forget where the book stood: it needs a snapshot; on another connection held changes go, too."""
        if connection is not None and connection != self.connection:
            self.connection = connection
            self._held.clear()
        self.last = None

    def take(self, depth: Depth) -> bool | None:
        """Return whether to apply a change; ``None`` where it shows a hole before it, and is held.

        ``False`` is for one that waits for a snapshot or that the book holds already.
        """
        last = self.last
        if last is None:
            self._held.append(depth)
            return False
        if _joins_snapshot(depth, last) if self._is_snapshot else _joins(depth, last):
            self.last = depth.last
            self._is_snapshot = False
            return True
        if depth.last <= last:
            return False  # sent twice, or late: what it says is older than the book
        self.last = None
        self._held.append(depth)
        return None

    def join(self, snapshot_id: int) -> list[Depth] | None:
        """Take a snapshot's id; return the held changes to apply after it, ``None`` where it does not join.

        It does not where the changes held begin after it: it is too old, and they stay held.
        """
        changes = sorted((depth for depth in self._held if not _is_within(depth, snapshot_id)), key=lambda d: d.first)
        last, joined = snapshot_id, list[Depth]()
        for depth in changes:
            if not (_joins(depth, last) if joined else _joins_snapshot(depth, last)):
                if joined and depth.last <= last:
                    continue  # held twice
                return None
            joined.append(depth)
            last = depth.last
        self._held.clear()
        self.last = last
        self._is_snapshot = not joined
        return joined


def _is_within(depth: Depth, snapshot_id: int) -> bool:
    """Return whether a snapshot holds a change already: spot drops u <= lastUpdateId, futures u < it."""
    return depth.last <= snapshot_id if depth.previous is None else depth.last < snapshot_id


def _joins_snapshot(depth: Depth, snapshot_id: int) -> bool:
    """Return whether a change joins a snapshot: spot U <= lastUpdateId + 1 <= u, futures U <= lastUpdateId <= u.

    A futures snapshot may end just where the change before this one did, which says the same: ``pu``.
    """
    if depth.previous is None:
        return depth.first <= snapshot_id + 1 <= depth.last
    return depth.first <= snapshot_id <= depth.last or depth.previous == snapshot_id


def _joins(depth: Depth, last: int) -> bool:
    """Return whether a change follows another: spot U == u + 1, futures pu == u."""
    return depth.first == last + 1 if depth.previous is None else depth.previous == last
