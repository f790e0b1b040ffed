"""Messages to bytes and back, and the checks that both directions share.

The wire is UTF-8 JSON, one object a message, absent fields left out. `decode` and `decode_batch`
hold every message to its type; `check` does the same for one that an adapter has just built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from coinstream.errors import FieldError, RefusedError
from coinstream.messages.market import (
    AssetSnapshot,
    BookSnapshot,
    Candle,
    Coverage,
    Instrument,
    Message,
    Quote,
    Trade,
)
from coinstream.messages.numbers import are_positive, check_positive, check_signed, check_unsigned
from coinstream.messages.times import MINUTE_US

M = TypeVar("M", bound=Message)

encode: Callable[[Message], bytes] = msgspec.json.Encoder().encode
"""Return a message as UTF-8 JSON. It is not checked again: see `check`."""

_POSITIVE: dict[type[Any], tuple[str, ...]] = {
    Instrument: ("tick_size", "lot_size"),
    Trade: ("price", "size"),
    Candle: ("open", "high", "low", "close"),
}
_UNSIGNED: dict[type[Any], tuple[str, ...]] = {
    Instrument: ("minimum_notional",),
    Quote: ("bid", "ask", "bid_size", "ask_size"),
    Candle: ("volume",),
    AssetSnapshot: ("price_usd", "market_cap_usd", "volume_usd_24h", "supply", "max_supply", "vwap_24h"),
}
_SIGNED: dict[type[Any], tuple[str, ...]] = {AssetSnapshot: ("change_percent_24h",)}
_HAS_MINUTE = (Candle, AssetSnapshot, Coverage)
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (Instrument, Trade, Quote, BookSnapshot, Candle, AssetSnapshot, Coverage)
}
_path = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_quoted_field = re.compile(r"required field `([^`]+)`")


class Refusal(NamedTuple):
    """A message of a batch that cannot be accepted: its place in the batch, and why."""

    place: int
    error: RefusedError


def check(message: Message) -> None:
    """Raise `FieldError` where a message breaks its type's rules for numbers, minutes and levels.

    Types and lengths are the decoder's business; an adapter's own code is trusted with those.
    """
    kind = type(message)
    for fields, check_one in ((_POSITIVE, check_positive), (_UNSIGNED, check_unsigned), (_SIGNED, check_signed)):
        for field in fields.get(kind, ()):
            digits = getattr(message, field)
            if digits is not None:
                check_one(digits, field)
    if isinstance(message, _HAS_MINUTE) and message.minute % MINUTE_US:
        raise FieldError("minute", "must be the start of a minute in microseconds", message.minute)
    if isinstance(message, BookSnapshot):
        _check_levels(message)


def _check_levels(book: BookSnapshot) -> None:
    if are_positive(digits for side in (book.bids, book.asks) for level in side for digits in level):
        return
    for name, side in (("bids", book.bids), ("asks", book.asks)):
        for index, (price, size) in enumerate(side):
            check_positive(price, f"{name}[{index}].price")
            check_positive(size, f"{name}[{index}].size")


def decode(kind: type[M], value: bytes) -> M:
    """Return the message that the bytes hold.

    Raises:
        FieldError: A field is missing, malformed or out of range; it is named.
        RefusedError: The bytes are no JSON object.
    """
    message: M = _decode_unchecked(kind, value)
    check(message)
    return message


def decode_batch(kind: type[M], values: Sequence[bytes | None]) -> tuple[list[M | None], list[Refusal]]:
    """Decode many messages of one type; the hot path of both sinks.

    Args:
        kind: The type that all of them have.
        values: The records' values; ``None`` (a tombstone) is refused like any other bad value.

    Returns:
        A list as long as ``values``, with ``None`` where one was refused, and the refusals.
    """
    decode_one = _decoders[kind].decode
    try:
        messages: list[M | None] = [decode_one(value) for value in values]  # type: ignore[arg-type]
        refusals: list[Refusal] = []
    except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):
        messages, refusals = [], []
        for index, value in enumerate(values):
            try:
                messages.append(_decode_unchecked(kind, value))
            except RefusedError as error:
                messages.append(None)
                refusals.append(Refusal(index, error))
    if kind is Trade and are_positive(_trade_digits(messages)):
        return messages, refusals
    for index, message in enumerate(messages):
        if message is None:
            continue
        try:
            check(message)
        except RefusedError as error:
            messages[index] = None
            refusals.append(Refusal(index, error))
    refusals.sort(key=lambda refusal: refusal.place)
    return messages, refusals


def _trade_digits(trades: Sequence[Any]) -> list[str]:
    try:
        return [trade.price for trade in trades] + [trade.size for trade in trades]
    except AttributeError:  # where one was refused, None stands for it
        present = [trade for trade in trades if trade is not None]
        return [trade.price for trade in present] + [trade.size for trade in present]


def _decode_unchecked(kind: type[M], value: bytes | None) -> M:
    if value is None:
        raise RefusedError(f"{kind.__name__}: the record has no value")
    try:
        message: M = _decoders[kind].decode(value)
    except msgspec.ValidationError as error:
        raise field_error(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(f"{kind.__name__}: not a JSON object ({error})") from None
    return message


def field_error(error: msgspec.ValidationError) -> RefusedError:
    """Return msgspec's complaint as a `FieldError` that names the field."""
    text = str(error)
    path = _path.search(text)
    reason = text[: path.start()] if path else text
    missing = _quoted_field.search(reason)
    if missing:
        parent = path[1] + "." if path and path[1] else ""
        return FieldError(parent + missing[1], "is missing")
    if path is None or not path[1]:
        return RefusedError(f"not a message of this type ({text})")
    return FieldError(path[1], reason[0].lower() + reason[1:].replace("`", ""))
