"""Recordings, sent through the same code as a live feed.

Times and provenance are the recording's own: the messages of two replays are the same, so a second
one changes nothing in the stores.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from coinstream.adapters import Frame
from coinstream.errors import TransientError
from coinstream.ingest.normalise import Router
from coinstream.ingest.publish import Outlet, Publisher
from coinstream.ingest.recording import read_frames
from coinstream.ingest.stream import MarketStream
from coinstream.messages import Message
from coinstream.telemetry import logger

SERVE_EVERY = 256
"""Frames between two runs of the producer's callbacks."""
FLUSH_TIMEOUT_S = 60.0
LONGEST_NAP_S = 0.2
PROGRESS_EVERY_S = 5.0

log = logger("ingest")


@dataclass(slots=True)
class ReplaySummary:
    """What a replay published.

    Attributes:
        frames: Frames read; opened connections are none.
        seconds: How long it took.
        messages: Published, by type as the schema header names it.
        refused: Dead-lettered, by class of error and field.
        gaps: By channel.
        stopped: Whether it was told to stop before the end.
    """

    frames: int = 0
    seconds: float = 0.0
    messages: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    stopped: bool = False

    def __str__(self) -> str:
        """Return one line for a person."""
        messages = ", ".join(f"{count:,} {name}" for name, count in sorted(self.messages.items())) or "nothing"
        parts = [f"replayed {self.frames:,} frames in {self.seconds:.1f} s: {messages}"]
        parts += [f"refused: {dict(self.refused)}"] if self.refused else []
        parts += [f"gaps: {dict(self.gaps)}"] if self.gaps else []
        return "; ".join(parts + (["stopped before the end"] if self.stopped else []))


def run_replay(
    paths: Iterable[Path],
    *,
    producer: Outlet,
    speed: Decimal | None,
    venue: str | None = None,
    stop: Callable[[], bool],
) -> ReplaySummary:
    """Publish recordings, acknowledged by Kafka when this returns.

    Args:
        paths: Recordings, one after the other.
        producer: Where messages go.
        speed: Times as fast as recorded; ``None``: as fast as it goes.
        venue: Whose frames; by default their addresses tell.
        stop: Asked between frames; what was read by then is finished in good order.

    Raises:
        FatalError: A file, line, venue or address cannot be used, or Kafka's client cannot go on.
        TransientError: Kafka did not acknowledge everything within a minute.
    """
    summary = ReplaySummary()
    began_s = told_s = time.monotonic()
    router = Router(venue)
    publishers: dict[int, Publisher] = {}
    last_us = 0
    for number, frame in enumerate(_paced(read_frames(paths), speed, stop)):
        last_us = max(last_us, frame.received_time_us)
        summary.frames += not frame.opens
        stream = router.stream_of(frame)
        if stream is None:
            continue
        received = stream.receive(frame)
        publisher = publishers.get(id(stream)) or publishers.setdefault(id(stream), _publisher(producer, stream))
        _publish_all(publisher, received.messages, stop)
        publisher.take(frame, received._replace(messages=[]))
        if number % SERVE_EVERY == 0:
            producer.serve()
            if time.monotonic() - told_s > PROGRESS_EVERY_S:
                told_s = time.monotonic()
                log.info("replaying", frames=summary.frames, seconds=round(told_s - began_s))
    for stream in router.streams:
        publisher = publishers.get(id(stream)) or publishers.setdefault(id(stream), _publisher(producer, stream))
        _publish_all(publisher, stream.finish(last_us), stop)
    producer.flush(FLUSH_TIMEOUT_S)
    for publisher in publishers.values():
        summary.messages += publisher.messages
        summary.refused += publisher.refused
        summary.gaps += publisher.gaps
    summary.stopped = stop()
    summary.seconds = time.monotonic() - began_s
    return summary


def _publisher(producer: Outlet, stream: MarketStream) -> Publisher:
    return Publisher(producer, venue=stream.adapter.venue, now_us=lambda: time.time_ns() // 1000)


def _publish_all(publisher: Publisher, messages: Iterable[Message], stop: Callable[[], bool]) -> None:
    """Publish, waiting as long as it takes: a recording can wait, so a full queue loses nothing."""
    for message in messages:
        while True:
            try:
                publisher.publish((message,))
            except TransientError as error:
                if stop():
                    raise
                log.warning("waiting for Kafka", why=str(error))
            else:
                break


def _paced(frames: Iterator[Frame], speed: Decimal | None, stop: Callable[[], bool]) -> Iterator[Frame]:
    """Yield frames at their times, sped up; in naps, so that a stop is heard soon."""
    first_us: int | None = None
    began_ns = time.monotonic_ns()
    for frame in frames:
        if stop():
            return
        if speed is not None:
            first_us = frame.received_time_us if first_us is None else first_us
            due_ns = began_ns + int((frame.received_time_us - first_us) * 1000 / speed)
            while (left_ns := due_ns - time.monotonic_ns()) > 0 and not stop():
                time.sleep(min(left_ns / 1e9, LONGEST_NAP_S))
        yield frame
