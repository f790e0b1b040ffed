"""Recordings, sent through the same code as a live feed.

Times and provenance are the recording's own, and what is due by the clock is due by the recorded
clock, as it stands in the frames: two replays of a recording publish the same messages, whatever
their speed, so a second one changes nothing in the stores.
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
from coinstream.ingest.publish import Outbox, Publisher
from coinstream.ingest.recording import read_frames
from coinstream.telemetry import FRAMES, logger

SERVE_EVERY_FRAMES = 256
FLUSH_TIMEOUT_S = 60.0
LONGEST_NAP_S = 0.1
KAFKA_WAIT_S = 0.1
LONGEST_SILENCE_US = 3_600_000_000
"""A longer silence, or a step back, is not waited for: the next file is of another day."""
TELL_EVERY_S = 5.0

log = logger("ingest")


@dataclass(slots=True)
class ReplaySummary:
    """What a replay published.

    Attributes:
        frames: Frames read; connections opened or ended are none.
        seconds: How long it took, Kafka's acknowledgement included.
        messages: Published, by type as the schema header names it.
        refused: By class of error and field.
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
    paths: Iterable[Path | str],
    *,
    producer: Publisher,
    speed: Decimal | None,
    venue: str | None = None,
    stop: Callable[[], bool],
) -> ReplaySummary:
    """Publish recordings; when this returns, Kafka has acknowledged everything.

    Args:
        paths: Recordings, one after the other.
        producer: Where messages go. While it has no room the replay waits: a recording can.
        speed: Times as fast as recorded; ``None``: as fast as it goes.
        venue: Whose frames; by default their addresses tell.
        stop: Asked between frames; what was read by then is finished in good order.

    Raises:
        FatalError: A file, line, venue or address cannot be used, or Kafka's client cannot go on.
        TransientError: Kafka did not acknowledge everything within a minute, or had no room after a stop.
    """
    replay = _Replay(Router(venue), producer, stop)
    for frame in _paced(read_frames(paths), speed, stop):
        replay.take(frame)
    return replay.finish()


class _Replay:
    """The work of `run_replay`."""

    def __init__(self, router: Router, producer: Publisher, stop: Callable[[], bool]) -> None:
        self._router = router
        self._producer = producer
        self._stop = stop
        self._outbox = Outbox(producer)
        self._began_s = self._told_s = time.monotonic()
        self._last_us = 0
        self._frames: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()
        self._until_serve = 0

    def take(self, frame: Frame) -> None:
        """Publish what comes of a frame."""
        self._last_us = max(self._last_us, frame.received_time_us)
        stream = self._router.stream_of(frame)
        if stream is None:
            return
        venue = stream.adapter.venue
        if not (frame.opens or frame.closes):
            self._frames[venue] += 1
        self._outbox.take(frame, stream.receive(frame), venue=venue)
        if self._outbox and not self._outbox.push():
            self._wait_for_room()
        self._until_serve -= 1
        if self._until_serve < 0:
            self._until_serve = SERVE_EVERY_FRAMES
            self._serve()

    def finish(self) -> ReplaySummary:
        """Publish the last books and the open minutes' coverage, and wait for Kafka."""
        for stream in self._router.streams:
            self._outbox.put(stream.finish(self._last_us))
        if not self._outbox.push():
            self._wait_for_room()
        self._producer.flush(FLUSH_TIMEOUT_S)
        self._serve()
        return ReplaySummary(
            frames=self._frames.total(),
            seconds=time.monotonic() - self._began_s,
            messages=self._outbox.published,
            refused=self._outbox.refused,
            gaps=self._outbox.gaps,
            stopped=self._stop(),
        )

    def _serve(self) -> None:
        """Run delivery callbacks, count frames, and say from time to time how far it got."""
        self._producer.serve()
        for venue, count in self._frames.items():
            FRAMES.labels(venue).inc(count - self._counted[venue])
        self._counted = self._frames.copy()
        now_s = time.monotonic()
        if now_s - self._told_s >= TELL_EVERY_S:
            self._told_s = now_s
            log.info("replaying", frames=self._frames.total(), seconds=round(now_s - self._began_s))

    def _wait_for_room(self) -> None:
        """Push until Kafka has taken everything.

        Raises:
            TransientError: It has no room, and we were told to stop.
        """
        outbox = self._outbox
        log.warning("Kafka takes no more", why=outbox.reason, next="the replay waits")
        while not outbox.push():
            if self._stop():
                raise TransientError(f"{len(outbox)} messages were not taken by Kafka ({outbox.reason})")
            self._producer.serve()
            time.sleep(KAFKA_WAIT_S)
        log.warning("Kafka takes messages again")


def _paced(frames: Iterator[Frame], speed: Decimal | None, stop: Callable[[], bool]) -> Iterator[Frame]:
    """Yield frames until the stop, at their times, sped up; in naps, so that a stop is heard soon."""
    base_us = last_us = 0
    base_ns = 0
    for frame in frames:
        if speed is not None:
            now_us = frame.received_time_us
            if not 0 <= now_us - last_us <= LONGEST_SILENCE_US:
                base_us, base_ns = now_us, time.monotonic_ns()
            last_us = now_us
            due_ns = base_ns + int((now_us - base_us) * 1000 / speed)
            while (left_ns := due_ns - time.monotonic_ns()) > 0 and not stop():
                time.sleep(min(left_ns / 1e9, LONGEST_NAP_S))
        if stop():
            return
        yield frame
