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

from coinstream.adapters import VENUES, BookUpdate, Frame, Gap, dialects_of_venue
from coinstream.errors import FatalError, RefusedError
from coinstream.ingest.normalise import KINDS, Summary, normalise
from coinstream.ingest.recording import read_frames
from coinstream.messages import BookSnapshot, Message, Quote, Trade, check

ROOT = Path(__file__).resolve().parents[3]
ALL_FRAMES = ROOT / "tests" / "frames"
FRAMES = ALL_FRAMES / "coinbase"
RECORDINGS = ROOT.parent / "shared" / "recordings"


@pytest.mark.parametrize(
    "frames",
    ["coinbase/exchange", "coinbase/advanced", "binance/streams", "binance_us/streams", "binance_futures/streams"],
)
@pytest.mark.parametrize("kind", ["instruments", "trades", "quotes", "books"])
def test_own_frames_give_the_expected_messages(frames: str, kind: str) -> None:
    expected = json.loads((ALL_FRAMES / f"{frames}.expected.json").read_text())[kind]
    summary = Summary()
    messages = list(normalise(read_frames([ALL_FRAMES / f"{frames}.jsonl"]), kinds=[kind], summary=summary))
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


@pytest.fixture(scope="module", params=["coinbase", "binance", "binance_us", "binance_futures"])
def venue(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def summary() -> Summary:
    return Summary()


@pytest.fixture(scope="module")
def recorded(venue: str, summary: Summary) -> list[Message]:
    frames = read_frames([RECORDINGS / f"{venue}.jsonl.gz"])
    summary.__init__()  # type: ignore[misc]
    return list(normalise(frames, kinds=list(KINDS), summary=summary))


@pytest.fixture(scope="module")
def expected(venue: str) -> Any:
    return json.loads((RECORDINGS / "expected" / f"{venue}.json").read_text())


@needs_recordings
def test_recording_holds_nothing_that_is_refused_or_missing(
    recorded: list[Message], summary: Summary, expected: Any
) -> None:
    assert recorded
    assert summary.frames == expected["frames"]["ws_in"] + expected["frames"]["http_in"]
    assert not summary.refusals
    assert not summary.gaps


@needs_recordings
@pytest.mark.parametrize("provenance", ["live", "backfill"])
def test_recorded_trades_agree_with_the_expected_values(
    recorded: list[Message], expected: Any, provenance: str
) -> None:
    wanted, ours = expected["trades"][provenance], expected["symbols"]
    trades = [message for message in recorded if isinstance(message, Trade) and message.provenance == provenance]
    assert len(trades) == wanted["count"]
    sides = Counter({side: count for side, count in wanted["sides"].items() if count})
    assert Counter(trade.aggressor_side for trade in trades) == sides
    for symbol, facts in wanted["per_symbol"].items():
        own = [trade for trade in trades if trade.symbol == ours[symbol]]
        assert len(own) == facts["count"]
        assert sum(Decimal(trade.size) for trade in own) == Decimal(facts["total_size"])
        assert [sum(trade.aggressor_side == side for trade in own) for side in ("buy", "sell")] == [
            facts["buy"],
            facts["sell"],
        ]
    for part, own in ((wanted["first"], trades[:5]), (wanted["last"], trades[-5:])):
        assert [(t.symbol, t.aggressor_side, t.price, t.size, t.trade_id) for t in own] == [
            (ours[t["symbol"]], t["side"], t["price"], t["size"], t["id"]) for t in part
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
        quote, wanted = last[expected["symbols"][symbol]], facts["last"]
        assert sum(each.symbol == quote.symbol for each in quotes) == facts["count"]
        assert (quote.bid, quote.ask) == (wanted["bid_price"], wanted["ask_price"])
        assert (quote.bid_size, quote.ask_size) == (wanted.get("bid_size"), wanted.get("ask_size"))
        time_ns = wanted["exchange_time_ns"]
        assert quote.event_time_us == (None if time_ns is None else time_ns // 1000)
        assert quote.received_time_us == wanted["received_us"]


@needs_recordings
def test_recorded_books_end_as_expected_and_come_once_a_second(recorded: list[Message], expected: Any) -> None:
    books = [message for message in recorded if isinstance(message, BookSnapshot)]
    for symbol, facts in expected["book"]["per_symbol"].items():
        own = [book for book in books if book.symbol == expected["symbols"][symbol]]
        assert [list(level) for level in own[-1].bids[:10]] == [level[:2] for level in facts["bids"]]
        assert [list(level) for level in own[-1].asks[:10]] == [level[:2] for level in facts["asks"]]
        times = [book.received_time_us for book in own]
        assert min(late - early for early, late in pairwise(times[:-1])) >= 1_000_000
    wanted = {expected["symbols"][symbol] for symbol in expected["book"]["per_symbol"]}
    assert {book.symbol for book in books[-len(wanted) :]} == wanted


@needs_recordings
@pytest.mark.parametrize("name", ["binance", "binance_us", "binance_futures"])
def test_recorded_changes_of_books_are_applied_or_discarded_as_expected(name: str) -> None:
    wanted = json.loads((RECORDINGS / "expected" / f"{name}.json").read_text())
    adapter = dialects_of_venue(name)[0].adapter()
    snapshots, applied, received = Counter[str](), Counter[str](), Counter[str]()
    sequence: dict[str, int | None] = {}
    for frame in read_frames([RECORDINGS / f"{name}.jsonl.gz"]):
        received[""] += b"depthUpdate" in frame.data
        for event in adapter.receive(frame):
            assert not isinstance(event, Gap)
            if isinstance(event, BookUpdate):
                (snapshots if event.is_snapshot else applied)[event.symbol] += 1
                sequence[event.symbol] = event.sequence
    for symbol, facts in wanted["book"]["per_symbol"].items():
        ours = wanted["symbols"][symbol]
        assert snapshots[ours] == facts["snapshots"]
        assert applied[ours] == facts["updates_applied"]
        assert sequence[ours] == int(facts["last_sequence"])
    assert received[""] - applied.total() == wanted["book"]["updates_discarded"]
