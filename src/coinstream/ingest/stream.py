"""What one dialect's frames come to: messages, refusals, gaps, and frames to send back.

No I/O and no clock: times are arguments, so that a recording and a live feed take the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from coinstream.adapters import Channel, Frame, Gap, VenueAdapter
from coinstream.errors import RefusedError
from coinstream.messages import Message, Provenance


class Received(NamedTuple):
    """What came of one frame.

    Attributes:
        messages: To publish, in this order.
        refusals: What could not be accepted; the frame's bytes go to dead letters with them.
        send: Frames to send on the connection that the frame came from.
        gaps: One a channel and symbol.
    """

    messages: list[Message]
    refusals: list[RefusedError]
    send: list[str]
    gaps: list[Gap]


class MarketStream:
    """An adapter with the books, the pacing and the coverage of its venue.

    Args:
        adapter: Reads the frames; it belongs to this stream alone.
        provenance: What a trade of the moment is called, instead of ``live``.
    """

    def __init__(self, adapter: VenueAdapter, *, provenance: Provenance | None = None) -> None:
        self.adapter = adapter
        if provenance is not None:
            adapter.live = provenance

    def subscriptions(self, symbols: Sequence[str], channels: Collection[Channel]) -> list[str]:
        """Return the frames to send on opening a connection; coverage expects these from then on."""
        raise NotImplementedError

    def opened(self, connection: str, time_us: int) -> None:
        """Note that a connection is open: its sequences and books begin anew."""
        raise NotImplementedError

    def receive(self, frame: Frame) -> Received:
        """Take one frame; whatever is due by its time (`tick`) comes first in the messages."""
        raise NotImplementedError

    def closed(self, connection: str, time_us: int) -> None:
        """Note that a connection is gone: its books are not published until they come anew."""
        raise NotImplementedError

    def tick(self, now_us: int) -> list[Message]:
        """Return the books that are due and the coverage of minutes that ended."""
        raise NotImplementedError

    def finish(self, now_us: int) -> list[Message]:
        """Return the final book of each symbol and the coverage of the minutes still open."""
        raise NotImplementedError
