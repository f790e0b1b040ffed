"""An account in memory: the fold of its events, and the way to and from `AccountState`.

Everything an account keeps is bounded, so that the hundred thousandth command of a day costs what the
first did: 200 open orders, 256 command ids, 32 instruments' taken depth, 64 currencies before new ones
are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from coinstream.errors import FatalError
from coinstream.messages import (
    NO_HASH,
    AccountOpened,
    AccountState,
    Balance,
    BookEvidence,
    Entry,
    Event,
    OpenOrder,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    TakenDepth,
)
from coinstream.messages.trading import TimeInForce
from coinstream.trading.money import FEE_RULES, ZERO, Terms, add, digits, subtract

MOST_OPEN_ORDERS = 200
MOST_COMMANDS = 256
MOST_CURRENCIES = 64
MOST_INSTRUMENTS_TAKEN = 32
"""The least recently used is forgotten: who trades 32 others in between finds that book's depth whole again."""
MOST_TRADES_TAKEN = 64


class VersionGapError(FatalError):
    """An event does not follow the account's version: one before it is missing."""


class Order(NamedTuple):
    """An order that rests; what `OpenOrder` says, in numbers."""

    order_id: str
    command_id: str
    venue: str
    symbol: str
    terms: Terms
    quantity: Decimal
    remaining: Decimal
    held: Decimal
    fills: int
    accepted_time_us: int

    @property
    def limit_price(self) -> Decimal:
        """The worst price that it takes."""
        price = self.terms.limit_price
        if price is None:
            raise AssertionError(f"order {self.order_id} rests without a limit")
        return price


class Taken(NamedTuple):
    """What was taken of one instrument's newest book and trades; what `TakenDepth` says, in numbers."""

    book: str | None
    bids: dict[str, Decimal]
    asks: dict[str, Decimal]
    trade_time_us: int | None
    trades: dict[str, Decimal]


NOTHING_TAKEN = Taken(None, {}, {}, None, {})


class Account:
    """One account's state; equal to another when their `state` is."""

    __slots__ = (
        "account_id",
        "balances",
        "commands",
        "event_time_us",
        "floor_us",
        "hash",
        "opened_time_us",
        "orders",
        "taken",
        "user_id",
        "version",
    )

    def __init__(self, account_id: str, user_id: str) -> None:
        self.account_id = account_id
        self.user_id = user_id
        self.version = 0
        self.opened_time_us = 0
        self.event_time_us = 0
        self.balances: dict[str, tuple[Decimal, Decimal]] = {}
        self.orders: dict[str, Order] = {}
        self.taken: dict[tuple[str, str], Taken] = {}
        self.commands: dict[str, int] = {}
        self.floor_us = 0
        self.hash = NO_HASH

    def copy(self) -> Account:
        """Return another account with the same state; what it holds is never altered in place."""
        other = Account.__new__(Account)
        other.account_id = self.account_id
        other.user_id = self.user_id
        other.version = self.version
        other.opened_time_us = self.opened_time_us
        other.event_time_us = self.event_time_us
        other.balances = self.balances.copy()
        other.orders = self.orders.copy()
        other.taken = self.taken.copy()
        other.commands = self.commands.copy()
        other.floor_us = self.floor_us
        other.hash = self.hash
        return other

    def available(self, currency: str) -> Decimal:
        """Return what can be spent of a currency."""
        return self.balances.get(currency, (ZERO, ZERO))[0]

    def total(self, currency: str) -> Decimal:
        """Return what there is of a currency, available and held."""
        return add(*self.balances.get(currency, (ZERO, ZERO)))

    def taken_of(self, venue: str, symbol: str) -> Taken:
        """Return what was taken of an instrument's newest book and trades."""
        return self.taken.get((venue, symbol), NOTHING_TAKEN)

    def apply(self, event: Event) -> None:
        """Take in the next event; one that is in already, or that changed nothing, leaves all as it is.

        Raises:
            VersionGapError: An event between the last one and this one is missing.
        """
        if event.account_version <= self.version:
            return
        if event.account_version != self.version + 1:
            raise VersionGapError(
                f"account {self.account_id} is at version {self.version}, its next event at {event.account_version}"
            )
        held = self._enter(event.entries)
        if isinstance(event, OrderFilled):
            self._filled(event, held)
        elif isinstance(event, OrderAccepted):
            self._accepted(event, held)
        elif isinstance(event, OrderCancelled):
            self.orders.pop(event.order_id, None)
        elif isinstance(event, AccountOpened):
            self.opened_time_us = event.event_time_us
        if event.sent_time_us is not None:
            self._remember(event.command_id, event.sent_time_us)
        self.version = event.account_version
        self.event_time_us = event.event_time_us
        self.hash = event.hash or self.hash

    def _enter(self, entries: tuple[Entry, ...]) -> Decimal:
        """Change the balances by an event's entries; return by how much more is held."""
        held = ZERO
        for entry in entries:
            if entry.holder == "account":
                amount = Decimal(entry.amount)
                if entry.bucket == "held":
                    held = add(held, amount)
                    self._change(entry.currency, ZERO, amount)
                else:
                    self._change(entry.currency, amount, ZERO)
        return held

    def _change(self, currency: str, available: Decimal, held: Decimal) -> None:
        before = self.balances.get(currency, (ZERO, ZERO))
        after = (add(before[0], available), add(before[1], held))
        if after[0] or after[1]:
            self.balances[currency] = after
        else:
            self.balances.pop(currency, None)

    def _remember(self, command_id: str, sent_time_us: int) -> None:
        commands = self.commands
        if command_id in commands:
            return
        commands[command_id] = sent_time_us
        if len(commands) > MOST_COMMANDS:
            self.floor_us = max(self.floor_us, commands.pop(next(iter(commands))))

    def _accepted(self, event: OrderAccepted, held: Decimal) -> None:
        if event.order_type == "market" or event.time_in_force == "ioc":
            return
        if event.limit_price is None or event.quantity is None:
            raise AssertionError(f"order {event.order_id} rests without price or quantity")
        quantity = Decimal(event.quantity)
        self.orders[event.order_id] = Order(
            event.order_id,
            event.command_id,
            event.venue,
            event.symbol,
            terms_of(event),
            quantity,
            quantity,
            held,
            0,
            event.event_time_us,
        )

    def _filled(self, event: OrderFilled, held: Decimal) -> None:
        self._take(event)
        order = self.orders.get(event.order_id)
        if order is None:
            return
        if event.order_status == "filled":
            del self.orders[event.order_id]
            return
        self.orders[event.order_id] = order._replace(
            remaining=subtract(order.remaining, Decimal(event.quantity)),
            held=add(order.held, held),
            fills=order.fills + 1,
        )

    def _take(self, event: OrderFilled) -> None:
        place = (event.venue, event.symbol)
        taken = self.taken.pop(place, NOTHING_TAKEN)
        evidence = event.evidence
        if isinstance(evidence, BookEvidence):
            if evidence.book != taken.book:
                taken = taken._replace(book=evidence.book, bids={}, asks={})
            side = dict(taken.asks if event.side == "buy" else taken.bids)
            for level in evidence.levels:
                side[level.price] = add(side.get(level.price, ZERO), Decimal(level.taken))
            taken = taken._replace(asks=side) if event.side == "buy" else taken._replace(bids=side)
        else:
            trades = dict(taken.trades) if taken.trade_time_us == evidence.event_time_us else {}
            trades[evidence.trade_id] = add(trades.get(evidence.trade_id, ZERO), Decimal(event.quantity))
            taken = taken._replace(trade_time_us=evidence.event_time_us, trades=trades)
        self.taken[place] = taken
        if len(self.taken) > MOST_INSTRUMENTS_TAKEN:
            del self.taken[next(iter(self.taken))]

    def state(self) -> AccountState:
        """Return the account as the message that `trading.accounts` keeps."""
        return AccountState(
            account_id=self.account_id,
            user_id=self.user_id,
            version=self.version,
            opened_time_us=self.opened_time_us,
            event_time_us=self.event_time_us,
            balances={
                currency: Balance(available=digits(available), held=digits(held))
                for currency, (available, held) in self.balances.items()
            },
            open_orders=tuple(_open_order(order) for order in self.orders.values()),
            taken=tuple(_taken_depth(place, taken) for place, taken in self.taken.items()),
            commands=tuple(self.commands.items()),
            floor_us=self.floor_us,
            hash=self.hash,
        )

    @classmethod
    def restore(cls, state: AccountState) -> Account:
        """Return the account that a message describes."""
        account = cls(state.account_id, state.user_id)
        account.version = state.version
        account.opened_time_us = state.opened_time_us
        account.event_time_us = state.event_time_us
        account.balances = {
            currency: (Decimal(balance.available), Decimal(balance.held))
            for currency, balance in state.balances.items()
        }
        account.orders = {order.order_id: _order(order) for order in state.open_orders}
        account.taken = {(depth.venue, depth.symbol): _taken(depth) for depth in state.taken}
        account.commands = dict(state.commands)
        account.floor_us = state.floor_us
        account.hash = state.hash
        return account


def fold(events: Iterable[Event], account: Account | None = None) -> Account | None:
    """Return the account that events of one account lead to, in their order; the first opens it.

    Args:
        events: Those that changed nothing (version 0) or are known already are passed over.
        account: Where to start; it is left as it is.

    Raises:
        VersionGapError: An event is missing.
    """
    account = account.copy() if account is not None else None
    for event in events:
        if account is None:
            if event.account_version == 0:
                continue
            account = Account(event.account_id, event.user_id)
        account.apply(event)
    return account


def terms_of(event: OrderAccepted | OrderFilled | OpenOrder) -> Terms:
    """Return what of an order decides the cost of its fills.

    Raises:
        KeyError: No such fee rule.
    """
    pays_at_once = event.time_in_force in {None, "ioc"}
    limit_price = None if pays_at_once or event.limit_price is None else Decimal(event.limit_price)
    return Terms(event.side, event.base, event.quote, limit_price, event.time_in_force, FEE_RULES[event.fee_rule])


def _open_order(order: Order) -> OpenOrder:
    terms = order.terms
    time_in_force: TimeInForce = terms.time_in_force or "gtc"
    return OpenOrder(
        order_id=order.order_id,
        command_id=order.command_id,
        side=terms.side,
        venue=order.venue,
        symbol=order.symbol,
        base=terms.base,
        quote=terms.quote,
        limit_price=digits(order.limit_price),
        quantity=digits(order.quantity),
        remaining=digits(order.remaining),
        held=digits(order.held),
        time_in_force=time_in_force,
        fee_rule=terms.rule.name,
        fills=order.fills,
        accepted_time_us=order.accepted_time_us,
    )


def _order(order: OpenOrder) -> Order:
    return Order(
        order.order_id,
        order.command_id,
        order.venue,
        order.symbol,
        terms_of(order),
        Decimal(order.quantity),
        Decimal(order.remaining),
        Decimal(order.held),
        order.fills,
        order.accepted_time_us,
    )


def _taken_depth(place: tuple[str, str], taken: Taken) -> TakenDepth:
    return TakenDepth(
        venue=place[0],
        symbol=place[1],
        book=taken.book,
        bids={price: digits(quantity) for price, quantity in taken.bids.items()},
        asks={price: digits(quantity) for price, quantity in taken.asks.items()},
        trade_time_us=taken.trade_time_us,
        trades={trade_id: digits(quantity) for trade_id, quantity in taken.trades.items()},
    )


def _taken(depth: TakenDepth) -> Taken:
    def numbers(some: dict[str, str]) -> dict[str, Decimal]:
        return {key: Decimal(quantity) for key, quantity in some.items()}

    return Taken(depth.book, numbers(depth.bids), numbers(depth.asks), depth.trade_time_us, numbers(depth.trades))
