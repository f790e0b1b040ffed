"""Coverage: what the messages of each symbol, channel and minute are worth, as a fold.

A minute is judged by the troubles that touch it: spans of time in which a feed was not connected, or
may have missed something. Without any it is complete; if all that was missed was fetched since, it is
backfilled. What was missed of a minute often shows only after its end, by the sequence of the next
frame or by a connection that had been dead for a while, so a minute that was told is told again when
it is worth something else: the last word counts.

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

LATE_US = 2_000_000
"""How much before the last frame the first thing missed may have happened: venues gather trades for a
quarter of a second, the way takes its time, and two clocks are not one."""
MOST_SILENT_MINUTES = 60
"""After a longer silence (a recording of other days) the minutes between are not spoken of at all."""
MOST_TOLD = 120
"""Minutes that can be told again; what shows still later leaves them as they were told."""
MOST_TROUBLES = 200
"""Troubles remembered of a pair; of more, the oldest are taken for one long one."""

_Kind = Literal["gap", "disconnected"]


class _Trouble:
    """A span of time in which something may have been missed.

    Attributes:
        first_us: Its beginning, `LATE_US` early where what was missed may be older than the news of it.
        last_us: Its end; ``None`` while it lasts.
        is_repaired: Whatever was missed is known now.
    """

    __slots__ = ("first_us", "is_repaired", "kind", "last_us")

    def __init__(self, kind: _Kind, first_us: int, last_us: int | None = None) -> None:
        self.kind = kind
        self.first_us = first_us
        self.last_us = last_us
        self.is_repaired = False

    def touches(self, minute: int) -> bool:
        if self.first_us >= minute + MINUTE_US:
            return False
        # Connected at the very start of a minute is in time; a gap that shows there is not.
        return self.last_us is None or self.last_us > minute - (self.kind == "gap")


class _Pair:
    """One channel of one symbol: its troubles, the minute that is open, and those that were told."""

    __slots__ = (
        "away", "broken", "connection", "doubtful_us", "first", "last", "messages", "told", "troubles",
    )  # fmt: skip

    def __init__(self) -> None:
        self.connection: str | None = None
        self.away: _Trouble | None = _Trouble("disconnected", 0)  # lasts while no connection carries it
        self.broken: _Trouble | None = None  # lasts until it is healed
        self.troubles: list[_Trouble] = [self.away]
        self.told: deque[Coverage] = deque(maxlen=MOST_TOLD)
        self.doubtful_us: int | None = None  # from when on troubles have changed since the last word
        self.begin()

    def begin(self) -> None:
        self.messages = 0
        self.first: str | None = None
        self.last: str | None = None

    def trouble(self, kind: _Kind, first_us: int, last_us: int | None = None) -> _Trouble:
        made = _Trouble(kind, first_us, last_us)
        self.doubt(first_us)
        self.troubles.append(made)
        if len(self.troubles) > MOST_TROUBLES:
            self._forget()
        return made

    def doubt(self, since_us: int) -> None:
        self.doubtful_us = since_us if self.doubtful_us is None else min(since_us, self.doubtful_us)

    def again(self) -> Iterator[Coverage]:
        """Judge the told minutes anew that are in doubt; yield those that are worth something else now."""
        since_us, self.doubtful_us = self.doubtful_us, None
        if since_us is None:
            return
        for place, row in enumerate(self.told):
            if row.minute + MINUTE_US > since_us and (status := self.status(row.minute)) != row.status:
                self.told[place] = msgspec.structs.replace(row, status=status)
                yield self.told[place]

    def _forget(self) -> None:
        """Drop the troubles that end before anything that can be told again, or take the oldest two for one."""
        since_us = self.told[0].minute if self.told else 0
        self.troubles = [each for each in self.troubles if each.last_us is None or each.last_us > since_us]
        over = [each for each in self.troubles if each.last_us is not None]
        if len(self.troubles) > MOST_TROUBLES and len(over) > 1:
            earlier, later = over[:2]
            later.first_us = min(earlier.first_us, later.first_us)
            later.last_us = max(earlier.last_us or 0, later.last_us or 0)
            later.kind, later.is_repaired = "gap", False
            self.troubles.remove(earlier)

    def status(self, minute: int) -> CoverageStatus:
        touching = [trouble for trouble in self.troubles if trouble.touches(minute)]
        kinds = {trouble.kind for trouble in touching if not trouble.is_repaired}
        if kinds:
            return "gap" if "gap" in kinds else "disconnected"
        return "backfilled" if touching else "complete"


class CoverageFold:
    """Folds what happens to a feed into `Coverage` a channel, symbol and minute.

    Args:
        venue: The name the messages carry.
    """

    def __init__(self, venue: str) -> None:
        self._venue = venue
        self._pairs: dict[tuple[Channel, str], _Pair] = {}
        self._minute: int | None = None
        self._heard_us: dict[str, int] = {}  # of a connection: when its last frame came

    def expect(self, pairs: Iterable[tuple[Channel, str]]) -> None:
        """Speak of these (channel, symbol) from now on, whether or not they ever connect."""
        for channel, symbol in pairs:
            self._pair(channel, symbol)

    def connected(self, connection: str, pairs: Iterable[tuple[Channel, str]], time_us: int) -> None:
        """Note that a connection carries these (channel, symbol) from this time on."""
        for channel, symbol in pairs:
            pair = self._pair(channel, symbol)
            if pair.away is not None:
                pair.away.last_us, pair.away = time_us, None
            elif pair.connection != connection:
                pair.trouble("disconnected", time_us, time_us)
            pair.connection = connection

    def disconnected(self, connection: str, time_us: int) -> None:
        """Note that a connection is gone; what it carried is not complete until it is carried again.

        It may have been dead since its last frame.
        """
        first_us = self._since_us(connection, time_us)
        self._heard_us.pop(connection, None)
        for pair in self._pairs.values():
            if pair.connection == connection and pair.away is None:
                pair.away = pair.trouble("disconnected", first_us)
                if pair.broken is not None:
                    pair.broken.last_us, pair.broken = time_us, None

    def heard(self, connection: str, time_us: int) -> None:
        """Note that a frame of a connection was taken, after whatever it said was noted."""
        self._heard_us[connection] = time_us

    def carried_by(self, connection: str) -> list[tuple[Channel, str]]:
        """Return the (channel, symbol) that a connection carries."""
        return [key for key, pair in self._pairs.items() if pair.connection == connection and pair.away is None]

    def count(self, channel: Channel, symbol: str, mark: str | None, *, connection: str, time_us: int) -> None:
        """Count a message that was published, with its trade id or sequence."""
        pair = self._pairs.get((channel, symbol))
        if pair is None or pair.away is not None:
            self.connected(connection, ((channel, symbol),), time_us)
            pair = self._pairs[channel, symbol]
        pair.messages += 1
        if mark is not None:
            pair.last = mark
            if pair.first is None:
                pair.first = mark

    def gap(self, channel: Channel, symbol: str, *, connection: str, time_us: int, since_us: int | None = None) -> None:
        """Note that something was missed.

        Args:
            channel: Of which channel.
            symbol: Of which symbol.
            connection: Which connection's frame shows it.
            time_us: When it shows.
            since_us: When the last thing came before it; ``None``: with the connection's last frame.
        """
        first_us = self._since_us(connection, time_us) if since_us is None else since_us - LATE_US
        self._pair(channel, symbol).trouble("gap", first_us, time_us)

    def break_off(self, channel: Channel, symbol: str, *, connection: str, time_us: int, is_gap: bool = True) -> None:
        """Note that nothing can be trusted, through as many minutes as pass, until `heal`.

        Without ``is_gap`` nothing was missed before: it has only not begun yet.
        """
        pair = self._pair(channel, symbol)
        if pair.broken is not None:
            if not is_gap or pair.broken.kind == "gap":
                return
            pair.broken.last_us = time_us
        pair.broken = (
            pair.trouble("gap", self._since_us(connection, time_us))
            if is_gap
            else pair.trouble("disconnected", time_us)
        )

    def heal(self, channel: Channel, symbol: str, time_us: int) -> None:
        """Note that it can be trusted from now on; the minutes it was broken in stay what they were."""
        pair = self._pair(channel, symbol)
        if pair.broken is not None:
            pair.broken.last_us, pair.broken = time_us, None

    def repaired(self, channel: Channel, symbol: str, since_us: int, until_us: int) -> None:
        """Note that whatever was missed between two moments was fetched, or that nothing was.

        Args:
            channel: Of which channel.
            symbol: Of which symbol.
            since_us: When the last thing came before the hole.
            until_us: When the first thing came after it.
        """
        pair = self._pair(channel, symbol)
        for trouble in pair.troubles:
            if trouble.first_us >= since_us - LATE_US and trouble.last_us is not None and trouble.last_us <= until_us:
                trouble.is_repaired = True
                pair.doubt(trouble.first_us)

    def advance(self, now_us: int) -> list[Coverage]:
        """Return the minutes that ended by now, after those that are to be told again.

        A minute in which this was not called once, though another passed, had nobody listening:
        it is ``disconnected`` whatever the connection says.
        """
        now_minute = minute_of(now_us)
        told = [row for pair in self._pairs.values() if pair.doubtful_us is not None for row in pair.again()]
        if self._minute is None:
            self._minute = now_minute
        if now_minute <= self._minute:
            return told
        first_silent = self._minute + MINUTE_US
        if first_silent < now_minute:
            for pair in self._pairs.values():
                if pair.away is None:
                    pair.trouble("disconnected", first_silent, now_us)
        told.extend(self._end(self._minute))
        silent = range(first_silent, now_minute, MINUTE_US)
        for minute in silent if len(silent) <= MOST_SILENT_MINUTES else ():
            told.extend(self._end(minute))
        self._minute = now_minute
        return told

    def finish(self, now_us: int) -> list[Coverage]:
        """Return the minutes that ended and the open one, which is not complete; what did not come will not."""
        told = self.advance(now_us)
        for pair in self._pairs.values():
            if pair.away is None and pair.connection is not None:
                pair.away = pair.trouble("disconnected", self._since_us(pair.connection, now_us))
        told.extend(self.advance(now_us))
        if self._minute is not None:
            told.extend(self._end(self._minute))
        return told

    def _pair(self, channel: Channel, symbol: str) -> _Pair:
        pair = self._pairs.get((channel, symbol))
        if pair is None:
            pair = self._pairs[channel, symbol] = _Pair()
        return pair

    def _since_us(self, connection: str, time_us: int) -> int:
        """Return since when something may have been missed that shows at this time."""
        return self._heard_us.get(connection, time_us) - LATE_US

    def _end(self, minute: int) -> Iterator[Coverage]:
        for (channel, symbol), pair in self._pairs.items():
            row = Coverage(
                venue=self._venue,
                symbol=symbol,
                channel=channel,
                minute=minute,
                status=pair.status(minute),
                first=pair.first,
                last=pair.last,
                messages=pair.messages,
            )
            pair.told.append(row)
            pair.begin()
            yield row
