"""Dead letters keep the bytes as they were."""

from __future__ import annotations

import time

import pytest

from coinstream.errors import FatalError, FieldError, RefusedError
from coinstream.kafka import DeadLetter, newest, read_dead_letter, read_dead_letters
from coinstream.messages import BY_NAME

TRADES = BY_NAME["market.trades"]


def letter(prefix, value, *, key=b"coinbase:BTC-USD", offset=1, time_us=1_700_000_000_000_000, error="FieldError"):
    return DeadLetter(
        topic=prefix + "market.trades",
        partition=3,
        offset=offset,
        key=key,
        value=value,
        reason="price: must be a number, not 'NaN' \u20bf",
        error=error,
        stage="sink postgresql",
        time_us=time_us,
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"coinbase:BTC-USD", b'{"price": "NaN"}'),
        (None, b""),
        (b"", b"\xff\xfe\x00 no UTF-8"),
        (b"\xf0\x28", None),
        (b"k", bytes(range(256)) * 4096),
        (b"k", b"a venue's first book has megabytes" * 100_000),
    ],
    ids=["json", "no key", "no utf-8", "tombstone", "1 MB", "3 MB"],
)
def test_letter_comes_back_as_it_was(bootstrap, prefix, producer, key, value):
    sent = letter(prefix, value, key=key)
    producer.publish_dead_letter(sent)
    producer.flush(20)
    assert list(read_dead_letters(bootstrap, topic_prefix=prefix)) == [sent]


def test_refused_record_becomes_a_letter_with_its_place(
    bootstrap, prefix, producer, make_trade, join, store, fetch_until
):
    producer.publish(make_trade(1, price="1"))
    producer.flush(20)
    (batch,) = fetch_until(join(positions=store.positions), 1)
    error = FieldError("price", "must be above zero", "0")
    producer.publish_dead_letter(DeadLetter.of_record(batch, 0, error=error, stage="sink mongodb", time_us=5))
    producer.flush(20)

    (found,) = read_dead_letters(bootstrap, topic_prefix=prefix, topics=["market.trades"])
    assert (found.topic, found.partition, found.offset) == (prefix + "market.trades", batch.start.partition, 0)
    assert (found.key, found.value) == (b"coinbase:BTC-USD", batch.values[0])
    assert (found.reason, found.error) == ("price: must be above zero, not '0'", "FieldError")
    assert (found.stage, found.time_us) == ("sink mongodb", 5)


def test_frame_that_no_adapter_read_has_the_venue_for_key(bootstrap, prefix, producer):
    frame = b'{"type": "match", "price":'
    error = RefusedError("not JSON")
    producer.publish_dead_letter(
        DeadLetter.of_frame(frame, venue="coinbase", error=error, time_us=9, topic_prefix=prefix)
    )
    producer.publish_dead_letter(
        DeadLetter.of_frame(frame, venue="coinbase", error=error, time_us=10, topic_prefix=prefix)
    )
    producer.flush(20)
    found = list(read_dead_letters(bootstrap, topic_prefix=prefix, topics=["market.frames.dead-letters"]))
    assert [(it.key, it.value, it.partition, it.offset, it.time_us) for it in found] == [
        (b"coinbase", frame, None, None, 9),
        (b"coinbase", frame, None, None, 10),
    ]


def test_letters_are_listed_by_the_time_they_were_written_and_repeats_once(bootstrap, prefix, producer):
    # The last is of a recording made years before: it is the newest letter all the same.
    for offset, time_us in ((5, 50), (3, 30), (9, 90), (3, 31), (7, 1)):
        producer.publish_dead_letter(letter(prefix, b"x", key=str(offset).encode(), offset=offset, time_us=time_us))
        producer.flush(20)
        time.sleep(0.002)  # Kafka's timestamps have milliseconds
    assert [it.offset for it in newest(read_dead_letters(bootstrap, topic_prefix=prefix), 10)] == [5, 3, 9, 7]
    assert [it.offset for it in newest(read_dead_letters(bootstrap, topic_prefix=prefix), 2)] == [9, 7]


def test_one_letter_is_read_by_its_place(bootstrap, prefix, producer):
    for offset in (1, 2, 3):
        producer.publish_dead_letter(letter(prefix, str(offset).encode(), key=b"k", offset=offset))
    producer.flush(20)
    letters = list(read_dead_letters(bootstrap, topic_prefix=prefix))
    for it in letters:
        where = ("market.trades", it.place.partition, it.place.offset)
        assert read_dead_letter(bootstrap, *where, topic_prefix=prefix) == it
    partition = letters[0].place.partition
    for place in ((partition, 3), ((partition + 1) % 3, 0), (99, 0)):
        assert read_dead_letter(bootstrap, "market.trades", *place, topic_prefix=prefix) is None
    with pytest.raises(FatalError, match=r"no dead letters of 'nope'; there are of market\.frames"):
        read_dead_letter(bootstrap, "nope", 0, 0, topic_prefix=prefix)


def test_no_letters_is_an_empty_list(bootstrap, prefix):
    assert list(read_dead_letters(bootstrap, topic_prefix=prefix)) == []
