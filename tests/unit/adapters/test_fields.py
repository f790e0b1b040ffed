"""Numbers and times of frames."""

from __future__ import annotations

import pytest

from coinstream.adapters.fields import positive, time_us, time_us_or_none, unsigned
from coinstream.errors import FieldError


@pytest.mark.parametrize(("text", "digits"), [("1.50", "1.50"), ("1e-8", "0.00000001"), ("007", "7"), (".5", "0.5")])
def test_number_keeps_its_digits_or_is_rewritten_exactly(text: str, digits: str) -> None:
    assert positive(text, "price") == unsigned(text, "price") == digits


@pytest.mark.parametrize("text", ["0", "0.000", "-1", "NaN", "inf", "1,5", "", " 1", "1\n", "1e-19"])
def test_number_that_is_not_above_zero_is_refused(text: str) -> None:
    with pytest.raises(FieldError, match=r"^price: "):
        positive(text, "price")


def test_zero_is_unsigned() -> None:
    assert [unsigned(text, "size") for text in ("0", "0.00000000", "0E-8")] == ["0", "0.00000000", "0.00000000"]


@pytest.mark.parametrize("again", range(2), ids=["first", "remembered"])
@pytest.mark.parametrize(
    ("fraction", "expected_us"),
    [("", 0), (".6", 600_000), (".678901", 678_901), (".67890199", 678_901), (".678901999", 678_901)],
)
def test_time_is_cut_to_the_microsecond(fraction: str, expected_us: int, again: int) -> None:
    for _ in range(again + 1):
        assert time_us(f"2026-01-02T03:04:05{fraction}Z", "time") == 1767323045_000000 + expected_us


def test_time_with_an_offset_is_converted() -> None:
    assert time_us("2026-01-02T05:04:05.5+02:00", "time") == 1767323045_500000


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05.5", "2026-01-02T03:04:05.\u0661Z", "2026-02-30T00:00:00.1Z", "x"]
)
def test_time_that_is_none_is_refused(text: str) -> None:
    time_us("2026-01-02T03:04:05.5Z", "time")  # the second is remembered, which must not let the others pass
    with pytest.raises(FieldError, match=r"^time: "):
        time_us(text, "time")


def test_server_that_writes_its_zero_time_gave_none() -> None:
    assert [time_us_or_none(text, "time") for text in (None, "", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z")] == [
        None
    ] * 4
