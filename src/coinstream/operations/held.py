"""Each store held to a run's fold: key by key, value by value, and in what it grew by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, Protocol, TypeVar

from coinstream.kafka import DeadLetter
from coinstream.messages import AssetSnapshot, BookSnapshot, Instrument, Message, Partition, Quote, Topic, Trade
from coinstream.operations.fold import RunFold, trade_order
from coinstream.stores.mongodb import MONGODB_KINDS
from coinstream.stores.mongodb.documents import (
    asset_document_id,
    asset_history_document_id,
    instrument_document_id,
    trade_document_id,
)
from coinstream.stores.mongodb.read import LogStamp, MongoReader, Stored
from coinstream.stores.postgres.read import POSTGRES_KINDS, TABLES, PostgresReader

K = TypeVar("K", bound=tuple[Any, ...])

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


class Before(Protocol):
    """What is asked of PostgreSQL as it was before a run; `coinstream.stores.postgres.read.Snapshot` is one."""

    def counts(self) -> dict[str, int]:
        """Return how many rows each table has."""

    def existing(self, table: str, keys: Collection[K]) -> set[K]:
        """Return those of the keys that the table has."""

    def summed_minutes(self, minutes: Iterable[tuple[str, str, int]]) -> Collection[tuple[str, str, int]]:
        """Return those of the minutes that have a candle summed from trades."""


class NothingBefore:
    """A PostgreSQL that was empty before the run."""

    def counts(self) -> dict[str, int]:
        """Return 0 for each table."""
        return dict.fromkeys(TABLES, 0)

    def existing(self, table: str, keys: Collection[K]) -> set[K]:  # noqa: ARG002 - `Before`'s signature
        """Return no key."""
        return set()

    def summed_minutes(self, minutes: Iterable[tuple[str, str, int]]) -> Collection[tuple[str, str, int]]:  # noqa: ARG002
        """Return no minute."""
        return ()


class Unreadable(NamedTuple):
    """A record of the log that no decoder accepts."""

    topic: Topic
    partition: Partition
    offset: int
    value: bytes | None


@dataclass(slots=True)
class Findings:
    """What is not as the log says, in words and in numbers.

    Attributes:
        duplicates: Messages that met a key which was there, by table.
        lost: Keys that are not there, by table.
        doubled: Rows or documents more than there are keys, by table.
        lettered: Unreadable records that stand in dead letters with their bytes, by store.
    """

    disagreements: list[str] = field(default_factory=list)
    duplicates: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    doubled: Counter[str] = field(default_factory=Counter)
    lettered: Counter[str] = field(default_factory=Counter)

    def lacks(self, store: str, table: str, key: object, expected: object) -> None:
        """Note a key that is not there."""
        self.lost[table] += 1
        self.differs(store, table, key, expected, "nothing")

    def differs(self, store: str, table: str, key: object, expected: object, found: object) -> None:
        """Note one key."""
        self.disagreements.append(f"{store} {table} {key}: the log says {expected}, the store has {found}")

    def grew(self, store: str, table: str, by: int, new: int) -> None:
        """Hold a table's growth to the number of keys that were new."""
        if by != new:
            self.doubled[table] = max(self.doubled[table], by - new)
            self.disagreements.append(f"{store} {table} grew by {by}, but {new} keys of this run were new")


def held_to_postgres(fold: RunFold, before: Before, now: PostgresReader, grown: Mapping[str, int]) -> Findings:
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
                findings.lacks("PostgreSQL", table, key, message)
            elif found.rows != 1:
                findings.doubled[table] += found.rows - 1
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


def _hold_candles(fold: RunFold, before: Before, now: PostgresReader, findings: Findings, new: Counter[str]) -> None:
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


def held_to_mongodb(
    fold: RunFold, is_of_run: Callable[[type[Message], LogStamp], bool], now: MongoReader, grown: Mapping[str, int]
) -> Findings:
    """Hold MongoDB's collections to a run.

    Args:
        fold: What the run's messages come to.
        is_of_run: Whether a record of a kind was published in the run.
        now: The collections as they are.
        grown: By how many documents each has grown, of those that had not to expire meanwhile.
    """
    findings = Findings()
    trades: dict[str, Trade] = {}
    for trade in fold.trades.values():
        trades.setdefault(trade_document_id(trade), trade)
    _hold_documents(findings, "trades", trades, now.trades(trades), is_of_run, grown)
    history = {asset_history_document_id(asset): asset for asset in fold.assets.values()}
    _hold_documents(findings, "asset_history", history, now.asset_history(history), is_of_run, grown)
    latest = {asset_document_id(asset): asset for asset in fold.latest_assets().values()}
    _hold_latest(findings, "assets", latest, now.assets(latest), _asset_order)
    _hold_instruments(findings, fold, now)
    return findings


def _hold_documents(
    findings: Findings,
    collection: str,
    messages: Mapping[str, Message],
    stored: Mapping[str, Stored[Any]],
    is_of_run: Callable[[type[Message], LogStamp], bool],
    grown: Mapping[str, int],
) -> None:
    """Hold a collection of facts to the run: each there, each as the log says, and none more."""
    new = 0
    for key, message in messages.items():
        found = stored.get(key)
        if found is None:
            findings.lacks("MongoDB", collection, key, message)
            continue
        new += is_of_run(type(message), found.first)
        is_earlier = not is_of_run(type(message), found.log)
        if is_earlier and isinstance(message, AssetSnapshot) and _asset_order(found.message) > _asset_order(message):
            continue  # an earlier run's, newer by the collection's own rule
        if not _equal(message, found.message, skipped=_OF_THE_FEED if is_earlier else ()):
            findings.differs("MongoDB", collection, key, message, found.message)
    findings.grew("MongoDB", collection, grown[collection], new)


def _hold_latest(
    findings: Findings,
    what: str,
    messages: Mapping[str, Message],
    stored: Mapping[str, Stored[Any] | None],
    order: Callable[[Any], Any],
) -> None:
    """Hold latest states to the run's newest, or to what an earlier run left that is newer."""
    for key, message in messages.items():
        found = stored.get(key)
        if found is None:
            findings.lacks("MongoDB", what, key, message)
        elif order(found.message) < order(message) or (
            order(found.message) == order(message) and not _equal(message, found.message, skipped=_OF_THE_FEED)
        ):
            findings.differs("MongoDB", what, key, message, found.message)


def _hold_instruments(findings: Findings, fold: RunFold, now: MongoReader) -> None:
    parts: dict[str, tuple[Mapping[tuple[str, str], Any], Callable[[Any], Any]]] = {
        "facts": (fold.instruments, lambda message: message.received_time_us),
        "last_trade": (fold.last_trades(), trade_order),
        "best": (fold.newest(fold.quotes), _series_order),
        "book": (fold.newest(fold.books), _series_order),
    }
    ids = {instrument_document_id(message) for messages, _ in parts.values() for message in messages.values()}
    stored = now.instruments(ids)
    for part, (messages, order) in parts.items():
        by_id = {instrument_document_id(message): message for message in messages.values()}
        found = {key: getattr(document, part) for key, document in stored.items()}
        _hold_latest(findings, f"instruments.{part}", by_id, found, order)


def held_to_letters(unreadable: Iterable[Unreadable], letters: Iterable[DeadLetter]) -> Findings:
    """Hold the dead letters to what no decoder accepts: one of each store that reads the topic, bytes unchanged.

    Args:
        unreadable: What no decoder accepts.
        letters: Of its topics, of earlier runs too; only those of what is unreadable are held in memory.
    """
    findings = Findings()
    wanted = list(unreadable)
    places = {(*one.partition, one.offset) for one in wanted}
    found = {
        (it.topic, it.partition, it.offset, it.stage): it.value
        for it in letters
        if (it.topic, it.partition, it.offset) in places
    }
    for one in wanted:
        for store, kinds in (("postgresql", POSTGRES_KINDS), ("mongodb", MONGODB_KINDS)):
            if not one.topic.carries_only(kinds):
                continue
            place = (*one.partition, one.offset)
            key = (*place, f"sink {store}")
            if key not in found:
                findings.lacks("dead letters of", store, place, one.value)
            elif found[key] != one.value:
                findings.differs("dead letters of", store, place, one.value, found[key])
            else:
                findings.lettered[store] += 1
    return findings


def _asset_order(asset: AssetSnapshot) -> tuple[int, int]:
    return asset.minute, asset.received_time_us


def _series_order(message: Quote | BookSnapshot) -> tuple[int, int]:
    return message.received_time_us, message.sequence or 0


def _equal(message: Message, found: Message, *, skipped: Collection[str]) -> bool:
    return all(
        _exact(name, getattr(message, name)) == _exact(name, getattr(found, name))
        for name in message.__struct_fields__
        if name not in skipped
    )
