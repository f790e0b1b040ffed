"""Holes in Binance's trades: found by their ids, which are contiguous a symbol, and filled by fetching.

Source:
    https://developers.binance.com/docs/binance-spot-api-docs/rest-api ("Compressed/Aggregate trades list"):
    ``fromId`` gives trades from that id on, oldest first, at most 1,000 a page; ids are the stream's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import Struct

from coinstream.adapters.dialect import Event, Fetch, Frame, Gap, Repaired
from coinstream.adapters.fields import UNREADABLE, convert, decode_exactly, not_json
from coinstream.errors import FieldError, RefusedError
from coinstream.messages import MINUTE_US, Trade
from coinstream.messages.market import Count

PAGE = 1000
"""Trades a page, the most that the venue gives."""
MOST_FETCHED = 20_000
"""Trades of one hole that are fetched: its newest. Of a longer hole coverage goes on saying that it is one."""
MOST_HOLES = 200
"""Holes of one symbol that wait to be filled; further ones stay."""
ASK_AGAIN_US = 60_000_000
"""When the next hole of a symbol shows after so long without an answer, its trades are asked for again."""


class _AggTrade(Struct, gc=False):
    a: Count
    p: str
    q: str
    T: Count
    m: bool


class _Reader(Protocol):
    def __call__(self, event: _AggTrade, *, received_time_us: int) -> Trade:
        """Return an entry as a trade."""


_decode_page = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_trade = msgspec.json.Decoder(_AggTrade).decode
_INTEGERS = frozenset({"a", "T"})


@dataclass(slots=True)
class _Hole:
    first: int
    last: int
    since_us: int
    until_us: int
    is_whole: bool


class Holes:
    """What each symbol's trades came to so far, and which are missing.

    One request a symbol is under way at a time. Its page goes on beyond the hole that it was sent for, so that on a
    bad line, where there are many small holes, one page fills all of them.

    Args:
        fetch: Returns the request for a symbol's trades from an id on.
    """

    def __init__(self, fetch: Callable[[str, int], Fetch]) -> None:
        self._fetch = fetch
        self._seen: dict[str, tuple[int, int, str]] = {}  # the last id, when it was received, on which connection
        self._missing: dict[str, list[_Hole]] = {}
        self._asked_us: dict[str, int] = {}

    def before(self, symbol: str, trade_id: int, frame: Frame) -> list[Event]:
        """Take a live trade's id; return what is to be said before the trade, most often nothing."""
        now_us = frame.received_time_us
        seen = self._seen.get(symbol)
        if seen is not None and now_us < seen[1] - MINUTE_US:
            seen = None  # another recording, of before
            self._missing.pop(symbol, None)
            self._asked_us.pop(symbol, None)
        if seen is not None and trade_id <= seen[0]:
            return []  # sent twice, or late
        self._seen[symbol] = trade_id, now_us, frame.connection
        if seen is None:
            return []
        last, since_us, connection = seen
        if trade_id == last + 1:
            return [] if connection == frame.connection else [Repaired("trades", symbol, since_us, now_us)]
        reason = f"trade ids went from {last} to {trade_id}"
        gap = Gap(frame.connection, "trades", symbol, reason, since_us=since_us)
        holes = self._missing.setdefault(symbol, [])
        if len(holes) < MOST_HOLES:
            first = max(last + 1, trade_id - MOST_FETCHED)
            holes.append(_Hole(first, trade_id - 1, since_us, now_us, is_whole=first == last + 1))
        return [gap, *self._ask(symbol, now_us)]

    def _ask(self, symbol: str, now_us: int) -> list[Event]:
        asked_us = self._asked_us.get(symbol)
        if asked_us is not None and now_us - asked_us < ASK_AGAIN_US:
            return []
        self._asked_us[symbol] = now_us
        return [self._fetch(symbol, self._missing[symbol][0].first)]

    def doubt(self, connection: str) -> None:
        """Note that a connection may have lost trades: each symbol's next one tells, `Repaired` or `Gap`."""
        self._seen = {s: (last, us, "" if seen == connection else seen) for s, (last, us, seen) in self._seen.items()}

    def is_missing(self, symbol: str, trade_id: int) -> bool:
        """Return whether a fetched trade fills a hole; any does of a symbol whose holes nobody knows."""
        holes = self._missing.get(symbol)
        return not holes or any(hole.first <= trade_id <= hole.last for hole in holes)

    def fill(self, symbol: str, ids: Sequence[int], now_us: int) -> list[Event]:
        """Take the ids of a page; return which holes are filled, and the next request if some are not.

        A hole that the page should have begun to fill, and did not, is given up: coverage stays as it is.
        """
        holes = self._missing.pop(symbol, None)
        self._asked_us.pop(symbol, None)
        if not holes:
            return []
        known, reached = set(ids), max(ids, default=0)
        if reached < holes[0].first:
            holes.pop(0)
        events: list[Event] = []
        left: list[_Hole] = []
        for hole in holes:
            if reached < hole.first:
                left.append(hole)
                continue
            end = min(reached, hole.last)
            hole.is_whole = hole.is_whole and known.issuperset(range(hole.first, end + 1))
            if end < hole.last:
                hole.first = end + 1
                left.append(hole)
            elif hole.is_whole:
                events.append(Repaired("trades", symbol, hole.since_us, hole.until_us))
        if left:
            self._missing[symbol] = left
            events.extend(self._ask(symbol, now_us))
        return events


def read_page(frame: Frame, symbol: str, holes: Holes, read: _Reader) -> list[Event]:
    """Return the trades of a fetched page, and what is to be done next.

    ``[{"a":72,"p":"101.25","q":"0.50","f":100,"l":105,"T":1672515782136,"m":true,"M":true},…]``

    Raises:
        RefusedError: It is no such page; the hole stays, and so does what coverage says.
    """
    try:
        entries = _decode_page(frame.data)
    except msgspec.ValidationError:
        raise FieldError("trades", "must be a list") from None
    except UNREADABLE as error:
        raise not_json(error) from None
    events: list[Event] = []
    ids: list[int] = []
    for raw in entries:
        try:
            entry = _entry(raw)
            trade = read(entry, received_time_us=frame.received_time_us)
        except RefusedError as error:
            events.append(error)
            continue
        ids.append(entry.a)
        if holes.is_missing(symbol, entry.a):
            events.append(trade)
    return [*events, *holes.fill(symbol, ids, frame.received_time_us)]


def _entry(raw: msgspec.Raw) -> _AggTrade:
    try:
        return _decode_trade(raw)
    except (msgspec.ValidationError, *UNREADABLE):
        entry: _AggTrade = convert(decode_exactly(bytes(raw), integers=_INTEGERS), _AggTrade)
        return entry
