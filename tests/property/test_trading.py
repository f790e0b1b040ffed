"""Whatever is asked, replayed, forged or crashed, in whatever market: the money stays right."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coinstream.messages import (
    BookEvidence,
    BookSnapshot,
    CancelAllOrders,
    CancelOrder,
    Command,
    Deposit,
    Event,
    Instrument,
    OpenAccount,
    OrderFilled,
    PlaceOrder,
    Quote,
    Trade,
    Withdraw,
    check,
    decode_any,
    encode,
)
from coinstream.messages.topics import EVENTS
from coinstream.trading import Account, Decision, Link, Markets, decide, explain, fold, unbalanced, verify_chain, wake

START_US = 1_700_000_000_000_000
OWNERS = {"ann-1": "ann", "bob-1": "bob"}
SYMBOLS = ("BTC-USD", "TOY-BTC")
AMOUNTS = st.one_of(
    st.sampled_from(
        [
            "0.000000000000000001",
            "1000000000000",
            "9999999999999999",
            "0",
            "-0",
            "-1",
            "NaN",
            "1e-19",
            "1" * 40,
            "",
            "1",
        ]
    ),
    st.integers(1, 10**6).map(str),
    st.integers(1, 10**9).map(lambda n: f"{n // 10**4}.{n % 10**4:04}"),
)
PRICES = st.integers(9_000, 11_000).map(lambda n: f"{n // 100}.{n % 100:02}")
QUANTITIES = st.one_of(st.integers(1, 50_000).map(lambda n: f"{n // 10**4}.{n % 10**4:04}"), AMOUNTS)
SIZES = st.integers(1, 40_000).map(lambda n: f"{n // 10**4}.{n % 10**4:04}1")
SIDES = st.sampled_from(["buy", "sell"])
ACCOUNTS = st.sampled_from(sorted(OWNERS))
NEAR = st.integers(9_950, 10_050).map(lambda n: f"{n // 100}.{n % 100:02}")
LOTS = st.integers(100, 30_000).map(lambda n: f"{n // 10**4}.{n % 10**4:04}")
HOW = st.sampled_from(["gtc", "gtc", "gtc", "ioc", "post_only", "market", "spend"])
ORDERS = st.fixed_dictionaries(
    {"order_type": st.just("market"), "side": SIDES},
    optional={"quantity": QUANTITIES, "amount": AMOUNTS},
) | st.fixed_dictionaries(
    {"order_type": st.just("limit"), "side": SIDES, "quantity": QUANTITIES, "limit_price": PRICES | AMOUNTS},
    optional={"time_in_force": st.sampled_from(["gtc", "ioc", "post_only"])},
)


def listed(symbol: str, **rules: Any) -> Instrument:
    base, quote = symbol.split("-")
    return Instrument(
        venue="made_up",
        symbol=symbol,
        venue_symbol=symbol,
        base=base,
        quote=quote,
        status="online",
        received_time_us=START_US,
        **rules,
    )


class Brokerage(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now_us = START_US
        self.markets = Markets()
        self.markets.take(listed("BTC-USD", tick_size="0.01", lot_size="0.0001", minimum_notional="1"), START_US)
        self.markets.take(listed("TOY-BTC", tick_size="0.01"), START_US)
        self.accounts: dict[str, Account | None] = dict.fromkeys(OWNERS)
        self.events: dict[str, list[Event]] = {account_id: [] for account_id in OWNERS}
        self.sent: list[Command] = []
        self.taken: dict[tuple[str, ...], tuple[Decimal, Decimal]] = {}

    @initialize(rich=st.sampled_from([(), ("ann-1",), ("ann-1", "bob-1"), ("ann-1", "bob-1")]))
    def begin(self, rich: tuple[str, ...]) -> None:
        for account_id in rich:
            self.become_rich(account_id)
        for symbol in SYMBOLS:
            self.book(symbol, [(9_990, "2.00001"), (9_980, "1.5")], [(10_010, "1.00001"), (10_020, "3")], 0)

    def later(self, us: int = 1000) -> int:
        self.now_us += us
        return self.now_us

    def said(self, account_id: str, decision: Decision) -> None:
        before = self.accounts[account_id]
        for event in decision.events:
            check(event)
            assert decode_any(EVENTS.carries, encode(event)) == event
            assert not unbalanced(event.entries)
            if isinstance(event, OrderFilled):
                self.explained(event)
        changed = [event for event in decision.events if event.account_version]
        if not changed:
            assert decision.account is before
        self.events[account_id] += changed
        self.accounts[account_id] = decision.account

    def explained(self, fill: OrderFilled) -> None:
        assert explain(fill) == []
        evidence = fill.evidence
        if isinstance(evidence, BookEvidence):
            takings: Iterable[tuple[str, str, str]] = [
                (evidence.book + level.price + fill.side, level.size, level.taken) for level in evidence.levels
            ]
        else:
            takings = [(evidence.trade_id, evidence.size, fill.quantity)]
        for place, size, taken in takings:
            key = (fill.account_id, fill.symbol, place)
            total = self.taken.get(key, (Decimal(0), Decimal(0)))[0] + Decimal(taken)
            assert total <= Decimal(size), "a level or trade was taken twice"
            self.taken[key] = (total, Decimal(size))

    def ask(self, command: Command, key: str | None = None) -> Decision:
        self.sent.append(command)
        decision = decide(
            self.accounts[command.account_id], self.markets, command, key=key or command.account_id, now_us=self.later()
        )
        self.said(command.account_id, decision)
        return decision

    def stamps(self, account_id: str) -> dict[str, Any]:
        return {
            "account_id": account_id,
            "user_id": OWNERS[account_id],
            "command_id": f"c{len(self.sent)}",
            "sent_time_us": self.now_us,
        }

    @rule(account_id=ACCOUNTS)
    def open_account(self, account_id: str) -> None:
        self.ask(OpenAccount(**self.stamps(account_id)))

    @rule(account_id=ACCOUNTS, currency=st.sampled_from(["USD", "BTC", "TOY", "usd"]), amount=AMOUNTS)
    def deposit(self, account_id: str, currency: str, amount: str) -> None:
        self.ask(Deposit(**self.stamps(account_id), currency=currency, amount=amount))

    @rule(account_id=ACCOUNTS)
    def become_rich(self, account_id: str) -> None:
        self.open_account(account_id)
        for currency in ("USD", "BTC", "TOY"):
            self.ask(Deposit(**self.stamps(account_id), currency=currency, amount="1000.00000001"))

    @rule(account_id=ACCOUNTS, currency=st.sampled_from(["USD", "BTC", "TOY"]), amount=AMOUNTS)
    def withdraw(self, account_id: str, currency: str, amount: str) -> None:
        self.ask(Withdraw(**self.stamps(account_id), currency=currency, amount=amount))

    @rule(account_id=ACCOUNTS, symbol=st.sampled_from([*SYMBOLS, "NO-SUCH"]), order=ORDERS)
    def place(self, account_id: str, symbol: str, order: dict[str, Any]) -> None:
        self.ask(PlaceOrder(**self.stamps(account_id), venue="made_up", symbol=symbol, **order))

    @rule(account_id=ACCOUNTS, symbol=st.sampled_from(SYMBOLS), side=SIDES, price=NEAR, lots=LOTS, how=HOW)
    def place_well(self, account_id: str, symbol: str, side: Any, price: str, lots: str, how: str) -> None:
        asked: dict[str, Any] = {"order_type": "limit", "quantity": lots, "limit_price": price, "time_in_force": how}
        if how == "market":
            asked = {"order_type": "market", "quantity": lots}
        elif how == "spend":
            asked, side = {"order_type": "market", "amount": lots}, "buy"
        self.ask(PlaceOrder(**self.stamps(account_id), venue="made_up", symbol=symbol, side=side, **asked))

    @rule(data=st.data(), account_id=ACCOUNTS)
    def cancel(self, data: st.DataObject, account_id: str) -> None:
        account = self.accounts[account_id]
        known = sorted(account.orders) if account else []
        order_id = data.draw(st.sampled_from([*known, "ann-1:none"]))
        self.ask(CancelOrder(**self.stamps(account_id), order_id=order_id))

    @rule(account_id=ACCOUNTS, symbol=st.none() | st.sampled_from(SYMBOLS))
    def cancel_all(self, account_id: str, symbol: str | None) -> None:
        self.ask(CancelAllOrders(**self.stamps(account_id), symbol=symbol))

    @rule(account_id=ACCOUNTS, forgery=st.sampled_from(["user", "key", "old", "tomorrow"]), amount=AMOUNTS)
    def forge(self, account_id: str, forgery: str, amount: str) -> None:
        stamps = self.stamps(account_id)
        if forgery == "user":
            stamps["user_id"] = "eve"
        elif forgery == "old":
            stamps["sent_time_us"] -= 7 * 86_400_000_000
        elif forgery == "tomorrow":
            stamps["sent_time_us"] += 86_400_000_000
        key = "eve-1" if forgery == "key" else None
        before = self.accounts[account_id]
        decision = self.ask(Deposit(**stamps, currency="USD", amount=amount), key)
        assert decision.account is before
        assert [event.account_version for event in decision.events] == [0]

    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        if not self.sent:
            return
        command = data.draw(st.sampled_from(self.sent))
        before = self.accounts[command.account_id]
        is_known = before is not None and command.command_id in before.commands
        decision = self.ask(command)
        if is_known and before is not None and before.user_id == command.user_id:
            assert decision == Decision((), before)

    def heard(self, message: Any, age_us: int) -> None:
        published_us = self.later() - age_us
        market = self.markets.take(message, published_us)
        for account_id, account in self.accounts.items():
            if account is not None:
                self.said(
                    account_id,
                    wake(account, market, message, published_time_us=published_us, now_us=self.now_us),
                )

    @rule(
        symbol=st.sampled_from(SYMBOLS),
        bids=st.lists(st.tuples(st.integers(9_500, 10_100), SIZES), max_size=6, unique_by=lambda it: it[0]),
        asks=st.lists(st.tuples(st.integers(9_900, 10_500), SIZES), max_size=6, unique_by=lambda it: it[0]),
        age_us=st.sampled_from([0, 0, 0, 6_000_000]),
    )
    def book(self, symbol: str, bids: list[Any], asks: list[Any], age_us: int) -> None:
        sides = [
            tuple((f"{price // 100}.{price % 100:02}", size) for price, size in sorted(side, reverse=is_bid))
            for side, is_bid in ((bids, True), (asks, False))
        ]
        snapshot = BookSnapshot(
            venue="made_up", symbol=symbol, bids=sides[0], asks=sides[1], received_time_us=self.now_us
        )
        self.heard(snapshot, age_us)

    @rule(symbol=st.sampled_from(SYMBOLS), middle=st.integers(9_960, 10_040), size=SIZES, spread=st.integers(1, 20))
    def usual_book(self, symbol: str, middle: int, size: str, spread: int) -> None:
        self.book(symbol, [(middle - spread, size), (middle - 30, "5")], [(middle, size), (middle + 30, "5")], 0)

    @rule(symbol=st.sampled_from(SYMBOLS), price=PRICES | NEAR, size=SIZES, number=st.integers(1, 30))
    def trade(self, symbol: str, price: str, size: str, number: int) -> None:
        trade = Trade(
            venue="made_up",
            symbol=symbol,
            trade_id=f"{number}-{price}-{size}",
            price=price,
            size=size,
            aggressor_side="buy",
            event_time_us=START_US + number,
            received_time_us=self.now_us,
            provenance="simulated",
        )
        self.heard(trade, 0)

    @rule(symbol=st.sampled_from(SYMBOLS), bid=PRICES, ask=PRICES)
    def quote(self, symbol: str, bid: str, ask: str) -> None:
        self.heard(Quote(venue="made_up", symbol=symbol, bid=bid, ask=ask, received_time_us=self.now_us), 0)

    @rule()
    def wait(self) -> None:
        self.later(6_000_000)

    @rule(account_id=ACCOUNTS)
    def crash(self, account_id: str) -> None:
        account = self.accounts[account_id]
        if account is not None:
            state = account.state()
            check(state)
            self.accounts[account_id] = Account.restore(state)

    @invariant()
    def money_is_right(self) -> None:
        for account_id, account in self.accounts.items():
            folded = fold(self.events[account_id])
            assert (folded is None) == (account is None)
            if account is None or folded is None:
                continue
            assert folded.state() == account.state()
            held: dict[str, Decimal] = {}
            for order in account.orders.values():
                terms = order.terms
                assert order.held == terms.held(order.remaining)
                currency = terms.quote if terms.side == "buy" else terms.base
                held[currency] = held.get(currency, Decimal(0)) + order.held
            for currency, (available, kept) in account.balances.items():
                assert available >= 0
                assert kept == held.pop(currency, Decimal(0))
            assert not any(held.values())

    def teardown(self) -> None:
        for account_id, account in self.accounts.items():
            if account is not None:
                links = [
                    Link(event.account_version, event.event_time_us, event.entries, event.hash or "")
                    for event in self.events[account_id]
                    if event.entries
                ]
                assert verify_chain(account_id, links, head=account.hash) == []


TestBrokerage = Brokerage.TestCase
TestBrokerage.settings = settings(stateful_step_count=60)
