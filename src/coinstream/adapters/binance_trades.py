"""Holes in Binance's trades: found by their ids, which are contiguous a symbol, and filled by fetching.

Source:
    https://developers.binance.com/docs/binance-spot-api-docs/rest-api ("Compressed/Aggregate trades list"):
    ``fromId`` gives trades from that id on, oldest first, at most 1,000 a page; ids are the stream's.
"""

from __future__ import annotations

from collections.abc import Callable
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
MOST_HOLES = 500
"""Holes that are being filled at once; further ones stay."""


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
    last: int
    since_us: int
    until_us: int
    is_whole: bool


class Holes:
    """What each symbol's trades came to so far, and which are missing.

    Args:
        fetch: Returns the request for a symbol's trades from an id on.
    """

    def __init__(self, fetch: Callable[[str, int], Fetch]) -> None:
        self._fetch = fetch
        self._seen: dict[str, tuple[int, int, str]] = {}  # the last id, when it was received, on which connection
        self._missing: dict[tuple[str, int], _Hole] = {}

    def before(self, symbol: str, trade_id: int, frame: Frame) -> list[Event]:
        """Take a live trade's id; return what is to be said before the trade, most often nothing."""
        now_us = frame.received_time_us
        seen = self._seen.get(symbol)
        if seen is not None and now_us < seen[1] - MINUTE_US:
            seen = None  # another recording, of before
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
        first = max(last + 1, trade_id - MOST_FETCHED)
        if len(self._missing) >= MOST_HOLES:
            return [gap]
        self._missing[symbol, first] = _Hole(trade_id - 1, since_us, now_us, is_whole=first == last + 1)
        return [gap, self._fetch(symbol, first)]

    def doubt(self, connection: str) -> None:
        """Note that a connection may have lost trades: each symbol's next one tells, `Repaired` or `Gap`."""
        self._seen = {s: (last, us, "" if seen == connection else seen) for s, (last, us, seen) in self._seen.items()}

    def fill(self, symbol: str, first: int, ids: list[int]) -> list[Event]:
        """Take the ids of a page that began at ``first``; return the next request, or that the hole is filled.

        A page that does not reach further than the one before ends the matter: coverage stays as it is.
        """
        hole = self._missing.pop((symbol, first), None)
        if hole is None or not ids:
            return []
        reached = max(ids)
        hole.is_whole = hole.is_whole and set(range(first, min(reached, hole.last) + 1)) <= set(ids)
        if reached < hole.last:
            if reached < first:
                return []
            self._missing[symbol, reached + 1] = hole
            return [self._fetch(symbol, reached + 1)]
        return [Repaired("trades", symbol, hole.since_us, hole.until_us)] if hole.is_whole else []

    def is_missing(self, symbol: str, first: int, trade_id: int) -> bool:
        """Return whether a fetched trade belongs to the hole that was asked for, rather than to the live ones."""
        hole = self._missing.get((symbol, first))
        return hole is None or first <= trade_id <= hole.last


def read_page(frame: Frame, symbol: str, first: int | None, holes: Holes, read: _Reader) -> list[Event]:
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
        if first is None or holes.is_missing(symbol, first, entry.a):
            events.append(trade)
    if first is not None:
        events.extend(holes.fill(symbol, first, ids))
    return events


def _entry(raw: msgspec.Raw) -> _AggTrade:
    try:
        return _decode_trade(raw)
    except (msgspec.ValidationError, *UNREADABLE):
        entry: _AggTrade = convert(decode_exactly(bytes(raw), integers=_INTEGERS), _AggTrade)
        return entry
