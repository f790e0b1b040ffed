"""Trades and quotes, from a recording's frames to Kafka's acknowledgement, against the client library alone.

The ceiling is `produce_batch` of the very messages that the replay publishes, encoded beforehand, by
the same client with the same settings in a process of its own. It writes no headers, for the library
takes none there, and counts no acknowledgement of its own; ours does both for every message.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import market
from benchmarks.report import Cost, Figure, Result, Target, paragraphs
from benchmarks.rounds import Measured, Part
from benchmarks.servers import Bench
from benchmarks.worker import Clock, serve
from coinstream.cli.servers import tell

if TYPE_CHECKING:
    from coinstream.kafka import DeadLetter
    from coinstream.messages import Message

WAYS = ("replay", "unpublished", "produce_batch")
SECONDS = 6_000
CHUNK = 1_000
PREFIX = "bench.ingest."


def run(bench: Bench) -> Result:
    """Measure replay and ceiling in turn."""
    recording = bench.folder / "trades-and-quotes.jsonl"
    received = market.write_recording(recording, market.frames(["market_trades", "ticker"], seconds=SECONDS))
    tell(f"  a recording of {received:,} frames")
    bench.topics(PREFIX)
    arguments = {"bootstrap": bench.found.kafka_bootstrap, "prefix": PREFIX, "path": str(recording)}

    def part(way: str) -> Callable[[], Part]:
        return lambda: bench.child("benchmarks.bench_ingest", arguments | {"way": way}, roles=["kafka"])

    measured = bench.measure({way: part(way) for way in WAYS})
    recording.unlink()
    ours, ceiling = measured.rate("replay"), measured.rate("produce_batch")
    published = measured.rounds[0].parts["replay"].units
    unpublished = measured.cpu_us("unpublished", "ours")
    bound = measured.ratio("unpublished", "produce_batch")
    return Result(
        "ingest",
        "Trades and quotes to Kafka",
        [
            Figure(
                "trades and quotes, frame to acknowledged, replay at `--speed max`",
                "of `produce_batch`",
                measured.ratio("replay", "produce_batch"),
                Target(0.5, at_least=True),
                f"{ours.median:,.0f} messages/s against {ceiling.median:,.0f}",
            )
        ],
        [
            Cost("ingest, trades and quotes", "message", _cpu(measured, "replay")),
            Cost("the same, up to messages that nobody publishes", "message", {"ours": unpublished}),
            Cost("`produce_batch` of the same messages", "message", _cpu(measured, "produce_batch")),
        ],
        paragraphs(
            f"""
            {received:,} frames of {SECONDS:,} seconds of a simulated market ({SECONDS / 60:.0f} minutes,
            ten symbols, seeded): 10 trades a `market_trades` frame, one quote a `ticker` frame,
            {published:,} messages in all. One process reads the recording's lines, decodes and checks
            each frame, folds coverage, encodes and publishes, idempotent, `acks=all`, lz4, until Kafka
            has acknowledged everything.

            The ceiling is given the encoded messages and their keys in memory, the same client settings,
            no headers and no callback.

            What holds it back: the way from a frame to a message alone, with nothing encoded and nothing
            published, takes {unpublished.median:.1f} µs a message on one core and reaches {bound.median:.2f} of
            the ceiling, which is therefore a bound for any publishing. It is spent evenly: two JSON decodings a
            frame (the recording's line, the venue's frame), digits and times checked, a typed message built,
            coverage counted. A quote has all of a frame's costs to itself; ten trades share theirs.
            """
        ),
        measured,
    )


def _cpu(measured: Measured, part: str) -> dict[str, Any]:
    return {name: measured.cpu_us(part, name) for name in measured.processes(part)}


def work(*, bootstrap: str, prefix: str, path: str, way: str) -> dict[str, Any]:
    """Take the recording once, one way or another."""
    if way == "produce_batch":
        return _produce_batch(bootstrap, prefix, Path(path))
    from coinstream.ingest import run_replay
    from coinstream.kafka import Producer

    producer = Producer(bootstrap, client_id="bench-ingest", topic_prefix=prefix, queue_wait_s=0.2)
    clock = Clock()
    publisher = producer if way == "replay" else Unpublished()
    summary = run_replay([path], producer=publisher, speed=None, stop=lambda: False)
    figures = clock.figures(sum(summary.messages.values()), frames=summary.frames)
    if summary.refused or summary.gaps:
        raise AssertionError(f"the recording was to be clean: {summary}")
    producer.close()
    return figures


class Unpublished:
    """Takes messages and does nothing with them: what is left is the way from a frame to a message."""

    topic_prefix = ""

    def publish(self, message: Message) -> None:
        """Take a message."""

    def publish_dead_letter(self, letter: DeadLetter) -> None:
        """Take no dead letter: the recording is clean."""
        raise AssertionError(letter)

    def serve(self) -> None:
        """Serve nobody."""

    def flush(self, timeout_s: float) -> None:
        """Wait for nobody."""


def _produce_batch(bootstrap: str, prefix: str, path: Path) -> dict[str, Any]:
    from confluent_kafka import Producer as Client

    from coinstream.ingest import read_frames
    from coinstream.kafka.producer import _SETTINGS
    from coinstream.messages import TOPIC_OF, encode, key_of

    encoded: dict[str, list[dict[str, Any]]] = {}
    chunks: list[tuple[str, list[dict[str, Any]]]] = []
    units = 0
    for message in market.messages(read_frames([path])):
        topic = prefix + TOPIC_OF[type(message)].name
        waiting = encoded.setdefault(topic, [])
        waiting.append({"value": encode(message), "key": key_of(message)})
        units += 1
        if len(waiting) == CHUNK:
            chunks.append((topic, waiting))
            encoded[topic] = []
    chunks += encoded.items()
    client = Client({"bootstrap.servers": bootstrap, "client.id": "bench-ceiling"} | _SETTINGS)
    client.list_topics(timeout=10)
    clock = Clock()
    for topic, some in chunks:
        waiting = some
        while waiting:
            client.produce_batch(topic, waiting)
            waiting = [message for message in waiting if message.pop("_error", None) is not None]
            client.poll(0.01 if waiting else 0)
    left = client.flush(60)
    figures = clock.figures(units)
    if left:
        raise AssertionError(f"{left} messages were not acknowledged")
    return figures


if __name__ == "__main__":
    serve(work)
