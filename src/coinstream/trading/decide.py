"""The engine's rules: (account, market, command) to events, and (account, market message) to events.

Time comes in as an argument, and nothing else does. Whatever decodes is answered: a bad command by a
rejection that says why, never by an exception, never by a change of balance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coinstream.errors import FieldError
from coinstream.messages import (
    AccountOpened,
    BookSnapshot,
    CancelAllOrders,
    CancelOrder,
    Command,
    CommandRejected,
    Deposit,
    Deposited,
    OpenAccount,
    OrderRejected,
    PlaceOrder,
    Quote,
    Trade,
    Withdraw,
    Withdrawn,
)
from coinstream.messages.times import DAY_US
from coinstream.trading.account import MOST_CURRENCIES, Account, Order
from coinstream.trading.market import STALE_AFTER_US, Market, Markets
from coinstream.trading.matching import Part, make_by_book, make_by_trade
from coinstream.trading.money import MOST, add, amount_of, digits, remainder, step_of
from coinstream.trading.orders import place_order
from coinstream.trading.reply import Decision, RejectedError, Reply, placed, without_effect

OLDEST_COMMAND_US = DAY_US
MOST_AHEAD_US = 60_000_000


def decide(account: Account | None, markets: Markets, command: Command, *, key: str, now_us: int) -> Decision:
    """Return what comes of a command.

    Args:
        account: The account of ``command.account_id``; ``None`` where it is not open. It is left alone.
        markets: What is known of every market.
        command: As decoded.
        key: The record's key: it must be the account's id, else another partition's engine decides of it.
        now_us: The engine's clock, which becomes the events' time.

    Returns:
        No events where the command id was answered already. A rejection with ``account_version`` 0
        changes nothing: the account that comes back is the very one that was given.
    """
    refused = _refusal(account, command, key, now_us)
    if refused is not None:
        return without_effect(command, account, now_us, *refused)
    if account is None:
        opened = Reply(Account(command.account_id, command.user_id), command.command_id, command.sent_time_us, now_us)
        opened.emit(AccountOpened)
        return opened.decision()
    if command.command_id in account.commands:
        return Decision((), account)
    expired = _expiry(command, account.floor_us, now_us)
    if expired is not None:
        return without_effect(command, account, now_us, "command_expired", expired)
    reply = Reply(account, command.command_id, command.sent_time_us, now_us)
    try:
        _RULES[type(command)](reply, markets, command)
    except RejectedError as error:
        _reject(reply, command, error)
    return reply.decision()


def _refusal(account: Account | None, command: Command, key: str, now_us: int) -> tuple[str, str] | None:
    """Return why the command is none for this account, as reason and detail."""
    if key != command.account_id:
        return "wrong_key", f"the record's key is {key!r}, the command's account {command.account_id}"
    if account is not None:
        if account.user_id != command.user_id:
            return "not_the_owner", f"account {command.account_id} is not {command.user_id}'s"
        return None
    if not isinstance(command, OpenAccount):
        return "account_not_opened", f"account {command.account_id} is not open"
    expired = _expiry(command, 0, now_us)
    return None if expired is None else ("command_expired", expired)


def _expiry(command: Command, floor_us: int, now_us: int) -> str | None:
    sent_us = command.sent_time_us
    if sent_us < floor_us:
        return f"sent at {sent_us} µs, before {floor_us} µs, up to which commands are no longer remembered"
    if now_us - sent_us > OLDEST_COMMAND_US:
        return f"sent at {sent_us} µs, over a day before {now_us} µs"
    if sent_us - now_us > MOST_AHEAD_US:
        return f"sent at {sent_us} µs, over 60 s after {now_us} µs"
    return None


def _reject(reply: Reply, command: Command, error: RejectedError) -> None:
    if isinstance(command, PlaceOrder):
        reply.emit(
            OrderRejected,
            order_id=f"{command.account_id}:{command.command_id}",
            order_type=command.order_type,
            side=command.side,
            venue=command.venue,
            symbol=command.symbol,
            quantity=command.quantity,
            amount=command.amount,
            limit_price=command.limit_price,
            time_in_force=command.time_in_force,
            reason=error.reason,
            detail=error.detail,
        )
    else:
        tag = command.__struct_config__.tag
        reply.emit(CommandRejected, command=tag, reason=error.reason, detail=error.detail)


def _open(reply: Reply, _: Markets, command: OpenAccount) -> None:
    raise RejectedError("already_open", f"account {command.account_id} is open since {reply.account.opened_time_us} µs")


def _deposit(reply: Reply, _: Markets, command: Deposit) -> None:
    amount = _amount(command)
    account = reply.account
    if command.currency not in account.balances and len(account.balances) >= MOST_CURRENCIES:
        raise RejectedError(
            "too_many_currencies", f"the account has {MOST_CURRENCIES} currencies; {command.currency} is one more"
        )
    if add(account.total(command.currency), amount) >= MOST:
        raise RejectedError("balance_too_large", f"a balance stays below {digits(MOST)} {command.currency}")
    journal = reply.journal()
    journal.deposit(command.currency, amount)
    reply.emit(Deposited, journal, currency=command.currency, amount=digits(amount))


def _withdraw(reply: Reply, _: Markets, command: Withdraw) -> None:
    amount = _amount(command)
    available = reply.account.available(command.currency)
    if amount > available:
        raise RejectedError(
            "insufficient_funds",
            f"needs {digits(amount)} {command.currency}, has {digits(available)} {command.currency} available",
        )
    journal = reply.journal()
    journal.withdraw(command.currency, amount)
    reply.emit(Withdrawn, journal, currency=command.currency, amount=digits(amount))


def _amount(command: Deposit | Withdraw) -> Any:
    currency = command.currency
    if not (currency.isascii() and currency.isalnum() and currency.upper() == currency and len(currency) <= 16):
        raise RejectedError("unknown_currency", f"{currency!r} is no currency: 1 to 16 capital letters and digits")
    try:
        amount = amount_of(command.amount, "amount")
    except FieldError as error:
        raise RejectedError("invalid_amount", str(error)) from None
    if remainder(amount, step_of(currency)):
        raise RejectedError(
            "invalid_amount", f"amount {command.amount} is no multiple of {digits(step_of(currency))} {currency}"
        )
    return amount


def _place(reply: Reply, markets: Markets, command: PlaceOrder) -> None:
    place_order(reply, markets.get(command.venue, command.symbol), command)


def _cancel(reply: Reply, _: Markets, command: CancelOrder) -> None:
    order = reply.account.orders.get(command.order_id)
    if order is None:
        raise RejectedError("unknown_order", f"order {command.order_id} is not open in account {command.account_id}")
    reply.cancel(order, "requested", "as asked")


def _cancel_all(reply: Reply, _: Markets, command: CancelAllOrders) -> None:
    chosen = [
        order
        for order in reply.account.orders.values()
        if command.venue in {None, order.venue} and command.symbol in {None, order.symbol}
    ]
    if not chosen:
        raise RejectedError("no_open_orders", "no such order is open")
    for order in chosen:
        reply.cancel(order, "requested", "as asked, with every other")


_RULES: dict[type[Any], Callable[[Reply, Markets, Any], None]] = {
    OpenAccount: _open,
    Deposit: _deposit,
    Withdraw: _withdraw,
    PlaceOrder: _place,
    CancelOrder: _cancel,
    CancelAllOrders: _cancel_all,
}


def wake(
    account: Account, market: Market, cause: BookSnapshot | Quote | Trade, *, published_time_us: int, now_us: int
) -> Decision:
    """Return what a market message does to an account's resting orders.

    A book and a quote let them look at the newest book, a trade at itself. What was published before an
    order was accepted, or over five seconds ago, fills nothing. Better prices come first, then older orders.

    Args:
        account: It is left alone.
        market: The message's, with the message taken in (`Markets.take`).
        cause: The message.
        published_time_us: Kafka's time of its record.
        now_us: The engine's clock, which becomes the events' time.
    """
    place = (market.venue, market.symbol)
    orders = [order for order in account.orders.values() if (order.venue, order.symbol) == place]
    if not orders or now_us - published_time_us > STALE_AFTER_US or market.is_stale(now_us):
        return Decision((), account)
    orders.sort(key=_priority)
    reply: Reply | None = None
    for order in orders:
        at = reply.account if reply is not None else account
        part = _part(at, order, market, cause, published_time_us)
        if part is None:
            continue
        if reply is None:
            reply = Reply(account, order.command_id, None, now_us)
        reply.command_id = order.command_id
        _fill_resting(reply, order, part)
    return Decision((), account) if reply is None else reply.decision()


def _priority(order: Order) -> Any:
    return order.limit_price.copy_negate() if order.terms.side == "buy" else order.limit_price


def _part(
    account: Account, order: Order, market: Market, cause: BookSnapshot | Quote | Trade, published_time_us: int
) -> Part | None:
    taken = account.taken_of(market.venue, market.symbol)
    lot = step_of(order.terms.base) if market.listing is None else market.listing.lot
    if isinstance(cause, Trade):
        return make_by_trade(order, cause, published_time_us, taken, lot)
    return None if market.book is None else make_by_book(order, market.book, taken, lot)


def _fill_resting(reply: Reply, order: Order, part: Part) -> None:
    terms = order.terms
    received = terms.base if terms.side == "buy" else terms.quote
    gained = part.quantity if terms.side == "buy" else part.cost.notional
    if add(reply.account.total(received), gained) >= MOST:
        reply.cancel(order, "balance_too_large", f"a balance stays below {digits(MOST)} {received}")
    else:
        reply.fill(placed(order), part, order.fills + 1, is_last=not part.remaining)
