"""Exact numbers: the digits on the wire and the one Decimal context for arithmetic.

A price, size or amount is text in plain notation with at most 16 integer digits and 18 decimals:
``0.000000000000000001`` to ``9999999999999999.999999999999999999``. The digits are the venue's own
(``1.50`` stays ``1.50``); only an exponent is rewritten, exactly. ``Decimal`` is for arithmetic,
under `EXACT`, which raises rather than rounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation

from coinstream.errors import FieldError

INTEGER_DIGITS = 16
DECIMAL_PLACES = 18

EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, DivisionByZero])
"""The context of all arithmetic. Python's default silently rounds at 28 digits; this one refuses."""

UNSIGNED_PATTERN = r"^(0|[1-9][0-9]{0,15})(\.[0-9]{1,18})?$"
POSITIVE_PATTERN = r"^(?=[^1-9]*[1-9])(0|[1-9][0-9]{0,15})(\.[0-9]{1,18})?$"
SIGNED_PATTERN = r"^-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,18})?$"

_PLAIN = r"(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,18})?"
_unsigned = re.compile(_PLAIN, re.ASCII).fullmatch
_signed = re.compile("-?" + _PLAIN, re.ASCII).fullmatch
# Possessive: no number has two readings, and not keeping track of ways back saves a quarter.
_all_positive = re.compile(r"(?:(?=[0.]*[1-9])(?:0|[1-9][0-9]{0,15}+)(?:\.[0-9]{1,18}+)?+\n)*+", re.ASCII).fullmatch
_number = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,4}))?", re.ASCII).fullmatch

_UNSIGNED_RULE = "must be a plain decimal, 16 digits and 18 decimals at most, not negative"
_POSITIVE_RULE = "must be a plain decimal above zero, 16 digits and 18 decimals at most"
_SIGNED_RULE = "must be a plain decimal, 16 digits and 18 decimals at most"


def plain_digits(text: str, field: str) -> str:
    """Return a venue's number in plain notation, with its own digits wherever they are allowed.

    A sign ``+``, leading zeros, a bare point and an exponent are rewritten exactly; zeros after the
    point are the venue's and stay, unless only dropping them brings the number within 18 decimals.

    Args:
        text: The venue's text, such as ``58012.31``, ``1e-8`` or ``-0.5``.
        field: The name the error carries.

    Raises:
        FieldError: It is no finite decimal, or exact plain notation needs more digits than allowed.
    """
    if _signed(text):
        return text
    match = _number(text)
    if match is None or not (match[2] or match[3]):
        raise FieldError(field, "must be a decimal number", text)
    sign, whole, fraction, exponent = match[1], match[2], match[3] or "", int(match[4] or 0)
    if exponent >= 0:
        shifted = fraction.ljust(exponent, "0")
        whole, fraction = whole + shifted[:exponent], shifted[exponent:]
    else:
        shifted = whole.rjust(-exponent, "0")
        whole, fraction = shifted[:exponent], shifted[exponent:] + fraction
    whole = whole.lstrip("0") or "0"
    if len(fraction) > DECIMAL_PLACES:
        fraction = fraction.rstrip("0").ljust(DECIMAL_PLACES, "0")
    if len(whole) > INTEGER_DIGITS or len(fraction) > DECIMAL_PLACES:
        raise FieldError(field, "must have at most 16 integer digits and 18 decimals", text)
    return ("-" if sign == "-" else "") + whole + ("." + fraction if fraction else "")


def check_unsigned(text: str, field: str) -> None:
    """Raise `FieldError` unless the text is a plain decimal, zero or above."""
    if not _unsigned(text):
        raise FieldError(field, _UNSIGNED_RULE, text)


def check_positive(text: str, field: str) -> None:
    """Raise `FieldError` unless the text is a plain decimal above zero."""
    if not _unsigned(text) or is_zero(text):
        raise FieldError(field, _POSITIVE_RULE, text)


def check_signed(text: str, field: str) -> None:
    """Raise `FieldError` unless the text is a plain decimal of either sign."""
    if not _signed(text):
        raise FieldError(field, _SIGNED_RULE, text)


def are_positive(texts: Iterable[str]) -> bool:
    """Return whether every text is a plain decimal above zero, in one pass over all of them.

    A third of the cost of `check_positive` one by one; who needs to know which, asks that.
    """
    each = list(texts)
    joined = "\n".join(each) + "\n"
    if joined.count("\n") != len(each):  # a text with a newline of its own would pass for two; no text at all, for one
        return not each
    return _all_positive(joined) is not None


def is_zero(digits: str) -> bool:
    """Return whether plain digits stand for zero (``0``, ``0.000``)."""
    return not digits.strip("-0.")


def exact(digits: str) -> Decimal:
    """Return plain digits as a Decimal, exactly; arithmetic on it belongs under `EXACT`."""
    return Decimal(digits)


def plain(value: Decimal) -> str:
    """Return a Decimal in plain notation, with the places it has; ``str`` would write ``1E-18``."""
    return format(value, "f")
