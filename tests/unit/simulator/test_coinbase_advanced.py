import json

import pytest

from coinstream.errors import RefusedError
from coinstream.simulator import coinbase_advanced as venue
from coinstream.simulator.market import LevelChange, SimulatedTrade
from coinstream.simulator.products import PRODUCTS

BTC = next(product for product in PRODUCTS if product.symbol == "BTC-USD")
SYMBOLS = {"BTC-USD", "ETH-USD"}


def test_trade_taken_from_an_offer_is_published_with_the_makers_side() -> None:
    trade = SimulatedTrade(1099158138, 8445105, 2157080, maker_is_bid=False, event_time_us=1790527327184962)
    assert venue.trade_text(BTC, trade) == (
        '{"product_id":"BTC-USD","trade_id":"1099158138","price":"84451.05","size":"0.0215708",'
        '"time":"2026-09-27T16:42:07.184962Z","side":"SELL"}'
    )


def test_level_that_is_gone_has_quantity_0_and_asks_are_offers() -> None:
    changes = [
        (1675974770714964, LevelChange(is_bid=True, ticks=2192173, lots=6317902)),
        (1675974770714964, LevelChange(is_bid=False, ticks=2192200, lots=0)),
    ]
    assert venue.level2_event(BTC, changes) == (
        '{"type":"update","product_id":"BTC-USD","updates":['
        '{"side":"bid","event_time":"2023-02-09T20:32:50.714964Z","price_level":"21921.73","new_quantity":"0.06317902"},'
        '{"side":"offer","event_time":"2023-02-09T20:32:50.714964Z","price_level":"21922","new_quantity":"0"}]}'
    )


def test_envelope_carries_channel_time_and_sequence() -> None:
    message = venue.envelope("ticker", time_ns=1675975837167359596, sequence=3, events='{"type":"update","tickers":[]}')
    assert json.loads(message) == {
        "channel": "ticker",
        "client_id": "",
        "timestamp": "2023-02-09T20:50:37.167359596Z",
        "sequence_num": 3,
        "events": [{"type": "update", "tickers": []}],
    }


def test_heartbeat_counts_whole_seconds_of_uptime() -> None:
    text = venue.heartbeat_event(time_ns=1790735835057778606, uptime_ns=21697195984854)
    assert json.loads(text) == {
        "current_time": "2026-09-30 02:37:15.057778606 +0000 UTC m=+21697.195984854",
        "heartbeat_counter": 21697,
    }


def test_request_names_one_channel_and_its_products() -> None:
    frame = b'{"type":"subscribe","product_ids":["BTC-USD"],"channel":"level2","jwt":"x"}'
    assert venue.parse_request(frame, known_symbols=SYMBOLS) == venue.Request("subscribe", "level2", ("BTC-USD",))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b'{"type":"subscribe","channel":', "failed to parse message"),
        (b"\xff\xfe", "failed to parse message"),
        (b'{"type":"subscribe"}', "failed to parse message"),
        (b'{"type":"order","channel":"level2"}', "unknown message type: order"),
        (b'{"type":"subscribe","channel":"user","product_ids":["BTC-USD"]}', "channel user is not supported"),
        (b'{"type":"subscribe","channel":"ticker","product_ids":["X-Y"]}', "X-Y is not a valid product"),
        (b'{"type":"subscribe","channel":"ticker"}', "no product ids provided"),
    ],
)
def test_bad_request_is_refused_with_its_reason(frame: bytes, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        venue.parse_request(frame, known_symbols=SYMBOLS)


def test_error_message_has_neither_channel_nor_sequence() -> None:
    assert venue.error_message("no") == b'{"type":"error","message":"no"}'
