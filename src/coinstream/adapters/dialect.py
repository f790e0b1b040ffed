"""What every adapter is: frames in, events out, and the facts that tell one dialect from another.

An adapter knows its venue's whole dialect and nothing else: no clock, no network, no books. It keeps
the little state that a dialect needs (sequences of a connection, the venue's list of symbols).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from coinstream.errors import RefusedError
from coinstream.market.coverage import Channel
from coinstream.messages import Instrument, Provenance, Quote, Trade


class Frame(NamedTuple):
    """What was received, or one line of a recording.

    Attributes:
        received_time_us: When it was read, microseconds since 1970, UTC.
        connection: Which connection of the process or recording; sequences belong to it.
        url: The WebSocket's address, or the full address of the HTTP request.
        data: The WebSocket message, or the HTTP response's body.
        opens: The connection was opened at this time; ``data`` is empty.
    """

    received_time_us: int
    connection: str
    url: str
    transport: Literal["ws", "http"]
    data: bytes
    opens: bool = False


class BookUpdate(NamedTuple):
    """Levels of one book, in the order to apply them: all of them (a snapshot) or the changed ones.

    Attributes:
        bids: (price, size) in plain digits of the venue; size is absolute, zero by value removes.
        asks: The same.
        sequence: The venue's, where its books have one.
        event_time_us: The venue's time of the update; ``None`` where it gives none.
    """

    symbol: str
    is_snapshot: bool
    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]
    sequence: int | None = None
    event_time_us: int | None = None


class Gap(NamedTuple):
    """Something was missed, or cannot be trusted.

    Attributes:
        channel: Of which channel; ``None``: of every channel of the connection.
        symbol: Of which symbol, ours; ``None``: of every symbol of the connection.
        reason: In words, with the numbers that show it.
        is_certain: Whether messages surely were lost, so that a book must not be used until its
            new snapshot; else (a frame that nobody could read) the book is used until it comes.
        since_us: When the last message before it was received, where a sequence of the symbol alone
            shows it; ``None``: with the connection's last frame.
    """

    connection: str
    channel: Channel | None
    symbol: str | None
    reason: str
    is_certain: bool = True
    since_us: int | None = None


class Subscribed(NamedTuple):
    """All that the venue says a connection is subscribed to, as (channel, our symbol), in its order."""

    connection: str
    pairs: tuple[tuple[Channel, str], ...]


Event = Instrument | Trade | Quote | BookUpdate | Gap | Subscribed | RefusedError
"""One thing that a frame said. A `RefusedError` is an event too: its neighbours still count."""


class VenueAdapter(Protocol):
    """One dialect of one venue. One object serves all of a feed's connections.

    Attributes:
        venue: The name its messages carry.
        instruments_url: Where the venue lists its symbols.
        live: The provenance that a trade of the moment gets: ``live``, or ``simulated``.
    """

    venue: str
    instruments_url: str
    live: Provenance

    def subscriptions(self, symbols: Sequence[str], channels: Collection[Channel]) -> list[str]:
        """Return the frames to send on opening, for our symbols (``BASE-QUOTE``)."""

    def resubscriptions(self, symbols: Sequence[str]) -> list[str]:
        """Return the frames that make the venue send these books anew."""

    def receive(self, frame: Frame) -> list[Event]:
        """Return what a frame says, in the order to publish it; never raises for a bad frame.

        The body of an HTTP response is read as the venue's list of instruments.
        """


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way that a venue speaks, by address.

    Attributes:
        venue: Our name of the venue; its dialects share it.
        name: Which of them.
        hosts: The host names, WebSocket and HTTP, that speak it.
        websocket_url: The live feed's default address.
        instruments_url: The default address of the list of symbols.
        make_adapter: Makes an adapter whose messages carry the venue's name given.
        recognises: Whether a frame's bytes look like this dialect; for an address that no one knows.
    """

    venue: str
    name: str
    hosts: frozenset[str]
    websocket_url: str
    instruments_url: str
    make_adapter: Callable[[str], VenueAdapter]
    recognises: Callable[[bytes], bool]

    def adapter(self, *, venue: str | None = None) -> VenueAdapter:
        """Return a new adapter.

        Args:
            venue: The name its messages carry, such as ``coinbase_simulated``; by default the dialect's.
        """
        return self.make_adapter(venue or self.venue)


def find_dialect(dialects: Iterable[Dialect], url: str) -> Dialect | None:
    """Return the dialect spoken at an address, or ``None`` when none of them claims the host."""
    host = urlsplit(url).hostname
    return next((dialect for dialect in dialects if host in dialect.hosts), None)
