"""Placing an order: may it be placed, what does it take at once, what becomes of the rest."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from coinstream.errors import FieldError
from coinstream.messages import OrderAccepted, OrderCancelled, PlaceOrder
from coinstream.messages.trading import TimeInForce
from coinstream.trading.account import MOST_CURRENCIES, MOST_OPEN_ORDERS, Account
from coinstream.trading.market import PRICE_BAND, STALE_AFTER_US, Book, Listing, Market
from coinstream.trading.matching import Depth, Plan, Stopped, take_amount, take_quantity
from coinstream.trading.money import (
    LARGEST_ORDER,
    MOST,
    STANDARD,
    ZERO,
    Terms,
    add,
    amount_of,
    digits,
    multiply,
    remainder,
    step_of,
)
from coinstream.trading.reply import Placed, RejectedError, Reply

_AFTERWARDS = {
    "book_exhausted": "no more in the 50 best levels of the book that this account has not taken already",
    "limit": "no more at the limit or better",
    "price_out_of_band": f"the next level is more than {PRICE_BAND} of the price beyond the middle of the market",
}


class _Asked(NamedTuple):
    """An order's numbers, as they may be."""

    quantity: Decimal | None
    amount: Decimal | None
    limit_price: Decimal | None
    time_in_force: TimeInForce | None

    @property
    def rests(self) -> bool:
        """Whether what it does not take stays open."""
        return self.time_in_force in {"gtc", "post_only"}


def place_order(reply: Reply, market: Market | None, command: PlaceOrder) -> None:
    """Write down what comes of an order.

    Raises:
        RejectedError: It is not taken; nothing was written down.
    """
    market, listing, book = _open_market(market, command, reply.now_us)
    asked = _numbers(command, listing)
    terms = Terms(
        command.side,
        listing.base,
        listing.quote,
        asked.limit_price if asked.rests else None,
        asked.time_in_force,
        STANDARD,
    )
    account = reply.account
    worst = _worst_price(market, asked, terms, reply.now_us)
    _check_size(asked, book, terms, listing)
    _check_room(account, asked, terms)
    plan = _plan(account, market, book, asked, terms, worst, listing.lot)
    _check_funds(account, asked, terms, plan)
    order = Placed(
        f"{command.account_id}:{command.command_id}",
        command.order_type,
        command.venue,
        command.symbol,
        terms,
        asked.limit_price,
        asked.time_in_force,
    )
    _accept(reply, order, asked)
    for number, part in enumerate(plan.parts, 1):
        reply.fill(order, part, number, is_last=number == len(plan.parts) and plan.stopped == "filled")
    if plan.stopped != "filled" and not asked.rests:
        _cancel_rest(reply, order, asked, plan)


def _open_market(market: Market | None, command: PlaceOrder, now_us: int) -> tuple[Market, Listing, Book]:
    name = f"{command.symbol} of {command.venue}"
    if market is None or market.listing is None:
        raise RejectedError("unknown_instrument", f"{name} is not listed")
    if not market.listing.is_spot:
        raise RejectedError("not_spot", f"{name} is a derivative; only spot instruments are traded here")
    if market.listing.is_offline:
        raise RejectedError("market_offline", f"{name} is offline at the venue")
    if market.book is None:
        raise RejectedError("market_stale", f"no book of {name} has come yet")
    if market.is_stale(now_us):
        age_us = now_us - market.book.published_time_us
        raise RejectedError(
            "market_stale", f"the newest book of {name} is {age_us} µs old, over the {STALE_AFTER_US} µs allowed"
        )
    return market, market.listing, market.book


def _numbers(command: PlaceOrder, listing: Listing) -> _Asked:
    _check_shape(command)
    try:
        quantity = None if command.quantity is None else amount_of(command.quantity, "quantity")
        amount = None if command.amount is None else amount_of(command.amount, "amount")
        limit_price = None if command.limit_price is None else amount_of(command.limit_price, "limit_price")
    except FieldError as error:
        raise RejectedError("invalid_amount", str(error)) from None
    time_in_force = command.time_in_force
    if command.order_type == "limit" and time_in_force is None:
        time_in_force = "gtc"
    if quantity is not None and remainder(quantity, listing.lot):
        raise RejectedError("lot_size", f"quantity {command.quantity} is no multiple of {digits(listing.lot)}")
    if limit_price is not None and listing.tick is not None and remainder(limit_price, listing.tick):
        raise RejectedError("tick_size", f"price {command.limit_price} is no multiple of {digits(listing.tick)}")
    if amount is not None and remainder(amount, step_of(listing.quote)):
        step = digits(step_of(listing.quote))
        raise RejectedError("invalid_amount", f"amount {command.amount} is no multiple of {step} {listing.quote}")
    return _Asked(quantity, amount, limit_price, time_in_force)


def _check_shape(command: PlaceOrder) -> None:
    if command.order_type == "limit":
        if command.quantity is None or command.limit_price is None or command.amount is not None:
            raise RejectedError("invalid_order", "a limit order has quantity and limit_price, and no amount")
        return
    if command.limit_price is not None or command.time_in_force is not None:
        raise RejectedError("invalid_order", "a market order has neither limit_price nor time_in_force")
    if (command.quantity is None) == (command.amount is None):
        raise RejectedError("invalid_order", "a market order has either quantity or amount")
    if command.amount is not None and command.side == "sell":
        raise RejectedError("invalid_order", "only a buy is by amount to spend; a sell has quantity")


def _worst_price(market: Market, asked: _Asked, terms: Terms, now_us: int) -> Decimal:
    """Return the worst price that the order may trade at, or reject one whose own is worse than that."""
    band = market.worst_price(terms.side, now_us)
    if band is None:
        raise RejectedError("no_reference_price", "nobody bids or asks: there is no price to hold the order to")
    if asked.limit_price is None:
        return band
    if asked.limit_price > band if terms.side == "buy" else asked.limit_price < band:
        raise RejectedError(
            "price_out_of_band",
            f"limit_price {digits(asked.limit_price)} is beyond {digits(band)}:"
            f" {PRICE_BAND} of the price from the middle of the market",
        )
    return asked.limit_price


def _check_size(asked: _Asked, book: Book, terms: Terms, listing: Listing) -> None:
    if asked.amount is not None:
        notional = asked.amount
    else:
        levels = book.against(terms.side)
        price = asked.limit_price or (levels[0].price if levels else ZERO)
        if not price:
            return  # nothing to take: the plan will say so
        notional = multiply(price, asked.quantity or ZERO)
    if notional < listing.minimum_notional:
        raise RejectedError(
            "below_minimum",
            f"{digits(notional)} {terms.quote} is below the least order of"
            f" {digits(listing.minimum_notional)} {terms.quote}",
        )
    if notional >= LARGEST_ORDER:
        raise RejectedError("order_too_large", f"an order is below {digits(LARGEST_ORDER)} {terms.quote}")


def _check_room(account: Account, asked: _Asked, terms: Terms) -> None:
    if asked.rests and len(account.orders) >= MOST_OPEN_ORDERS:
        raise RejectedError("too_many_open_orders", f"{MOST_OPEN_ORDERS} orders are open; cancel one first")
    received = terms.base if terms.side == "buy" else terms.quote
    if received not in account.balances and len(account.balances) >= MOST_CURRENCIES:
        raise RejectedError(
            "too_many_currencies", f"the account has {MOST_CURRENCIES} currencies; {received} is one more"
        )


def _plan(  # noqa: PLR0913, PLR0917 - what an order meets is that much
    account: Account, market: Market, book: Book, asked: _Asked, terms: Terms, worst: Decimal, lot: Decimal
) -> Plan:
    beyond: Stopped = "price_out_of_band" if asked.limit_price is None else "limit"
    depth = Depth(book, account.taken_of(market.venue, market.symbol), terms.side, lot, worst, beyond)
    if asked.time_in_force == "post_only":
        best = next(iter(book.against(terms.side)), None)
        if best is not None and not depth.is_beyond(best.price):
            raise RejectedError(
                "post_only_would_take", f"limit_price {digits(worst)} meets the book's best price {best.price_digits}"
            )
        return Plan([], "limit")
    if asked.amount is not None:
        plan = take_amount(asked.amount, terms, depth)
        if not plan.parts and plan.stopped == "filled":
            raise RejectedError(
                "below_minimum",
                f"{digits(asked.amount)} {terms.quote} does not buy {digits(lot)} {terms.base} and pay its fee",
            )
    else:
        plan = take_quantity(asked.quantity or ZERO, terms, depth)
    if not plan.parts and asked.limit_price is None:
        reason = "price_out_of_band" if plan.stopped == "price_out_of_band" else "no_liquidity"
        raise RejectedError(reason, _AFTERWARDS[plan.stopped])
    return plan


def _check_funds(account: Account, asked: _Asked, terms: Terms, plan: Plan) -> None:
    if terms.side == "sell":
        paid, needed, received, gained = terms.base, asked.quantity or ZERO, terms.quote, plan.earned
    else:
        paid, needed, received, gained = terms.quote, plan.paid, terms.base, plan.quantity
        if asked.amount is not None:
            needed = asked.amount
        elif asked.limit_price is not None:
            at_worst = terms._replace(limit_price=asked.limit_price).held(asked.quantity or ZERO)
            needed = at_worst if asked.rests else max(needed, at_worst)
    available = account.available(paid)
    if needed > available:
        raise RejectedError(
            "insufficient_funds", f"needs {digits(needed)} {paid}, has {digits(available)} {paid} available"
        )
    if add(account.total(received), gained) >= MOST:
        raise RejectedError("balance_too_large", f"a balance stays below {digits(MOST)} {received}")


def _accept(reply: Reply, order: Placed, asked: _Asked) -> None:
    terms = order.terms
    journal = reply.journal()
    journal.hold(terms.quote if terms.side == "buy" else terms.base, terms.held(asked.quantity or ZERO))
    reply.emit(
        OrderAccepted,
        journal,
        order_id=order.order_id,
        order_type=order.order_type,
        side=terms.side,
        venue=order.venue,
        symbol=order.symbol,
        base=terms.base,
        quote=terms.quote,
        quantity=None if asked.quantity is None else digits(asked.quantity),
        amount=None if asked.amount is None else digits(asked.amount),
        limit_price=None if asked.limit_price is None else digits(asked.limit_price),
        time_in_force=asked.time_in_force,
        fee_rule=terms.rule.name,
    )


def _cancel_rest(reply: Reply, order: Placed, asked: _Asked, plan: Plan) -> None:
    last = plan.parts[-1] if plan.parts else None
    remaining = asked.quantity if last is None else last.remaining
    amount_left = asked.amount if last is None else last.amount_left
    reply.emit(
        OrderCancelled,
        order_id=order.order_id,
        side=order.terms.side,
        venue=order.venue,
        symbol=order.symbol,
        remaining=None if remaining is None else digits(remaining),
        amount_left=None if amount_left is None else digits(amount_left),
        reason="immediate_or_cancel" if asked.time_in_force == "ioc" else plan.stopped,
        detail=_AFTERWARDS[plan.stopped],
    )
