"""Times: integer microseconds since 1970, UTC, and the venue's own spellings of them.

Microseconds are exact in PostgreSQL's ``timestamptz``, safe in JavaScript and int64 in BSON.
Digits below the microsecond are cut, never rounded, so that a time never moves into the future.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from coinstream.errors import FieldError

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
EARLIEST_US = 1_230_768_000_000_000
"""2009-01-01, before which nothing was traded: the lower end of every time's range."""
LATEST_US = 4_102_444_800_000_000
"""2100-01-01: the first time out of range; milli- or nanoseconds taken for microseconds fall outside."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1)
_MICROSECOND = timedelta(microseconds=1)
_rfc3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,12}))?"
    r"(?:(Z|z|[+-][0-9]{2}:?[0-9]{2})| ([+-][0-9]{4}) UTC(?: m=[+-][0-9.]+)?)",
    re.ASCII,
).fullmatch


def time_us_from_rfc3339(text: str, field: str) -> int:
    """Return a time such as ``2021-04-21T18:51:33.123456Z`` in microseconds.

    Raises:
        FieldError: It is not of that form, has no offset from UTC, or is out of range.

    Source:
        RFC 3339, section 5.6; fractions of any length to 12 digits, cut to microseconds. Also what Go's
        ``Time.String`` makes, ``2023-06-23 20:31:56.121961769 +0000 UTC m=+91717.525857105``, which Coinbase
        sends in places.
    """
    match = _rfc3339(text)
    if match is None:
        raise FieldError(field, "must be a time like 2021-04-21T18:51:33.123456Z", text)
    try:
        second = datetime.fromisoformat(f"{match[1]}T{match[2]}{(match[4] or match[5]).upper()}")
    except ValueError:
        raise FieldError(field, "must be a date and time that exist", text) from None
    time_us = (second - _EPOCH) // _MICROSECOND + int((match[3] or "0").ljust(6, "0")[:6])
    return check_time_us(time_us, field)


def check_time_us(time_us: int, field: str) -> int:
    """Return the time, or raise `FieldError` when it is outside 2009 to 2099."""
    if not EARLIEST_US <= time_us < LATEST_US:
        raise FieldError(field, "must be microseconds between the years 2009 and 2100", time_us)
    return time_us


def minute_of(time_us: int) -> int:
    """Return the start of the minute that holds a time, in microseconds."""
    return time_us - time_us % MINUTE_US


def day_of(time_us: int) -> date:
    """Return the UTC date that holds a time in microseconds."""
    return _EPOCH_DAY + timedelta(days=time_us // DAY_US)


def utc(time_us: int) -> datetime:
    """Return microseconds as an aware datetime in UTC, exactly."""
    return _EPOCH + timedelta(microseconds=time_us)


def time_us_of(moment: datetime) -> int:
    """Return an aware datetime as microseconds, exactly."""
    return (moment - _EPOCH) // _MICROSECOND
