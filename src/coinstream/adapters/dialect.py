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
        closes: The connection was over at this time; ``data`` is empty. Adapters never see it.
    """

    received_time_us: int
    connection: str
    url: str
    transport: Literal["ws", "http"]
    data: bytes
    opens: bool = False
    closes: bool = False


class BookUpdate(NamedTuple):
    """Levels of one book, in the order to apply them: all of them (a snapshot) or the changed ones.

    Attributes:
        bids: (price, size) in plain digits of the venue; size is absolute, zero by value removes.
        asks: The same.
        sequence: The venue's, where its books have one.
        event_time_us: The venue's time of the update; ``None`` where it gives none.
        connection: Which connection brings the book's changes, where that is not the frame's own: a
            snapshot that came by HTTP.
    """

    symbol: str
    is_snapshot: bool
    bids: Sequence[tuple[str, str]]
    asks: Sequence[tuple[str, str]]
    sequence: int | None = None
    event_time_us: int | None = None
    connection: str | None = None


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


class Unsynchronised(NamedTuple):
    """A book's changes come, or will, and it has no snapshot that they join on to: it is to be fetched.

    Nothing was missed by that alone; a `Gap` says when something was.
    """

    connection: str
    symbol: str


class Fetch(NamedTuple):
    """An address to be read once by HTTP; its body comes back to the adapter as a frame.

    Attributes:
        url: At the venue's own host; who reads it may put another host in its place.
        channel: What it is for.
        symbol: Ours.
        cost_s: How many seconds of the venue's allowance it uses up, so that fetches as dear as this
            one, each so long after the one before, stay within half of what the venue allows.
    """

    url: str
    channel: Channel
    symbol: str
    cost_s: float


class Repaired(NamedTuple):
    """Whatever was missed between two moments is known now: it was fetched, or nothing was missed.

    Attributes:
        since_us: When the last message before the hole was received.
        until_us: When the first message after it was.
    """

    channel: Channel
    symbol: str
    since_us: int
    until_us: int


Event = Instrument | Trade | Quote | BookUpdate | Gap | Subscribed | Unsynchronised | Fetch | Repaired | RefusedError
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
        """Return the frames that make the venue send these books anew; none where it is asked by HTTP."""

    def book_fetches(self, symbols: Sequence[str]) -> list[Fetch]:
        """Return the addresses where these books are had anew; none where the WebSocket brings them."""

    def receive(self, frame: Frame) -> list[Event]:
        """Return what a frame says, in the order to publish it; never raises for a bad frame.

        The body of an HTTP response is the venue's list of instruments, or the answer to a `Fetch`:
        its address tells which.
        """


class Route(NamedTuple):
    """One of several addresses over which a venue spreads its channels."""

    name: str
    websocket_url: str
    channels: frozenset[Channel]


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
        symbols: What is read where nobody says what.
        routes: Where the venue wants a connection a group of channels; empty: one carries them all.
        spacing_s: Least time between two frames that we send.
        silence_s: So long a healthy connection may bring nothing at all.
    """

    venue: str
    name: str
    hosts: frozenset[str]
    websocket_url: str
    instruments_url: str
    make_adapter: Callable[[str], VenueAdapter]
    recognises: Callable[[bytes], bool]
    symbols: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    spacing_s: float = 0.125
    silence_s: float = 30.0

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
