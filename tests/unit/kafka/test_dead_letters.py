from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.errors import FieldError
from coinstream.kafka import DeadLetter, RawBatch
from coinstream.kafka.dead_letters import (
    MAX_REASON_CHARACTERS,
    LetterPlace,
    distinct,
    headers_of,
    letter_from,
    newest,
)
from coinstream.messages import BY_NAME, LogPosition

TRADES = BY_NAME["market.trades"]


def letter(offset=1, *, time_us=5, stage="sink mongodb", reason="why", value=b"x"):
    return DeadLetter("market.trades", 3, offset, b"k", value, reason, "FieldError", stage, time_us)


def again(it):
    return letter_from(it.key, it.value, headers_of(it), place=LetterPlace(it.goes_to, 0, 0, 1))


@given(
    value=st.none() | st.binary(),
    key=st.none() | st.binary(),
    reason=st.text(max_size=200).filter(lambda it: not any("\ud800" <= c <= "\udfff" for c in it)),
    offset=st.none() | st.integers(0, 2**62),
    time_us=st.integers(0, 2**52),
)
def test_letter_comes_back_from_its_record(value, key, reason, offset, time_us):
    it = DeadLetter("p.market.trades", 0 if offset is not None else None, offset, key, value, reason, "E", "s", time_us)
    assert again(it) == it


def test_half_a_surrogate_pair_in_a_reason_does_not_stop_the_letter():
    assert again(letter(reason="not \ud83d")).reason == "not \\ud83d"


def test_long_reason_is_cut():
    assert again(letter(reason="x" * 5000)).reason == "x" * MAX_REASON_CHARACTERS


def test_record_of_another_tool_is_shown_all_the_same():
    place = LetterPlace("t.dead-letters", 0, 7, 1)
    found = letter_from(None, b"?", [("offset", b"many"), ("reason", b"\xff"), ("error", None)], place=place)
    assert found.place == place
    assert (found.topic, found.partition, found.offset, found.time_us) == ("t", None, None, 0)
    assert (found.reason, found.error, found.value) == ("\\xff", "", b"?")


def test_letter_of_a_record_says_where_it_stood():
    start = LogPosition("p.market.trades", "id", 4, 10)
    batch = RawBatch(
        TRADES, start, LogPosition("p.market.trades", "id", 4, 13), [b"a", None], [10, 12], [1, 2], [b"k", None]
    )
    it = DeadLetter.of_record(batch, 1, error=FieldError("price", "is missing"), stage="sink mongodb", time_us=9)
    assert (it.topic, it.partition, it.offset, it.key, it.value) == ("p.market.trades", 4, 12, None, None)
    assert (it.reason, it.error, it.goes_to) == ("price: is missing", "FieldError", "p.market.trades.dead-letters")


def test_repeat_of_a_record_by_the_same_stage_is_dropped_and_frames_are_not():
    first, repeat, elsewhere = letter(1), letter(1, time_us=6), letter(1, stage="sink postgresql")
    frame = DeadLetter("market.frames", None, None, b"coinbase", b"{", "why", "RefusedError", "adapter", 1)
    assert list(distinct([first, repeat, elsewhere, frame, frame])) == [first, elsewhere, frame, frame]


def test_repeats_are_remembered_within_bounds():
    found = distinct((letter(number) for number in (0, 1, 0, 2, 3, 3, 1, 0)), remembered=3)
    assert [it.offset for it in found] == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(("limit", "offsets"), [(2, [3, 1]), (5, [2, 3, 1]), (0, [])])
def test_newest_by_kafkas_time_come_last_whatever_a_frames_own_time_says(limit, offsets):
    written_ms = {1: 30, 2: 10, 3: 20}
    letters = [
        replace(letter(offset, time_us=-time_ms), place=LetterPlace("t.dead-letters", 0, offset, time_ms))
        for offset, time_ms in written_ms.items()
    ]
    assert [it.offset for it in newest(letters, limit)] == offsets
