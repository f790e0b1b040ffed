"""The trade's messages: what users ask, what the engine answered, and where an account stands.

`trading.commands` carries `Command`, `trading.events` carries `Event`, `trading.accounts` carries
`AccountState`. Where a topic carries several types, the field ``type`` says which one a record is.

A command's numbers are taken as the text they came as: what the engine cannot use is answered by a
rejection that says why, where a refusal to decode would leave its sender without any answer. The
numbers of events and states are the engine's own, in canonical digits: no zeros at the end, no ``-0``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from msgspec import Meta, Struct

from coinstream.messages.market import Count, Name, Positive, Side, Signed, Text, TimeUs, Unsigned
from coinstream.messages.numbers import POSITIVE_PATTERN

ID_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
"""Of ids that are joined by colons to longer ones; a colon inside would make two of them one."""
NO_HASH = "0" * 64
"""The hash of an account's chain before its first entry."""

Id = Annotated[str, Meta(min_length=1, max_length=64, extra_json_schema={"pattern": ID_PATTERN})]
Asked = Annotated[str, Meta(max_length=80, extra_json_schema={"pattern": POSITIVE_PATTERN})]
"""A number of a command, unchecked."""
Digest = Annotated[str, Meta(min_length=64, max_length=64, extra_json_schema={"pattern": "^[0-9a-f]{64}$"})]
Sentence = Annotated[str, Meta(max_length=512)]
Version = Annotated[int, Meta(ge=0, le=2**63 - 1)]

OrderType = Literal["market", "limit"]
TimeInForce = Literal["gtc", "ioc", "post_only"]
Liquidity = Literal["maker", "taker"]
Holder = Literal["account", "house", "fees"]
Bucket = Literal["available", "held"]
EntryKind = Literal["deposit", "withdrawal", "hold", "release", "trade", "fee", "rounding"]


def _tag(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")


class _Command(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag=_tag):
    account_id: Id
    user_id: Name
    command_id: Id
    sent_time_us: TimeUs


class OpenAccount(_Command, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """Open an account for its user; any other command for it comes later.

    Attributes:
        account_id: The record's key; letters, digits and ``_.-``, as in every id that is joined to others.
        user_id: Who owns the account from now on.
        command_id: The sender's own; sent again it has no further effect.
        sent_time_us: The sender's clock.
    """

    SCHEMA: ClassVar[str] = "open_account/1"


class Deposit(_Command, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """Pay paper money in."""

    SCHEMA: ClassVar[str] = "deposit/1"
    currency: Name
    amount: Asked


class Withdraw(_Command, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """Take available paper money out."""

    SCHEMA: ClassVar[str] = "withdraw/1"
    currency: Name
    amount: Asked


class PlaceOrder(_Command, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """Buy or sell.

    Attributes:
        quantity: In base currency; of a market buy absent where ``amount`` is given.
        amount: What a market buy may spend in quote currency, fee included.
        limit_price: Of a limit order: the worst price it takes, in quote currency per unit of base.
        time_in_force: Of a limit order, ``gtc`` where absent: it rests until cancelled; ``ioc``: what
            cannot be had at once is cancelled; ``post_only``: it rests, or is rejected where it would take.
    """

    SCHEMA: ClassVar[str] = "place_order/1"
    order_type: OrderType
    side: Side
    venue: Name
    symbol: Name
    quantity: Asked | None = None
    amount: Asked | None = None
    limit_price: Asked | None = None
    time_in_force: TimeInForce | None = None


class CancelOrder(_Command, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """Cancel what is open of one order; ``order_id`` is ``account_id:command_id`` of its `PlaceOrder`."""

    SCHEMA: ClassVar[str] = "cancel_order/1"
    order_id: Text


class CancelAllOrders(_Command, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """Cancel every open order, or those of one venue, one symbol, or both."""

    SCHEMA: ClassVar[str] = "cancel_all_orders/1"
    venue: Name | None = None
    symbol: Name | None = None


class Entry(Struct, frozen=True, kw_only=True, gc=False):
    """One line of a transaction: so much more (or less, with a minus) for one holder.

    Attributes:
        amount: Signed, canonical digits, a multiple of the currency's scale, never zero.
        bucket: ``held`` is what open orders need; house and fees have ``available`` alone.
        holder: ``account``: the event's own account.
        number: 1 and up within the event.
        transaction_id: ``account_id:account_version:n``; the entries of one sum to zero per currency.
    """

    # In the order of the alphabet: the encoder's bytes are then the canonical JSON that is hashed.
    amount: Signed
    bucket: Bucket
    currency: Name
    holder: Holder
    kind: EntryKind
    number: Count
    transaction_id: Text


class TakenLevel(Struct, frozen=True, kw_only=True, gc=False):
    """What a fill took of one level of a book.

    Attributes:
        price: The level's, in the book's own digits.
        size: What rests there at the venue, in base currency.
        taken_before: How much of it this account had taken already.
        taken: How much this fill took.
    """

    price: Positive
    size: Positive
    taken_before: Unsigned
    taken: Positive


class BookEvidence(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="source", tag="book"):
    """The book that explains a fill.

    Attributes:
        book: SHA-256 of its levels; the same levels are the same book, however often they are published.
        published_time_us: Kafka's time of its record.
        levels: What was taken, best first.
    """

    book: Digest
    sequence: Count | None = None
    event_time_us: TimeUs | None = None
    received_time_us: TimeUs
    published_time_us: TimeUs
    levels: Annotated[tuple[TakenLevel, ...], Meta(min_length=1, max_length=50)]


class TradeEvidence(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="source", tag="trade"):
    """The trade that explains a fill: it printed strictly through the order's limit.

    Attributes:
        taken_before: How much of the trade's size this account's fills had used already.
        published_time_us: Kafka's time of its record.
    """

    trade_id: Name
    price: Positive
    size: Positive
    taken_before: Unsigned
    event_time_us: TimeUs
    received_time_us: TimeUs
    published_time_us: TimeUs


Evidence = BookEvidence | TradeEvidence


class _Event(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag_field="type", tag=_tag):
    account_id: Id
    user_id: Name
    account_version: Version
    command_id: Id
    sent_time_us: TimeUs | None = None
    event_time_us: TimeUs
    entries: tuple[Entry, ...] = ()
    hash: Digest | None = None


class AccountOpened(_Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """An account was opened.

    Attributes:
        account_version: One more than before with each event; 0 where nothing changed (`CommandRejected`
            of what was not the owner's, came too late or reached no account).
        command_id: The command that this answers, or that placed the order which the market filled.
        sent_time_us: Of the command that this answers; absent where the market was the cause.
        event_time_us: The engine's clock when it decided.
        entries: What moved, in order of their numbers.
        hash: Head of the account's hash chain after this event; absent where nothing changed.
    """

    SCHEMA: ClassVar[str] = "account_opened/1"


class Deposited(_Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """Paper money came in."""

    SCHEMA: ClassVar[str] = "deposited/1"
    currency: Name
    amount: Positive


class Withdrawn(_Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """Paper money went out."""

    SCHEMA: ClassVar[str] = "withdrawn/1"
    currency: Name
    amount: Positive


class OrderAccepted(_Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """An order is in; of one that may rest, the entries hold what it needs.

    Attributes:
        fee_rule: Name of the schedule whose rates its fills pay, such as ``standard/1``.
    """

    SCHEMA: ClassVar[str] = "order_accepted/1"
    order_id: Text
    order_type: OrderType
    side: Side
    venue: Name
    symbol: Name
    base: Name
    quote: Name
    quantity: Positive | None = None
    amount: Positive | None = None
    limit_price: Positive | None = None
    time_in_force: TimeInForce | None = None
    fee_rule: Name


class OrderRejected(_Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """An order was not taken; its numbers are as they came.

    Attributes:
        reason: A code, such as ``insufficient_funds``.
        detail: The same for a person, with the numbers that did not fit.
    """

    SCHEMA: ClassVar[str] = "order_rejected/1"
    order_id: Text
    order_type: OrderType
    side: Side
    venue: Name
    symbol: Name
    quantity: Asked | None = None
    amount: Asked | None = None
    limit_price: Asked | None = None
    time_in_force: TimeInForce | None = None
    reason: Name
    detail: Sentence


class OrderFilled(_Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """A part of an order traded.

    Attributes:
        fill_id: ``order_id:n``, n from 1.
        price: In quote currency per unit of base.
        quantity: In base currency.
        notional: Price times quantity, rounded once to the quote currency's scale: what the account
            paid (buy) or earned (sell) before the fee.
        fee: In quote currency.
        fee_rate: Of the notional, by ``fee_rule`` and ``liquidity``.
        limit_price: The order's, where it has one.
        remaining: Quantity still to fill; absent for an order by amount.
        amount_left: Of an order by amount: what it may still spend.
        order_status: ``filled`` with the order's last fill.
    """

    SCHEMA: ClassVar[str] = "order_filled/1"
    order_id: Text
    fill_id: Text
    order_type: OrderType
    side: Side
    venue: Name
    symbol: Name
    base: Name
    quote: Name
    price: Positive
    quantity: Positive
    notional: Unsigned
    fee: Unsigned
    fee_rule: Name
    fee_rate: Unsigned
    liquidity: Liquidity
    limit_price: Positive | None = None
    time_in_force: TimeInForce | None = None
    remaining: Unsigned | None = None
    amount_left: Unsigned | None = None
    order_status: Literal["open", "filled"]
    evidence: Evidence


class OrderCancelled(_Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """What was left of an order is off; the entries release what it held.

    Attributes:
        remaining: Quantity that was not filled; absent for an order by amount.
        amount_left: Of an order by amount: what it did not spend.
        reason: A code: ``requested``, ``immediate_or_cancel``, ``book_exhausted``, …
    """

    SCHEMA: ClassVar[str] = "order_cancelled/1"
    order_id: Text
    side: Side
    venue: Name
    symbol: Name
    remaining: Unsigned | None = None
    amount_left: Unsigned | None = None
    reason: Name
    detail: Sentence


class CommandRejected(_Event, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=_tag):
    """A command had no effect.

    Attributes:
        command: The command's ``type``.
        user_id: Whom the command named, not whom the account belongs to.
        reason: A code, such as ``not_the_owner``.
        detail: The same for a person.
    """

    SCHEMA: ClassVar[str] = "command_rejected/1"
    command: Name
    reason: Name
    detail: Sentence


class Balance(Struct, frozen=True, kw_only=True, gc=False):
    """What an account has of one currency."""

    available: Unsigned
    held: Unsigned


class OpenOrder(Struct, frozen=True, kw_only=True, gc=False):
    """A limit order that rests.

    Attributes:
        remaining: Quantity still to fill.
        held: What is held for it, in quote currency of a buy, in base currency of a sell.
        fills: How many it has had.
        accepted_time_us: What the market published up to then cannot fill it as maker.
    """

    order_id: Text
    command_id: Id
    side: Side
    venue: Name
    symbol: Name
    base: Name
    quote: Name
    limit_price: Positive
    quantity: Positive
    remaining: Positive
    held: Unsigned
    time_in_force: TimeInForce
    fee_rule: Name
    fills: Count
    accepted_time_us: TimeUs


class TakenDepth(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What an account has taken of the newest book and trades it traded with, of one instrument.

    Attributes:
        book: Of which book `bids` and `asks` tell; another book begins anew.
        bids: Quantity taken by price, both in digits; ``asks`` the same.
        trade_time_us: The venue's time of the trades in `trades`; an earlier trade fills nothing more.
        trades: Quantity used by trade id.
    """

    venue: Name
    symbol: Name
    book: Digest | None = None
    bids: dict[str, Positive] = {}
    asks: dict[str, Positive] = {}
    trade_time_us: TimeUs | None = None
    trades: dict[str, Positive] = {}


class AccountState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of an account at a version: the fold of its events.

    Attributes:
        balances: By currency; one with nothing in it is left out.
        open_orders: Oldest first, at most 200.
        taken: Least recently used first, at most 32 instruments.
        commands: The last 256 command ids answered, oldest first, each with its ``sent_time_us``.
        floor_us: Greatest time among ids no longer remembered: a command sent before it is refused.
        hash: Head of the hash chain.
    """

    SCHEMA: ClassVar[str] = "account_state/1"
    account_id: Id
    user_id: Name
    version: Version
    opened_time_us: TimeUs
    event_time_us: TimeUs
    balances: dict[Name, Balance] = {}
    open_orders: tuple[OpenOrder, ...] = ()
    taken: tuple[TakenDepth, ...] = ()
    commands: tuple[tuple[Id, TimeUs], ...] = ()
    floor_us: Count = 0
    hash: Digest


Command = OpenAccount | Deposit | Withdraw | PlaceOrder | CancelOrder | CancelAllOrders
Event = (
    AccountOpened
    | Deposited
    | Withdrawn
    | OrderAccepted
    | OrderRejected
    | OrderFilled
    | OrderCancelled
    | CommandRejected
)
TradingMessage = Command | Event | AccountState
COMMAND_KINDS: tuple[type[Command], ...] = get_args(Command)
EVENT_KINDS: tuple[type[Event], ...] = get_args(Event)
TRADING_KINDS: tuple[type[TradingMessage], ...] = (*COMMAND_KINDS, *EVENT_KINDS, AccountState)
