"""The types of Binance's frames, and their fields as messages want them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from coinstream.adapters.fields import positive, unsigned
from coinstream.errors import FieldError
from coinstream.messages import Provenance, Trade
from coinstream.messages.market import Count
from coinstream.messages.times import check_time_us

INTEGERS = frozenset({"E", "T", "U", "u", "pu", "a", "id", "code", "lastUpdateId"})
"""Fields that are no numbers of the market."""

Levels = list[tuple[str, str]]


class Payload(Struct, gc=False):
    """Any of the events: names are the venue's single letters, which mean another thing in each.

    ``a`` is an id in ``aggTrade``, the asks in ``depthUpdate`` and the best ask in ``bookTicker``.
    """

    e: str = ""
    s: str = ""
    E: Count | None = None
    T: Count | None = None
    a: Count | str | Levels | None = None
    b: Count | str | Levels | None = None
    A: str = ""
    B: str = ""
    p: str = ""
    q: str = ""
    m: bool | None = None
    U: Count | None = None
    u: Count | None = None
    pu: Count | None = None


class Combined(Struct, gc=False):
    """A frame of a combined stream, which most are: decoded in five sixths of a `Message`'s time."""

    data: Payload


class Message(Payload):
    """Any frame: a raw event, a combined one in ``data``, or the answer to a request."""

    stream: str | None = None
    data: Payload | None = None
    id: int | str | None = None
    result: Any = None
    error: Any = None
    code: Any = None
    msg: Any = None


class Snapshot(Struct):
    """A book, fetched."""

    last_update_id: Count = msgspec.field(name="lastUpdateId")
    bids: Levels
    asks: Levels
    T: Count | None = None
    E: Count | None = None


decode_combined = msgspec.json.Decoder(Combined).decode
decode_message = msgspec.json.Decoder(Message).decode
decode_snapshot = msgspec.json.Decoder(Snapshot).decode


def read_trade(event: Any, symbol: str, venue: str, provenance: Provenance, received_time_us: int) -> Trade:
    """Return an ``aggTrade``, of the stream or of a fetched page, as a trade.

    Raises:
        FieldError: A field is missing or cannot be one of a trade.
    """
    if not isinstance(event.a, int):
        raise FieldError("a", "must be an integer id", event.a)
    if event.m is None:
        raise FieldError("m", "is missing")
    if event.T is None:
        raise FieldError("T", "is missing")
    return Trade(
        venue=venue,
        symbol=symbol,
        trade_id=str(event.a),
        price=positive(event.p, "p"),
        size=positive(event.q, "q"),
        aggressor_side="sell" if event.m else "buy",
        event_time_us=check_time_us(event.T * 1000, "T"),
        received_time_us=received_time_us,
        provenance=provenance,
    )


def text_of(value: object, field: str) -> str:
    """Return a number as the venue wrote it; one without quotes is an integer here."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    raise FieldError(field, "is missing" if value is None else "must be a number", value)


def levels_of(value: object, field: str) -> Levels:
    """Return levels in plain digits: prices above zero, sizes of zero or more."""
    if not isinstance(value, list):
        raise FieldError(field, "must be a list of levels", value)
    return [(positive(price, f"{field}.price"), unsigned(size, f"{field}.size")) for price, size in value]
