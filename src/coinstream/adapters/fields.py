"""Fields of a frame as messages want them: exact digits, microseconds, text where a number was sent.

The checks are those of `coinstream.messages`, made once, here, so that a message that an adapter
builds needs no second look.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from coinstream.errors import RefusedError
from coinstream.messages import field_error, is_zero, plain_digits, time_us_from_rfc3339
from coinstream.messages.numbers import UNSIGNED_PATTERN, check_positive, check_unsigned
from coinstream.messages.times import check_time_us

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no JSON, no UTF-8, or nested beyond reason."""

_is_unsigned = re.compile(UNSIGNED_PATTERN).fullmatch


def positive(text: str, field: str) -> str:
    """Return a number above zero in plain notation.

    Raises:
        FieldError: It is no number, not above zero, or has too many digits.
    """
    if _is_unsigned(text) and text.strip("0."):
        return text
    digits = plain_digits(text, field)
    check_positive(digits, field)
    return digits


def unsigned(text: str, field: str) -> str:
    """Return a number of zero or above in plain notation.

    Raises:
        FieldError: It is no number, negative, or has too many digits.
    """
    if _is_unsigned(text):
        return text
    digits = plain_digits(text, field)
    check_unsigned(digits, field)
    return digits


def unsigned_or_none(text: str | None, field: str) -> str | None:
    """Return a number of zero or above, or ``None`` where the venue sent nothing (absent, null, ``""``)."""
    return unsigned(text, field) if text else None


def step_or_none(text: str | None, field: str) -> str | None:
    """Return the least step of a price or size; ``None`` where the venue sent nothing or zero."""
    digits = unsigned_or_none(text, field)
    return None if digits is None or is_zero(digits) else digits


_MOST_SECONDS = 1024
_second_us: dict[str, int] = {}
"""Seconds as they were written (``2023-02-09T20:19:35.``) in microseconds; emptied when it is full."""


def time_us(text: str, field: str) -> int:
    """Return a time such as ``2023-02-09T20:19:35.39625135Z`` in microseconds, cut, not rounded.

    The second is remembered, for neighbouring frames share it: a third of the cost.

    Raises:
        FieldError: It is no such time, or outside 2009 to 2099.
    """
    fraction = text[20:-1]
    second_us = _second_us.get(text[:20])
    if second_us is not None and fraction.isdecimal() and text[-1] == "Z" and fraction.isascii() and len(fraction) < 10:
        return second_us + int(fraction if len(fraction) == 6 else fraction[:6].ljust(6, "0"))
    moment_us = check_time_us(time_us_from_rfc3339(text, field), field)
    if text[19:20] == "." and text[-1] == "Z":
        if len(_second_us) >= _MOST_SECONDS:
            _second_us.clear()
        _second_us[text[:20]] = moment_us - moment_us % 1_000_000
    return moment_us


def time_us_or_none(text: str | None, field: str) -> int | None:
    """Return a time in microseconds; ``None`` where the venue sent nothing or its zero.

    Go's zero time (year 1) and the epoch (1970) are how servers write "no time".
    """
    if not text or text.startswith(("0001-01-01T00:00:00", "1970-01-01T00:00:00")):
        return None
    return time_us(text, field)


_decode_exactly = msgspec.json.Decoder(float_hook=str).decode


def decode_exactly(data: bytes, *, integers: frozenset[str]) -> Any:
    """Return a frame's JSON with every number as its own text, for frames that broke their types.

    A venue that sends ``1.50`` without quotes must not have it pass through a float.

    Args:
        data: The frame.
        integers: Keys whose integers stay integers.

    Raises:
        RefusedError: It is not JSON.
    """
    try:
        return _as_text(_decode_exactly(data), integers)
    except UNREADABLE as error:
        raise not_json(error) from None


def not_json(error: Exception) -> RefusedError:
    """Return the refusal of bytes that are no JSON."""
    return RefusedError(f"not a JSON frame ({error})")


def _as_text(value: Any, integers: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: item if key in integers and isinstance(item, int) else _as_text(item, integers)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_as_text(item, integers) for item in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def convert(value: Any, kind: Any) -> Any:
    """Return decoded JSON as a Struct, or one of a union of tagged Structs.

    Raises:
        RefusedError: It breaks the type; a `FieldError` where one field does.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise field_error(error) from None
