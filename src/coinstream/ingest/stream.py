"""What one dialect's frames come to: messages, refusals, gaps, and frames to send back.

No I/O and no clock: times are arguments, so that a recording and a live feed take the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from coinstream.adapters import (
    BookUpdate,
    Channel,
    Fetch,
    Frame,
    Gap,
    Repaired,
    Subscribed,
    Unsynchronised,
    VenueAdapter,
)
from coinstream.errors import RefusedError
from coinstream.market.book import OrderBook, is_due
from coinstream.market.coverage import CoverageFold
from coinstream.messages import MINUTE_US, BookSnapshot, Coverage, Instrument, MarketMessage, Provenance, Quote, Trade

TICK_US = 100_000
"""How often books that no frame touches are looked at."""
ASK_AGAIN_US = 5_000_000
"""A venue is asked for one book at most so often: a lost answer is asked for again, and a venue whose
own snapshots are crossed (an auction) is not asked without end."""
REWIND_US = MINUTE_US
"""A frame so much older than the newest begins another recording."""


class Received(NamedTuple):
    """What came of one frame.

    Attributes:
        messages: To publish, in this order.
        refusals: What could not be accepted; the frame's bytes go to dead letters with them.
        send: Frames to send on the connection that the frame came from.
        gaps: One a channel and symbol.
        fetches: To read by HTTP; each body comes back as a frame.
    """

    messages: list[MarketMessage]
    refusals: list[RefusedError]
    send: list[str]
    gaps: list[Gap]
    fetches: list[Fetch]


class _Book:
    """One symbol's book, and whether it may be published.

    Attributes:
        is_valid: It has had its snapshot and nothing was missed since.
        has_levels: It has had a snapshot.
        is_awaited: The venue is to send it anew.
        asked_us: When the venue was last asked to on this connection.
        published_us: When it was published last; ``None``: not since it became valid.
    """

    __slots__ = (
        "asked_us",
        "connection",
        "event_time_us",
        "has_changed",
        "has_levels",
        "is_awaited",
        "is_valid",
        "levels",
        "published_us",
        "sequence",
    )

    def __init__(self) -> None:
        self.levels = OrderBook()
        self.connection = ""
        self.is_valid = False
        self.has_levels = False
        self.has_changed = False
        self.is_awaited = False
        self.asked_us: int | None = None
        self.published_us: int | None = None
        self.sequence: int | None = None
        self.event_time_us: int | None = None


class _Work(NamedTuple):
    """One frame's work: what came of it so far, the books it changed, the symbols to ask anew."""

    frame: Frame
    received: Received
    touched: dict[str, _Book]
    unsure: list[str]


class MarketStream:
    """An adapter with the books, the pacing and the coverage of its venue.

    A book snapshot's ``received_time_us`` is the time as of which the book stood so: that of the frame
    or tick that published it. Its ``event_time_us`` and ``sequence`` are the last update's.

    Args:
        adapter: Reads the frames; it belongs to this stream alone.
        provenance: What a trade of the moment is called, instead of ``live``.
    """

    def __init__(self, adapter: VenueAdapter, *, provenance: Provenance | None = None) -> None:
        self.adapter = adapter
        if provenance is not None:
            adapter.live = provenance
        self._books: dict[str, _Book] = {}
        self._coverage = CoverageFold(adapter.venue)
        self._ended: list[Coverage] = []
        self._next_tick_us = 0
        self._next_look_us = 0
        self._newest_us = 0
        self._takers: dict[type[Any], Callable[[Any, _Work], None]] = {
            Trade: self._take_trade,
            Quote: self._take_quote,
            BookUpdate: self._take_update,
            Gap: self._take_gap,
            Subscribed: self._take_subscribed,
            Unsynchronised: self._take_unsynchronised,
            Repaired: self._take_repaired,
            Fetch: self._take_fetch,
        }

    def subscriptions(self, symbols: Sequence[str], channels: Collection[Channel]) -> list[str]:
        """Return the frames to send on opening a connection; coverage speaks of these from then on."""
        self._coverage.expect((channel, symbol) for channel in channels for symbol in symbols)
        return self.adapter.subscriptions(symbols, channels)

    def opened(self, connection: str, time_us: int, url: str = "") -> Received:
        """Note that a connection is open: its sequences and books begin anew; see `receive`."""
        return self.receive(Frame(time_us, connection, url, "ws", b"", opens=True))

    def closed(self, connection: str, time_us: int) -> None:
        """Note that a connection is gone: its books are not published until they come anew."""
        self._ended.extend(self._coverage.advance(time_us))
        self._coverage.disconnected(connection, time_us)
        for symbol, book in self._books.items():
            if book.connection == connection:
                self._invalidate(symbol, book, time_us, is_gap=False)
                book.connection = ""
                book.is_awaited = False
                book.asked_us = None  # whoever opens the next connection subscribes, and that brings it

    def receive(self, frame: Frame) -> Received:
        """Take one frame; what is due by its time (`tick`) comes with it, books as the frame leaves them."""
        now_us = frame.received_time_us
        received = Received([], [], [], [], [])
        work = _Work(frame, received, {}, [])
        if now_us < self._newest_us - REWIND_US:
            received.messages.extend(self._begin_anew(now_us))
        self._newest_us = max(self._newest_us, now_us)
        is_due_to_look = now_us >= self._next_tick_us
        if is_due_to_look:
            received.messages.extend(self._minutes(now_us))
        if now_us >= self._next_look_us:
            self._next_look_us = now_us + TICK_US  # of its own: a feed's ticks come between frames
            work.unsure.extend(self._overdue(frame))
        if frame.opens or frame.closes:
            self.closed(frame.connection, now_us)
        if not frame.closes:
            self._take_events(work)
        if work.touched:
            self._judge(work)
        if frame.transport == "ws" and not frame.closes:  # a connection that is over is forgotten
            self._coverage.heard(frame.connection, now_us)
        if is_due_to_look:
            received.messages.extend(self._due_books(now_us))
        if work.unsure:
            self._ask(list(dict.fromkeys(work.unsure)), work)
        return received

    def tick(self, now_us: int) -> list[MarketMessage]:
        """Return the books that are due and the coverage of minutes that ended.

        Cheap to call often: books are looked at every `TICK_US`. In a replay the time is the recording's.
        """
        if now_us < self._next_tick_us:
            return []
        return [*self._minutes(now_us), *self._due_books(now_us)]

    def finish(self, now_us: int, *, with_doubtful_books: bool = False) -> list[MarketMessage]:
        """Return the final book of each symbol and the coverage of the minutes still open.

        A book that was published at this very time and has not changed since is not repeated.

        Args:
            now_us: The time.
            with_doubtful_books: Books that something was missed of too, as far as they are known: for
                someone who looks at a recording, which no venue can be asked to repair.
        """
        messages = self._minutes(now_us)
        for symbol, book in self._books.items():
            is_wanted = book.is_valid or (with_doubtful_books and book.has_levels)
            if is_wanted and (book.has_changed or book.published_us != now_us):
                messages.append(self._publish(symbol, book, now_us))
        messages.extend(self._coverage.finish(now_us))
        return messages

    def _begin_anew(self, now_us: int) -> list[MarketMessage]:
        """End one recording and begin another that is older: nothing of the first is carried over."""
        messages = self.finish(self._newest_us)
        for symbol, book in self._books.items():
            self._invalidate(symbol, book, now_us, is_gap=False)
            book.has_levels = False
        self._coverage = CoverageFold(self.adapter.venue)
        self._newest_us, self._next_tick_us, self._next_look_us = now_us, 0, 0
        return messages

    def _minutes(self, now_us: int) -> list[MarketMessage]:
        messages: list[MarketMessage] = [*self._ended, *self._coverage.advance(now_us)]
        self._ended.clear()
        return messages

    def _due_books(self, now_us: int) -> Iterator[BookSnapshot]:
        self._next_tick_us = now_us - now_us % TICK_US + TICK_US
        for symbol, book in self._books.items():
            if book.is_valid and is_due(now_us=now_us, published_us=book.published_us, has_changed=book.has_changed):
                yield self._publish(symbol, book, now_us)

    def _take_events(self, work: _Work) -> None:
        received = work.received
        for event in self.adapter.receive(work.frame):
            take = self._takers.get(type(event))
            if take is not None:
                take(event, work)
            elif isinstance(event, Instrument):
                received.messages.append(event)
            elif isinstance(event, RefusedError):
                received.refusals.append(event)

    def _take_trade(self, trade: Trade, work: _Work) -> None:
        work.received.messages.append(trade)
        if trade.provenance != "backfill":  # those belong to minutes before this one
            frame = work.frame
            self._coverage.count(
                "trades", trade.symbol, trade.trade_id, connection=frame.connection, time_us=frame.received_time_us
            )

    def _take_quote(self, quote: Quote, work: _Work) -> None:
        work.received.messages.append(quote)
        frame = work.frame
        mark = _text(quote.sequence)
        self._coverage.count("quotes", quote.symbol, mark, connection=frame.connection, time_us=frame.received_time_us)

    def _take_subscribed(self, event: Subscribed, work: _Work) -> None:
        self._coverage.connected(event.connection, event.pairs, work.frame.received_time_us)
        for channel, symbol in event.pairs:
            if channel == "books" and symbol not in self._books:
                self._books[symbol] = _Book()
                self._coverage.break_off(  # until its first snapshot
                    "books", symbol, connection=event.connection, time_us=work.frame.received_time_us, is_gap=False
                )

    def _take_update(self, update: BookUpdate, work: _Work) -> None:
        book = self._books.get(update.symbol)
        if book is None:
            book = self._books[update.symbol] = _Book()
        connection = update.connection or work.frame.connection
        if update.is_snapshot:
            book.levels.replace(update.bids, update.asks)
            book.connection = connection
            book.is_valid = book.has_levels = True
            book.is_awaited = False
        elif book.has_levels and book.connection == connection:
            book.levels.apply(update.bids, update.asks)  # one in doubt is kept up, and not published
        elif book.is_valid:
            return  # another connection keeps it
        else:
            if not book.is_awaited:
                reason = "an update came without a snapshot before it"
                self._take_gap(Gap(connection, "books", update.symbol, reason), work)
            return
        book.has_changed = True
        book.sequence = update.sequence
        book.event_time_us = update.event_time_us
        work.touched[update.symbol] = book

    def _take_gap(self, gap: Gap, work: _Work) -> None:
        """Spread a gap over the channels and symbols it may concern."""
        now_us = work.frame.received_time_us
        for channel, symbol in self._concerned(gap):
            work.received.gaps.append(gap._replace(channel=channel, symbol=symbol))
            if channel != "books" or not gap.is_certain:
                self._coverage.gap(channel, symbol, connection=gap.connection, time_us=now_us, since_us=gap.since_us)
            if channel != "books":
                continue
            book = self._books.get(symbol)
            if book is None:
                book = self._books[symbol] = _Book()
            book.connection = gap.connection
            if gap.is_certain:
                self._invalidate(symbol, book, now_us)
            if not book.is_awaited:
                self._await(symbol, book, work)

    def _await(self, symbol: str, book: _Book, work: _Work) -> None:
        """Wait for a book to come anew, and ask for it unless that was done a moment ago."""
        book.is_awaited = True
        if book.asked_us is None or work.frame.received_time_us - book.asked_us >= ASK_AGAIN_US:
            work.unsure.append(symbol)

    def _take_unsynchronised(self, event: Unsynchronised, work: _Work) -> None:
        """Ask for a book that nothing was missed of, but that is not here yet."""
        book = self._books.get(event.symbol)
        if book is None:
            book = self._books[event.symbol] = _Book()
        book.connection = event.connection
        self._invalidate(event.symbol, book, work.frame.received_time_us, is_gap=False)
        self._await(event.symbol, book, work)

    def _take_repaired(self, event: Repaired, _: _Work) -> None:
        self._coverage.repaired(event.channel, event.symbol, event.since_us, event.until_us)

    def _take_fetch(self, fetch: Fetch, work: _Work) -> None:
        work.received.fetches.append(fetch)

    def _concerned(self, gap: Gap) -> Iterable[tuple[Channel, str]]:
        if gap.channel is not None and gap.symbol is not None:
            return [(gap.channel, gap.symbol)]
        return [
            (channel, symbol)
            for channel, symbol in self._coverage.carried_by(gap.connection)
            if gap.channel in (None, channel) and gap.symbol in (None, symbol)
        ]

    def _judge(self, work: _Work) -> None:
        """Judge the books that a whole frame has changed: crossed ones are given up, due ones published."""
        now_us = work.frame.received_time_us
        for symbol, book in work.touched.items():
            if not book.is_valid:
                continue  # a gap in the same frame
            if book.levels.is_crossed:
                self._take_gap(Gap(book.connection, "books", symbol, "the book is crossed"), work)
                continue
            if book.published_us is None:
                self._coverage.connected(book.connection, (("books", symbol),), now_us)
                self._coverage.heal("books", symbol, now_us)
            if is_due(now_us=now_us, published_us=book.published_us, has_changed=True):
                work.received.messages.append(self._publish(symbol, book, now_us))

    def _publish(self, symbol: str, book: _Book, now_us: int) -> BookSnapshot:
        book.published_us = now_us
        book.has_changed = False
        self._coverage.count("books", symbol, _text(book.sequence), connection=book.connection, time_us=now_us)
        bids, asks = book.levels.best()
        return BookSnapshot(
            venue=self.adapter.venue,
            symbol=symbol,
            bids=bids,
            asks=asks,
            sequence=book.sequence,
            event_time_us=book.event_time_us,
            received_time_us=now_us,
        )

    def _invalidate(self, symbol: str, book: _Book, time_us: int, *, is_gap: bool = True) -> None:
        book.is_valid = False
        book.published_us = None
        self._coverage.break_off("books", symbol, connection=book.connection, time_us=time_us, is_gap=is_gap)

    def _overdue(self, frame: Frame) -> list[str]:
        """Return the books of this frame's connection that were asked for too long ago."""
        return [
            symbol
            for symbol, book in self._books.items()
            if book.is_awaited
            and book.asked_us is not None
            and frame.received_time_us - book.asked_us >= ASK_AGAIN_US
            and book.connection == frame.connection
        ]

    def _ask(self, symbols: list[str], work: _Work) -> None:
        for symbol in symbols:
            self._books[symbol].asked_us = work.frame.received_time_us
        work.received.send.extend(self.adapter.resubscriptions(symbols))
        work.received.fetches.extend(self.adapter.book_fetches(symbols))


def _text(sequence: int | None) -> str | None:
    return None if sequence is None else str(sequence)
