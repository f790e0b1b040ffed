"""What is published arrives: once, in order per key, unchanged, where Java's tools would put it."""

from __future__ import annotations

import asyncio
import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from coinstream.errors import FatalError, RefusedError
from coinstream.kafka import DeadLetter, Producer, UndeliveredError, end_offsets, read_range, start_offsets
from coinstream.messages import BY_NAME, AssetSnapshot, Trade, decode, key_of
from coinstream.telemetry import HEALTHY_UNTIL

TRADES = BY_NAME["market.trades"]
DEAD_TRADES = BY_NAME["market.trades.dead-letters"]

# Of Apache Kafka's own UtilsTest.testMurmur2: what Java's producer hashes these keys to.
JAVA_MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, as a signed 32-bit integer; the published values judge it."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    h ^= h >> 15
    return h - (1 << 32) if h >> 31 else h


def java_partition(key: bytes, partitions: int) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def everything(bootstrap, prefix, topic=TRADES):
    starts = start_offsets(bootstrap, [topic], topic_prefix=prefix)
    return list(
        read_range(bootstrap, starts, end_offsets(bootstrap, [topic], topic_prefix=prefix), topic_prefix=prefix)
    )


def test_hash_of_the_test_agrees_with_java():
    assert {key: murmur2(key) for key in JAVA_MURMUR2} == JAVA_MURMUR2


def test_key_stands_in_the_partition_where_java_puts_it(bootstrap, prefix, producer, make_trade):
    symbols = [f"COIN{n}-USD" for n in range(40)]
    for number, symbol in enumerate(symbols):
        producer.publish(make_trade(number, symbol=symbol))
    for key in JAVA_MURMUR2:
        producer.publish_dead_letter(
            DeadLetter(prefix + "market.trades", 0, 1, key, b"x", "why", "RefusedError", "test", 1)
        )
    producer.flush(20)

    partition_of = {key: it.start.partition for it in everything(bootstrap, prefix) for key in it.keys}
    assert partition_of == {key: java_partition(key, 12) for key in (f"coinbase:{it}".encode() for it in symbols)}
    letters = {key: it.start.partition for it in everything(bootstrap, prefix, DEAD_TRADES) for key in it.keys}
    assert letters == {key: (hashed & 0x7FFFFFFF) % 3 for key, hashed in JAVA_MURMUR2.items()}


def test_messages_of_a_key_stay_in_order_and_come_once(bootstrap, prefix, producer, make_trade):
    for number in range(3000):
        producer.publish(make_trade(number, symbol=f"COIN{number % 7}-USD"))
    producer.flush(20)

    numbers: dict[bytes, list[int]] = {}
    for batch in everything(bootstrap, prefix):
        for key, value in zip(batch.keys, batch.values, strict=True):
            numbers.setdefault(key, []).append(int(decode(Trade, value).trade_id))
    assert numbers == {f"coinbase:COIN{n}-USD".encode(): list(range(n, 3000, 7)) for n in range(7)}


@pytest.mark.parametrize("digits", ["0.000000000000000001", "999999999999.000000000000000001", "1.50"])
def test_digits_pass_unchanged(bootstrap, prefix, producer, make_trade, digits):
    sent = make_trade(1, price=digits, size=digits)
    producer.publish(sent)
    producer.flush(20)

    (batch,) = everything(bootstrap, prefix)
    assert [decode(Trade, value) for value in batch.values] == [sent]
    assert digits.encode() in batch.values[0]


def test_record_carries_schema_key_and_time_of_producing(bootstrap, prefix, producer, make_trade):
    before_ms = time.time_ns() // 1_000_000
    producer.publish(make_trade(1))
    producer.publish(
        AssetSnapshot(
            source="coingecko",
            asset_id="bitcoin",
            symbol="BTC",
            name="Bitcoin",
            price_usd="58000",
            minute=1_619_031_060_000_000,
            received_time_us=1_619_031_061_000_000,
        )
    )
    producer.flush(20)
    after_ms = time.time_ns() // 1_000_000

    (batch,) = everything(bootstrap, prefix)
    assert before_ms <= batch.timestamps_ms[0] <= after_ms
    assert batch.keys == [key_of(make_trade(1)).encode()]
    (assets,) = everything(bootstrap, prefix, BY_NAME["market.assets"])
    assert assets.keys == [b"coingecko:bitcoin"]
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": prefix})
    reader.assign([TopicPartition(prefix + "market.assets", assets.start.partition, 0)])
    assert reader.poll(10).headers() == [("schema", b"asset_snapshot/1")]
    reader.close()


def test_acknowledgements_are_counted_by_topic(producer, prefix, make_trade):
    for number in range(25):
        producer.publish(make_trade(number))
    producer.publish_dead_letter(DeadLetter(prefix + "market.frames", None, None, b"coinbase", b"{", "w", "e", "s", 1))
    producer.flush(20)
    counted = {topic: count for topic, count in producer.acknowledged.items() if count}
    assert counted == {"market.trades": 25, "market.frames.dead-letters": 1}
    assert producer.waiting == 0


def test_message_longer_than_kafka_takes_is_refused_alone(producer, make_trade):
    assets = AssetSnapshot(
        source="coingecko",
        asset_id="big",
        symbol="BIG",
        name="Big",
        price_usd="1",
        attributes={"text": "x" * 1_000_001},
        minute=1_619_031_060_000_000,
        received_time_us=1_619_031_061_000_000,
    )
    with pytest.raises(RefusedError, match="longer than 1000000"):
        producer.publish(assets)
    producer.publish(make_trade(1))
    producer.flush(20)
    assert producer.acknowledged["market.trades"] == 1


def test_missing_topics_are_told_at_the_start(bootstrap, empty_prefix):
    with pytest.raises(FatalError, match=rf"topic {empty_prefix}market\.trades is missing .*coinstream topics apply"):
        Producer(bootstrap, client_id="test", topic_prefix=empty_prefix)


def test_flush_in_no_time_says_what_is_not_acknowledged(producer, make_trade):
    producer.publish(make_trade(1))
    with pytest.raises(UndeliveredError, match="1 records are not acknowledged"):
        producer.flush(0.0)
    producer.flush(20)
    assert producer.acknowledged["market.trades"] == 1


def test_event_loop_goes_on_while_messages_are_published(producer, make_trade):
    async def publish_while_ticking() -> float:
        longest_s, last = 0.0, time.monotonic()
        for number in range(20_000):
            producer.publish(make_trade(number))
            if number % 200 == 0:
                producer.serve()
                await asyncio.sleep(0)
                now = time.monotonic()
                longest_s, last = max(longest_s, now - last), now
        return longest_s

    assert asyncio.run(publish_while_ticking()) < 0.5
    producer.flush(20)
    assert producer.acknowledged["market.trades"] == 20_000


def test_acknowledgement_vouches_for_the_process_that_asked_for_it(bootstrap, prefix, make_trade):
    def vouched_s():
        (metric,) = HEALTHY_UNTIL.collect()
        return next((sample.value for sample in metric.samples if sample.labels == {"part": "kafka"}), None)

    producer = Producer(bootstrap, client_id="test", topic_prefix=prefix, healthy_for_s=60.0)
    assert vouched_s() == 0
    producer.publish(make_trade(1))
    producer.flush(30)
    assert vouched_s() == pytest.approx(time.time_ns() / 1e9 + 60, abs=30)
    producer.close()
