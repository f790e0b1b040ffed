"""Books, pacing, gaps and coverage over a feed, with times as arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from coinstream.adapters import CHANNELS, Frame, Gap, dialects_of_venue
from coinstream.ingest.stream import ASK_AGAIN_US, MarketStream, Received
from coinstream.market.coverage import LATE_US
from coinstream.messages import BookSnapshot, Coverage, Message, Trade

START = 1767322980_000000  # the start of a minute
SECOND = 1_000_000
MINUTE = 60 * SECOND


class Feed:
    """Speaks Advanced Trade to a stream, counting the sequence as the venue does."""

    def __init__(self, **options: Any) -> None:
        self.stream = MarketStream(dialects_of_venue("coinbase")[0].adapter(), **options)
        self.sequence = -1

    def send(self, time_us: int, channel: str, *events: dict[str, Any], connection: str = "ws.1") -> Received:
        self.sequence += 1
        body = {"channel": channel, "timestamp": "2026-01-02T03:04:05.5Z", "sequence_num": self.sequence}
        return self.raw(time_us, json.dumps(body | {"events": events}).encode(), connection=connection)

    def raw(self, time_us: int, data: bytes, *, connection: str = "ws.1") -> Received:
        return self.stream.receive(Frame(time_us, connection, "wss://x", "ws", data))

    def book(self, time_us: int, *levels: str, kind: str = "update", symbol: str = "BTC-USD", **more: Any) -> Received:
        updates = [dict(zip(("side", "price_level", "new_quantity"), text.split(), strict=True)) for text in levels]
        return self.send(time_us, "l2_data", {"type": kind, "product_id": symbol, "updates": updates}, **more)

    def snapshot(self, time_us: int, symbol: str = "BTC-USD", **more: Any) -> Received:
        return self.book(time_us, "bid 100 1", "offer 101 1", kind="snapshot", symbol=symbol, **more)

    def heartbeat(self, time_us: int, *, connection: str = "ws.1") -> Received:
        return self.send(time_us, "heartbeats", {"heartbeat_counter": 1}, connection=connection)

    def trade(self, time_us: int, trade_id: str, *, kind: str = "update") -> Received:
        trade = {"product_id": "BTC-USD", "trade_id": trade_id, "price": "1", "size": "1", "side": "BUY"}
        return self.send(
            time_us, "market_trades", {"type": kind, "trades": [trade | {"time": "2026-01-02T03:03:05.1Z"}]}
        )


def books(messages: list[Message]) -> list[tuple[str, int, str]]:
    return [(m.symbol, m.received_time_us, m.bids[0][1]) for m in messages if isinstance(m, BookSnapshot)]


def coverage(messages: list[Message]) -> dict[tuple[str, str, int], tuple[str, int, str | None, str | None]]:
    return {
        (m.channel, m.symbol, (m.minute - START) // MINUTE): (m.status, m.messages, m.first, m.last)
        for m in messages
        if isinstance(m, Coverage)
    }


def unsubscribed(send: list[str]) -> list[list[str]]:
    return [json.loads(text)["product_ids"] for text in send if json.loads(text)["type"] == "unsubscribe"]


def test_book_is_published_at_once_then_at_most_once_a_second() -> None:
    feed = Feed()
    assert books(feed.snapshot(START).messages) == [("BTC-USD", START, "1")]
    assert books(feed.book(START + SECOND // 2, "bid 100 2").messages) == []
    assert books(feed.book(START + SECOND - 1, "bid 100 3").messages) == []
    assert books(feed.book(START + SECOND, "bid 100 4").messages) == [("BTC-USD", START + SECOND, "4")]


def test_changed_book_that_no_frame_touches_is_published_by_the_tick() -> None:
    feed = Feed()
    feed.snapshot(START)
    feed.book(START + 10, "bid 100 2")
    assert books(feed.stream.tick(START + SECOND - 1)) == []
    assert books(feed.stream.tick(START + SECOND)) == [("BTC-USD", START + SECOND, "2")]


def test_unchanged_book_is_published_every_two_seconds() -> None:
    feed = Feed()
    feed.snapshot(START)
    times = [
        m.received_time_us
        for tenth in range(1, 61)
        for m in feed.stream.tick(START + tenth * SECOND // 10)
        if isinstance(m, BookSnapshot)
    ]
    assert times == [START + 2 * SECOND, START + 4 * SECOND, START + 6 * SECOND]


def test_published_book_has_the_last_updates_time_and_sequence() -> None:
    feed = Feed()
    feed.snapshot(START)
    (book,) = feed.book(START + SECOND, "bid 100.0 5").messages
    assert book == BookSnapshot(
        venue="coinbase",
        symbol="BTC-USD",
        bids=(("100.0", "5"),),
        asks=(("101", "1"),),
        sequence=1,
        event_time_us=1767323045_500000,
        received_time_us=START + SECOND,
    )


def test_final_book_of_each_symbol_comes_at_the_end_unless_it_was_just_published() -> None:
    feed = Feed()
    feed.snapshot(START)
    feed.snapshot(START + 5, symbol="ETH-USD")
    assert books(feed.stream.finish(START + 5)) == [("BTC-USD", START + 5, "1")]


@pytest.mark.parametrize("update", ["bid 101 1", "bid 102 1", "offer 99 1"])
def test_crossed_book_is_given_up_asked_for_and_published_again_at_once(update: str) -> None:
    feed = Feed()
    feed.snapshot(START)
    feed.snapshot(START, symbol="ETH-USD")
    received = feed.book(START + SECOND, update)
    assert received.gaps == [Gap("ws.1", "books", "BTC-USD", "the book is crossed")]
    assert unsubscribed(received.send) == [["BTC-USD"]]
    assert books(received.messages) == []
    waiting = feed.book(START + 2 * SECOND, "bid 100 7")
    assert {symbol for symbol, _, _ in books(waiting.messages)} == {"ETH-USD"}
    assert (waiting.send, waiting.gaps) == ([], [])
    assert {symbol for symbol, _, _ in books(feed.stream.tick(START + 5 * SECOND))} == {"ETH-USD"}
    assert books(feed.snapshot(START + 5 * SECOND + 1).messages) == [("BTC-USD", START + 5 * SECOND + 1, "1")]


def test_book_that_is_crossed_only_between_two_events_of_one_frame_is_sound() -> None:
    feed = Feed()
    feed.snapshot(START)
    events = [
        {
            "type": "update",
            "product_id": "BTC-USD",
            "updates": [{"side": side, "price_level": "101", "new_quantity": n}],
        }
        for side, n in (("bid", "1"), ("offer", "0"))
    ]
    received = feed.send(START + SECOND, "l2_data", *events)
    assert received.gaps == []
    assert len(books(received.messages)) == 1


def test_update_without_a_snapshot_before_it_asks_for_one_once_and_again_after_a_while() -> None:
    feed = Feed()
    received = feed.book(START, "bid 100 1")
    assert [(gap.channel, gap.symbol) for gap in received.gaps] == [("books", "BTC-USD")]
    assert unsubscribed(received.send) == [["BTC-USD"]]
    assert feed.book(START + SECOND, "bid 100 1").send == []
    again = feed.send(START + ASK_AGAIN_US, "heartbeats")
    assert unsubscribed(again.send) == [["BTC-USD"]]
    assert books(feed.stream.finish(START + ASK_AGAIN_US)) == []


def test_venue_whose_snapshots_are_crossed_is_not_asked_without_end() -> None:
    feed = Feed()
    asked = [
        tenth
        for tenth in range(120)
        if feed.book(START + tenth * SECOND // 10, "bid 2 1", "offer 1 1", kind="snapshot").send
    ]
    assert asked == [0, 50, 100]


def test_older_recording_after_a_newer_one_begins_anew() -> None:
    feed = Feed()
    feed.snapshot(START + 60 * MINUTE)
    feed.book(START + 60 * MINUTE + 1, "bid 100 2")
    feed.sequence = 0
    received = feed.raw(START, b'{"channel":"heartbeats","sequence_num":0}', connection="other")
    assert books(received.messages) == [("BTC-USD", START + 60 * MINUTE + 1, "2")]
    assert coverage(received.messages) == {("books", "BTC-USD", 60): ("disconnected", 2, "0", "1")}
    assert books(feed.stream.tick(START + 10 * SECOND)) == []
    assert books(feed.snapshot(START + 11 * SECOND, connection="other").messages) == [
        ("BTC-USD", START + 11 * SECOND, "1")
    ]


def test_jump_of_the_sequence_resynchronises_every_book_of_the_connection_and_no_other() -> None:
    feed = Feed()
    feed.snapshot(START)
    feed.snapshot(START, symbol="ETH-USD")
    feed.trade(START, "1")
    other = MarketStream(dialects_of_venue("coinbase")[0].adapter())
    assert other.finish(START) == []
    feed.sequence += 1
    received = feed.send(START + SECOND, "heartbeats")
    assert {(gap.channel, gap.symbol) for gap in received.gaps} == {
        ("books", "BTC-USD"),
        ("books", "ETH-USD"),
        ("trades", "BTC-USD"),
    }
    assert unsubscribed(received.send) == [["BTC-USD", "ETH-USD"]]
    assert books(feed.stream.tick(START + 3 * SECOND)) == []


def test_snapshot_in_the_frame_after_the_jump_is_taken() -> None:
    feed = Feed()
    feed.snapshot(START)
    feed.sequence += 1
    received = feed.snapshot(START + 1)
    assert len(received.gaps) == 1
    assert books(received.messages) == [("BTC-USD", START + 1, "1")]


@pytest.mark.parametrize("trouble", ["crossed", "jump"])
def test_book_in_doubt_is_kept_up_unpublished_and_shown_to_who_asks_for_doubtful_ones(trouble: str) -> None:
    """A recording's venue cannot be asked to send it anew; what is known of it is better than nothing."""
    feed = Feed()
    feed.snapshot(START)
    feed.sequence += trouble == "jump"
    feed.book(START + SECOND, "bid 101.5 1" if trouble == "crossed" else "bid 100.5 1")
    assert books(feed.book(START + 2 * SECOND, "offer 101 0", "offer 102 3").messages) == []
    assert books(feed.stream.finish(START + 3 * SECOND)) == []
    (book,) = (m for m in feed.stream.finish(START + 4 * SECOND, with_doubtful_books=True) if type(m) is BookSnapshot)
    assert book.bids[0] == ("101.5" if trouble == "crossed" else "100.5", "1")
    assert book.asks == (("102", "3"),)


def test_update_of_another_connection_does_not_touch_a_book_that_is_well() -> None:
    feed, other = Feed(), Feed()
    other.stream = feed.stream
    feed.snapshot(START)
    other.snapshot(START + 1, connection="ws.2")
    received = feed.book(START + 2 * SECOND, "bid 100 9")
    assert received.gaps == []
    assert books(received.messages) == [("BTC-USD", START + 2 * SECOND, "1")]


def test_nothing_is_kept_of_connections_that_are_over() -> None:
    """A feed that runs for months connects again and again, each time under a new name."""
    feed = Feed()
    for number in range(3):
        frame = Frame(START + number, f"ws.{number}", "wss://x", "ws", b"")
        feed.stream.receive(frame._replace(opens=True))
        feed.stream.receive(frame._replace(closes=True))
    assert feed.stream._coverage._heard_us == {}


def test_closed_connection_takes_its_books_away_until_they_come_anew() -> None:
    feed = Feed()
    feed.snapshot(START)
    feed.stream.closed("ws.1", START + 1)
    assert books(feed.stream.tick(START + 3 * SECOND)) == []
    assert books(feed.stream.finish(START + 3 * SECOND)) == []
    feed.stream.opened("ws.2", START + 4 * SECOND)
    assert books(feed.snapshot(START + 5 * SECOND, connection="ws.2").messages) == [
        ("BTC-USD", START + 5 * SECOND, "1")
    ]


def test_unreadable_exchange_frame_asks_for_the_books_and_uses_them_meanwhile() -> None:
    stream = MarketStream(dialects_of_venue("coinbase")[1].adapter())

    def send(time_us: int, data: bytes) -> Received:
        return stream.receive(Frame(time_us, "ws.1", "wss://x", "ws", data))

    send(START, b'{"type":"snapshot","product_id":"BTC-USD","bids":[["1","1"]],"asks":[["2","1"]]}')
    received = send(START + 1, b'{"type":"l2update","produ')
    assert len(received.refusals) == 1
    assert [(gap.channel, gap.symbol, gap.is_certain) for gap in received.gaps] == [("books", "BTC-USD", False)]
    assert unsubscribed(received.send) == [["BTC-USD"]]
    assert send(START + 2, b"{").send == []
    assert books(stream.tick(START + 2 * SECOND)) == [("BTC-USD", START + 2 * SECOND, "1")]
    assert coverage(stream.finish(START + 3 * SECOND))["books", "BTC-USD", 0][0] == "gap"


def test_quiet_minute_is_complete_with_no_messages_and_an_unconnected_symbol_is_not() -> None:
    feed = Feed()
    feed.stream.subscriptions(["BTC-USD", "ETH-USD"], CHANNELS)
    feed.stream.opened("ws.1", START - SECOND)
    feed.send(START - SECOND, "subscriptions", {"subscriptions": {"market_trades": ["BTC-USD"], "ticker": ["BTC-USD"]}})
    feed.stream.tick(START)
    found = coverage(feed.stream.tick(START + MINUTE))
    assert found["trades", "BTC-USD", 0] == ("complete", 0, None, None)
    assert found["quotes", "BTC-USD", 0] == ("complete", 0, None, None)
    assert found["trades", "ETH-USD", 0] == ("disconnected", 0, None, None)
    assert found["books", "BTC-USD", 0] == ("disconnected", 0, None, None)


def test_coverage_counts_live_trades_with_first_and_last_id() -> None:
    feed = Feed()
    feed.stream.opened("ws.1", START - SECOND)
    feed.trade(START - SECOND, "7", kind="snapshot")
    feed.trade(START - 1, "8")
    feed.trade(START, "9")
    feed.trade(START + 1, "10")
    assert coverage(feed.stream.tick(START + MINUTE)) == {("trades", "BTC-USD", 0): ("complete", 2, "9", "10")}
    feed.heartbeat(START + MINUTE + LATE_US)
    assert coverage(feed.stream.finish(START + MINUTE + 3 * SECOND)) == {
        ("trades", "BTC-USD", 1): ("disconnected", 0, None, None)
    }


def test_gap_of_books_lasts_through_minutes_until_the_new_snapshot() -> None:
    feed = Feed()
    feed.snapshot(START - SECOND)
    found: dict[Any, Any] = {}
    for minute in range(4):
        found |= coverage(feed.heartbeat(START + minute * MINUTE + LATE_US).messages)
        if minute == 1:
            found |= coverage(feed.book(START + minute * MINUTE + 5 * SECOND, "bid 999 1").messages)
        if minute == 2:
            found |= coverage(feed.snapshot(START + minute * MINUTE + 5 * SECOND).messages)
        found |= coverage(feed.heartbeat(START + minute * MINUTE + 30 * SECOND).messages)
    found |= coverage(feed.stream.tick(START + 4 * MINUTE))
    assert [found["books", "BTC-USD", minute][0] for minute in range(-1, 4)] == [
        "disconnected",
        "complete",
        "gap",
        "gap",
        "complete",
    ]


def test_minute_that_was_heard_past_its_end_stays_complete_when_the_connection_closes() -> None:
    feed = Feed()
    feed.trade(START - 1, "1")
    feed.stream.tick(START)
    feed.heartbeat(START + MINUTE + LATE_US)
    feed.stream.closed("ws.1", START + MINUTE + LATE_US + 1)
    assert coverage(feed.stream.tick(START + MINUTE + 3 * SECOND)) == {}
    assert coverage(feed.stream.tick(START + 2 * MINUTE))["trades", "BTC-USD", 1][0] == "disconnected"


def test_minute_in_whose_end_a_connection_fell_silent_is_told_again_when_it_is_given_up() -> None:
    feed = Feed()
    feed.trade(START - 1, "1")
    feed.stream.tick(START)
    feed.trade(START + 50 * SECOND, "2")
    assert coverage(feed.stream.tick(START + MINUTE))["trades", "BTC-USD", 0] == ("complete", 1, "2", "2")
    feed.stream.closed("ws.1", START + 80 * SECOND)  # 30 s of silence
    assert coverage(feed.stream.tick(START + 81 * SECOND)) == {
        ("trades", "BTC-USD", 0): ("disconnected", 1, "2", "2"),
    }


def test_frame_lost_at_a_minutes_turn_makes_both_minutes_a_gap() -> None:
    feed = Feed()
    feed.trade(START - 1, "1")
    feed.stream.tick(START)
    feed.heartbeat(START + MINUTE - SECOND)
    assert coverage(feed.stream.tick(START + MINUTE))["trades", "BTC-USD", 0][0] == "complete"
    feed.sequence += 1  # its trades may be of either minute
    feed.heartbeat(START + MINUTE + SECOND)
    found = coverage(feed.stream.tick(START + 2 * MINUTE))
    assert found["trades", "BTC-USD", 0][0] == "gap"
    assert found["trades", "BTC-USD", 1][0] == "gap"


def test_frame_lost_well_within_a_minute_leaves_the_minute_before_complete() -> None:
    feed = Feed()
    feed.trade(START - 1, "1")
    feed.stream.tick(START)
    feed.stream.tick(START + MINUTE)
    feed.heartbeat(START + MINUTE + LATE_US)
    feed.sequence += 1
    feed.heartbeat(START + MINUTE + LATE_US + 1)
    found = coverage(feed.stream.tick(START + 2 * MINUTE))
    assert found == {("trades", "BTC-USD", 1): ("gap", 0, None, None)}


def test_feed_that_stops_at_a_minutes_turn_does_not_vouch_for_the_minute_before() -> None:
    feed = Feed()
    feed.trade(START - 1, "1")
    feed.stream.tick(START)
    feed.heartbeat(START + MINUTE - 1)
    assert coverage(feed.stream.finish(START + MINUTE + 1))["trades", "BTC-USD", 0][0] == "disconnected"


def test_simulated_provenance_takes_the_place_of_live() -> None:
    feed = Feed(provenance="simulated")
    assert [m.provenance for m in feed.trade(START, "1").messages if isinstance(m, Trade)] == ["simulated"]
    assert [m.provenance for m in feed.trade(START, "0", kind="snapshot").messages if isinstance(m, Trade)] == [
        "backfill"
    ]
