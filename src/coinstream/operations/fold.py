"""What a run of the log must have made of the stores, folded from its messages alone.

It shares no code with the sinks, on purpose: two ways to the same figures are the proof.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from coinstream.messages import (
    AssetSnapshot,
    BookSnapshot,
    Candle,
    Coverage,
    Instrument,
    Message,
    Quote,
    Trade,
    day_of,
    minute_of,
)

TradeKey = tuple[str, str, str, date]
SeriesKey = tuple[str, str, int, int]
MinuteKey = tuple[str, str, int]


@dataclass(slots=True)
class RunFold:
    """The distinct natural keys of a run, each with the message that wins by its table's rule.

    Add the messages of each partition in log order; a key's messages all stand in one partition.

    Attributes:
        trades: By (venue, symbol, trade id, day of its time); the first wins.
        quotes: By (venue, symbol, received time, sequence or 0); the first wins.
        books: The same.
        candles: A venue's own, by (venue, symbol, minute); the last wins.
        instruments: By (venue, symbol); the latest received wins, then the later in the log.
        assets: By (source, asset id, minute); the latest received wins, then the earlier in the log.
        coverage: By (venue, symbol, channel, minute); the last wins.
        repeats: By kind, how many messages had a key that an earlier one had.
    """

    trades: dict[TradeKey, Trade] = field(default_factory=dict)
    quotes: dict[SeriesKey, Quote] = field(default_factory=dict)
    books: dict[SeriesKey, BookSnapshot] = field(default_factory=dict)
    candles: dict[MinuteKey, Candle] = field(default_factory=dict)
    instruments: dict[tuple[str, str], Instrument] = field(default_factory=dict)
    assets: dict[MinuteKey, AssetSnapshot] = field(default_factory=dict)
    coverage: dict[tuple[str, str, str, int], Coverage] = field(default_factory=dict)
    repeats: Counter[str] = field(default_factory=Counter)

    def add(self, message: Message) -> None:
        """Take the next message of its partition."""
        _ADD[type(message)](self, message)

    def traded_minutes(self) -> set[MinuteKey]:
        """Return the (venue, symbol, minute) in which this run has trades."""
        return {(t.venue, t.symbol, minute_of(t.event_time_us)) for t in self.trades.values()}

    def latest_assets(self) -> dict[tuple[str, str], AssetSnapshot]:
        """Return each asset's newest snapshot, by (source, asset id)."""
        latest: dict[tuple[str, str], AssetSnapshot] = {}
        for asset in self.assets.values():
            key = (asset.source, asset.asset_id)
            held = latest.get(key)
            if held is None or (asset.minute, asset.received_time_us) > (held.minute, held.received_time_us):
                latest[key] = asset
        return latest

    def last_trades(self) -> dict[tuple[str, str], Trade]:
        """Return each market's last trade: by its time, then by its id."""
        last: dict[tuple[str, str], Trade] = {}
        for trade in self.trades.values():
            held = last.get((trade.venue, trade.symbol))
            if held is None or trade_order(trade) > trade_order(held):
                last[trade.venue, trade.symbol] = trade
        return last

    def newest(self, series: dict[SeriesKey, Any]) -> dict[tuple[str, str], Any]:
        """Return each market's newest quote or book: by its received time, then its sequence."""
        newest: dict[tuple[str, str], Any] = {}
        for key in sorted(series, key=lambda key: key[2:]):
            newest[key[:2]] = series[key]
        return newest


def trade_order(trade: Trade) -> tuple[int, bool, int, bytes]:
    """Return what orders trades: time, then id; digits as integers, and before other ids."""
    digits = trade.trade_id.isascii() and trade.trade_id.isdigit()
    return (
        trade.event_time_us,
        not digits,
        int(trade.trade_id) if digits else 0,
        trade.trade_id.encode(),
    )


def _first(table: dict[Any, Any], key: Any, message: Message, repeats: Counter[str]) -> None:
    if key in table:
        repeats[type(message).__name__] += 1
    else:
        table[key] = message


def _last(table: dict[Any, Any], key: Any, message: Message, repeats: Counter[str]) -> None:
    if key in table:
        repeats[type(message).__name__] += 1
    table[key] = message


def _add_trade(fold: RunFold, trade: Trade) -> None:
    key = (trade.venue, trade.symbol, trade.trade_id, day_of(trade.event_time_us))
    _first(fold.trades, key, trade, fold.repeats)


def _add_quote(fold: RunFold, quote: Quote) -> None:
    key = (quote.venue, quote.symbol, quote.received_time_us, quote.sequence or 0)
    _first(fold.quotes, key, quote, fold.repeats)


def _add_book(fold: RunFold, book: BookSnapshot) -> None:
    key = (book.venue, book.symbol, book.received_time_us, book.sequence or 0)
    _first(fold.books, key, book, fold.repeats)


def _add_candle(fold: RunFold, candle: Candle) -> None:
    _last(fold.candles, (candle.venue, candle.symbol, candle.minute), candle, fold.repeats)


def _add_instrument(fold: RunFold, instrument: Instrument) -> None:
    key = (instrument.venue, instrument.symbol)
    held = fold.instruments.get(key)
    if held is None or instrument.received_time_us >= held.received_time_us:
        fold.instruments[key] = instrument
    if held is not None:
        fold.repeats["Instrument"] += 1


def _add_asset(fold: RunFold, asset: AssetSnapshot) -> None:
    key = (asset.source, asset.asset_id, asset.minute)
    held = fold.assets.get(key)
    if held is None or asset.received_time_us > held.received_time_us:
        fold.assets[key] = asset
    if held is not None:
        fold.repeats["AssetSnapshot"] += 1


def _add_coverage(fold: RunFold, coverage: Coverage) -> None:
    key = (coverage.venue, coverage.symbol, coverage.channel, coverage.minute)
    _last(fold.coverage, key, coverage, fold.repeats)


_ADD: dict[type[Any], Callable[[RunFold, Any], None]] = {
    Trade: _add_trade,
    Quote: _add_quote,
    BookSnapshot: _add_book,
    Candle: _add_candle,
    Instrument: _add_instrument,
    AssetSnapshot: _add_asset,
    Coverage: _add_coverage,
}
