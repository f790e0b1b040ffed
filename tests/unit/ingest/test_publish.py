"""What came of frames, on its way to Kafka."""

from __future__ import annotations

from structlog.testing import capture_logs

from coinstream.adapters import Frame, Gap
from coinstream.errors import FieldError, RefusedError
from coinstream.ingest.publish import Outbox
from coinstream.ingest.stream import Received
from coinstream.messages import Coverage, Trade, encode
from outlets import KeptOutlet

START = 1767322980_000000


def trade(number: int, *, symbol: str = "BTC-USD") -> Trade:
    return Trade(
        venue="coinbase",
        symbol=symbol,
        trade_id=str(number),
        price="1.50",
        size="1",
        aggressor_side="buy",
        event_time_us=START,
        received_time_us=START + number,
        provenance="live",
    )


def frame(data: bytes, time_us: int = START) -> Frame:
    return Frame(time_us, "ws.1", "wss://venue", "ws", data)


def ids(producer: KeptOutlet) -> list[str]:
    return [message.trade_id for message in producer.of(Trade)]


def test_what_finds_no_room_stays_in_order_and_is_pushed_later() -> None:
    producer = KeptOutlet(room=2)
    outbox = Outbox(producer)
    outbox.put(trade(n) for n in range(5))
    assert not outbox.push()
    assert (ids(producer), len(outbox), outbox.reason) == (["0", "1"], 3, "the queue is full")
    outbox.put([trade(5)])
    producer.room = 1
    assert not outbox.push()
    producer.room = None
    assert outbox.push()
    assert ids(producer) == ["0", "1", "2", "3", "4", "5"]
    assert len(outbox) == 0
    assert outbox.published == {"trade": 6}


def test_frame_with_refusals_becomes_one_dead_letter_with_its_raw_bytes_and_every_reason() -> None:
    producer = KeptOutlet()
    outbox = Outbox(producer)
    raw = b'{"\xff'
    errors: list[RefusedError] = [FieldError("trades[0].price", "must be above zero", "-1"), RefusedError("not known")]
    outbox.take(frame(raw), Received([trade(1)], errors, [], [], []), venue="coinbase")
    assert outbox.push()
    assert ids(producer) == ["1"]
    (letter,) = producer.letters
    assert letter.goes_to == "t.market.frames.dead-letters"
    assert (letter.key, letter.value, letter.stage, letter.time_us) == (b"coinbase", raw, "adapter", START)
    assert letter.error == "FieldError"
    assert letter.reason == "2 refused: trades[0].price: must be above zero, not '-1'; not known"
    assert outbox.refused == {
        "FieldError trades.price": 1,
        "RefusedError": 1,
    }


def test_dead_letter_that_finds_no_room_is_not_lost() -> None:
    producer = KeptOutlet(room=0)
    outbox = Outbox(producer)
    outbox.refuse(frame(b"x"), [RefusedError("no")], venue="coinbase")
    assert not outbox.push()
    producer.room = None
    assert outbox.push()
    assert [letter.value for letter in producer.letters] == [b"x"]


def test_each_kind_of_refusal_is_logged_once_and_counted_always() -> None:
    outbox = Outbox(KeptOutlet())
    with capture_logs() as logs:
        for place in range(50):
            outbox.refuse(frame(b"y"), [FieldError(f"trades[{place}].price", "is missing")], venue="coinbase")
            outbox.refuse(frame(b"z"), [FieldError("side", "is missing")], venue="coinbase")
        outbox.refuse(frame(b"z"), [FieldError("side", "is missing")], venue="other")
    assert [(line["venue"], line["why"], line["frame"]) for line in logs] == [
        ("coinbase", "trades[0].price: is missing", "y"),
        ("coinbase", "side: is missing", "z"),
        ("other", "side: is missing", "z"),
    ]
    assert outbox.refused == {"FieldError trades.price": 50, "FieldError side": 51}


def test_message_too_long_for_kafka_is_dead_lettered_and_its_neighbours_are_published() -> None:
    long = trade(2, symbol="L" * 64)
    producer = KeptOutlet(longest=len(encode(long)) - 1)
    outbox = Outbox(producer)
    outbox.put([trade(1), long, trade(3)])
    assert outbox.push()
    assert ids(producer) == ["1", "3"]
    (letter,) = producer.letters
    assert letter.value == encode(long)
    assert (letter.reason, letter.time_us) == ("too long", START + 2)
    assert outbox.published == {"trade": 2}


def test_coverage_too_long_for_kafka_takes_its_minute_as_the_letters_time() -> None:
    producer = KeptOutlet(longest=3)
    outbox = Outbox(producer)
    outbox.put([Coverage(venue="v", symbol="BTC-USD", channel="books", minute=START, status="complete", messages=1)])
    assert outbox.push()
    assert [letter.time_us for letter in producer.letters] == [START]


def test_gaps_are_counted_by_channel_and_logged_once_a_symbol() -> None:
    outbox = Outbox(KeptOutlet())
    gaps = [Gap("ws.1", "books", symbol, "went from 1 to 3") for symbol in ("BTC-USD", "ETH-USD", "BTC-USD")]
    with capture_logs() as logs:
        outbox.take(frame(b""), Received([], [], [], [*gaps, Gap("ws.1", None, None, "lost")], []), venue="coinbase")
    assert outbox.gaps == {"books": 3, "all": 1}
    assert [(line["channel"], line["symbol"]) for line in logs] == [
        ("books", "BTC-USD"),
        ("books", "ETH-USD"),
        ("all", None),
    ]
