from __future__ import annotations

import pytest
from bson.decimal128 import Decimal128
from hypothesis import example, given
from hypothesis import strategies as st

from coinstream.stores.mongodb.decimal128 import decimal128, digits_of

plain_digits = st.from_regex(r"\A-?(0|[1-9][0-9]{0,15})(\.[0-9]{1,18})?\Z")


@given(plain_digits)
@example("0")
@example("-0.00")
@example("18446744073709551615")
@example("18446744073709551616")
@example("-18446744073709551617.5")
@example("9999999999999999.999999999999999999")
def test_packed_number_is_the_drivers_own(digits: str) -> None:
    """Coefficients on both sides of 64 bits, where the halves meet."""
    assert decimal128(digits) == Decimal128(digits)
    assert digits_of(decimal128(digits)) == digits


@pytest.mark.parametrize("text", ["", "1e5", "NaN", "1_0", "1" * 35, "--1"])
def test_what_is_no_plain_decimal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a plain decimal"):
        decimal128(text)
