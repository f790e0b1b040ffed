"""Book frames: decoded, applied to the book and published, against decoding alone.

No Kafka is needed for the ceiling, and hardly any for ours: of a book's frames one snapshot a second a
symbol is published. The figure is frames a second of one process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import market
from benchmarks.report import Cost, Figure, Result, paragraphs
from benchmarks.servers import Bench
from benchmarks.worker import Clock, serve
from coinstream.cli.servers import tell

SECONDS = 3_000
PASSES = 20
"""Of the decoding, which is over too soon to be measured once."""
PREFIX = "bench.books."


def run(bench: Bench) -> Result:
    """Measure replay and decoding in turn."""
    recording = bench.folder / "books.jsonl"
    received = market.write_recording(recording, market.frames(["level2"], seconds=SECONDS))
    tell(f"  a recording of {received:,} frames")
    bench.topics(PREFIX)
    arguments = {"bootstrap": bench.found.kafka_bootstrap, "prefix": PREFIX, "path": str(recording)}
    measured = bench.measure(
        {
            "replay": lambda: bench.child("benchmarks.bench_books", arguments, roles=["kafka"]),
            "decode": lambda: bench.child("benchmarks.bench_books", arguments | {"ceiling": True}, roles=[]),
        }
    )
    recording.unlink()
    ours, ceiling = measured.rate("replay"), measured.rate("decode")
    levels = measured.rounds[0].parts["decode"].values["levels"] / received
    snapshots = measured.rounds[0].parts["replay"].values["messages"]
    return Result(
        "books",
        "Books to Kafka",
        [
            Figure(
                "book frames, frame to acknowledged, replay at `--speed max`",
                "of decoding alone",
                measured.ratio("replay", "decode"),
                None,
                f"{ours.median:,.0f} frames/s against {ceiling.median:,.0f}",
            )
        ],
        [
            Cost("ingest, books", "frame", {name: measured.cpu_us("replay", name) for name in ("ours", "broker")}),
            Cost("decoding of the same frames", "frame", {"ours": measured.cpu_us("decode", "ours")}),
        ],
        paragraphs(
            f"""
            {received:,} `l2_data` frames of ten symbols over {SECONDS:,} seconds, {levels:.1f} changed
            levels each, snapshots of all levels at the beginning; {snapshots:,.0f} messages were
            published. Ours reads the recording's lines, decodes and checks each frame, keeps the books
            and publishes 50 levels a side at most once a second a symbol. Decoding alone is msgspec, from
            the frame's bytes in memory to typed fields, with no check of the digits and no book.
            """
        ),
        measured,
    )


def work(*, bootstrap: str, prefix: str, path: str, ceiling: bool = False) -> dict[str, Any]:
    """Take the recording's frames once, one way or the other."""
    return _decode(Path(path)) if ceiling else _replay(bootstrap, prefix, Path(path))


def _replay(bootstrap: str, prefix: str, path: Path) -> dict[str, Any]:
    from coinstream.ingest import run_replay
    from coinstream.kafka import Producer

    producer = Producer(bootstrap, client_id="bench-books", topic_prefix=prefix, queue_wait_s=0.2)
    clock = Clock()
    summary = run_replay([path], producer=producer, speed=None, stop=lambda: False)
    figures = clock.figures(summary.frames, messages=sum(summary.messages.values()))
    if summary.refused or summary.gaps:
        raise AssertionError(f"the recording was to be clean: {summary}")
    producer.close()
    return figures


def _decode(path: Path) -> dict[str, Any]:
    from coinstream.adapters.coinbase_advanced import _decode as decode_frame
    from coinstream.ingest import read_frames

    received = [frame.data for frame in read_frames([path]) if not frame.opens]
    levels = sum(len(event.updates) for data in received for event in decode_frame(data).events)
    clock = Clock()
    for _ in range(PASSES):
        for data in received:
            decode_frame(data)
    return clock.figures(PASSES * len(received), levels=levels)


if __name__ == "__main__":
    serve(work)
