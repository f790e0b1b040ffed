import json
import re
from collections import Counter
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.errors import SettingsError
from coinstream.simulator.faults import FaultKind, FaultPlan, Misbehaviour, parse_faults

FRAME_KINDS = [FaultKind.DROP, FaultKind.DUPLICATE, FaultKind.REORDER, FaultKind.CORRUPT]


def frames_of(count: int) -> list[bytes]:
    return [json.dumps({"channel": "l2_data", "sequence_num": number}).encode() for number in range(count)]


def sent(plan: FaultPlan, frames: list[bytes], *, seed: int = 5) -> tuple[list[bytes], Counter[FaultKind]]:
    """What one connection sends instead of frames with market data, and what was counted."""
    misbehaviour = Misbehaviour(plan, seed=seed)
    connection = misbehaviour.connection()
    return [out for frame in frames for out in connection.frames(frame, is_market_data=True)], misbehaviour.done


def number_of(frame: bytes) -> int:
    return int(json.loads(frame)["sequence_num"])


def test_options_become_a_plan_of_exact_numbers() -> None:
    plan = parse_faults(["drop=0.000001", "corrupt=1", "jump=5e-2", "too-many-requests=0", "half-open=2.5"])
    assert plan.per_million == {
        FaultKind.DROP: 1,
        FaultKind.CORRUPT: 1_000_000,
        FaultKind.JUMP: 50_000,
        FaultKind.TOO_MANY_REQUESTS: 0,
    }
    assert plan.half_open_s == Decimal("2.5")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["lose=0.1"], "--fault='lose=0.1' cannot be used: KIND=VALUE, where KIND is one of drop, duplicate, reorder"),
        (["drop"], "--fault='drop' cannot be used: drop=PROBABILITY, from 0 to 1"),
        (["drop=1.1"], "--fault='drop=1.1' cannot be used: drop=PROBABILITY, from 0 to 1"),
        (["drop=-0.1"], "drop=PROBABILITY"),
        (["drop=0.0000001"], "in steps of 0.000001"),
        (["reorder=often"], "reorder=PROBABILITY"),
        (["corrupt=NaN"], "corrupt=PROBABILITY"),
        (["half-open=0"], "half-open=SECONDS, from 0.01 to 86400"),
        (["half-open=sNaN"], "half-open=SECONDS"),
        (["half-open=Infinity"], "half-open=SECONDS"),
        (["drop=0.1", "drop=0.2"], "--fault='drop=0.2' cannot be used: name drop once"),
    ],
)
def test_option_that_cannot_be_used_is_named_with_what_is_allowed(options: list[str], named: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        parse_faults(options)


def test_without_faults_every_frame_passes_as_it_is() -> None:
    frames = frames_of(1000)
    out, done = sent(FaultPlan(), frames)
    assert out == frames
    assert not +done


@given(seed=st.integers(), chances=st.fixed_dictionaries({kind: st.integers(0, 1_000_000) for kind in FRAME_KINDS}))
def test_same_seed_misbehaves_alike(seed: int, chances: dict[FaultKind, int]) -> None:
    frames = frames_of(60)
    assert sent(FaultPlan(chances), frames, seed=seed) == sent(FaultPlan(chances), frames, seed=seed)


@given(seed=st.integers(), chance=st.integers(0, 1_000_000))
def test_dropped_frames_are_missing_and_counted(seed: int, chance: int) -> None:
    frames = frames_of(200)
    out, done = sent(FaultPlan({FaultKind.DROP: chance}), frames, seed=seed)
    assert [frame for frame in frames if frame in out] == out
    assert done[FaultKind.DROP] == len(frames) - len(out)


@given(seed=st.integers(), chance=st.integers(0, 1_000_000))
def test_doubled_frames_follow_themselves_and_are_counted(seed: int, chance: int) -> None:
    frames = frames_of(200)
    out, done = sent(FaultPlan({FaultKind.DUPLICATE: chance}), frames, seed=seed)
    assert list(dict.fromkeys(out)) == frames
    assert [number_of(frame) for frame in out] == sorted(number_of(frame) for frame in out)
    assert done[FaultKind.DUPLICATE] == len(out) - len(frames)


@given(seed=st.integers(), chance=st.integers(0, 1_000_000))
def test_overtaken_frames_come_right_after_the_next_and_are_counted(seed: int, chance: int) -> None:
    frames = frames_of(200)
    out, done = sent(FaultPlan({FaultKind.REORDER: chance}), frames, seed=seed)
    numbers = [number_of(frame) for frame in out]
    assert len(frames) - len(out) in (0, 1)  # the last one may still wait for what overtakes it
    assert sorted(numbers)[:-1] == list(range(len(numbers) - 1))
    assert all(abs(number - place) <= 1 for place, number in enumerate(numbers))
    assert done[FaultKind.REORDER] == sum(later < earlier for earlier, later in pairwise(numbers))


@given(seed=st.integers(), chance=st.integers(0, 1_000_000))
def test_corrupt_frames_are_no_json_and_are_counted(seed: int, chance: int) -> None:
    frames = frames_of(200)
    out, done = sent(FaultPlan({FaultKind.CORRUPT: chance}), frames, seed=seed)
    assert len(out) == len(frames)
    spoilt = [(was, became) for was, became in zip(frames, out, strict=True) if was != became]
    assert done[FaultKind.CORRUPT] == len(spoilt)
    for was, became in spoilt:
        assert 0 < len(became) <= len(was)
        with pytest.raises(json.JSONDecodeError):
            json.loads(became)


def test_kind_strikes_as_often_as_asked_and_whatever_else_goes_wrong() -> None:
    frames = frames_of(20_000)
    alone, done = sent(FaultPlan({FaultKind.CORRUPT: 100_000}), frames)
    assert 1_850 < done[FaultKind.CORRUPT] < 2_150
    both, _ = sent(FaultPlan({FaultKind.CORRUPT: 100_000, FaultKind.DUPLICATE: 500_000}), frames)
    assert list(dict.fromkeys(both)) == list(dict.fromkeys(alone))


def test_connections_of_one_run_misbehave_differently() -> None:
    misbehaviour = Misbehaviour(FaultPlan({FaultKind.DROP: 500_000}), seed=1)
    first, second = misbehaviour.connection(), misbehaviour.connection()
    frames = frames_of(64)
    assert [first.frames(frame, is_market_data=True) for frame in frames] != [
        second.frames(frame, is_market_data=True) for frame in frames
    ]


def test_frame_without_market_data_always_passes_and_brings_out_what_waits() -> None:
    certain = FaultPlan(dict.fromkeys([FaultKind.REORDER, FaultKind.DUPLICATE], 1_000_000))
    connection = Misbehaviour(certain, seed=1).connection()
    assert connection.frames(b"market", is_market_data=True) == []
    assert connection.frames(b"heartbeat", is_market_data=False) == [b"heartbeat", b"market", b"market"]
    lossy = Misbehaviour(FaultPlan({FaultKind.DROP: 1_000_000}), seed=1).connection()
    assert lossy.frames(b"market", is_market_data=True) == []
    assert lossy.frames(b"answer", is_market_data=False) == [b"answer"]


def test_connections_fall_silent_after_the_seconds_asked_for_on_average() -> None:
    misbehaviour = Misbehaviour(FaultPlan(half_open_s=Decimal(30)), seed=3)
    after_s = [misbehaviour.connection().silent_after_s for _ in range(2000)]
    assert 28 < sum(s for s in after_s if s is not None) / len(after_s) < 32
    assert len(set(after_s)) == len(after_s)
    assert Misbehaviour(FaultPlan(), seed=3).connection().silent_after_s is None


def test_jumps_leave_out_up_to_a_hundred_numbers() -> None:
    misbehaviour = Misbehaviour(FaultPlan({FaultKind.JUMP: 200_000}), seed=3)
    skips = [misbehaviour.skip() for _ in range(5000)]
    assert 900 < sum(skip > 0 for skip in skips) == misbehaviour.done[FaultKind.JUMP] < 1100
    assert (min(skips), max(skips)) == (0, 100)


def test_requests_are_refused_as_often_as_asked() -> None:
    misbehaviour = Misbehaviour(FaultPlan({FaultKind.TOO_MANY_REQUESTS: 250_000}), seed=3)
    refused = [misbehaviour.refuses_request() for _ in range(4000)]
    assert 900 < sum(refused) == misbehaviour.done[FaultKind.TOO_MANY_REQUESTS] < 1100
