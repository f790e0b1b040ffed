"""Exact numbers: what passes unchanged, what is rewritten, what is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coinstream.errors import FieldError
from coinstream.messages import EXACT, exact, plain, plain_digits
from coinstream.messages.numbers import are_positive, check_positive, check_signed, check_unsigned

digits = st.builds(
    lambda whole, fraction: whole + ("." + fraction if fraction else ""),
    st.integers(0, 10**16 - 1).map(str),
    st.text("0123456789", max_size=18),
)


@given(digits)
@example("0.000000000000000001")
@example("1000000000000")
@example("999999999999.000000000000000001")
@example("9999999999999999.999999999999999999")
@example("1.50")
def test_plain_digits_pass_unchanged_to_decimal_and_back(text: str) -> None:
    assert plain_digits(text, "price") == text
    assert plain(exact(text)) == text


@pytest.mark.parametrize(
    ("written", "rewritten"),
    [
        ("1e-18", "0.000000000000000001"),
        ("1E+12", "1000000000000"),
        ("1e12", "1000000000000"),
        ("1.5e3", "1500"),
        ("12.345e-2", "0.12345"),
        ("+1", "1"),
        ("007.50", "7.50"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-0.5", "-0.5"),
        ("-1E-7", "-0.0000001"),
        ("0e10", "0"),
        ("1.100000000000000000000000", "1.100000000000000000"),
    ],
)
def test_other_spellings_are_rewritten_exactly(written: str, rewritten: str) -> None:
    assert plain_digits(written, "price") == rewritten
    assert Decimal(written) == Decimal(rewritten)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_decimal_is_rewritten_with_its_value_or_refused(value: Decimal) -> None:
    _, number, exponent = value.as_tuple()
    text = "".join(map(str, number)).lstrip("0")
    assert isinstance(exponent, int)
    places = -exponent - (len(text) - len(text.rstrip("0")))
    fits = len(text) + exponent <= 16 and places <= 18
    if fits or not text:
        assert Decimal(plain_digits(str(value), "x")) == value
    else:
        with pytest.raises(FieldError):
            plain_digits(str(value), "x")


@pytest.mark.parametrize(
    "text",
    ["NaN", "nan", "Infinity", "-inf", "", ".", "-", "1_0", "1,5", " 1", "1 ", "\uff11", "0x1", "1e", "--1", "1e99999"],
)
def test_what_is_no_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(FieldError, match=r"^size: ") as refused:
        plain_digits(text, "size")
    assert refused.value.field == "size"


@pytest.mark.parametrize("text", ["1e-19", "0.0000000000000000001", "1e16", "10000000000000000", "1.1e-18"])
def test_what_needs_more_digits_than_allowed_is_refused(text: str) -> None:
    with pytest.raises(FieldError, match="at most 16 integer digits and 18 decimals"):
        plain_digits(text, "size")


@pytest.mark.parametrize("text", ["0", "0.0", "-1", "1e5", "01", "1.", "", "1\n", "1\n2", "\n", "NaN"])
def test_positive_refuses_zero_signs_and_other_spellings(text: str) -> None:
    with pytest.raises(FieldError):
        check_positive(text, "price")
    assert not are_positive(["1", text, "2"])
    assert not are_positive([text])


def test_unsigned_takes_zero_and_signed_takes_both_signs() -> None:
    check_unsigned("0", "bid")
    check_unsigned("0.00", "bid")
    check_signed("-3.25", "change")
    with pytest.raises(FieldError):
        check_unsigned("-0.1", "bid")
    with pytest.raises(FieldError):
        check_signed("+1", "change")


@given(st.lists(digits))
def test_batch_check_agrees_with_the_check_of_each(texts: list[str]) -> None:
    assert are_positive(texts) == all(Decimal(text) > 0 for text in texts)


def test_arithmetic_refuses_to_round() -> None:
    with pytest.raises(ArithmeticError):
        EXACT.divide(Decimal(1), Decimal(3))
    assert EXACT.multiply(exact("999999999999.000000000000000001"), exact("0.000000000000000001")) == Decimal(
        "0.000000999999999999000000000000000001"
    )
