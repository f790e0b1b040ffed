"""Coverage: what the messages of each symbol, channel and minute are worth, as a fold.

Minutes go by the time of receiving, for that is when a feed is connected or not. A symbol that is
subscribed and silent gets its rows too, with no messages: a quiet market is no hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from coinstream.messages import MINUTE_US, Coverage, CoverageStatus, minute_of

Channel = Literal["trades", "quotes", "books"]
CHANNELS: tuple[Channel, ...] = ("trades", "quotes", "books")

MOST_SILENT_MINUTES = 60
"""After a longer silence (a recording of other days) the minutes between are not spoken of at all."""


class _Pair:
    """One channel of one symbol, in the minute that is open."""

    __slots__ = ("connection", "first", "has_gap", "is_broken", "last", "messages", "since_us")

    def __init__(self) -> None:
        self.connection: str | None = None
        self.since_us: int | None = None  # connected without interruption since then; None: not connected
        self.is_broken = False  # nothing can be trusted until it is healed; a gap only while it is connected
        self.begin()

    def begin(self) -> None:
        self.has_gap = self.is_broken and self.since_us is not None
        self.messages = 0
        self.first: str | None = None
        self.last: str | None = None


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
                pair.connection, pair.since_us = connection, time_us

    def disconnected(self, connection: str) -> None:
        """Note that a connection is gone; what it carried is not complete until it is carried again."""
        for pair in self._pairs.values():
            if pair.connection == connection:
                pair.since_us = None

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

    def gap(self, channel: Channel, symbol: str) -> None:
        """Note that something of the open minute was missed."""
        self._pairs.setdefault((channel, symbol), _Pair()).has_gap = True

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
                pair.since_us = None if pair.since_us is None else max(pair.since_us, now_us)
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
            yield Coverage(
                venue=self._venue,
                symbol=symbol,
                channel=channel,
                minute=minute,
                status=status,
                first=pair.first,
                last=pair.last,
                messages=pair.messages,
            )
            pair.begin()
