import json
import random
from typing import Any

from coinstream.simulator.coinbase_publisher import CoinbasePublisher
from coinstream.simulator.market import Market
from coinstream.simulator.schedule import Schedule

START_TIME_US = 1_780_000_000_000_000
MS = 1_000_000  # nanoseconds


class Client:
    """An outlet that keeps the messages of its session."""

    def __init__(self, publisher: CoinbasePublisher) -> None:
        self.messages: list[dict[str, Any]] = []
        self.at_risk: list[bool] = []
        self.session = publisher.connect("/", self)

    def send(self, message: bytes, *, is_market_data: bool) -> None:
        self.messages.append(json.loads(message))
        self.at_risk.append(is_market_data)

    def close(self, reason: str) -> None:
        raise AssertionError(reason)

    def request(self, type_: str, channel: str, *symbols: str) -> None:
        body = {"type": type_, "channel": channel, "product_ids": list(symbols)}
        self.session.receive(json.dumps(body).encode())

    def take(self) -> list[dict[str, Any]]:
        taken, self.messages = self.messages, []
        return taken


def publisher_of(rate: float, *symbols: str) -> CoinbasePublisher:
    market = Market(rng=random.Random(7), start_time_us=START_TIME_US, symbols=symbols or None)
    return CoinbasePublisher(Schedule(market, start_time_us=START_TIME_US, rate=rate))


def test_snapshot_comes_before_the_subscriptions_answer_and_both_are_counted() -> None:
    client = Client(publisher_of(100, "BTC-USD", "ETH-USD"))
    client.request("subscribe", "level2", "ETH-USD")
    client.request("subscribe", "heartbeats")
    messages = client.take()
    assert [(message["channel"], message["sequence_num"]) for message in messages] == [
        ("l2_data", START_TIME_US),
        ("subscriptions", START_TIME_US + 1),
        ("subscriptions", START_TIME_US + 2),
    ]
    assert messages[0]["events"][0]["type"] == "snapshot"
    assert messages[1]["events"] == [{"subscriptions": {"level2": ["ETH-USD"]}}]
    assert messages[2]["events"] == [{"subscriptions": {"level2": ["ETH-USD"], "heartbeats": ["heartbeats"]}}]


def test_event_times_follow_the_schedule_whenever_they_are_worked_off() -> None:
    publisher = publisher_of(10, "BTC-USD")
    client = Client(publisher)
    client.request("subscribe", "level2", "BTC-USD")
    client.take()
    publisher.advance(99 * MS)
    assert client.take() == []
    publisher.advance(217 * MS)
    (message,) = client.take()
    times = sorted({update["event_time"] for update in message["events"][0]["updates"]})
    # the 1st and 2nd event of a rate of 10 a second; the start time is 2026-05-28 20:26:40
    assert times == ["2026-05-28T20:26:40.1Z", "2026-05-28T20:26:40.2Z"]
    assert message["timestamp"] == "2026-05-28T20:26:40.217Z"


def test_trades_of_250_ms_travel_together_newest_first() -> None:
    publisher = publisher_of(1000, "BTC-USD", "ETH-USD")
    client = Client(publisher)
    client.request("subscribe", "market_trades", "BTC-USD", "ETH-USD")
    snapshot = client.take()[0]["events"][0]
    assert snapshot["type"] == "snapshot"
    for elapsed_ms in range(20, 280, 20):
        publisher.advance(elapsed_ms * MS)
    (message,) = client.take()
    trades = message["events"][0]["trades"]
    assert message["events"][0]["type"] == "update"
    assert {trade["product_id"] for trade in trades} == {"BTC-USD", "ETH-USD"}
    times = [trade["time"].rstrip("Z") for trade in trades]  # without the Z, shorter fractions sort right
    assert times == sorted(times, reverse=True)
    for symbol in ("BTC-USD", "ETH-USD"):
        ids = [int(trade["trade_id"]) for trade in trades if trade["product_id"] == symbol]
        newest_in_snapshot = max(
            int(trade["trade_id"]) for trade in snapshot["trades"] if trade["product_id"] == symbol
        )
        assert ids == list(range(newest_in_snapshot + len(ids), newest_in_snapshot, -1))


def test_trade_is_never_both_in_a_snapshot_and_in_a_later_update() -> None:
    publisher = publisher_of(1000, "BTC-USD")
    publisher.advance(200 * MS)  # trades wait for the end of their 250 ms
    client = Client(publisher)
    client.request("subscribe", "market_trades", "BTC-USD")
    publisher.advance(260 * MS)
    trades = [
        trade["trade_id"]
        for message in client.take()
        for event in message["events"]
        for trade in event.get("trades", [])
    ]
    assert len(trades) > 100
    assert len(set(trades)) == len(trades)


def test_ticker_shows_the_top_of_the_book_and_the_last_price() -> None:
    publisher = publisher_of(500, "SHIB-USD")
    client = Client(publisher)
    client.request("subscribe", "ticker", "SHIB-USD")
    client.take()
    publisher.advance(240 * MS)
    (message,) = client.take()
    (ticker,) = message["events"][0]["tickers"]
    instrument = publisher.market.instruments["SHIB-USD"]
    book = instrument.book
    assert ticker["type"] == "ticker"
    assert ticker["price"] == instrument.product.price_text(instrument.last_ticks)
    assert ticker["best_bid"] == instrument.product.price_text(book.bids.best_ticks)
    assert ticker["best_ask"] == instrument.product.price_text(book.asks.best_ticks)
    assert ticker["best_ask_quantity"] == str(book.asks.lots_at[book.asks.best_ticks])


def test_heartbeat_is_sent_once_a_second() -> None:
    publisher = publisher_of(1, "BTC-USD")
    client = Client(publisher)
    client.request("subscribe", "heartbeats")
    client.take()
    for elapsed_ms in range(20, 3020, 20):
        publisher.advance(elapsed_ms * MS)
    counters = [message["events"][0]["heartbeat_counter"] for message in client.take()]
    assert counters == [1, 2, 3]


def test_unsubscribed_product_is_heard_of_no_more() -> None:
    publisher = publisher_of(1000, "BTC-USD", "ETH-USD")
    client = Client(publisher)
    client.request("subscribe", "level2", "BTC-USD", "ETH-USD")
    client.request("unsubscribe", "level2", "BTC-USD")
    assert client.take()[-1]["events"] == [{"subscriptions": {"level2": ["ETH-USD"]}}]
    publisher.advance(200 * MS)
    assert {event["product_id"] for message in client.take() for event in message["events"]} == {"ETH-USD"}
    client.request("unsubscribe", "level2")
    assert client.take()[-1]["events"] == [{"subscriptions": {}}]
    publisher.advance(400 * MS)
    assert client.take() == []


def test_bad_request_is_answered_with_an_error_and_leaves_the_sequence() -> None:
    client = Client(publisher_of(1, "BTC-USD"))
    client.session.receive(b"{")
    client.request("subscribe", "level2", "NOPE-USD")
    client.request("subscribe", "heartbeats")
    first, second, third = client.take()
    assert first == {"type": "error", "message": "failed to parse message"}
    assert second == {"type": "error", "message": "failure to subscribe: NOPE-USD is not a valid product"}
    assert third["sequence_num"] == START_TIME_US


def test_market_data_is_at_risk_and_nothing_else_is() -> None:
    """So a run with faults always gets going: what was asked for is always answered."""
    publisher = publisher_of(1000, "BTC-USD")
    client = Client(publisher)
    for channel in ("level2", "market_trades", "ticker"):
        client.request("subscribe", channel, "BTC-USD")
    client.request("subscribe", "heartbeats")
    client.session.receive(b"{")
    publisher.advance(1_000 * MS)
    kinds = {
        (message.get("channel"), is_at_risk)
        for message, is_at_risk in zip(client.messages, client.at_risk, strict=True)
    }
    assert kinds == {
        ("l2_data", True),
        ("market_trades", True),
        ("ticker", True),
        ("heartbeats", False),
        ("subscriptions", False),
        (None, False),
    }


def test_sequence_leaves_out_numbers_before_market_data_only() -> None:
    market = Market(rng=random.Random(7), start_time_us=START_TIME_US, symbols=["BTC-USD"])
    skips = iter([0, 3, 0, 5])
    publisher = CoinbasePublisher(Schedule(market, start_time_us=START_TIME_US, rate=100), skip=lambda: next(skips))
    client = Client(publisher)
    client.request("subscribe", "level2", "BTC-USD")
    publisher.advance(100 * MS)
    client.request("subscribe", "heartbeats")
    publisher.advance(150 * MS)
    publisher.advance(200 * MS)
    assert [message["sequence_num"] - START_TIME_US for message in client.messages] == [0, 1, 5, 6, 7, 13]
    assert next(skips, None) is None


def test_client_that_is_gone_is_sent_nothing() -> None:
    publisher = publisher_of(1000, "BTC-USD")
    client = Client(publisher)
    client.request("subscribe", "level2", "BTC-USD")
    assert client.session.has_subscribed
    client.take()
    client.session.end()
    publisher.advance(200 * MS)
    assert client.take() == []
