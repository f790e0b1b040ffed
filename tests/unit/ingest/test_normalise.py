"""Whole recordings: our own small ones value by value, and the shared real one against its expected values."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coinstream.adapters import VENUES, Frame
from coinstream.errors import FatalError, RefusedError
from coinstream.ingest.normalise import KINDS, Summary, normalise
from coinstream.ingest.recording import read_frames
from coinstream.messages import BookSnapshot, Message, Quote, Trade, check

ROOT = Path(__file__).resolve().parents[3]
FRAMES = ROOT / "tests" / "frames" / "coinbase"
RECORDINGS = ROOT.parent / "shared" / "recordings"


@pytest.mark.parametrize("dialect", ["exchange", "advanced"])
@pytest.mark.parametrize("kind", ["instruments", "trades", "quotes", "books"])
def test_own_frames_give_the_expected_messages(dialect: str, kind: str) -> None:
    expected = json.loads((FRAMES / f"{dialect}.expected.json").read_text())[kind]
    summary = Summary()
    messages = list(normalise(read_frames([FRAMES / f"{dialect}.jsonl"]), kinds=[kind], summary=summary))
    assert json.loads(msgspec.json.encode(messages)) == expected
    assert not summary.refusals
    assert not summary.gaps
    for message in messages:
        check(message)


def test_both_dialects_of_a_venue_stand_in_one_recording() -> None:
    files = [FRAMES / "exchange.jsonl", FRAMES / "advanced.jsonl"]
    summary = Summary()
    list(normalise(read_frames(files), summary=summary))
    assert summary.messages == {"trade backfill": 3, "trade live": 5, "quote": 4, "book_snapshot": 4}


def test_unknown_address_is_told_by_the_frames_when_the_venue_is_named() -> None:
    frames = [frame._replace(url="ws://127.0.0.1:9") for frame in read_frames([FRAMES / "advanced.jsonl"])]
    ids = [
        trade.trade_id for trade in normalise(frames, venue="coinbase", kinds=["trades"]) if isinstance(trade, Trade)
    ]
    assert ids == ["9", "10", "11", "12", "1"]


def test_unknown_address_without_a_venue_stops_and_names_the_venues() -> None:
    frame = Frame(1767323045000000, "ws.1", "wss://example.org", "ws", b"{}")
    with pytest.raises(FatalError, match=rf"example\.org.*--venue, one of {', '.join(VENUES)}"):
        list(normalise([frame]))


def test_unknown_venue_or_kind_is_fatal_before_any_frame_is_read() -> None:
    with pytest.raises(FatalError, match=f"venue 'mtgox' is not known; known are {', '.join(VENUES)}"):
        normalise([], venue="mtgox")
    with pytest.raises(FatalError, match="messages 'order' are not known; known are trades, quotes, books"):
        normalise([], kinds=["order"])


def test_refusals_are_told_with_their_frame_and_counted_by_reason() -> None:
    frames = list(read_frames([FRAMES / "exchange.jsonl"]))
    bad = [frames[-1]._replace(data=data) for data in (b'{"type":"match', b'{"type":"wat"}', b'{"type":"wut"}')]
    told: list[tuple[Frame, RefusedError]] = []
    summary = Summary()
    kept = list(normalise([*frames, *bad], summary=summary, on_refusal=lambda *call: told.append(call)))
    assert [frame.data for frame, _ in told] == [frame.data for frame in bad]
    assert sum(summary.refusals.values()) == 3
    assert len(kept) == 6
    assert summary.frames == 12  # nine of the file, three bad ones, the open none


needs_recordings = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="the real recordings stand beside the checkout of the project's own machine only"
)


@pytest.fixture(scope="module")
def recorded() -> list[Message]:
    return list(normalise(read_frames([RECORDINGS / "coinbase.jsonl.gz"]), kinds=list(KINDS)))


@pytest.fixture(scope="module")
def expected() -> Any:
    return json.loads((RECORDINGS / "expected" / "coinbase.json").read_text())


@needs_recordings
@pytest.mark.parametrize("provenance", ["live", "backfill"])
def test_recorded_trades_agree_with_the_expected_values(
    recorded: list[Message], expected: Any, provenance: str
) -> None:
    wanted = expected["trades"][provenance]
    trades = [message for message in recorded if isinstance(message, Trade) and message.provenance == provenance]
    assert len(trades) == wanted["count"]
    assert Counter(trade.aggressor_side for trade in trades) == wanted["sides"]
    for symbol, facts in wanted["per_symbol"].items():
        own = [trade for trade in trades if trade.symbol == symbol]
        assert len(own) == facts["count"]
        assert sum(Decimal(trade.size) for trade in own) == Decimal(facts["total_size"])
        assert [sum(trade.aggressor_side == side for trade in own) for side in ("buy", "sell")] == [
            facts["buy"],
            facts["sell"],
        ]
    for part, own in ((wanted["first"], trades[:5]), (wanted["last"], trades[-5:])):
        assert [(t.symbol, t.aggressor_side, t.price, t.size, t.trade_id) for t in own] == [
            (t["symbol"], t["side"], t["price"], t["size"], t["id"]) for t in part
        ]
        assert [(t.event_time_us, t.received_time_us) for t in own] == [
            (t["exchange_time_ns"] // 1000, t["received_us"]) for t in part
        ]


@needs_recordings
def test_recorded_quotes_agree_with_the_expected_values(recorded: list[Message], expected: Any) -> None:
    quotes = [message for message in recorded if isinstance(message, Quote)]
    assert len(quotes) == expected["quotes"]["count"]
    last = {quote.symbol: quote for quote in quotes}
    for symbol, facts in expected["quotes"]["per_symbol"].items():
        assert sum(quote.symbol == symbol for quote in quotes) == facts["count"]
        assert (last[symbol].bid, last[symbol].ask) == (facts["last"]["bid_price"], facts["last"]["ask_price"])
        assert last[symbol].bid_size is None


@needs_recordings
def test_recorded_books_end_as_expected_and_come_once_a_second(recorded: list[Message], expected: Any) -> None:
    books = [message for message in recorded if isinstance(message, BookSnapshot)]
    for symbol, facts in expected["book"]["per_symbol"].items():
        own = [book for book in books if book.symbol == symbol]
        assert [list(level) for level in own[-1].bids[:10]] == [level[:2] for level in facts["bids"]]
        assert [list(level) for level in own[-1].asks[:10]] == [level[:2] for level in facts["asks"]]
        times = [book.received_time_us for book in own]
        assert min(late - early for early, late in pairwise(times[:-1])) >= 1_000_000
    assert {book.symbol for book in books[-10:]} == set(expected["book"]["per_symbol"])
