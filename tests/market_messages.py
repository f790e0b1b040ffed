"""A made-up market for tests: every kind of message, hard numbers among them, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

from coinstream.messages import (
    MINUTE_US,
    AssetSnapshot,
    BookSnapshot,
    Coverage,
    Instrument,
    Message,
    Quote,
    Trade,
    minute_of,
)

START_US = 1_700_000_000_000_000
SYMBOLS = ("BTC-USD", "ETH-USD", "DOGE-USD", "ETH-BTC")
HARD_NUMBERS = ("0.000000000000000001", "1000000000000", "999999999999.000000000000000001", "1.50", "1.5")


class MadeUpMarket:
    """Messages of one venue, in time order; some trades come twice, as after a reconnect."""

    def __init__(self, seed: int, *, venue: str = "made_up") -> None:
        self._chance = random.Random(seed)
        self._venue = venue
        self._now_us = START_US
        self._ids = dict.fromkeys(SYMBOLS, 1_000_000)
        self._recent: list[Trade] = []

    def listed(self) -> list[Message]:
        """The venue's list, once more with a changed status."""
        return [
            Instrument(
                venue=self._venue,
                symbol=symbol,
                venue_symbol=symbol.replace("-", ""),
                base=symbol.split("-")[0],
                quote=symbol.split("-")[1],
                tick_size="0.000000000000000001",
                lot_size="1",
                status=status,
                received_time_us=START_US + number,
            )
            for number, status in enumerate(("offline", "online"))
            for symbol in SYMBOLS
        ]

    def messages(self, count: int) -> Iterator[Message]:
        """So many messages: trades mostly."""
        for _ in range(count):
            self._now_us += self._chance.randint(1, 4_000)
            draw = self._chance.random()
            if draw < 0.75:
                yield self._trade()
            elif draw < 0.80 and self._recent:
                yield self._chance.choice(self._recent)
            elif draw < 0.95:
                yield self._quote()
            elif draw < 0.98:
                yield self._book()
            elif draw < 0.99:
                yield self._coverage()
            else:
                yield self._asset()

    def _number(self) -> str:
        if self._chance.random() < 0.02:
            return self._chance.choice(HARD_NUMBERS)
        return f"{self._chance.randint(1, 10**9)}.{self._chance.randint(0, 10**8):08}"

    def _symbol(self) -> str:
        return self._chance.choice(SYMBOLS)

    def _trade(self) -> Trade:
        symbol = self._symbol()
        self._ids[symbol] += 1
        trade = Trade(
            venue=self._venue,
            symbol=symbol,
            trade_id=str(self._ids[symbol]),
            price=self._number(),
            size=self._number(),
            aggressor_side="buy" if self._chance.random() < 0.5 else "sell",
            event_time_us=self._now_us - self._chance.randint(0, 1_000_000),
            received_time_us=self._now_us,
            provenance="simulated",
        )
        self._recent = [*self._recent[-200:], trade]
        return trade

    def _quote(self) -> Quote:
        return Quote(
            venue=self._venue,
            symbol=self._symbol(),
            bid=self._number(),
            ask=self._number(),
            bid_size=self._number() if self._chance.random() < 0.5 else None,
            sequence=self._chance.randint(0, 5),
            received_time_us=self._now_us,
        )

    def _book(self) -> BookSnapshot:
        bids, asks = (tuple((self._number(), self._number()) for _ in range(self._chance.randint(0, 50))) for _ in "ba")
        return BookSnapshot(
            venue=self._venue,
            symbol=self._symbol(),
            bids=bids,
            asks=asks,
            event_time_us=self._now_us,
            received_time_us=self._now_us,
        )

    def _coverage(self) -> Coverage:
        return Coverage(
            venue=self._venue,
            symbol=self._symbol(),
            channel="trades",
            minute=minute_of(self._now_us),
            status=self._chance.choice(("complete", "gap")),
            first="1",
            messages=self._chance.randint(0, 1000),
        )

    def _asset(self) -> AssetSnapshot:
        return AssetSnapshot(
            source="made_up",
            asset_id=self._chance.choice(("bitcoin", "ether")),
            symbol="X",
            name="An asset",
            price_usd=self._number(),
            change_percent_24h=f"-{self._number()}",
            attributes={"rank_before": self._chance.randint(1, 9), "note": "a\tb\\n"},
            minute=minute_of(self._now_us) - self._chance.randint(0, 1) * MINUTE_US,
            received_time_us=self._now_us,
        )
