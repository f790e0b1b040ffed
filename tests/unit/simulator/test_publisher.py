import json
import random
from typing import Any

from coinstream.simulator.market import Market
from coinstream.simulator.publisher import Publisher, Session

START_TIME_US = 1_780_000_000_000_000
MS = 1_000_000  # nanoseconds


class Client:
    """A session whose messages are kept."""

    def __init__(self, publisher: Publisher) -> None:
        self.messages: list[dict[str, Any]] = []
        self.publisher = publisher
        self.session = Session(self.receive)
        publisher.sessions[self.session] = None

    def receive(self, message: bytes) -> None:
        self.messages.append(json.loads(message))

    def request(self, type_: str, channel: str, *symbols: str) -> None:
        body = {"type": type_, "channel": channel, "product_ids": list(symbols)}
        self.publisher.handle(self.session, json.dumps(body).encode())

    def take(self) -> list[dict[str, Any]]:
        taken, self.messages = self.messages, []
        return taken


def publisher_of(rate: float, *symbols: str) -> Publisher:
    market = Market(rng=random.Random(7), start_time_us=START_TIME_US, symbols=symbols or None)
    return Publisher(market, start_time_us=START_TIME_US, rate=rate)


def test_snapshot_comes_before_the_subscriptions_answer_and_both_are_counted() -> None:
    client = Client(publisher_of(100, "BTC-USD", "ETH-USD"))
    client.request("subscribe", "level2", "ETH-USD")
    client.request("subscribe", "heartbeats")
    messages = client.take()
    assert [(message["channel"], message["sequence_num"]) for message in messages] == [
        ("l2_data", 0),
        ("subscriptions", 1),
        ("subscriptions", 2),
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
    client.publisher.handle(client.session, b"{")
    client.request("subscribe", "level2", "NOPE-USD")
    client.request("subscribe", "heartbeats")
    first, second, third = client.take()
    assert first == {"type": "error", "message": "failed to parse message"}
    assert second == {"type": "error", "message": "failure to subscribe: NOPE-USD is not a valid product"}
    assert third["sequence_num"] == 0


def test_market_far_behind_its_schedule_skips_events_and_counts_them() -> None:
    publisher = publisher_of(100, "BTC-USD")
    publisher.advance(100 * MS)
    assert (publisher.events_published, publisher.events_skipped) == (10, 0)
    publisher.advance(5_100 * MS)
    assert (publisher.events_published, publisher.events_skipped) == (11, 499)
    publisher.advance(5_200 * MS)
    assert (publisher.events_published, publisher.events_skipped) == (21, 499)
