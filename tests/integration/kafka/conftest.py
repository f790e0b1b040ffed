"""Each test has its own topics and group, and runs on Apache Kafka and on the broker that stands in for it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest
from confluent_kafka.admin import AdminClient

from coinstream.kafka import BatchConsumer, Producer, RawBatch, apply_topics
from coinstream.messages import BY_NAME, LogPosition, Partition, Trade

TRADES = BY_NAME["market.trades"]


@pytest.fixture(params=["apache", "noida"])
def product(request: pytest.FixtureRequest) -> str:
    """Which broker the test runs on."""
    return str(request.param)


@pytest.fixture
def bootstrap(product: str, request: pytest.FixtureRequest) -> str:
    """Its address."""
    return str(request.getfixturevalue({"apache": "kafka_bootstrap", "noida": "noida_bootstrap"}[product]))


@pytest.fixture
def admin(bootstrap: str) -> AdminClient:
    """The client's own tool, to do what coinstream never does: delete topics and records."""
    return AdminClient({"bootstrap.servers": bootstrap})


@pytest.fixture
def empty_prefix(admin: AdminClient) -> Iterator[str]:
    """A topic prefix of this test; its topics are deleted afterwards."""
    prefix = f"t{uuid.uuid4().hex[:12]}."
    yield prefix
    names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    if names:
        futures = admin.delete_topics(names)
        for future in futures.values():
            future.result(10)


@pytest.fixture
def prefix(bootstrap: str, empty_prefix: str) -> str:
    """A topic prefix whose topics are applied."""
    apply_topics(bootstrap, topic_prefix=empty_prefix)
    return empty_prefix


@pytest.fixture
def producer(bootstrap: str, prefix: str) -> Iterator[Producer]:
    """A producer of this test's topics."""
    it = Producer(bootstrap, client_id="test", topic_prefix=prefix)
    yield it
    it.close()


class PositionStore:
    """A store in memory that keeps values and positions together and compares before it sets."""

    def __init__(self) -> None:
        self.rows: dict[Partition, LogPosition] = {}
        self.values: list[tuple[Partition, int, bytes | None]] = []
        self.refused = 0
        self.asked: list[Sequence[LogPosition]] = []

    def positions(self, starts: Sequence[LogPosition]) -> Mapping[Partition, LogPosition]:
        """Return where each partition stands; one never seen stands at its start."""
        self.asked.append(starts)
        return {(it := Partition(at.topic, at.partition)): self.rows.setdefault(it, at) for at in starts}

    def write(self, batch: RawBatch) -> bool:
        """Take a batch if it begins where the store stands."""
        if self.rows[batch.partition] != batch.start:
            self.refused += 1
            return False
        self.rows[batch.partition] = batch.end
        self.values += [(batch.partition, *it) for it in zip(batch.offsets, batch.values, strict=True)]
        return True


@pytest.fixture
def store() -> PositionStore:
    """An empty store."""
    return PositionStore()


@pytest.fixture
def join(bootstrap: str, prefix: str) -> Iterator[Callable[..., BatchConsumer]]:
    """Make a consumer of this test's group; all of them are closed afterwards."""
    made: list[BatchConsumer] = []

    def make(**options: object) -> BatchConsumer:
        settings = {
            "group": prefix + "group",
            "topics": [TRADES],
            "client_id": "test",
            "session_timeout_ms": 6000,
            # noida-db may sit on a rebalance until this has passed: see test_fallback_broker.py
            "max_poll_interval_ms": 6000,
        }
        it = BatchConsumer(bootstrap, topic_prefix=prefix, **{**settings, **options})
        made.append(it)
        return it

    yield make
    for it in made:
        it.close()


def trade(number: int, *, symbol: str = "BTC-USD", price: str = "58012.31", size: str = "0.01") -> Trade:
    """Return the trade of a number."""
    return Trade(
        venue="coinbase",
        symbol=symbol,
        trade_id=str(number),
        price=price,
        size=size,
        aggressor_side="buy",
        event_time_us=1_619_031_093_000_000 + number,
        received_time_us=1_619_031_093_500_000 + number,
        provenance="live",
    )


@pytest.fixture
def make_trade() -> Callable[..., Trade]:
    """The trade of a number: ``make_trade(7, symbol="ETH-USD")``."""
    return trade


@pytest.fixture
def fetch_until() -> Callable[..., list[RawBatch]]:
    """Fetch until so many records came: ``fetch_until(consumer, 10)``; fails when they do not come."""

    def fetch(consumer: BatchConsumer, records: int, timeout_s: float = 20.0) -> list[RawBatch]:
        deadline = time.monotonic() + timeout_s
        batches: list[RawBatch] = []
        while sum(len(batch.offsets) for batch in batches) < records:
            assert time.monotonic() < deadline, f"{sum(len(it.offsets) for it in batches)} of {records} came"
            batches += consumer.fetch(1000, 0.1)
        return batches

    return fetch
