"""One-minute candles, value by value."""

from __future__ import annotations

from decimal import Decimal

from coinstream.market.candle import CandleKey, CandleSum, fold_candles, merge_candles, trade_id_order
from coinstream.messages import Trade

MINUTE = 1767322980_000000


def trade(trade_id: str, price: str, size: str, *, at_us: int = 0, symbol: str = "BTC-USD") -> Trade:
    return Trade(
        venue="coinbase",
        symbol=symbol,
        trade_id=trade_id,
        price=price,
        size=size,
        aggressor_side="buy",
        event_time_us=MINUTE + at_us,
        received_time_us=MINUTE,
        provenance="live",
    )


def test_candle_of_a_minute_in_every_field() -> None:
    trades = [
        trade("11", "5.50", "1e0".replace("e0", ""), at_us=2),
        trade("9", "4", "0.000000000000000001", at_us=1),
        trade("10", "7", "999999999999.000000000000000001", at_us=59_999_999),
    ]
    assert fold_candles(trades) == {
        CandleKey("coinbase", "BTC-USD", MINUTE): CandleSum(
            open=Decimal(4),
            high=Decimal(7),
            low=Decimal(4),
            close=Decimal(7),
            volume=Decimal("1000000000000.000000000000000002"),
            trades=3,
            open_time_us=MINUTE + 1,
            open_trade_id="9",
            close_time_us=MINUTE + 59_999_999,
            close_trade_id="10",
        )
    }


def test_trades_of_one_microsecond_go_by_id_as_integers() -> None:
    (candle,) = fold_candles([trade("100", "3", "1"), trade("9", "1", "1"), trade("10", "2", "1")]).values()
    assert (candle.open, candle.open_trade_id) == (1, "9")
    assert (candle.close, candle.close_trade_id) == (3, "100")


def test_minutes_and_symbols_have_candles_of_their_own() -> None:
    keys = fold_candles(
        [trade("1", "1", "1", at_us=60_000_000), trade("2", "1", "1"), trade("3", "1", "1", symbol="X-Y")]
    )
    assert sorted(keys) == [
        ("coinbase", "BTC-USD", MINUTE),
        ("coinbase", "BTC-USD", MINUTE + 60_000_000),
        ("coinbase", "X-Y", MINUTE),
    ]


def test_merge_takes_open_and_close_from_the_outer_trades() -> None:
    key = CandleKey("coinbase", "BTC-USD", MINUTE)
    early = fold_candles([trade("1", "5", "1"), trade("4", "6", "1", at_us=9)])[key]
    late = fold_candles([trade("2", "1", "1"), trade("5", "9", "2", at_us=9)])[key]
    for merged in (merge_candles(early, late), merge_candles(late, early)):
        assert (merged.open, merged.close, merged.high, merged.low) == (5, 9, 9, 1)
        assert (merged.volume, merged.trades) == (5, 4)
        assert (merged.open_trade_id, merged.close_trade_id) == ("1", "5")


def test_digits_sort_as_integers_before_all_others_by_bytes() -> None:
    ids = ["b", "10", "9", "a", "1618-2", "-1", "é", "007"]
    assert sorted(ids, key=trade_id_order) == ["007", "9", "10", "-1", "1618-2", "a", "b", "é"]
