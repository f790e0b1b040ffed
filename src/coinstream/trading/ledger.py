"""Double entry: transactions that sum to zero per currency, and the chain of hashes over an account's entries.

A link of the chain is an event's entries with the hash of the link before: SHA-256 over canonical JSON
(keys in order of the alphabet, no spaces, UTF-8, amounts in canonical digits). To change, drop, swap or
cut off an entry is to need another head than the one that `AccountState` and the events carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import NamedTuple

import msgspec

from coinstream.messages import NO_HASH, Entry
from coinstream.messages.trading import Bucket, EntryKind, Holder
from coinstream.trading.money import ZERO, Cost, Terms, add, digits, subtract


class _Link(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    account_id: str
    entries: Sequence[Entry]
    event_time_us: int
    previous: str
    version: int


_canonical = msgspec.json.Encoder().encode


def link_hash(account_id: str, version: int, event_time_us: int, entries: Sequence[Entry], previous: str) -> str:
    """Return the hash of an account's chain after the entries of one version.

    Args:
        account_id: Whose entries they are.
        version: The account's, after the event that caused them.
        event_time_us: That event's time.
        entries: In order of their numbers; those of house and fees are part of it.
        previous: The hash before; `NO_HASH` before the first entry.

    Returns:
        64 hexadecimal digits; ``previous`` where there are no entries.
    """
    if not entries:
        return previous
    link = _Link(
        account_id=account_id, entries=entries, event_time_us=event_time_us, previous=previous, version=version
    )
    return sha256(_canonical(link)).hexdigest()


class Link(NamedTuple):
    """The entries of one version as a store has them, and the hash that it has beside them."""

    version: int
    event_time_us: int
    entries: Sequence[Entry]
    hash: str


def verify_chain(account_id: str, links: Iterable[Link], *, head: str | None = None) -> list[str]:
    """Recompute an account's chain and return what is wrong with it, in words; nothing when it is sound.

    Args:
        account_id: Whose chain it is.
        links: Of every version that has entries, in order of versions.
        head: The hash that the account must end with; without it, entries cut off at the end go unseen.
    """
    wrong: list[str] = []
    previous, last = NO_HASH, 0
    for link in links:
        place = f"account {account_id} version {link.version}"
        if link.version <= last:
            wrong.append(f"{place}: comes after version {last}")
        if [entry.number for entry in link.entries] != list(range(1, len(link.entries) + 1)):
            wrong.append(f"{place}: entries are not numbered 1 to {len(link.entries)}")
        for transaction_id, currency, amount in unbalanced(link.entries):
            wrong.append(f"{place}: transaction {transaction_id} is out by {digits(amount)} {currency}")
        expected = link_hash(account_id, link.version, link.event_time_us, link.entries, previous)
        if expected != link.hash:
            wrong.append(f"{place}: its entries hash to {expected}, not to {link.hash}")
        previous, last = link.hash, link.version
    if head is not None and head != previous:
        wrong.append(f"account {account_id}: its chain ends with {previous}, not with {head}")
    return wrong


def unbalanced(entries: Iterable[Entry]) -> list[tuple[str, str, Decimal]]:
    """Return transaction id, currency and sum wherever a transaction's entries do not sum to zero."""
    sums: dict[tuple[str, str], Decimal] = {}
    for entry in entries:
        key = (entry.transaction_id, entry.currency)
        sums[key] = add(sums.get(key, ZERO), Decimal(entry.amount))
    return [(*key, amount) for key, amount in sums.items() if amount]


class Journal:
    """Collects the entries of one event; each method is a whole transaction, or nothing for no amount."""

    __slots__ = ("_entries", "_prefix", "_transaction_id", "_transactions")

    def __init__(self, account_id: str, version: int) -> None:
        self._entries: list[Entry] = []
        self._prefix = f"{account_id}:{version}:"
        self._transactions = 0
        self._transaction_id = ""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What has been written, in order."""
        return tuple(self._entries)

    def deposit(self, currency: str, amount: Decimal) -> None:
        """Money comes in from the house."""
        self._begin()
        self._move(("house", "available"), ("account", "available"), currency, amount, "deposit")

    def withdraw(self, currency: str, amount: Decimal) -> None:
        """Money goes out to the house."""
        self._begin()
        self._move(("account", "available"), ("house", "available"), currency, amount, "withdrawal")

    def hold(self, currency: str, amount: Decimal) -> None:
        """Keep aside what an order needs."""
        if amount:
            self._begin()
            self._move(("account", "available"), ("account", "held"), currency, amount, "hold")

    def release(self, currency: str, amount: Decimal) -> None:
        """Give back what an order needs no more."""
        if amount:
            self._begin()
            self._move(("account", "held"), ("account", "available"), currency, amount, "release")

    def fill(self, terms: Terms, quantity: Decimal, cost: Cost) -> None:
        """Exchange base and quote with the house, pay the fee, and release what a better price spares."""
        self._begin()
        bucket: Bucket = "available" if terms.limit_price is None else "held"
        quote = terms.quote
        if terms.side == "buy":
            self._add("account", bucket, quote, cost.notional, "trade", sign="-")
            self._add("house", "available", quote, cost.house_notional, "trade")
            self._add("house", "available", quote, subtract(cost.notional, cost.house_notional), "rounding")
            self._move(("house", "available"), ("account", "available"), terms.base, quantity, "trade")
            pays: Bucket = bucket
        else:
            self._move(("account", bucket), ("house", "available"), terms.base, quantity, "trade")
            self._add("account", "available", quote, cost.notional, "trade")
            self._add("house", "available", quote, cost.house_notional, "trade", sign="-")
            self._add("house", "available", quote, subtract(cost.house_notional, cost.notional), "rounding")
            pays = "available"
        self._add("account", pays, quote, cost.fee, "fee", sign="-")
        self._add("fees", "available", quote, cost.fee_earned, "fee")
        self._add("house", "available", quote, subtract(cost.fee, cost.fee_earned), "rounding")
        self.release(quote, cost.released)

    def _begin(self) -> None:
        self._transactions += 1
        self._transaction_id = f"{self._prefix}{self._transactions}"

    def _move(
        self,
        source: tuple[Holder, Bucket],
        target: tuple[Holder, Bucket],
        currency: str,
        amount: Decimal,
        kind: EntryKind,
    ) -> None:
        self._add(*source, currency, amount, kind, sign="-")
        self._add(*target, currency, amount, kind)

    def _add(
        self, holder: Holder, bucket: Bucket, currency: str, amount: Decimal, kind: EntryKind, *, sign: str = ""
    ) -> None:
        if amount:
            self._entries.append(
                Entry(
                    amount=sign + digits(amount),
                    bucket=bucket,
                    currency=currency,
                    holder=holder,
                    kind=kind,
                    number=len(self._entries) + 1,
                    transaction_id=self._transaction_id,
                )
            )
