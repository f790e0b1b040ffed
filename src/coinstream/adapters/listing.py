"""A venue's list of symbols, as an adapter keeps it: its spelling to ours and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from coinstream.errors import FieldError

MOST_SYMBOLS = 10_000
"""As many unlisted symbols are remembered; further ones only cost more to look at."""


class Listing:
    """What a venue lists. Until a list is known, symbols are taken as the venue spells them."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}
        self._theirs: dict[str, str] = {}
        self.is_known = False

    def learn(self, ours_by_theirs: Mapping[str, str]) -> None:
        """Replace the list: the venue's spelling to our ``BASE-QUOTE``."""
        self._ours = dict(ours_by_theirs)
        self._theirs = {ours: theirs for theirs, ours in self._ours.items()}
        self.is_known = True

    def suppose(self, ours_by_theirs: Mapping[str, str]) -> None:
        """Take these spellings for the venue's until a list is known: what is subscribed is read as ours."""
        if not self.is_known:
            self._ours.update(ours_by_theirs)
            self._theirs.update({ours: theirs for theirs, ours in ours_by_theirs.items()})

    def ours(self, venue_symbol: str, field: str = "product_id") -> str:
        """Return our symbol for the venue's.

        Raises:
            FieldError: A list is known and this is not in it, or it cannot be a symbol at all.
        """
        symbol = self._ours.get(venue_symbol)
        if symbol is not None:
            return symbol
        if self.is_known:
            raise FieldError(field, "is not a symbol that the venue lists", venue_symbol)
        if not 0 < len(venue_symbol) <= 64:
            raise FieldError(field, "must be a symbol of 1 to 64 characters", venue_symbol)
        if len(self._ours) < MOST_SYMBOLS:
            self._ours[venue_symbol] = venue_symbol
        return venue_symbol

    def listed(self, venue_symbols: Iterable[str]) -> Iterator[str]:
        """Yield our symbols for those of the venue's that are symbols, passing over others."""
        for venue_symbol in venue_symbols:
            with suppress(FieldError):
                yield self.ours(venue_symbol)

    def theirs(self, symbol: str, supposed: str | None = None) -> str:
        """Return the venue's spelling of our symbol; where no list says, what is supposed, or ours."""
        return self._theirs.get(symbol, supposed or symbol)
