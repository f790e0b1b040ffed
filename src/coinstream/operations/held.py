"""Each store held to a run's fold: key by key, value by value, and in what it grew by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from coinstream.messages import AssetSnapshot, BookSnapshot, Instrument, Message, Partition, Quote, Trade
from coinstream.operations.fold import RunFold, trade_order
from coinstream.stores.mongodb.read import MongoReader
from coinstream.stores.postgres.read import PostgresReader, Snapshot

_NUMBERS = frozenset(
    {"price", "size", "bid", "ask", "bid_size", "ask_size", "open", "high", "low", "close", "volume"}
    | {"tick_size", "lot_size", "minimum_notional", "price_usd", "market_cap_usd", "volume_usd_24h"}
    | {"supply", "max_supply", "vwap_24h", "change_percent_24h"}
)
_IN_KEY = {
    "trades": ("venue", "symbol", "trade_id"),
    "quotes": ("venue", "symbol", "received_time_us", "sequence"),
    "book_snapshots": ("venue", "symbol", "received_time_us", "sequence"),
    "candles": ("venue", "symbol", "minute"),
    "instruments": ("venue", "symbol"),
    "assets": ("source", "asset_id", "minute"),
    "coverage": ("venue", "symbol", "channel", "minute"),
}
_OF_THE_FEED = ("received_time_us", "provenance")
"""What the venue did not say: an earlier run that met the same trade first has its own."""
_NEWEST_WINS = frozenset({"instruments", "assets"})


@dataclass(slots=True)
class Findings:
    """What is not as the log says, in words, and how many messages met a key that was there."""

    disagreements: list[str] = field(default_factory=list)
    duplicates: Counter[str] = field(default_factory=Counter)

    def differs(self, store: str, table: str, key: object, expected: object, found: object) -> None:
        """Note one key."""
        self.disagreements.append(f"{store} {table} {key}: the log says {expected}, the store has {found}")

    def grew(self, store: str, table: str, by: int, new: int) -> None:
        """Hold a table's growth to the number of keys that were new."""
        if by != new:
            self.disagreements.append(f"{store} {table} grew by {by}, but {new} keys of this run were new")


def held_to_postgres(fold: RunFold, before: Snapshot, now: PostgresReader, grown: Mapping[str, int]) -> Findings:
    """Hold PostgreSQL's tables to a run.

    Args:
        fold: What the run's messages come to.
        before: The tables as they were before the run.
        now: The tables as they are.
        grown: By how many rows each table has grown.
    """
    findings = Findings()
    new: Counter[str] = Counter()
    tables: dict[str, Mapping[Any, Message]] = {
        "trades": fold.trades,
        "quotes": fold.quotes,
        "book_snapshots": fold.books,
        "candles": fold.candles,
        "instruments": fold.instruments,
        "assets": fold.assets,
        "coverage": fold.coverage,
    }
    for table, messages in tables.items():
        earlier = before.existing(table, messages.keys())
        stored = now.stored(table, messages.keys())
        new[table] = len(messages) - len(earlier)
        findings.duplicates[table] += len(earlier)
        for key, message in messages.items():
            found = stored.get(key)
            if found is None:
                findings.differs("PostgreSQL", table, key, message, "nothing")
            elif found.rows != 1:
                findings.differs("PostgreSQL", table, key, "one row", f"{found.rows}")
            elif not _row_agrees(table, message, found, is_earlier=key in earlier):
                findings.differs("PostgreSQL", table, key, message, found)
    for kind, table in _TABLE_OF.items():
        findings.duplicates[table] += fold.repeats[kind.__name__]
    _hold_candles(fold, before, now, findings, new)
    facts: tuple[Mapping[Any, Message], ...] = (fold.trades, fold.quotes, fold.books, fold.candles, fold.instruments)
    markets = {key[:2] for keys in facts for key in keys}
    new["instruments"] = len(markets) - len(before.existing("instruments", markets))
    for table in tables:
        findings.grew("PostgreSQL", table, grown[table], new[table])
    return findings


_TABLE_OF: dict[type[Any], str] = {
    Trade: "trades",
    Quote: "quotes",
    BookSnapshot: "book_snapshots",
    Instrument: "instruments",
    AssetSnapshot: "assets",
}


def _hold_candles(fold: RunFold, before: Snapshot, now: PostgresReader, findings: Findings, new: Counter[str]) -> None:
    """Hold the sink's candles to an aggregate of the trades, which were held to the log above."""
    minutes = fold.traded_minutes()
    for key, pair in now.candle_disagreements(minutes).items():
        findings.differs("PostgreSQL", "candles", key, pair.summed, pair.stored)
    new["candles"] += len(minutes) - len(before.summed_minutes(minutes))


def _row_agrees(table: str, message: Message, found: Any, *, is_earlier: bool) -> bool:
    """Whether a row has the message's values; ``found`` is the table's value tuple, by field name."""
    if table in _NEWEST_WINS and is_earlier and found.received_time_us > getattr(message, "received_time_us", 0):
        return True  # an earlier run's, newer by the table's own rule
    skipped = {*_IN_KEY[table], *(_OF_THE_FEED if table == "trades" and is_earlier else ())}
    fields = [name for name in message.__struct_fields__ if name not in skipped]
    return all(_exact(name, getattr(message, name)) == getattr(found, name) for name in fields)


def _exact(name: str, value: Any) -> Any:
    """Return a field's value as a comparison wants it: numbers by value, not by digits."""
    if value is None:
        return None
    if name in _NUMBERS:
        return Decimal(value)
    if name in {"bids", "asks"}:
        return tuple((Decimal(price), Decimal(size)) for price, size in value)
    return value


class Stored(Protocol):
    """A document as the reader returns it: the message it was made from, and that one's record."""

    message: Any
    partition: Partition
    offset: int


def held_to_mongodb(
    fold: RunFold, is_of_run: Callable[[Partition, int], bool], now: MongoReader, grown: Mapping[str, int]
) -> Findings:
    """Hold MongoDB's collections to a run.

    Args:
        fold: What the run's messages come to.
        is_of_run: Whether a record was published in the run.
        now: The collections as they are.
        grown: By how many documents each has grown.
    """
    findings = Findings()
    trades = {f"{t.venue}:{t.symbol}:{t.trade_id}": t for t in reversed(list(fold.trades.values()))}
    history = {f"{a.source}:{a.asset_id}:{a.minute}": a for a in fold.assets.values()}
    for collection, messages in (("trades", trades), ("asset_history", history)):
        stored = now.stored(collection, messages.keys())
        new = 0
        for key, message in messages.items():
            found = stored.get(key)
            if found is None:
                findings.differs("MongoDB", collection, key, message, "nothing")
                continue
            is_new = is_of_run(found.partition, found.offset)
            new += is_new
            if not _document_agrees(message, found.message, is_earlier=not is_new):
                findings.differs("MongoDB", collection, key, message, found.message)
        if collection == "trades":  # a history's entry is replaced by a newer answer of the same minute
            findings.grew("MongoDB", collection, grown[collection], new)
    return findings


def _document_agrees(message: Message, found: Message, *, is_earlier: bool) -> bool:
    if is_earlier and isinstance(message, AssetSnapshot) and isinstance(found, AssetSnapshot):
        return found.received_time_us >= message.received_time_us
    skipped = _OF_THE_FEED if is_earlier else ()
    return all(
        _exact(name, getattr(message, name)) == _exact(name, getattr(found, name))
        for name in message.__struct_fields__
        if name not in skipped
    )


__all__ = ["Findings", "held_to_mongodb", "held_to_postgres", "trade_order"]
