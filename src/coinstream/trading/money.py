"""What an amount of a currency is, how it rounds, what a fill costs, and what an open order holds.

Arithmetic is exact: the functions of `EXACT`, never an operator, whose context would be the thread's
and rounds at 28 digits. Rounding happens here and nowhere else, once for a notional and once for a
fee, always so that no money appears: what the account pays goes up, what it receives goes down.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Context, Decimal, DivisionByZero, InvalidOperation
from functools import cache
from typing import NamedTuple

from coinstream.messages import EXACT, Side
from coinstream.messages.numbers import check_positive
from coinstream.messages.trading import Liquidity, TimeInForce

ZERO = Decimal(0)
MOST = Decimal(10) ** 16
"""What no balance reaches: sixteen integer digits end below it."""
LARGEST_ORDER = Decimal(10) ** 15
"""Greatest notional of an order, so that it stays below `MOST` with its fee."""

add = EXACT.add
subtract = EXACT.subtract
multiply = EXACT.multiply
remainder = EXACT.remainder

_FLOORING = Context(prec=80, rounding=ROUND_FLOOR, traps=[InvalidOperation, DivisionByZero])
"""Where a result is meant to be rounded: Inexact is no trap here."""

# Six places below a currency's smallest coin, eight at most: a trade of a few cents still costs what it should.
_CRYPTO_SCALE = 18
_FIAT_SCALE = 8
_COINLESS_FIAT_SCALE = 6
# fmt: off
_FIAT = frozenset((
    "AED", "ARS", "AUD", "BHD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "ILS", "INR", "KWD",
    "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "RON", "RUB", "SAR", "SEK", "SGD", "THB", "TRY", "TWD", "UAH",
    "USD", "ZAR",
))
_COINLESS_FIAT = frozenset(("CLP", "COP", "HUF", "IDR", "ISK", "JPY", "KRW", "NGN", "PYG", "VND"))
# fmt: on


@cache
def scale_of(currency: str) -> int:
    """Return how many decimals an amount of the currency has at most: 18, of state money 8 or 6."""
    if currency in _COINLESS_FIAT:
        return _COINLESS_FIAT_SCALE
    return _FIAT_SCALE if currency in _FIAT else _CRYPTO_SCALE


@cache
def step_of(currency: str) -> Decimal:
    """Return the least amount of the currency."""
    return Decimal(1).scaleb(-scale_of(currency))


def amount_of(text: str, field: str) -> Decimal:
    """Return digits of a command as a number above zero.

    Raises:
        FieldError: They are none: a sign, an exponent, NaN, or too many digits.
    """
    check_positive(text, field)
    return Decimal(text)


def digits(amount: Decimal) -> str:
    """Return an amount in canonical digits: plain, no zeros at the end, no ``-0``."""
    return format(amount.normalize(EXACT), "f") if amount else "0"


def rounded_down(amount: Decimal, currency: str) -> Decimal:
    """Return the greatest amount of the currency that is not above the number."""
    return amount.quantize(step_of(currency), ROUND_FLOOR, _FLOORING)


def rounded_up(amount: Decimal, currency: str) -> Decimal:
    """Return the least amount of the currency that is not below the number."""
    below = amount.quantize(step_of(currency), ROUND_FLOOR, _FLOORING)
    return below if below == amount else add(below, step_of(currency))


def whole_steps(amount: Decimal, step: Decimal) -> Decimal:
    """Return the greatest multiple of a step that is not above an amount."""
    return subtract(amount, remainder(amount, step))


class FeeRule(NamedTuple):
    """A fee schedule: the part of a fill's notional that is paid in quote currency."""

    name: str
    maker: Decimal
    taker: Decimal

    def rate(self, liquidity: Liquidity) -> Decimal:
        """Return the rate of a maker's or a taker's fill."""
        return self.maker if liquidity == "maker" else self.taker

    def highest(self, time_in_force: TimeInForce | None) -> Decimal:
        """Return the highest rate that a fill of such an order can pay."""
        return self.maker if time_in_force == "post_only" else max(self.maker, self.taker)


STANDARD = FeeRule("standard/1", Decimal("0.0010"), Decimal("0.0020"))
FEE_RULES = {STANDARD.name: STANDARD}
"""By name, for ever: a fill names the rule that explains its fee, so a rate changes under a new name."""


class Hold(NamedTuple):
    """What a resting buy keeps aside in quote currency: for its notional and for the highest fee."""

    notional: Decimal
    fee: Decimal

    @property
    def amount(self) -> Decimal:
        """Both together."""
        return add(self.notional, self.fee)


class Terms(NamedTuple):
    """What of an order decides the cost of its fills.

    Attributes:
        limit_price: Of an order that holds what it needs; ``None`` for one that pays from the available
            balance at once (market, immediate or cancel).
    """

    side: Side
    base: str
    quote: str
    limit_price: Decimal | None
    time_in_force: TimeInForce | None
    rule: FeeRule

    def hold(self, remaining: Decimal) -> Hold:
        """Return what a resting buy holds for so much of base currency."""
        if self.limit_price is None:
            return Hold(ZERO, ZERO)
        notional = multiply(self.limit_price, remaining)
        fee = multiply(notional, self.rule.highest(self.time_in_force))
        return Hold(rounded_up(notional, self.quote), rounded_up(fee, self.quote))

    def held(self, remaining: Decimal) -> Decimal:
        """Return what it holds for so much of base currency: quote of a buy, base of a sell."""
        if self.limit_price is None:
            return ZERO
        return self.hold(remaining).amount if self.side == "buy" else remaining

    def cost(self, price: Decimal, quantity: Decimal, liquidity: Liquidity, remaining: Decimal) -> Cost:
        """Return what a fill moves.

        The fills of a resting buy round as one: together they never pay more than was held for them.

        Args:
            price: Quote currency per unit of base.
            quantity: In base currency.
            liquidity: Whether the fill made or took.
            remaining: Of the order before this fill; asked only where it holds what it needs.
        """
        exact = multiply(price, quantity)
        exact_fee = multiply(exact, self.rule.rate(liquidity))
        least, least_fee = rounded_down(exact, self.quote), rounded_down(exact_fee, self.quote)
        step = step_of(self.quote)
        most = least if least == exact else add(least, step)
        fee = least_fee if least_fee == exact_fee else add(least_fee, step)
        if self.side == "sell":
            return Cost(least, min(fee, least), most, least_fee, ZERO)
        if self.limit_price is None:
            return Cost(most, fee, least, least_fee, ZERO)
        before, after = self.hold(remaining), self.hold(subtract(remaining, quantity))
        notional = min(most, subtract(before.notional, after.notional))
        fee = min(fee, subtract(before.fee, after.fee))
        spared = subtract(subtract(before.amount, after.amount), add(notional, fee))
        return Cost(notional, fee, least, least_fee, spared)


class Cost(NamedTuple):
    """What a fill moves in quote currency.

    Attributes:
        notional: What the account pays (buy) or receives (sell), before the fee.
        fee: What it pays besides.
        house_notional: The notional rounded the other way: the trade's other side.
        fee_earned: The fee rounded down; what is left of it is the rounding's.
        released: What was held for this part and is not needed.
    """

    notional: Decimal
    fee: Decimal
    house_notional: Decimal
    fee_earned: Decimal
    released: Decimal


def affordable(amount: Decimal, price: Decimal, lot: Decimal, terms: Terms) -> Decimal:
    """Return the quantity, in whole lots, that an amount buys at a price with its taker's fee.

    Never so much that notional and fee, each rounded up, exceed the amount; at most two steps of the
    quote currency below the most that would not.
    """
    each = multiply(price, add(Decimal(1), terms.rule.taker))
    quantity = whole_steps(_FLOORING.divide(amount, each), lot)
    cost = terms.cost(price, quantity, "taker", ZERO)
    if add(cost.notional, cost.fee) <= amount:
        return quantity
    spare = subtract(amount, multiply(Decimal(2), step_of(terms.quote)))
    return whole_steps(_FLOORING.divide(spare, each), lot) if spare > 0 else ZERO
