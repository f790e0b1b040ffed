"""Messages as lines of COPY text."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from coinstream.messages import Trade, utc
from coinstream.messages.times import EARLIEST_US, LATEST_US
from coinstream.stores.postgres.rows import FORMS, escaped_row, is_plain, time_text, trade_rows
from postgres_database import a_trade

IDS = {("coinbase", "BTC-USD"): 7}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64)


def read(line: str) -> list[str]:
    """Read a line as PostgreSQL's documentation of COPY's text format says."""
    fields, field, escape = [], "", False
    for character in line:
        if escape:
            field += {"t": "\t", "n": "\n", "r": "\r"}.get(character, character)
            escape = False
        elif character == "\\":
            escape = True
        elif character == "\t":
            fields.append(field)
            field = ""
        else:
            assert character not in "\n\r"
            field += character
    return [*fields, field]


@given(st.integers(EARLIEST_US, LATEST_US - 1))
def test_time_is_written_to_the_microsecond(time_us: int) -> None:
    written = datetime.strptime(time_text(time_us), "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    assert written == utc(time_us)


def test_trade_becomes_a_line() -> None:
    trade = a_trade("42", price="1.50", event_time_us=1_700_000_000_000_001, received_time_us=1_700_000_001_234_567)
    assert trade_rows([trade], 7) == [
        "7\t2023-11-14\t2023-11-14 22:13:20.000001\t2023-11-14 22:13:21.234567\tb\tl\t42\t1.50\t0.5"
    ]


@given(TEXT, st.integers(EARLIEST_US, LATEST_US - 1), st.sampled_from(["buy", "sell"]))
def test_quick_line_and_escaped_line_of_a_trade_say_the_same(trade_id: str, time_us: int, side: str) -> None:
    trade = a_trade(trade_id, event_time_us=time_us, aggressor_side=side)
    fields = FORMS[Trade].fields(trade, IDS)
    assert read(escaped_row(fields)) == list(fields)
    block = trade_rows([trade], 7)[0] + "\n"
    if is_plain(block, 1, 9):
        assert block == "\t".join(fields) + "\n"
    else:
        assert set(trade_id) & set("\t\n\r\\")


def test_block_is_not_plain_when_a_field_could_be_misread() -> None:
    for odd in ("a\tb", "a\nb", "a\\b", "a\rb"):
        rows = trade_rows([a_trade("1"), a_trade(odd)], 7)
        assert not is_plain("\n".join(rows) + "\n", 2, 9)
    assert is_plain("\n".join(trade_rows([a_trade("1"), a_trade("é")], 7)) + "\n", 2, 9)
