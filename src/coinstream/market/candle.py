"""One-minute candles as a fold over trades: the same whatever the order or the batches they come in.

Open and close go by (event time, trade id), never by arrival. Sums are exact, under `EXACT`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal, localcontext
from operator import attrgetter
from typing import NamedTuple

from coinstream.messages import EXACT, MINUTE_US, Trade


class CandleKey(NamedTuple):
    """Whose minute it is; ``minute`` is its start in microseconds."""

    venue: str
    symbol: str
    minute: int


class CandleSum(NamedTuple):
    """What some trades of one minute come to.

    Attributes:
        open: Price of the first trade, in quote currency.
        close: Price of the last trade.
        volume: Sum of the sizes, in base currency.
        trades: How many trades; each is counted once, so give each once.
        open_time_us: Event time of the first trade; it and the id decide which is first.
        close_time_us: The same of the last.
    """

    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int
    open_time_us: int
    open_trade_id: str
    close_time_us: int
    close_trade_id: str


def trade_id_order(trade_id: str) -> tuple[int, int, bytes]:
    """Return what sorts trade ids: digits as integers, before all others by their UTF-8 bytes.

    >>> sorted(["b", "10", "9", "a"], key=trade_id_order)
    ['9', '10', 'a', 'b']
    """
    if trade_id.isascii() and trade_id.isdigit():
        return 0, int(trade_id), trade_id.encode()
    return 1, 0, trade_id.encode()


def fold_candles(trades: Iterable[Trade]) -> dict[CandleKey, CandleSum]:
    """Sum trades to one candle an instrument and minute of event time.

    Trades are grouped first and each group summed once. A trade that is given twice counts twice.

    Raises:
        decimal.Inexact: A sum needs over 80 digits, which messages' own limits make impossible
            below 1e46 trades.
    """
    return fold_groups({name: by_minute(some) for name, some in by_name(trades).items()})


def by_name(trades: Iterable[Trade]) -> dict[tuple[str, str], list[Trade]]:
    """Return trades by (venue, symbol), each instrument's in the order given."""
    groups: defaultdict[tuple[str, str], list[Trade]] = defaultdict(list)
    for trade in trades:
        groups[trade.venue, trade.symbol].append(trade)
    return dict(groups)


def by_minute(trades: Iterable[Trade]) -> dict[int, list[Trade]]:
    """Return trades by the start of their minute in microseconds, each minute's in the order given."""
    groups: defaultdict[int, list[Trade]] = defaultdict(list)
    for trade in trades:
        groups[trade.event_time_us // MINUTE_US].append(trade)
    return {number * MINUTE_US: group for number, group in groups.items()}


def fold_groups(groups: Mapping[tuple[str, str], Mapping[int, list[Trade]]]) -> dict[CandleKey, CandleSum]:
    """Sum trades that are grouped already, by (venue, symbol) and then `by_minute`; else as `fold_candles`."""
    with localcontext(EXACT):
        return {
            CandleKey(venue, symbol, minute): _sum(group)
            for (venue, symbol), minutes in groups.items()
            for minute, group in minutes.items()
        }


_price = attrgetter("price")
_size = attrgetter("size")
_time = attrgetter("event_time_us")


def _order(trade: Trade) -> tuple[int, tuple[int, int, bytes]]:
    return trade.event_time_us, trade_id_order(trade.trade_id)


def _sum(group: list[Trade]) -> CandleSum:
    times = list(map(_time, group))
    earliest, latest = min(times), max(times)
    # Only trades of the very first and last microsecond need their ids compared.
    first = group[times.index(earliest)]
    if times.count(earliest) > 1:
        first = min((trade for trade in group if trade.event_time_us == earliest), key=_order)
    last = group[times.index(latest)]
    if times.count(latest) > 1:
        last = max((trade for trade in group if trade.event_time_us == latest), key=_order)
    prices = set(map(_price, group))
    values = list(map(Decimal, prices))
    return CandleSum(
        open=Decimal(first.price),
        high=max(values),
        low=min(values),
        close=Decimal(last.price),
        volume=sum(map(Decimal, map(_size, group)), Decimal(0)),
        trades=len(group),
        open_time_us=earliest,
        open_trade_id=first.trade_id,
        close_time_us=latest,
        close_trade_id=last.trade_id,
    )


def merge_candles(one: CandleSum, other: CandleSum) -> CandleSum:
    """Return the candle of both sums' trades, which must be of one instrument and minute and not overlap."""
    first, last = one, one
    if (other.open_time_us, trade_id_order(other.open_trade_id)) < (
        one.open_time_us,
        trade_id_order(one.open_trade_id),
    ):
        first = other
    if (other.close_time_us, trade_id_order(other.close_trade_id)) > (
        one.close_time_us,
        trade_id_order(one.close_trade_id),
    ):
        last = other
    return CandleSum(
        open=first.open,
        high=max(one.high, other.high),
        low=min(one.low, other.low),
        close=last.close,
        volume=EXACT.add(one.volume, other.volume),
        trades=one.trades + other.trades,
        open_time_us=first.open_time_us,
        open_trade_id=first.open_trade_id,
        close_time_us=last.close_time_us,
        close_trade_id=last.close_trade_id,
    )
