"""What the engine knows of each instrument: its rules, its newest book and quote, and how fresh they are.

Times here are Kafka's times of the records, as everywhere that freshness is asked: a recording of 2021
that is replayed today is fresh.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple

import msgspec

from coinstream.messages import BookSnapshot, Instrument, Quote, Side, Trade
from coinstream.trading.money import add, multiply, step_of, subtract, whole_steps

STALE_AFTER_US = 5_000_000
PRICE_BAND = Decimal("0.10")
"""How far beyond the middle of the best prices an order may trade, as a part of it."""
_HALF = Decimal("0.5")
_canonical = msgspec.json.Encoder().encode


class Listing(NamedTuple):
    """An instrument's rules in numbers.

    Attributes:
        tick: Least step of a price; ``None`` where the venue did not say.
        lot: Least step of a quantity: the venue's, else the base currency's.
        is_spot: Base against quote; a perpetual or a dated future is not bought with paper money.
    """

    base: str
    quote: str
    tick: Decimal | None
    lot: Decimal
    minimum_notional: Decimal
    is_offline: bool
    is_spot: bool


class BookLevel(NamedTuple):
    """A level of a book: numbers, and the digits that the venue sent."""

    price: Decimal
    size: Decimal
    price_digits: str
    size_digits: str


class Book:
    """A snapshot with Kafka's time of its record; levels become numbers when first asked for."""

    def __init__(self, snapshot: BookSnapshot, published_time_us: int) -> None:
        self.snapshot = snapshot
        self.published_time_us = published_time_us

    @cached_property
    def book_id(self) -> str:
        """SHA-256 of the levels: published again unchanged, it is the same book."""
        return sha256(_canonical((self.snapshot.bids, self.snapshot.asks))).hexdigest()

    @cached_property
    def bids(self) -> tuple[BookLevel, ...]:
        """Highest price first."""
        return _levels(self.snapshot.bids)

    @cached_property
    def asks(self) -> tuple[BookLevel, ...]:
        """Lowest price first."""
        return _levels(self.snapshot.asks)

    def against(self, side: Side) -> tuple[BookLevel, ...]:
        """Return the levels that an order of a side takes from, best first."""
        return self.asks if side == "buy" else self.bids


def _levels(pairs: tuple[tuple[str, str], ...]) -> tuple[BookLevel, ...]:
    return tuple(BookLevel(Decimal(price), Decimal(size), price, size) for price, size in pairs)


class Market:
    """One instrument at one venue, as far as it was heard of."""

    __slots__ = ("book", "listing", "quote", "quote_time_us", "symbol", "venue")

    def __init__(self, venue: str, symbol: str) -> None:
        self.venue = venue
        self.symbol = symbol
        self.listing: Listing | None = None
        self.book: Book | None = None
        self.quote: tuple[Decimal, Decimal] | None = None
        self.quote_time_us = 0

    def is_stale(self, now_us: int) -> bool:
        """Whether the newest book is over five seconds old, or there is none."""
        return self.book is None or now_us - self.book.published_time_us > STALE_AFTER_US

    def reference_price(self, now_us: int) -> Decimal | None:
        """Return the price in the middle of the best bid and ask; ``None`` where nobody asks or bids.

        The newest quote counts while it is fresh and has both sides, else the newest book; of a book with
        one side, that side's best price.
        """
        if self.quote is not None and now_us - self.quote_time_us <= STALE_AFTER_US:
            return multiply(add(*self.quote), _HALF)
        if self.book is None:
            return None
        best = [side[0].price for side in (self.book.bids, self.book.asks) if side]
        if len(best) == 2:
            return multiply(add(*best), _HALF)
        return best[0] if best else None

    def worst_price(self, side: Side, now_us: int) -> Decimal | None:
        """Return the price beyond which no order of a side may trade; ``None`` where nothing says."""
        middle = self.reference_price(now_us)
        if middle is None:
            return None
        width = multiply(middle, PRICE_BAND)
        return add(middle, width) if side == "buy" else subtract(middle, width)

    def take(self, message: Instrument | BookSnapshot | Quote, published_time_us: int) -> None:
        """Take in what was published of the instrument; an older book or quote than the newest is passed over."""
        if isinstance(message, Instrument):
            self.listing = _listing(message)
        elif isinstance(message, BookSnapshot):
            if self.book is None or published_time_us >= self.book.published_time_us:
                self.book = Book(message, published_time_us)
        elif published_time_us >= self.quote_time_us:
            bid, ask = Decimal(message.bid), Decimal(message.ask)
            self.quote = (bid, ask) if bid and ask else None
            self.quote_time_us = published_time_us


def _listing(instrument: Instrument) -> Listing:
    lot = max(Decimal(instrument.lot_size or 0), step_of(instrument.base))
    step = step_of(instrument.base)
    if whole_steps(lot, step) != lot:  # a lot finer than the currency's scale leaves the scale to say
        lot = step
    return Listing(
        base=instrument.base,
        quote=instrument.quote,
        tick=None if instrument.tick_size is None else Decimal(instrument.tick_size),
        lot=lot,
        minimum_notional=Decimal(instrument.minimum_notional or 0),
        is_offline=instrument.status == "offline",
        is_spot=instrument.symbol == f"{instrument.base}-{instrument.quote}" and instrument.base != instrument.quote,
    )


class Markets:
    """Every instrument that was heard of, by venue and symbol."""

    def __init__(self) -> None:
        self._markets: dict[tuple[str, str], Market] = {}

    def get(self, venue: str, symbol: str) -> Market | None:
        """Return an instrument's market; ``None`` where nothing was heard of it."""
        return self._markets.get((venue, symbol))

    def take(self, message: Instrument | BookSnapshot | Quote | Trade, published_time_us: int) -> Market:
        """Take in a message and return the market that it is about.

        Args:
            message: Of one of the four topics that the engine reads.
            published_time_us: Kafka's time of its record.
        """
        place = (message.venue, message.symbol)
        market = self._markets.get(place)
        if market is None:
            market = self._markets[place] = Market(*place)
        if not isinstance(message, Trade):
            market.take(message, published_time_us)
        return market
