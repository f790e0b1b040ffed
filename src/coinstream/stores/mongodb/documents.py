"""Messages to documents and back, and what decides which of two is newer.

A document keeps every digit and every absent field of its message, so that `message_of` returns
a message equal to the one that was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar, cast

from coinstream.messages import (
    AssetSnapshot,
    BookSnapshot,
    DecodedBatch,
    Instrument,
    Message,
    Partition,
    Quote,
    Trade,
)
from coinstream.stores.mongodb.decimal128 import decimal128, digits_of
from coinstream.stores.mongodb.schema import FIELDS, KEPT_MS, Form

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
"""Dates of BSON are milliseconds, UTC; pymongo encodes a naive datetime as UTC, and faster than an aware one."""


class Record(NamedTuple):
    """A message and the record of the log that it is from.

    Attributes:
        timestamp_ms: The record's own time, which decides how long a document is kept.
    """

    message: Any
    partition: Partition
    topic_id: str
    offset: int
    timestamp_ms: int

    @property
    def log(self) -> dict[str, Any]:
        """The record's position as documents have it."""
        return {"topic_id": self.topic_id, "partition": self.partition.partition, "offset": self.offset}


def record(batch: DecodedBatch, place: int) -> Record:
    """Return one message of a batch with its record."""
    return Record(
        batch.messages[place],
        batch.partition,
        batch.start.topic_id,
        batch.offsets[place],
        batch.timestamps_ms[place],
    )


def trade_document_id(trade: Trade) -> str:
    """Return the ``_id`` of a trade in ``trades``."""
    return f"{trade.venue}:{trade.symbol}:{trade.trade_id}"


def instrument_document_id(message: Instrument | Trade | Quote | BookSnapshot) -> str:
    """Return the ``_id`` in ``instruments`` of the document that a message is a part of."""
    return f"{message.venue}:{message.symbol}"


def asset_document_id(asset: AssetSnapshot) -> str:
    """Return the ``_id`` of an asset in ``assets``."""
    return f"{asset.source}:{asset.asset_id}"


def asset_history_document_id(asset: AssetSnapshot) -> str:
    """Return the ``_id`` of a snapshot in ``asset_history``."""
    return f"{asset.source}:{asset.asset_id}:{asset.minute}"


def trade_id_rank(trade_id: str) -> tuple[str, str]:
    """Return two texts that sort, byte by byte, as trade ids do: digits as integers, before all others.

    The first has the number with its length before it, so that the server compares numbers of any length.

    >>> sorted(["b", "10", "9", "a"], key=trade_id_rank)
    ['9', '10', 'a', 'b']
    """
    if trade_id.isascii() and trade_id.isdigit():
        number = trade_id.lstrip("0")
        return f"0{len(number):02}{number}", trade_id
    return "1", trade_id


Version = tuple[int | str, ...]


def trade_version(trade: Trade, offset: int) -> Version:
    """Return the version of ``last_trade``: time, then id, then the later in the log."""
    return (trade.event_time_us, *trade_id_rank(trade.trade_id), offset)


def series_version(message: Quote | BookSnapshot, offset: int) -> Version:
    """Return the version of ``best`` and ``book``: time received, then sequence, then the later in the log."""
    return message.received_time_us, message.sequence or 0, offset


def facts_version(instrument: Instrument, offset: int) -> Version:
    """Return the version of ``facts``: time received, then the later in the log."""
    return instrument.received_time_us, offset


def asset_version(asset: AssetSnapshot, offset: int) -> Version:
    """Return the version in ``assets``: minute, then time received, then the earlier in the log."""
    return asset.minute, asset.received_time_us, -offset


def asset_history_version(asset: AssetSnapshot, offset: int) -> Version:
    """Return the version in ``asset_history``: time received, then the earlier in the log."""
    return asset.received_time_us, -offset


PART_VERSIONS: dict[type[Any], Callable[[Any, int], Version]] = {
    Instrument: facts_version,
    Trade: trade_version,
    Quote: series_version,
    BookSnapshot: series_version,
}


def expires(timestamp_ms: int) -> datetime:
    """Return when a document of a record with this time is removed, as pymongo takes it."""
    return _EPOCH + timedelta(milliseconds=timestamp_ms + KEPT_MS)


def trade_documents(batch: DecodedBatch) -> list[dict[str, Any]]:
    """Return the documents of a batch of trades, in its order; the hot path of this store."""
    topic_id, partition = batch.start.topic_id, batch.start.partition
    # Records share their milliseconds, and a date costs more to make than to look up.
    dates = {timestamp_ms: expires(timestamp_ms) for timestamp_ms in set(batch.timestamps_ms)}
    trades = cast("Sequence[Trade]", batch.messages)
    return [
        {
            "_id": f"{(venue := trade.venue)}:{(symbol := trade.symbol)}:{(trade_id := trade.trade_id)}",
            "venue": venue,
            "symbol": symbol,
            "trade_id": trade_id,
            "price": decimal128(trade.price),
            "size": decimal128(trade.size),
            "aggressor_side": trade.aggressor_side,
            "event_time_us": trade.event_time_us,
            "received_time_us": trade.received_time_us,
            "provenance": trade.provenance,
            "log": {"topic_id": topic_id, "partition": partition, "offset": offset},
            "expires": dates[timestamp_ms],
        }
        for trade, offset, timestamp_ms in zip(trades, batch.offsets, batch.timestamps_ms, strict=True)
    ]


def _levels(levels: Sequence[tuple[str, str]]) -> list[list[Any]]:
    return [[decimal128(price), decimal128(size)] for price, size in levels]


def _itself(value: Any) -> Any:
    return value


_TO_BSON: dict[Form, Callable[[Any], Any]] = {"decimal": decimal128, "levels": _levels}
_WRITERS: dict[type[Any], tuple[tuple[str, Callable[[Any], Any]], ...]] = {
    kind: tuple((field.name, _TO_BSON.get(field.form, _itself)) for field in fields) for kind, fields in FIELDS.items()
}


def fields_of(message: Message) -> dict[str, Any]:
    """Return a message's fields as BSON has them; absent ones are left out."""
    return {
        name: convert(value)
        for name, convert in _WRITERS[type(message)]
        if (value := getattr(message, name)) is not None
    }


def _read_levels(levels: Sequence[Sequence[Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((digits_of(price), digits_of(size)) for price, size in levels)


_FROM_BSON: dict[Form, Callable[[Any], Any]] = {"decimal": digits_of, "levels": _read_levels, "integer": int}
_READERS: dict[type[Any], tuple[tuple[str, Callable[[Any], Any]], ...]] = {
    kind: tuple((field.name, _FROM_BSON.get(field.form, _itself)) for field in fields)
    for kind, fields in FIELDS.items()
}

M = TypeVar("M", bound=Message)


def message_of(kind: type[M], document: Mapping[str, Any]) -> M:
    """Return the message that a document's or part's fields hold; other fields are ignored."""
    return kind(**{name: convert(document[name]) for name, convert in _READERS[kind] if name in document})
