"""Execution against the real book: which levels an order takes, and the evidence of it.

Paper orders do not move the real market, so depth is consumed per account: of a level this account has
taken from, only the rest is there, until the book is another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Literal, NamedTuple

from coinstream.messages import BookEvidence, Evidence, Side, TakenLevel, Trade, TradeEvidence
from coinstream.messages.trading import Liquidity
from coinstream.trading.account import MOST_TRADES_TAKEN, Order, Taken
from coinstream.trading.market import Book, BookLevel
from coinstream.trading.money import ZERO, Cost, Terms, add, affordable, digits, subtract, whole_steps

Stopped = Literal["filled", "book_exhausted", "limit", "price_out_of_band"]


class Part(NamedTuple):
    """A fill as planned.

    Attributes:
        remaining: Of the order after it; ``None`` for an order by amount.
        amount_left: Of an order by amount after it.
    """

    price: Decimal
    quantity: Decimal
    liquidity: Liquidity
    cost: Cost
    evidence: Evidence
    remaining: Decimal | None
    amount_left: Decimal | None = None


class Plan(NamedTuple):
    """What an order takes at once, best price first, and why it takes no more."""

    parts: list[Part]
    stopped: Stopped

    @property
    def quantity(self) -> Decimal:
        """What it takes of base currency."""
        total = ZERO
        for part in self.parts:
            total = add(total, part.quantity)
        return total

    @property
    def paid(self) -> Decimal:
        """Notionals and fees of a buy."""
        total = ZERO
        for part in self.parts:
            total = add(total, add(part.cost.notional, part.cost.fee))
        return total

    @property
    def earned(self) -> Decimal:
        """Notionals of a sell."""
        total = ZERO
        for part in self.parts:
            total = add(total, part.cost.notional)
        return total


class Depth(NamedTuple):
    """What is left of a book's side for one account.

    Attributes:
        lot: Quantities are taken in whole lots.
        worst: Price beyond which nothing is taken.
        beyond: What it is called when `worst` ends it.
    """

    book: Book
    taken: Taken
    side: Side
    lot: Decimal
    worst: Decimal
    beyond: Stopped

    def is_beyond(self, price: Decimal) -> bool:
        """Whether a price is worse than allowed."""
        return price > self.worst if self.side == "buy" else price < self.worst

    def levels(self) -> Iterator[tuple[BookLevel, Decimal, Decimal]]:
        """Give each level that has something left, with what was taken and what is free, best first."""
        already: dict[str, Decimal] = {}
        if self.taken.book is not None and self.taken.book == self.book.book_id:
            already = self.taken.asks if self.side == "buy" else self.taken.bids
        for level in self.book.against(self.side):
            before = already.get(level.price_digits, ZERO)
            free = whole_steps(subtract(level.size, before), self.lot)
            if free > 0:
                yield level, before, free

    def evidence(self, *takings: tuple[BookLevel, Decimal, Decimal]) -> BookEvidence:
        """Return the evidence for so much taken of each level, given as (level, taken before, taken)."""
        snapshot = self.book.snapshot
        return BookEvidence(
            book=self.book.book_id,
            sequence=snapshot.sequence,
            event_time_us=snapshot.event_time_us,
            received_time_us=snapshot.received_time_us,
            published_time_us=self.book.published_time_us,
            levels=tuple(
                TakenLevel(
                    price=level.price_digits,
                    size=level.size_digits,
                    taken_before=digits(before),
                    taken=digits(taken),
                )
                for level, before, taken in takings
            ),
        )


def take_quantity(quantity: Decimal, terms: Terms, depth: Depth) -> Plan:
    """Plan an order's fills as taker: a fill a level, until it is filled or the levels end."""
    parts: list[Part] = []
    left = quantity
    for level, before, free in depth.levels():
        if depth.is_beyond(level.price):
            return Plan(parts, depth.beyond)
        taken = min(left, free)
        cost = terms.cost(level.price, taken, "taker", left)
        left = subtract(left, taken)
        parts.append(Part(level.price, taken, "taker", cost, depth.evidence((level, before, taken)), left))
        if not left:
            return Plan(parts, "filled")
    return Plan(parts, "book_exhausted")


def take_amount(amount: Decimal, terms: Terms, depth: Depth) -> Plan:
    """Plan the fills of a buy that may spend so much, fees included, and never more.

    It is filled when what is left buys no lot at the next level.
    """
    parts: list[Part] = []
    left = amount
    for level, before, free in depth.levels():
        if depth.is_beyond(level.price):
            return Plan(parts, depth.beyond)
        buys = affordable(left, level.price, depth.lot, terms)
        taken = min(buys, free)
        if not taken:
            return Plan(parts, "filled")
        cost = terms.cost(level.price, taken, "taker", ZERO)
        left = subtract(left, add(cost.notional, cost.fee))
        evidence = depth.evidence((level, before, taken))
        parts.append(Part(level.price, taken, "taker", cost, evidence, None, left))
        if taken < free:
            return Plan(parts, "filled")
    return Plan(parts, "book_exhausted")


def make_by_book(order: Order, book: Book, taken: Taken, lot: Decimal) -> Part | None:
    """Return the fill that a later book gives a resting order, at its own price, or ``None``.

    Every level at the limit or better crosses it; it fills up to what is left of them.
    """
    if book.published_time_us <= order.accepted_time_us:
        return None
    depth = Depth(book, taken, order.terms.side, lot, order.limit_price, "limit")
    takings: list[tuple[BookLevel, Decimal, Decimal]] = []
    left = order.remaining
    for level, before, free in depth.levels():
        if depth.is_beyond(level.price) or not left:
            break
        part = min(left, free)
        takings.append((level, before, part))
        left = subtract(left, part)
    if not takings:
        return None
    return _made(order, subtract(order.remaining, left), depth.evidence(*takings))


def make_by_trade(order: Order, trade: Trade, published_time_us: int, taken: Taken, lot: Decimal) -> Part | None:
    """Return the fill that a later trade gives a resting order, at its own price, or ``None``.

    The trade must print strictly through the limit: at the limit, others may have stood before us. What
    a venue replays (`backfill`) happened before it came and fills nothing; nor does a trade that is
    older than the newest this account traded with.
    """
    price = Decimal(trade.price)
    limit = order.limit_price
    is_through = price < limit if order.terms.side == "buy" else price > limit
    if not is_through or trade.provenance == "backfill" or published_time_us <= order.accepted_time_us:
        return None
    before = ZERO
    if taken.trade_time_us is not None and trade.event_time_us <= taken.trade_time_us:
        before = taken.trades.get(trade.trade_id, ZERO)
        is_older = trade.event_time_us < taken.trade_time_us
        if is_older or (trade.trade_id not in taken.trades and len(taken.trades) >= MOST_TRADES_TAKEN):
            return None
    quantity = min(order.remaining, whole_steps(max(ZERO, subtract(Decimal(trade.size), before)), lot))
    if not quantity:
        return None
    evidence = TradeEvidence(
        trade_id=trade.trade_id,
        price=trade.price,
        size=trade.size,
        taken_before=digits(before),
        event_time_us=trade.event_time_us,
        received_time_us=trade.received_time_us,
        published_time_us=published_time_us,
    )
    return _made(order, quantity, evidence)


def _made(order: Order, quantity: Decimal, evidence: Evidence) -> Part:
    cost = order.terms.cost(order.limit_price, quantity, "maker", order.remaining)
    return Part(order.limit_price, quantity, "maker", cost, evidence, subtract(order.remaining, quantity))
