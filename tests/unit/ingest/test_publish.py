"""What came of a frame reaches its topic or the dead letters, and is counted."""

from __future__ import annotations

import pytest

from coinstream.adapters import Frame, Gap
from coinstream.errors import FieldError, RefusedError, TransientError
from coinstream.ingest.publish import Publisher
from coinstream.ingest.stream import Received
from coinstream.messages import Quote, encode
from outlets import KeptOutlet

T = 1_700_000_000_000_000
FRAME = Frame(T, "ws.1", "wss://x", "ws", b"\xff raw")


def quote(bid: str) -> Quote:
    return Quote(venue="v", symbol="A-B", bid=bid, ask="9", received_time_us=T)


def publisher(outlet: KeptOutlet) -> Publisher:
    return Publisher(outlet, venue="v", now_us=lambda: T + 5)


def test_messages_go_out_in_order_and_are_counted() -> None:
    outlet = KeptOutlet()
    one = publisher(outlet)
    one.take(FRAME, Received([quote("1"), quote("2")], [], [], []))
    assert [m.bid for m in outlet.messages if isinstance(m, Quote)] == ["1", "2"]
    assert one.messages == {"quote/1": 2}
    assert outlet.letters == []


def test_frame_with_several_refusals_is_one_letter_with_all_reasons() -> None:
    outlet = KeptOutlet()
    one = publisher(outlet)
    errors: list[RefusedError] = [FieldError("price", "must be positive", "NaN"), RefusedError("no such symbol")]
    one.take(FRAME, Received([quote("1")], errors, [], []))
    (letter,) = outlet.letters
    assert letter.value == b"\xff raw"
    assert letter.key == b"v"
    assert letter.goes_to == "t.market.frames.dead-letters"
    assert letter.reason == "price: must be positive, not 'NaN'; no such symbol"
    assert letter.time_us == T + 5
    assert one.refused == {"FieldError price": 1, "RefusedError": 1}
    assert len(outlet.messages) == 1


def test_message_that_kafka_would_not_take_is_a_dead_letter_and_its_neighbours_go_out() -> None:
    outlet = KeptOutlet(longest=100)
    long = Quote(venue="v" * 60, symbol="A-B" * 20, bid="1", ask="9", received_time_us=T)
    publisher(outlet).publish([quote("1"), long, quote("2")])
    assert [m.bid for m in outlet.messages if isinstance(m, Quote)] == ["1", "2"]
    assert [letter.value for letter in outlet.letters] == [encode(long)]


def test_full_queue_reaches_the_caller() -> None:
    with pytest.raises(TransientError):
        publisher(KeptOutlet(full_for=1)).publish([quote("1")])


def test_gaps_are_counted_by_channel() -> None:
    one = publisher(KeptOutlet())
    one.take(FRAME, Received([], [], [], [Gap("ws.1", "books", "A-B", "jump"), Gap("ws.1", None, None, "jump")]))
    assert one.gaps == {"books": 1, "all": 1}
