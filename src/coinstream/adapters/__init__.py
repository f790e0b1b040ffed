"""One venue's or source's whole dialect a module: frames to messages, subscriptions to frames. Pure."""

from __future__ import annotations

from coinstream.adapters import binance, coinbase, coinbase_advanced
from coinstream.adapters.dialect import (
    BookUpdate,
    Dialect,
    Event,
    Fetch,
    Frame,
    Gap,
    Repaired,
    Route,
    Subscribed,
    Unsynchronised,
    VenueAdapter,
    find_dialect,
)
from coinstream.market.coverage import CHANNELS, Channel

__all__ = [
    "CHANNELS",
    "DIALECTS",
    "VENUES",
    "BookUpdate",
    "Channel",
    "Dialect",
    "Event",
    "Fetch",
    "Frame",
    "Gap",
    "Repaired",
    "Route",
    "Subscribed",
    "Unsynchronised",
    "VenueAdapter",
    "dialect_of",
    "dialects_of_venue",
]

DIALECTS: tuple[Dialect, ...] = (coinbase_advanced.DIALECT, coinbase.DIALECT, *binance.DIALECTS)
"""Every dialect; the first of a venue is its live default."""
VENUES: tuple[str, ...] = tuple(sorted({dialect.venue for dialect in DIALECTS}))
"""Every venue's name."""


def dialect_of(url: str) -> Dialect | None:
    """Return the dialect spoken at an address, or ``None`` for a host that none claims."""
    return find_dialect(DIALECTS, url)


def dialects_of_venue(venue: str) -> tuple[Dialect, ...]:
    """Return a venue's dialects, the live default first; empty for a venue that is not known."""
    return tuple(dialect for dialect in DIALECTS if dialect.venue == venue)
