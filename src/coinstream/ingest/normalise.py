"""Recorded frames to messages, without a network: what ``coinstream normalise`` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from coinstream.adapters import CHANNELS, DIALECTS, VENUES, Dialect, Frame, dialect_of, dialects_of_venue
from coinstream.errors import FatalError, FieldError, RefusedError
from coinstream.ingest.stream import MarketStream
from coinstream.messages import BookSnapshot, Coverage, Instrument, MarketMessage, Quote, Trade

KINDS: dict[str, type[Any]] = {
    "trades": Trade,
    "quotes": Quote,
    "books": BookSnapshot,
    "instruments": Instrument,
    "coverage": Coverage,
}
"""What can be asked for, by the name that the command takes."""
MOST_REASONS = 1000
"""Reasons beyond so many different ones are counted together, as ``other``."""


@dataclass(slots=True)
class Summary:
    """What a recording held.

    Attributes:
        frames: Frames received; connections opened or ended are none.
        messages: By type as the schema header names it; trades by provenance too (``trade live``).
        refusals: By reason.
        gaps: By channel and reason.
    """

    frames: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        """Return it as lines for a person."""
        lines = [f"{self.frames:,} frames"]
        lines += [f"  {count:,} {name}" for name, count in sorted(self.messages.items())]
        for what, counts in (("refused", self.refusals), ("gap", self.gaps)):
            lines += [f"  {what}, {count:,} times: {reason}" for reason, count in counts.most_common()]
        return "\n".join(lines)

    def count_message(self, message: MarketMessage) -> None:
        """Count one message."""
        name = message.SCHEMA.partition("/")[0]
        self.messages[f"{name} {message.provenance}" if isinstance(message, Trade) else name] += 1

    def count_refusal(self, error: RefusedError) -> None:
        """Count one refusal by field and reason, without the offending value."""
        reason = f"{error.field}: {error.reason}" if isinstance(error, FieldError) else str(error)[:160]
        known = reason in self.refusals or len(self.refusals) < MOST_REASONS
        self.refusals[reason if known else "other"] += 1


class Router:
    """Finds, for each frame, the stream of the dialect that it speaks; one stream a dialect.

    Args:
        venue: Whose frames they are; by default their addresses tell.

    Raises:
        FatalError: The venue is not known; those that are, are named.
    """

    def __init__(self, venue: str | None = None) -> None:
        self._candidates = dialects_of_venue(venue) if venue is not None else DIALECTS
        self._venue = venue
        self._by_url: dict[str, MarketStream] = {}
        self._streams: dict[Dialect, MarketStream] = {}
        if not self._candidates:
            raise FatalError(f"venue {venue!r} is not known; known are {', '.join(VENUES)}")

    @property
    def streams(self) -> tuple[MarketStream, ...]:
        """The streams of the dialects heard so far."""
        return tuple(self._streams.values())

    def stream_of(self, frame: Frame) -> MarketStream | None:
        """Return the stream that takes this frame; ``None`` for an open or end that does not tell its dialect.

        Raises:
            FatalError: No venue is named and the frame's address belongs to none.
        """
        stream = self._by_url.get(frame.url)
        if stream is None:
            dialect = self._dialect_of(frame)
            if dialect is None:
                return None
            stream = self._streams.get(dialect)
            if stream is None:
                stream = self._streams[dialect] = MarketStream(dialect.adapter())
            self._by_url[frame.url] = stream
        return stream

    def _dialect_of(self, frame: Frame) -> Dialect | None:
        dialect = dialect_of(frame.url)
        if dialect in self._candidates:
            return dialect
        if self._venue is None:
            raise FatalError(
                f"the frames of {frame.url!r} are of no venue that is known; "
                f"name it with --venue, one of {', '.join(VENUES)}"
            )
        if frame.opens or frame.closes:
            return None
        return next((known for known in self._candidates if known.recognises(frame.data)), self._candidates[0])


def normalise(
    frames: Iterable[Frame],
    *,
    venue: str | None = None,
    kinds: Collection[str] = CHANNELS,
    summary: Summary | None = None,
    on_refusal: Callable[[Frame, RefusedError], None] | None = None,
) -> Iterator[MarketMessage]:
    """Yield the messages of recorded frames in frame order; a frame's own trades are oldest first.

    Books come at most once a second of recorded time a symbol, and the final one of each at the end, even
    where something of it was missed: the summary's gaps say so.

    Args:
        frames: Of one or several venues, dialects and connections, in the order received.
        venue: Whose they are; by default their addresses tell.
        kinds: Which messages, by the names of `KINDS`.
        summary: Filled as the iterator goes on.
        on_refusal: Called for what could not be accepted, with the frame that held it.

    Raises:
        FatalError: A venue, a kind or an address is not known; the text says which are.
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise FatalError(f"messages {unknown[0]!r} are not known; known are {', '.join(KINDS)}")
    return _normalise(frames, Router(venue), tuple(KINDS[kind] for kind in kinds), summary or Summary(), on_refusal)


def _normalise(
    frames: Iterable[Frame],
    router: Router,
    types: tuple[type[Any], ...],
    summary: Summary,
    on_refusal: Callable[[Frame, RefusedError], None] | None,
) -> Iterator[MarketMessage]:
    last_us = 0
    for frame in frames:
        last_us = max(last_us, frame.received_time_us)
        stream = router.stream_of(frame)
        summary.frames += not (frame.opens or frame.closes)
        if stream is None:
            continue
        received = stream.receive(frame)
        yield from _chosen(received.messages, types, summary)
        for gap in received.gaps:
            summary.gaps[f"{gap.channel}: {gap.reason}"] += 1
        for error in received.refusals:
            summary.count_refusal(error)
            if on_refusal is not None:
                on_refusal(frame, error)
    for stream in router.streams:
        yield from _chosen(stream.finish(last_us, with_doubtful_books=True), types, summary)


def _chosen(
    messages: Iterable[MarketMessage], types: tuple[type[Any], ...], summary: Summary
) -> Iterator[MarketMessage]:
    for message in messages:
        if isinstance(message, types):
            summary.count_message(message)
            yield message
