"""Promise 3 as a property: no replay, split or late writer changes what the log makes of MongoDB."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinstream.messages import AssetSnapshot, BookSnapshot, DecodedBatch, Instrument, Message, Quote, Trade
from coinstream.stores.mongodb.documents import (
    asset_document_id,
    asset_history_document_id,
    instrument_document_id,
    trade_document_id,
)
from coinstream.stores.mongodb.write import MongoWriter
from integration.mongodb.conftest import Database
from integration.mongodb.samples import (
    MINUTE_US,
    RECORD_MS,
    TIME_US,
    asset,
    batch,
    book,
    instrument,
    none_refused,
    quote,
    trade,
)

Expected = dict[str, dict[str, tuple[Any, int]]]
"""By collection or part, by ``_id``: the message that must stand there and its offset."""

_time = st.integers(0, 2)
_symbol = st.sampled_from(["BTC-USD", "ETH-USD"])
_names = itertools.count()

MESSAGES: dict[type[Any], st.SearchStrategy[Any]] = {
    Trade: st.builds(
        lambda symbol, trade_id, at, price: trade(trade_id, symbol=symbol, event_time_us=TIME_US + at, price=price),
        _symbol,
        st.sampled_from(["9", "10", "010", "a", "b"]),
        _time,
        st.sampled_from(["1", "1.0", "2"]),
    ),
    Quote: st.builds(
        lambda symbol, at, sequence, bid: quote(
            symbol=symbol, received_time_us=TIME_US + at, sequence=sequence, bid=bid
        ),
        _symbol,
        _time,
        st.sampled_from([None, 0, 1]),
        st.sampled_from(["1", "2"]),
    ),
    BookSnapshot: st.builds(
        lambda symbol, at, price: book(symbol=symbol, received_time_us=TIME_US + at, bids=((price, "1"),)),
        _symbol,
        _time,
        st.sampled_from(["1", "2"]),
    ),
    Instrument: st.builds(
        lambda symbol, at, status: instrument(symbol=symbol, received_time_us=TIME_US + at, status=status),
        _symbol,
        _time,
        st.sampled_from(["online", "offline"]),
    ),
    AssetSnapshot: st.builds(
        lambda minute, at, price: asset(
            minute=MINUTE_US + 60_000_000 * minute, received_time_us=TIME_US + at, price_usd=price
        ),
        st.integers(0, 1),
        _time,
        st.sampled_from(["1", "2"]),
    ),
}


def trade_order(one: Trade) -> tuple[Any, ...]:
    digits = one.trade_id.isdigit()
    return one.event_time_us, not digits, int(one.trade_id) if digits else 0, one.trade_id.encode()


def fold(kind: type[Any], log: list[Any]) -> Expected:
    """Word the rules once more, slowly, over the log as it is."""
    expected: Expected = {}

    def keep(where: str, key: str, message: Any, offset: int, wins: Callable[[Any, Any], bool]) -> None:
        held = expected.setdefault(where, {}).get(key)
        if held is None or wins(message, held[0]):
            expected[where][key] = (message, offset)

    for offset, one in enumerate(log):
        if kind is Trade:
            keep("trades", trade_document_id(one), one, offset, lambda _new, _held: False)
            last = instrument_document_id(one)
            keep("last_trade", last, one, offset, lambda new, held: trade_order(new) >= trade_order(held))
        elif kind is AssetSnapshot:
            key = asset_history_document_id(one)
            keep("asset_history", key, one, offset, lambda new, held: new.received_time_us > held.received_time_us)
            order = lambda a: (a.minute, a.received_time_us)  # noqa: E731 - two lines are enough
            keep("assets", asset_document_id(one), one, offset, lambda new, held, o=order: o(new) > o(held))
        else:
            part = {Quote: "best", BookSnapshot: "book", Instrument: "facts"}[kind]
            order = lambda m: (m.received_time_us, getattr(m, "sequence", 0) or 0)  # noqa: E731 - as above
            keep(part, instrument_document_id(one), one, offset, lambda new, held, o=order: o(new) >= o(held))
    return expected


def stored(database: Database, expected: Expected) -> Expected:
    """Read what stands where the fold says that something must."""
    reader = database.reader()
    found: Expected = {}
    for where, documents in expected.items():
        if where in {"trades", "assets", "asset_history"}:
            read: dict[str, Any] = dict(getattr(reader, where)(documents))
        else:
            read = {key: getattr(parts, where) for key, parts in reader.instruments(documents).items()}
        found[where] = {key: (one.message, one.log.offset) for key, one in read.items()}
    return found


@st.composite
def logs(draw: st.DrawFn) -> tuple[type[Message], list[Any]]:
    kind = draw(st.sampled_from(list(MESSAGES)))
    return kind, draw(st.lists(MESSAGES[kind], min_size=1, max_size=14))


def renamed(kind: type[Any], log: list[Any], name: str) -> list[Any]:
    """The same log of a venue or source of its own, so that examples share a database and no document."""
    field = "source" if kind is AssetSnapshot else "venue"
    return [type(one)(**({f: getattr(one, f) for f in one.__struct_fields__} | {field: name})) for one in log]


def cut(kind: type[Any], log: list[Any], start: int, end: int) -> DecodedBatch:
    return batch(kind, log[start:end], start=start, record_ms=RECORD_MS)


QUICK = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(given_log=logs(), data=st.data())
def test_any_split_and_any_replay_from_an_earlier_offset_leaves_the_fold_of_the_log(
    database: Database, given_log: tuple[type[Message], list[Any]], data: st.DataObject
) -> None:
    """At-least-once: a consumer may fall back to any earlier offset, cut anew, and a late writer may join in."""
    kind, log = given_log
    log = renamed(kind, log, f"r{next(_names)}")
    writers: list[MongoWriter] = [database.writer(), database.writer()]
    done = 0
    while done < len(log):
        start = data.draw(st.integers(0, done), label="start")
        end = data.draw(st.integers(start + 1, len(log)), label="end")
        who = data.draw(st.integers(0, 1), label="writer")
        writers[who].write([cut(kind, log, start, end)], none_refused)
        done = max(done, end)
    expected = fold(kind, log)
    assert stored(database, expected) == expected


@QUICK
@given(given_log=logs().filter(lambda drawn: drawn[0] is not Trade), data=st.data())
def test_versioned_state_does_not_depend_on_the_order_of_writes_at_all(
    database: Database, given_log: tuple[type[Message], list[Any]], data: st.DataObject
) -> None:
    kind, log = given_log
    log = renamed(kind, log, f"o{next(_names)}")
    ends = sorted({*data.draw(st.sets(st.integers(1, len(log))), label="ends"), len(log)})
    batches = [cut(kind, log, start, end) for start, end in itertools.pairwise([0, *ends])]
    writer = database.writer()
    for one in data.draw(st.permutations(batches + batches[:1]), label="order"):
        writer.write([one], none_refused)
    expected = fold(kind, log)
    assert stored(database, expected) == expected
