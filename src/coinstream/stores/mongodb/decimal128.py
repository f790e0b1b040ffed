"""Exact numbers in BSON: plain digits packed straight into a Decimal128, and back.

`Decimal128(text)` is pure Python through a `decimal.Context` and costs several times what packing its
two halves does; by way of its 16 bytes they cost a third more. The layout keeps the exponent, so
``1.50`` comes back as ``1.50``.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from bson.decimal128 import Decimal128

_EXPONENT_BIAS = 6176
_EXPONENT_SHIFT = 113 - 64
_SIGN = 1 << 127 - 64
_LOW = (1 << 64) - 1
_DIGITS = 34
"""What a coefficient holds: 10**34 < 2**113, so every one fits below the exponent."""
# Of the high half, by decimal places. More than 34 cannot be asked for: all digits together must fit.
_EXPONENTS = tuple((_EXPONENT_BIAS - places) << _EXPONENT_SHIFT for places in range(_DIGITS + 1))


@lru_cache(maxsize=65_536)
def decimal128(digits: str) -> Decimal128:
    """Return plain digits as the Decimal128 of the same value and the same decimal places.

    Prices and sizes repeat, so the last 65,536 are kept: about 15 MB at most.

    Args:
        digits: A plain decimal (`coinstream.messages.numbers`), at most 34 digits with its decimals.

    Raises:
        ValueError: It is no plain decimal, or has more than 34 digits.

    Source:
        IEEE 754-2008, section 3.5.2, binary encoding of the significand, as BSON stores it: sign in bit
        127, exponent biased by 6176 in bits 113 to 126, coefficient below. The driver takes the two
        halves of 64 bits, the high one first.
    >>> str(decimal128("1.50")), str(decimal128("999999999999.000000000000000001"))
    ('1.50', '999999999999.000000000000000001')
    """
    if digits[:1] == "-":
        sign, text = _SIGN, digits[1:]
    else:
        sign, text = 0, digits
    whole, _, fraction = text.partition(".")
    joined = whole + fraction
    if len(joined) > _DIGITS or not joined.isdecimal():
        raise ValueError(f"not a plain decimal of at most {_DIGITS} digits: {digits[:80]!r}")
    coefficient = int(joined)
    halves = sign | _EXPONENTS[len(fraction)] | coefficient >> 64, coefficient & _LOW
    return Decimal128(halves)  # type: ignore[arg-type]  # its documentation takes the halves, its annotation forgets


def decimal_of(number: Decimal128) -> Decimal:
    """Return the number as a Decimal, exactly, with its decimal places."""
    return number.to_decimal()


def digits_of(number: Decimal128) -> str:
    """Return the number's plain digits, with its decimal places: what `decimal128` was given."""
    return format(number.to_decimal(), "f")
