"""Keys go where Java's tools look for them."""

from __future__ import annotations

import pytest

from coinstream.kafka.partitioner import _murmur2, partition_of


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_hash_is_that_of_kafkas_java_client(key: bytes, signed: int) -> None:
    assert _murmur2(key) == signed % 2**32


def test_partition_is_never_negative_and_within_the_topic() -> None:
    keys = [f"coinbase:{number}-USD".encode() for number in range(1000)]
    assert {partition_of(key, 12) for key in keys} == set(range(12))
    assert partition_of(b"anything", 1) == 0
