"""Checking a fill again from its evidence alone, as an auditor does who has nothing but the event."""

from __future__ import annotations

from decimal import Decimal

from coinstream.messages import BookEvidence, OrderFilled
from coinstream.messages.trading import TakenLevel
from coinstream.trading.account import terms_of
from coinstream.trading.ledger import Journal
from coinstream.trading.money import FEE_RULES, ZERO, add, digits


def explain(fill: OrderFilled) -> list[str]:
    """Return what of a fill its evidence and fee rule do not explain, in words; nothing when they do.

    The quantity, price, notional, fee and every entry are derived again and compared.
    """
    if fill.fee_rule not in FEE_RULES:
        return [f"{fill.fill_id}: no fee rule is called {fill.fee_rule}"]
    wrong = [*_at_wrong_price(fill), *_beyond_depth(fill)]
    terms = terms_of(fill)
    if fill.fee_rate != digits(terms.rule.rate(fill.liquidity)):
        wrong.append(f"fee rate {fill.fee_rate} is not {fill.fee_rule}'s of a {fill.liquidity}")
    price, quantity = Decimal(fill.price), Decimal(fill.quantity)
    remaining = ZERO if fill.remaining is None else add(Decimal(fill.remaining), quantity)
    cost = terms.cost(price, quantity, fill.liquidity, remaining)
    if (fill.notional, fill.fee) != (digits(cost.notional), digits(cost.fee)):
        wrong.append(f"notional {fill.notional} and fee {fill.fee} are not {cost.notional} and {cost.fee}")
    journal = Journal(fill.account_id, fill.account_version)
    journal.fill(terms, quantity, cost)
    if journal.entries != fill.entries:
        wrong.append("its entries are not those of price, quantity and fee")
    return [f"{fill.fill_id}: {text}" for text in wrong]


def _at_wrong_price(fill: OrderFilled) -> list[str]:
    evidence, price = fill.evidence, Decimal(fill.price)
    limit = None if fill.limit_price is None else Decimal(fill.limit_price)
    wrong: list[str] = []
    if fill.liquidity == "maker" and price != limit:
        wrong.append(f"a maker fills at its limit, not at {fill.price}")
    if limit is not None and _is_worse(fill, price, limit):
        wrong.append(f"price {fill.price} is worse than the limit {fill.limit_price}")
    if isinstance(evidence, BookEvidence):
        for level in evidence.levels:
            if fill.liquidity == "taker" and Decimal(level.price) != price:
                wrong.append(f"a taker fills at the level's price {level.price}, not at {fill.price}")
            if limit is not None and _is_worse(fill, Decimal(level.price), limit):
                wrong.append(f"the level at {level.price} does not meet the limit {fill.limit_price}")
    elif limit is None or fill.liquidity == "taker" or not _is_worse(fill, limit, Decimal(evidence.price)):
        wrong.append(f"the trade at {evidence.price} is not strictly through the limit {fill.limit_price}")
    return wrong


def _beyond_depth(fill: OrderFilled) -> list[str]:
    evidence, quantity = fill.evidence, Decimal(fill.quantity)
    if not isinstance(evidence, BookEvidence):
        if add(Decimal(evidence.taken_before), quantity) > Decimal(evidence.size):
            return [f"it takes more than the trade's size {evidence.size}"]
        return []
    wrong = [f"it takes more than the {it.size} at {it.price}" for it in evidence.levels if _is_overdrawn(it)]
    total = ZERO
    for level in evidence.levels:
        total = add(total, Decimal(level.taken))
    if total != quantity:
        wrong.append(f"its levels give {digits(total)}, not {fill.quantity}")
    return wrong


def _is_overdrawn(level: TakenLevel) -> bool:
    return add(Decimal(level.taken_before), Decimal(level.taken)) > Decimal(level.size)


def _is_worse(fill: OrderFilled, price: Decimal, limit: Decimal) -> bool:
    return price > limit if fill.side == "buy" else price < limit
