"""Options that name a venue."""

from __future__ import annotations

from coinstream.adapters import VENUES
from coinstream.errors import SettingsError


def venue_named(name: str | None) -> str | None:
    """Return the venue of a ``--venue``, which must have an adapter.

    Raises:
        SettingsError: It has none; those that have are named.
    """
    if name is not None and name not in VENUES:
        raise SettingsError("--venue", name, f"one of {', '.join(VENUES)}")
    return name
