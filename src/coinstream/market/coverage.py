"""Coverage: what the messages of each symbol, channel and minute are worth, as a fold.

Minutes go by the time of receiving, for that is when a feed is connected or not. A symbol that is
subscribed and silent gets its rows too, with no messages: a quiet market is no hole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from coinstream.messages import MINUTE_US, Coverage, CoverageStatus, minute_of

Channel = Literal["trades", "quotes", "books"]
CHANNELS: tuple[Channel, ...] = ("trades", "quotes", "books")

MOST_SILENT_MINUTES = 60
"""After a longer silence (a recording of other days) the minutes between are not spoken of at all."""
REPAIRABLE: frozenset[Channel] = frozenset({"trades"})
"""What can be fetched later; a quote or a book of the past cannot."""
MOST_REPAIRABLE_MINUTES = 120
"""A hole that is filled later than that is filled, but its minutes are not spoken of again."""
MOST_TROUBLES = 100
"""Times of trouble remembered of a pair; of more, the oldest are taken for one long one."""


class _Pair:
    """One channel of one symbol, in the minute that is open.

    Attributes:
        lost_us: Since when it is not connected; ``None`` while it is.
        troubles: Times, first and last, in which something may have been missed that nobody fetched since.
        repaired_us: Up to when something was repaired.
        rows: Coverage already told that a repair may better.
    """

    __slots__ = (
        "connection",
        "first",
        "has_gap",
        "is_broken",
        "last",
        "lost_us",
        "messages",
        "repaired_us",
        "rows",
        "since_us",
        "troubles",
    )

    def __init__(self) -> None:
        self.connection: str | None = None
        self.lost_us: int | None = 0
        self.troubles: list[tuple[int, int]] = []
        self.repaired_us = 0
        self.rows: deque[Coverage] = deque(maxlen=MOST_REPAIRABLE_MINUTES)
        self.since_us: int | None = None  # connected without interruption since then; None: not connected
        self.is_broken = False  # nothing can be trusted until it is healed; a gap only while it is connected
        self.begin()

    def begin(self) -> None:
        self.has_gap = self.is_broken and self.since_us is not None
        self.messages = 0
        self.first: str | None = None
        self.last: str | None = None

    def trouble(self, first_us: int, last_us: int) -> None:
        self.troubles.append((first_us, last_us))
        if len(self.troubles) > MOST_TROUBLES:
            (first, _), (_, last) = self.troubles[:2]
            self.troubles[:2] = [(first, last)]

    def is_repaired(self, minute: int) -> bool:
        """Return whether all that a minute lacked was fetched."""
        if self.since_us is None or self.repaired_us < minute:
            return False
        return not any(first < minute + MINUTE_US and minute <= last for first, last in self.troubles)


class CoverageFold:
    """Folds what happens to a feed into one `Coverage` a channel, symbol and minute.

    Args:
        venue: The name the messages carry.
    """

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._pairs: dict[tuple[Channel, str], _Pair] = {}
        self._minute: int | None = None

    def expect(self, pairs: Iterable[tuple[Channel, str]]) -> None:
        """Speak of these (channel, symbol) from now on, whether or not they ever connect."""
        for pair in pairs:
            if pair not in self._pairs:
                self._pairs[pair] = _Pair()

    def connected(self, connection: str, pairs: Iterable[tuple[Channel, str]], time_us: int) -> None:
        """Note that a connection carries these (channel, symbol) from this time on."""
        for key in pairs:
            pair = self._pairs.get(key)
            if pair is None:
                pair = self._pairs[key] = _Pair()
            if pair.connection != connection or pair.since_us is None:
                pair.trouble(time_us if pair.lost_us is None else pair.lost_us, time_us)
                pair.connection, pair.since_us, pair.lost_us = connection, time_us, None

    def disconnected(self, connection: str, time_us: int) -> None:
        """Note that a connection is gone; what it carried is not complete until it is carried again."""
        for pair in self._pairs.values():
            if pair.connection == connection and pair.since_us is not None:
                pair.since_us, pair.lost_us = None, time_us

    def carried_by(self, connection: str) -> list[tuple[Channel, str]]:
        """Return the (channel, symbol) that a connection carries."""
        return [key for key, pair in self._pairs.items() if pair.connection == connection and pair.since_us is not None]

    def count(self, channel: Channel, symbol: str, mark: str | None, *, connection: str, time_us: int) -> None:
        """Count a message that was published, with its trade id or sequence."""
        pair = self._pairs.get((channel, symbol))
        if pair is None or pair.since_us is None:
            self.connected(connection, ((channel, symbol),), time_us)
            pair = self._pairs[channel, symbol]
        pair.messages += 1
        if mark is not None:
            pair.last = mark
            if pair.first is None:
                pair.first = mark

    def gap(self, channel: Channel, symbol: str, time_us: int) -> None:
        """Note that something was missed, and shows at this time of the open minute."""
        pair = self._pairs.setdefault((channel, symbol), _Pair())
        pair.has_gap = True
        pair.trouble(time_us, time_us)

    def repaired(self, channel: Channel, symbol: str, since_us: int, until_us: int) -> list[Coverage]:
        """Note that whatever was missed between two moments was fetched.

        Returns:
            Minutes that were told already, told again: nothing of them is missing now.
        """
        pair = self._pairs.setdefault((channel, symbol), _Pair())
        pair.troubles = [(first, last) for first, last in pair.troubles if first < since_us or last > until_us]
        pair.repaired_us = max(pair.repaired_us, until_us)
        bettered = [row for row in pair.rows if row.minute + MINUTE_US > since_us and pair.is_repaired(row.minute)]
        for row in bettered:
            pair.rows.remove(row)
        return [msgspec.structs.replace(row, status="backfilled") for row in bettered]

    def break_off(self, channel: Channel, symbol: str, *, is_gap: bool = True) -> None:
        """Note that nothing can be trusted, through as many minutes as pass, until `heal`.

        Without ``is_gap`` nothing was missed in the open minute: it has only not begun yet.
        """
        pair = self._pairs.setdefault((channel, symbol), _Pair())
        pair.is_broken = True
        pair.has_gap = pair.has_gap or is_gap

    def heal(self, channel: Channel, symbol: str) -> None:
        """Note that it can be trusted from now on; the minutes it was broken in stay a ``gap``."""
        self._pairs.setdefault((channel, symbol), _Pair()).is_broken = False

    def advance(self, now_us: int) -> list[Coverage]:
        """Return the coverage of the minutes that ended by now.

        A minute in which this was not called once, though another passed, had nobody listening:
        it is ``disconnected`` whatever the connection says.
        """
        now_minute = minute_of(now_us)
        if self._minute is None:
            self._minute = now_minute
        if now_minute <= self._minute:
            return []
        ended = list(self._ended(self._minute, until_us=now_us, is_heard=True))
        silent = range(self._minute + MINUTE_US, now_minute, MINUTE_US)
        for minute in silent if len(silent) <= MOST_SILENT_MINUTES else ():
            ended.extend(self._ended(minute, until_us=now_us, is_heard=False))
        if silent:
            for pair in self._pairs.values():
                if pair.since_us is not None:
                    pair.since_us = max(pair.since_us, now_us)
                    pair.trouble(self._minute + MINUTE_US, now_us)
        self._minute = now_minute
        return ended

    def finish(self, now_us: int) -> list[Coverage]:
        """Return the coverage of the minutes that ended and of the open one, which is not complete."""
        ended = self.advance(now_us)
        if self._minute is not None:
            ended.extend(self._ended(self._minute, until_us=now_us, is_heard=True))
        return ended

    def _ended(self, minute: int, *, until_us: int, is_heard: bool) -> Iterator[Coverage]:
        is_whole = is_heard and until_us >= minute + MINUTE_US
        for (channel, symbol), pair in self._pairs.items():
            is_connected = is_whole and not pair.is_broken and pair.since_us is not None and pair.since_us <= minute
            status: CoverageStatus = "gap" if pair.has_gap else "complete" if is_connected else "disconnected"
            is_repairable = channel in REPAIRABLE and is_whole and status != "complete"
            if is_repairable and pair.is_repaired(minute):
                status, is_repairable = "backfilled", False
            row = Coverage(
                venue=self._venue,
                symbol=symbol,
                channel=channel,
                minute=minute,
                status=status,
                first=pair.first,
                last=pair.last,
                messages=pair.messages,
            )
            if is_repairable:
                pair.rows.append(row)
            yield row
            pair.begin()
