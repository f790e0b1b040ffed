"""How a decision is written down: each event is built, then taken into the account by the fold itself."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from coinstream.errors import RefusedError
from coinstream.messages import CommandRejected, Event, OrderCancelled, OrderFilled
from coinstream.messages.trading import OrderType, TimeInForce
from coinstream.trading.account import Account, Order
from coinstream.trading.ledger import Journal, link_hash
from coinstream.trading.matching import Part
from coinstream.trading.money import Terms, digits

_LONGEST_DETAIL = 512


class Decision(NamedTuple):
    """What came of a command or of the market.

    Attributes:
        events: In order; empty where nothing is said (a command id that was answered already).
        account: The account afterwards: the very same object where nothing changed.
    """

    events: tuple[Event, ...]
    account: Account | None


class RejectedError(RefusedError):
    """A command cannot be done; the engine answers with the reason and the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail[:_LONGEST_DETAIL]
        super().__init__(f"{reason}: {detail}")


class Placed(NamedTuple):
    """What the events of an order say of it."""

    order_id: str
    order_type: OrderType
    venue: str
    symbol: str
    terms: Terms
    limit_price: Decimal | None
    time_in_force: TimeInForce | None


def placed(order: Order) -> Placed:
    """Return a resting order's description."""
    terms = order.terms
    return Placed(order.order_id, "limit", order.venue, order.symbol, terms, terms.limit_price, terms.time_in_force)


class Reply:
    """The events of one decision and the account as they leave it; the account given is left alone."""

    __slots__ = ("account", "command_id", "events", "now_us", "sent_time_us")

    def __init__(self, account: Account, command_id: str, sent_time_us: int | None, now_us: int) -> None:
        self.account = account.copy()
        self.command_id = command_id
        self.sent_time_us = sent_time_us
        self.now_us = now_us
        self.events: list[Event] = []

    def journal(self) -> Journal:
        """Return an empty journal for the next event."""
        return Journal(self.account.account_id, self.account.version + 1)

    def emit(self, kind: Any, journal: Journal | None = None, **fields: Any) -> None:
        """Write an event down and take it into the account."""
        account = self.account
        version = account.version + 1
        entries = () if journal is None else journal.entries
        event = kind(
            account_id=account.account_id,
            user_id=account.user_id,
            account_version=version,
            command_id=self.command_id,
            sent_time_us=self.sent_time_us,
            event_time_us=self.now_us,
            entries=entries,
            hash=link_hash(account.account_id, version, self.now_us, entries, account.hash),
            **fields,
        )
        account.apply(event)
        self.events.append(event)

    def fill(self, order: Placed, part: Part, number: int, *, is_last: bool) -> None:
        """Write a fill down."""
        journal = self.journal()
        terms = order.terms
        journal.fill(terms, part.quantity, part.cost)
        self.emit(
            OrderFilled,
            journal,
            order_id=order.order_id,
            fill_id=f"{order.order_id}:{number}",
            order_type=order.order_type,
            side=terms.side,
            venue=order.venue,
            symbol=order.symbol,
            base=terms.base,
            quote=terms.quote,
            price=digits(part.price),
            quantity=digits(part.quantity),
            notional=digits(part.cost.notional),
            fee=digits(part.cost.fee),
            fee_rule=terms.rule.name,
            fee_rate=digits(terms.rule.rate(part.liquidity)),
            liquidity=part.liquidity,
            limit_price=None if order.limit_price is None else digits(order.limit_price),
            time_in_force=order.time_in_force,
            remaining=None if part.remaining is None else digits(part.remaining),
            amount_left=None if part.amount_left is None else digits(part.amount_left),
            order_status="filled" if is_last else "open",
            evidence=part.evidence,
        )

    def cancel(self, order: Order, reason: str, detail: str) -> None:
        """Write down that a resting order is off, and release what it held."""
        terms = order.terms
        journal = self.journal()
        journal.release(terms.quote if terms.side == "buy" else terms.base, order.held)
        self.emit(
            OrderCancelled,
            journal,
            order_id=order.order_id,
            side=terms.side,
            venue=order.venue,
            symbol=order.symbol,
            remaining=digits(order.remaining),
            reason=reason,
            detail=detail[:_LONGEST_DETAIL],
        )

    def decision(self) -> Decision:
        """Return what was written down."""
        return Decision(tuple(self.events), self.account)


def without_effect(command: Any, account: Account | None, now_us: int, reason: str, detail: str) -> Decision:
    """Return a rejection that changes nothing, not even what the account remembers."""
    rejected = CommandRejected(
        account_id=command.account_id,
        user_id=command.user_id,
        account_version=0,
        command_id=command.command_id,
        sent_time_us=command.sent_time_us,
        event_time_us=now_us,
        command=command.__struct_config__.tag,
        reason=reason,
        detail=detail[:_LONGEST_DETAIL],
    )
    return Decision((rejected,), account)
