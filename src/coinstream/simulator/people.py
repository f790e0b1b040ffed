"""What people do who trade: deposits, orders in bursts, cancels, and mistakes. Pure: chance and times are arguments."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any, NamedTuple

from coinstream.messages import (
    CancelAllOrders,
    CancelOrder,
    Command,
    Deposit,
    OpenAccount,
    PlaceOrder,
    Withdraw,
    plain,
)
from coinstream.messages.trading import Asked, TimeInForce

__all__ = ["Listed", "People"]

_REMEMBERED_ORDERS = 20
_FLOORING = Context(prec=80, rounding=ROUND_FLOOR)
"""People think in round figures: what they ask for is rounded down to what the instrument takes."""
_WHAT_IS_NO_AMOUNT: tuple[Asked, ...] = ("1e-19", "-0", "NaN", "0", "-5", "1" * 40, "ten")
_DAY_US = 86_400_000_000


class Listed(NamedTuple):
    """An instrument and its best prices, as people see them.

    Attributes:
        tick: Least step of a price, in quote currency.
        lot: Least step of a quantity, in base currency.
    """

    venue: str
    symbol: str
    base: str
    quote: str
    tick: Decimal
    lot: Decimal
    bid: Decimal
    ask: Decimal


class People:
    """A number of users, one account each, some of them far busier than others.

    Args:
        accounts: How many.
        run: Stands in every command id, so that those of two runs differ.
        chance: Decides everything.
    """

    def __init__(self, accounts: int, *, run: str, chance: random.Random) -> None:
        self._chance = chance
        self._run = run
        self._number = 0
        self._accounts = [f"paper-{number}" for number in range(1, accounts + 1)]
        self._orders: dict[str, list[str]] = {account: [] for account in self._accounts}
        self._last: Command | None = None
        self._acts: tuple[tuple[Callable[[dict[str, Any], Listed], Command], int], ...] = (
            (self._market_order, 42),
            (self._limit_order, 40),
            (self._cancel, 8),
            (self._cancel_all, 1),
            (self._deposit, 3),
            (self._withdraw, 2),
            (self._mistake, 4),
        )
        self._weights = [weight for _, weight in self._acts]

    def arrive(self, now_us: int, quotes: list[str]) -> list[Command]:
        """Return what everyone does first: open an account and pay in.

        Args:
            now_us: The time.
            quotes: Currencies to pay in.
        """
        commands: list[Command] = []
        for account in self._accounts:
            commands.append(OpenAccount(**self._fields(account, now_us)))
            for currency in quotes:
                amount = str(self._chance.randint(10, 500) * 1000)
                commands.append(Deposit(**self._fields(account, now_us), currency=currency, amount=amount))
        return commands

    def act(self, now_us: int, listed: Listed) -> Command:
        """Return the next thing that somebody does, at an instrument."""
        if self._last is not None and self._chance.random() < 0.01:
            return self._last  # an impatient one presses the button twice
        # The square makes the first accounts the busiest: half of all that is done is done by a quarter of them.
        account = self._accounts[int(self._chance.random() ** 2 * len(self._accounts))]
        act = self._chance.choices(self._acts, self._weights)[0][0]
        self._last = act(self._fields(account, now_us), listed)
        return self._last

    def _fields(self, account: str, now_us: int) -> dict[str, Any]:
        self._number += 1
        return {
            "account_id": account,
            "user_id": f"user-{account.rpartition('-')[2]}",
            "command_id": f"{self._run}-{self._number}",
            "sent_time_us": now_us,
        }

    def _market_order(self, fields: dict[str, Any], at: Listed) -> Command:
        buys = self._chance.random() < 0.55
        if buys and self._chance.random() < 0.7:
            return self._order(fields, at, order_type="market", side="buy", amount=str(self._chance.randint(10, 2000)))
        quantity = self._quantity(at)
        return self._order(fields, at, order_type="market", side="buy" if buys else "sell", quantity=quantity)

    def _limit_order(self, fields: dict[str, Any], at: Listed) -> Command:
        buys = self._chance.random() < 0.55
        away = Decimal(self._chance.randint(-20, 60)).scaleb(-4)  # 0.2 % through the market to 0.6 % behind it
        price = _FLOORING.multiply(at.bid, 1 - away) if buys else _FLOORING.multiply(at.ask, 1 + away)
        time_in_force: TimeInForce = self._chance.choices(("gtc", "post_only", "ioc"), (70, 15, 15))[0]
        return self._order(
            fields,
            at,
            order_type="limit",
            side="buy" if buys else "sell",
            quantity=self._quantity(at),
            limit_price=_whole(price, at.tick),
            time_in_force=time_in_force,
        )

    def _quantity(self, at: Listed) -> str:
        worth = Decimal(self._chance.randint(20, 3000))
        return _whole(_FLOORING.divide(worth, at.ask), at.lot)

    def _order(self, fields: dict[str, Any], at: Listed, **asked: Any) -> PlaceOrder:
        orders = self._orders[fields["account_id"]]
        orders.append(f"{fields['account_id']}:{fields['command_id']}")
        del orders[:-_REMEMBERED_ORDERS]
        return PlaceOrder(**fields, venue=at.venue, symbol=at.symbol, **asked)

    def _cancel(self, fields: dict[str, Any], at: Listed) -> Command:
        orders = self._orders[fields["account_id"]]
        if not orders:
            return self._cancel_all(fields, at)
        return CancelOrder(**fields, order_id=self._chance.choice(orders))

    def _cancel_all(self, fields: dict[str, Any], at: Listed) -> Command:
        return CancelAllOrders(**fields, symbol=at.symbol if self._chance.random() < 0.5 else None)

    def _deposit(self, fields: dict[str, Any], at: Listed) -> Command:
        cents = self._chance.randint(100, 5_000_00)
        return Deposit(**fields, currency=at.quote, amount=f"{cents // 100}.{cents % 100:02}")

    def _withdraw(self, fields: dict[str, Any], at: Listed) -> Command:
        currency = at.quote if self._chance.random() < 0.8 else at.base
        return Withdraw(**fields, currency=currency, amount=str(self._chance.randint(1, 500)))

    def _mistake(self, fields: dict[str, Any], at: Listed) -> Command:
        order: dict[str, Any] = {"order_type": "market", "side": "buy", "venue": at.venue, "symbol": at.symbol}
        too_little = plain(_FLOORING.multiply(at.lot, Decimal("0.1")))
        late_us = fields["sent_time_us"] - 2 * _DAY_US
        mistakes: tuple[Callable[[], Command], ...] = (
            lambda: Deposit(**fields, currency=at.quote, amount=self._chance.choice(_WHAT_IS_NO_AMOUNT)),
            lambda: PlaceOrder(**fields | {"user_id": "somebody-else"}, **order, amount="100"),
            lambda: PlaceOrder(**fields, **order | {"symbol": f"NO-{at.quote}"}, amount="100"),
            lambda: PlaceOrder(**fields | {"sent_time_us": late_us}, **order, amount="100"),
            lambda: PlaceOrder(**fields, **order, amount="900000000"),
            lambda: PlaceOrder(**fields, **order, quantity=too_little),
            lambda: CancelOrder(**fields, order_id=f"{fields['account_id']}:never"),
        )
        return self._chance.choice(mistakes)()


def _whole(amount: Decimal, step: Decimal) -> str:
    """Return the greatest multiple of a step that is not above an amount, one step at least, in digits."""
    steps = max(_FLOORING.divide_int(amount, step), Decimal(1))
    return plain(_FLOORING.multiply(steps, step))
