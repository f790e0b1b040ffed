"""A candle is the same whatever the order of its trades and however they are split into batches."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from coinstream.market.candle import CandleKey, CandleSum, fold_candles, merge_candles
from coinstream.messages import MINUTE_US, Trade

START = 1767322980_000000

digits = st.one_of(
    st.sampled_from(["1", "1.0", "0.000000000000000001", "999999999999.000000000000000001", "9999999999999999"]),
    st.integers(1, 10**9).map(lambda n: f"{n // 100}.{n % 100:02d}").filter(lambda text: text.strip("0.") != ""),
)
ids = st.one_of(st.integers(0, 200).map(str), st.text("ab1-", min_size=1, max_size=3))


@st.composite
def trade(draw: st.DrawFn) -> Trade:
    return Trade(
        venue="coinbase",
        symbol=draw(st.sampled_from(["BTC-USD", "ETH-USD"])),
        trade_id=draw(ids),
        price=draw(digits),
        size=draw(digits),
        aggressor_side="buy",
        event_time_us=START + draw(st.one_of(st.integers(0, 3), st.integers(0, 2 * MINUTE_US))),
        received_time_us=START,
        provenance="live",
    )


trades = st.lists(trade(), max_size=20, unique_by=lambda made: (made.symbol, made.trade_id))


def merged(one: dict[CandleKey, CandleSum], other: dict[CandleKey, CandleSum]) -> dict[CandleKey, CandleSum]:
    both = {key: merge_candles(one[key], other[key]) for key in one.keys() & other.keys()}
    return one | other | both


@given(trades, st.randoms(use_true_random=False), st.lists(st.integers(0, 20), max_size=4))
def test_candles_do_not_depend_on_order_or_batches(given_trades: list[Trade], random: Random, cuts: list[int]) -> None:
    whole = fold_candles(given_trades)
    shuffled = list(given_trades)
    random.shuffle(shuffled)
    assert fold_candles(shuffled) == whole
    edges = [0, *sorted(cuts), len(shuffled)]
    batches = [fold_candles(shuffled[start:end]) for start, end in pairwise(edges)]
    assert reduce(merged, batches, {}) == whole
