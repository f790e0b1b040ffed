"""Recorded frames to messages, without a network: what `coinstream normalise` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from coinstream.adapters import CHANNELS, Channel, Frame
from coinstream.messages import Message


@dataclass(slots=True)
class Summary:
    """What a recording held.

    Attributes:
        frames: Frames received, opens not counted.
        messages: By type, and trades by type and provenance (``trade live``).
        refusals: By reason.
        gaps: By channel.
    """

    frames: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)


def normalise(
    frames: Iterable[Frame],
    *,
    venue: str | None = None,
    kinds: Collection[Channel] = CHANNELS,
    summary: Summary | None = None,
) -> Iterator[Message]:
    """Yield the messages of recorded frames, in frame order."""
    raise NotImplementedError
