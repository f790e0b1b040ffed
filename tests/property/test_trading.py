"""Random people, books, crashes and replays: whatever happens, the money adds up and every fill explains itself."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coinstream.messages import (
    AccountState,
    BookEvidence,
    BookSnapshot,
    CancelAllOrders,
    CancelOrder,
    Command,
    Deposit,
    Event,
    Instrument,
    OpenAccount,
    OrderAccepted,
    OrderFilled,
    PlaceOrder,
    Quote,
    Trade,
    Withdraw,
    check,
    decode,
    encode,
)
from coinstream.trading import Account, Decision, Markets, decide, fold, wake
from coinstream.trading.ledger import Link, unbalanced, verify_chain
from coinstream.trading.money import FEE_RULES, rounded_down, rounded_up

ACCOUNTS = ("ann-1", "ann-2", "bob-1")
SYMBOLS = {"BTC-USD": ("0.01", "0.00000001"), "ABC-DEF": ("0.000000000000000001", "0.000000000000000001")}
DAY_US = 86_400_000_000

accounts = st.sampled_from(ACCOUNTS)
symbols = st.sampled_from(list(SYMBOLS))
sides = st.sampled_from(["buy", "sell"])
# Prices about a hundred, mostly of few decimals so that orders meet; sizes mostly what there is, now and then dust or
# more than anyone can pay.
fractions = st.sampled_from(["", "", "", ".5", ".01", ".000000000000000001", ".333333333333333333"])
prices = st.builds(lambda whole, part: f"{whole}{part}", st.integers(95, 105), fractions)
usual = st.sampled_from(["1", "0.5", "2", "0.25", "3.14159265"])
odd = st.sampled_from(["0.00000001", "0.000000000000000001", "3.141592653589793238", "25", "1000000000000"])
sizes = st.one_of(usual, usual, usual, odd)
wrong = st.sampled_from(["100", "5000", "1e-19", "-0", "NaN", "0", "", "1" * 40, "0.000000001"])
amounts = st.one_of(sizes, sizes, sizes, sizes, wrong)
levels = st.lists(st.tuples(prices, sizes), max_size=8)


def user_of(account_id: str) -> str:
    return account_id.partition("-")[0]


def book(symbol: str, bids: Any, asks: Any, now_us: int) -> BookSnapshot:
    return BookSnapshot(venue="v", symbol=symbol, bids=bids, asks=asks, received_time_us=now_us)


@dataclass
class Known:
    """One account as the machine has it, and everything that was ever said of it."""

    account: Account | None = None
    events: list[Event] = field(default_factory=list)
    answered: dict[str, int] = field(default_factory=dict)


class Brokerage(RuleBasedStateMachine):
    """Commands and market messages in any order, with the state thrown away and restored now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 1_700_000_000_000_000
        self.known = {account_id: Known() for account_id in ACCOUNTS}
        self.markets = Markets()
        self.sent: list[Command] = []
        self.number = 0
        for symbol, (tick, lot) in SYMBOLS.items():
            base, quote = symbol.split("-")
            instrument = Instrument(
                venue="v",
                symbol=symbol,
                venue_symbol=symbol,
                base=base,
                quote=quote,
                tick_size=tick,
                lot_size=lot,
                minimum_notional="0.000001",
                status="online",
                received_time_us=self.now_us,
            )
            self.markets.take(instrument, self.now_us)
            self._market(book(symbol, (("99", "1"), ("98", "2")), (("101", "1"), ("102", "2")), self.now_us))
        for account_id in ACCOUNTS[:2]:
            for currency in ("USD", "BTC", "ABC", "DEF"):
                self.begin(account_id, currency)

    # What users do.

    @rule(account_id=accounts, currency=st.sampled_from(["USD", "BTC", "ABC", "DEF"]))
    def begin(self, account_id: str, currency: str) -> None:
        self._command(OpenAccount(**self._fields(account_id)))
        self._command(Deposit(**self._fields(account_id), currency=currency, amount="100000"))

    @rule(account_id=accounts, currency=st.sampled_from(["USD", "DEF", "ABC"]), amount=amounts)
    def deposit(self, account_id: str, currency: str, amount: str) -> None:
        self._command(Deposit(**self._fields(account_id), currency=currency, amount=amount))

    @rule(account_id=accounts, currency=st.sampled_from(["USD", "BTC", "DEF"]), amount=amounts)
    def withdraw(self, account_id: str, currency: str, amount: str) -> None:
        self._command(Withdraw(**self._fields(account_id), currency=currency, amount=amount))

    @rule(account_id=accounts, symbol=symbols, side=sides, size=amounts, by_amount=st.booleans())
    def order_at_market(self, account_id: str, symbol: str, side: str, size: str, *, by_amount: bool) -> None:
        asked = {"amount": size} if by_amount else {"quantity": size}
        self._place(account_id, symbol=symbol, side=side, order_type="market", **asked)

    @rule(
        account_id=accounts,
        symbol=symbols,
        side=sides,
        size=amounts,
        price=prices,
        time_in_force=st.sampled_from([None, "gtc", "gtc", "ioc", "post_only"]),
    )
    def order_at_limit(
        self, account_id: str, symbol: str, side: str, size: str, price: str, time_in_force: str | None
    ) -> None:
        asked = {"quantity": size, "limit_price": price, "time_in_force": time_in_force}
        self._place(account_id, symbol=symbol, side=side, order_type="limit", **asked)

    @rule(account_id=accounts, number=st.integers(0, 10))
    def cancel(self, account_id: str, number: int) -> None:
        account = self.known[account_id].account
        orders = list(account.orders) if account is not None else []
        order_id = orders[number % len(orders)] if orders else f"{account_id}:never"
        self._command(CancelOrder(**self._fields(account_id), order_id=order_id))

    @rule(account_id=accounts, symbol=st.one_of(st.none(), symbols))
    def cancel_all(self, account_id: str, symbol: str | None) -> None:
        self._command(CancelAllOrders(**self._fields(account_id), symbol=symbol))

    # What goes wrong.

    @rule(number=st.integers(0, 1000))
    def send_again(self, number: int) -> None:
        if self.sent:
            self._command(self.sent[-1 - number % len(self.sent)])

    @rule(account_id=accounts, late_us=st.sampled_from([2 * DAY_US, -120_000_000]))
    def send_at_a_wrong_time(self, account_id: str, late_us: int) -> None:
        fields = self._fields(account_id) | {"sent_time_us": self.now_us - late_us}
        self._refused(Deposit(**fields, currency="USD", amount="1"), account_id)

    @rule(account_id=accounts, amount=sizes)
    def forge(self, account_id: str, amount: str) -> None:
        self._refused(
            Withdraw(**self._fields(account_id) | {"user_id": "eve"}, currency="USD", amount=amount), account_id
        )
        self._refused(Withdraw(**self._fields(account_id), currency="USD", amount=amount), "another-key")

    @rule(account_id=accounts)
    def crash(self, account_id: str) -> None:
        known = self.known[account_id]
        if known.account is not None:
            known.account = Account.restore(decode(AccountState, encode(known.account.state())))

    # What the market does.

    @rule(symbol=symbols, bids=levels, asks=levels)
    def publish_book(self, symbol: str, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> None:
        best_first = dict(sorted(bids, key=lambda it: -Decimal(it[0])))
        asks_first = dict(sorted(asks, key=lambda it: Decimal(it[0])))
        self._market(book(symbol, tuple(best_first.items()), tuple(asks_first.items()), self.now_us))

    @rule(symbol=symbols, bid=prices, ask=prices)
    def publish_quote(self, symbol: str, bid: str, ask: str) -> None:
        self._market(Quote(venue="v", symbol=symbol, bid=bid, ask=ask, received_time_us=self.now_us))

    @rule(symbol=symbols, price=prices, size=sizes, number=st.integers(1, 20))
    def publish_trade(self, symbol: str, price: str, size: str, number: int) -> None:
        trade = Trade(
            venue="v",
            symbol=symbol,
            trade_id=str(number),
            price=price,
            size=size,
            aggressor_side="sell",
            event_time_us=self.now_us - number,
            received_time_us=self.now_us,
            provenance="live",
        )
        self._market(trade)

    @rule(seconds=st.sampled_from([1, 2, 6, 3600]))
    def pass_time(self, seconds: int) -> None:
        self.now_us += seconds * 1_000_000

    # What must hold.

    @invariant()
    def balances_are_never_negative_and_what_is_held_is_what_open_orders_need(self) -> None:
        for known in self.known.values():
            account = known.account
            if account is None:
                continue
            needs: dict[str, Decimal] = defaultdict(Decimal)
            for order in account.orders.values():
                currency = order.terms.quote if order.terms.side == "buy" else order.terms.base
                assert order.held == order.terms.held(order.remaining)
                needs[currency] += order.held
            for currency, (available, held) in account.balances.items():
                assert available >= 0
                assert held == needs.pop(currency, Decimal(0))
            assert not any(needs.values())

    @invariant()
    def state_is_the_fold_of_its_events(self) -> None:
        for known in self.known.values():
            folded = fold(known.events)
            assert (folded and folded.state()) == (known.account and known.account.state())

    def teardown(self) -> None:
        for account_id, known in self.known.items():
            links = [
                Link(it.account_version, it.event_time_us, it.entries, it.hash or "")
                for it in known.events
                if it.entries
            ]
            head = known.account.hash if known.account is not None else None
            assert verify_chain(account_id, links, head=head) == []
            fills = [it for it in known.events if isinstance(it, OrderFilled)]
            for fill in fills:
                explain(fill)
            nothing_is_taken_twice(fills)

    def _fields(self, account_id: str) -> dict[str, Any]:
        self.number += 1
        return {
            "account_id": account_id,
            "user_id": user_of(account_id),
            "command_id": f"c{self.number}",
            "sent_time_us": self.now_us,
        }

    def _place(self, account_id: str, **asked: Any) -> None:
        self._command(PlaceOrder(**self._fields(account_id), venue="v", **asked))

    def _command(self, command: Command) -> None:
        self.sent.append(command)
        known = self.known[command.account_id]
        before = known.account
        decision = decide(before, self.markets, command, key=command.account_id, now_us=self.now_us)
        if before is not None and command.command_id in before.commands:
            assert decision == Decision((), before)
            return
        assert decision.events, "a command that was not answered before is answered"
        self._keep(known, decision)

    def _refused(self, command: Command, key: str) -> None:
        known = self.known[command.account_id]
        decision = decide(known.account, self.markets, command, key=key, now_us=self.now_us)
        (rejected,) = decision.events
        assert rejected.account_version == 0
        assert decision.account is known.account

    def _market(self, message: Any) -> None:
        self.now_us += 1
        market = self.markets.take(message, self.now_us)
        for known in self.known.values():
            if known.account is not None:
                wakes = {"published_time_us": self.now_us, "now_us": self.now_us}
                self._keep(known, wake(known.account, market, message, **wakes))

    def _keep(self, known: Known, decision: Decision) -> None:
        for event in decision.events:
            check(event)
            assert decode(type(event), encode(event)) == event
            assert unbalanced(event.entries) == []
        known.events += decision.events
        known.account = decision.account


def explain(fill: OrderFilled) -> None:
    """Derive a fill from its evidence alone, independently of how it was decided."""
    price, quantity = Decimal(fill.price), Decimal(fill.quantity)
    evidence = fill.evidence
    if isinstance(evidence, BookEvidence):
        for level in evidence.levels:
            assert Decimal(level.taken_before) + Decimal(level.taken) <= Decimal(level.size)
        assert sum(Decimal(level.taken) for level in evidence.levels) == quantity
        reached = [Decimal(level.price) for level in evidence.levels]
        if fill.liquidity == "taker":
            assert reached == [price]
    else:
        assert fill.liquidity == "maker"
        assert Decimal(evidence.taken_before) + quantity <= Decimal(evidence.size)
        reached = [Decimal(evidence.price)]
        assert reached != [price]
    if fill.limit_price is not None:
        limit = Decimal(fill.limit_price)
        assert all(it <= limit if fill.side == "buy" else it >= limit for it in reached)
        if fill.liquidity == "maker":
            assert price == limit
    rule_ = FEE_RULES[fill.fee_rule]
    assert Decimal(fill.fee_rate) == (rule_.maker if fill.liquidity == "maker" else rule_.taker)
    exact = price * quantity
    down, up = rounded_down(exact, fill.quote), rounded_up(exact, fill.quote)
    assert Decimal(fill.notional) in {down, up}
    fee = exact * Decimal(fill.fee_rate)
    assert Decimal(fill.fee) <= rounded_up(fee, fill.quote)


def nothing_is_taken_twice(fills: list[OrderFilled]) -> None:
    """Of each level of each book, and of each trade, no more is taken than there is."""
    taken: dict[Any, Decimal] = defaultdict(Decimal)
    for fill in fills:
        evidence = fill.evidence
        if isinstance(evidence, BookEvidence):
            for level in evidence.levels:
                key = (fill.venue, fill.symbol, evidence.book, fill.side, level.price, evidence.published_time_us)
                assert taken[key] <= Decimal(level.taken_before)
                taken[key] += Decimal(level.taken)
                assert taken[key] <= Decimal(level.size)
        else:
            trade = (fill.venue, fill.symbol, evidence.trade_id, evidence.event_time_us)
            taken[trade] += Decimal(fill.quantity)
            assert taken[trade] <= Decimal(evidence.size)


TestBrokerage = Brokerage.TestCase
TestBrokerage.settings = settings(stateful_step_count=60, deadline=None)


def test_it_does_happen_that_orders_fill() -> None:
    machine = Brokerage()
    machine.publish_book("BTC-USD", [("99", "1")], [("100", "1"), ("101", "2")])
    machine.order_at_limit("ann-1", "BTC-USD", "buy", "2", "101", "gtc")
    machine.order_at_limit("ann-1", "BTC-USD", "buy", "5", "98", "gtc")
    machine.publish_trade("BTC-USD", "97.5", "2", 1)
    kinds = [type(event) for event in machine.known["ann-1"].events][-5:]
    assert kinds == [OrderAccepted, OrderFilled, OrderFilled, OrderAccepted, OrderFilled]
    machine.balances_are_never_negative_and_what_is_held_is_what_open_orders_need()
    machine.state_is_the_fold_of_its_events()
    machine.teardown()


@given(
    parts=st.lists(
        st.sampled_from(["0.3", "0.000000000000000001", "0.1", "0.333333333333333333"]), min_size=2, max_size=5
    ),
    price=st.sampled_from(["100.333333333333333333", "99.000000000000000001", "100"]),
    side=st.sampled_from(["buy", "sell"]),
)
def test_fills_of_a_resting_order_never_cost_more_than_was_held(parts: list[str], price: str, side: str) -> None:
    machine = Brokerage()
    machine.order_at_limit("ann-1", "ABC-DEF", side, "1", price, "gtc")
    for number, size in enumerate(parts, 1):
        machine.now_us += 100
        machine.publish_trade("ABC-DEF", "98.9" if side == "buy" else "100.9", size, number)
        machine.balances_are_never_negative_and_what_is_held_is_what_open_orders_need()
    assert sum(isinstance(event, OrderFilled) for event in machine.known["ann-1"].events) >= 2
    machine.cancel_all("ann-1", None)
    machine.balances_are_never_negative_and_what_is_held_is_what_open_orders_need()
    machine.state_is_the_fold_of_its_events()
    machine.teardown()
