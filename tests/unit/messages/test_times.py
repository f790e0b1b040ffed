"""Times: exact microseconds from the venues' spellings."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.errors import FieldError
from coinstream.messages import day_of, minute_of, time_us_from_rfc3339, time_us_of, utc
from coinstream.messages.times import EARLIEST_US, LATEST_US, check_time_us


@pytest.mark.parametrize(
    ("text", "time_us"),
    [
        ("2021-04-21T18:51:33.123456Z", 1_619_031_093_123_456),
        ("2021-04-21T18:51:33Z", 1_619_031_093_000_000),
        ("2021-04-21T18:51:33.1Z", 1_619_031_093_100_000),
        ("2021-04-21T18:51:33.123456999Z", 1_619_031_093_123_456),
        ("2021-04-21T20:51:33.5+02:00", 1_619_031_093_500_000),
        ("2021-04-21 18:51:33.5+0000", 1_619_031_093_500_000),
        ("2021-04-21 18:51:33.50139 +0000 UTC m=+91717.525", 1_619_031_093_501_390),
    ],
)
def test_rfc3339_becomes_microseconds_cut_never_rounded(text: str, time_us: int) -> None:
    assert time_us_from_rfc3339(text, "time") == time_us


@pytest.mark.parametrize(
    "text", ["", "2021-04-21", "2021-04-21T18:51:33", "2021-02-30T00:00:00Z", "x", "1969-01-01T00:00:00Z"]
)
def test_a_time_without_zone_or_out_of_range_is_refused_by_name(text: str) -> None:
    with pytest.raises(FieldError, match=r"^trade\.time: "):
        time_us_from_rfc3339(text, "trade.time")


@given(st.integers(EARLIEST_US, LATEST_US - 1))
def test_a_time_survives_datetime_and_back(time_us: int) -> None:
    assert time_us_of(utc(time_us)) == time_us
    assert time_us_from_rfc3339(utc(time_us).isoformat(timespec="microseconds"), "time") == time_us
    assert day_of(time_us) == utc(time_us).date()
    assert minute_of(time_us) <= time_us < minute_of(time_us) + 60_000_000
    assert minute_of(time_us) % 60_000_000 == 0


def test_milliseconds_taken_for_microseconds_are_refused() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(FieldError):
        check_time_us(time_us_of(now) // 1000, "time")
    with pytest.raises(FieldError):
        check_time_us(time_us_of(now) * 1000, "time")
    assert day_of(check_time_us(time_us_of(now), "time")) == date(2026, 1, 1)
