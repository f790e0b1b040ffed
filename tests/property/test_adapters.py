"""No frame, however mangled, stops an adapter, and whatever it lets through keeps its type's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from coinstream.adapters import (
    DIALECTS,
    BookUpdate,
    Dialect,
    Frame,
    Gap,
    coingecko,
    coinpaprika,
    dialects_of_venue,
)
from coinstream.errors import RefusedError
from coinstream.ingest.normalise import KINDS, Summary, normalise
from coinstream.ingest.recording import read_frames
from coinstream.messages import AssetSnapshot, Coverage, check, decode, encode

FRAMES = Path(__file__).resolve().parents[1] / "frames"
RECORDED = [frame for path in sorted(FRAMES.glob("*/*.jsonl")) for frame in read_frames([path]) if not frame.opens]
TICKERS = b"""[{"id":"btc-bitcoin","name":"Bitcoin","symbol":"BTC","rank":1,"total_supply":1,"max_supply":2,
"current_price":1.5,"market_cap":1.5,"market_cap_rank":1,"quotes":{"USD":{"price":1.5,"market_cap":1.5}}}]"""

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=4),
        st.sampled_from(["", "0", "-1", "1e-18", "1e-19", "NaN", "1E400", "UNKNOWN", "2026-01-02T03:04:05Z", "9" * 17]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found.append((value, key))
        found.extend(places(item))
    return found


@st.composite
def mangled(draw: st.DrawFn, original: bytes) -> bytes:
    """The bytes with one value replaced or removed, or cut, or with a byte changed."""
    how = draw(st.sampled_from(["replace", "remove", "cut", "byte"]))
    if how == "cut":
        return original[: draw(st.integers(0, len(original)))]
    if how == "byte":
        at = draw(st.integers(0, len(original) - 1))
        return original[:at] + draw(st.binary(min_size=1, max_size=1)) + original[at + 1 :]
    value = json.loads(original)
    container, key = draw(st.sampled_from(places(value)))
    if how == "remove":
        del container[key]
    else:
        container[key] = draw(json_values)
    return json.dumps(value).encode()


@given(st.data(), st.integers(0, len(RECORDED) - 1))
def test_mangled_frame_stops_nothing_and_lets_only_sound_messages_through(data: st.DataObject, place: int) -> None:
    frames = list(RECORDED)
    frames[place] = frames[place]._replace(data=data.draw(mangled(frames[place].data)))
    summary = Summary()
    for message in normalise(frames, kinds=list(KINDS), summary=summary):
        check(message)
        if not isinstance(message, Coverage):
            assert decode(type(message), encode(message)) == message
    assert summary.frames == len(frames)
    assert summary.messages["trade live"] >= 1


@given(
    st.sampled_from(DIALECTS),
    st.sampled_from(["ws", "depth?symbol=BTCUSDT", "aggTrades?symbol=BTCUSDT&fromId=7", "exchangeInfo", "products"]),
    st.one_of(st.binary(max_size=40), json_values),
)
def test_any_bytes_and_any_json_are_refused_or_say_nothing(dialect: Dialect, address: str, content: Any) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    transport: Any = "ws" if address == "ws" else "http"
    url = dialect.websocket_url if address == "ws" else f"https://example.org/api/v3/{address}"
    events = dialect.adapter().receive(Frame(1767323045000000, "c", url, transport, data))
    assert isinstance(events, list)


class Book(NamedTuple):
    """The venue's side of a book: its changes, each over some update ids."""

    futures: bool
    changes: list[dict[str, Any]]
    levels: list[dict[str, str]]  # after each change, and before the first


@st.composite
def books(draw: st.DrawFn) -> Book:
    futures = draw(st.booleans())
    last, levels = 100, {"10": "1"}
    changes: list[dict[str, Any]] = []
    states = [dict(levels)]
    for _ in range(draw(st.integers(1, 12))):
        first = last + 1 + (draw(st.integers(0, 3)) if futures else 0)
        change = draw(st.dictionaries(st.sampled_from(["7", "8", "9", "10"]), st.sampled_from(["0", "1", "2"])))
        changes.append(
            {"e": "depthUpdate", "E": 1767323045000, "s": "BTCUSDT", "U": first, "u": first + draw(st.integers(0, 2))}
            | {"b": [list(level) for level in change.items()], "a": []}
            | ({"pu": last} if futures else {})
        )
        last = changes[-1]["u"]
        levels.update(change)
        levels = {price: size for price, size in levels.items() if size != "0"}
        states.append(dict(levels))
    return Book(futures, changes, states)


@given(st.data(), books())
def test_binance_book_equals_the_venues_whatever_is_lost_doubled_or_late(data: st.DataObject, book: Book) -> None:
    """Whenever the adapter lets a book stand, it is the venue's after the change that it names."""
    venue = "binance_futures" if book.futures else "binance"
    (dialect,) = dialects_of_venue(venue)
    adapter = dialect.adapter()
    ends = [100, *(change["u"] for change in book.changes)]
    order = data.draw(st.lists(st.integers(0, len(book.changes) - 1), min_size=1, max_size=20))
    held: dict[str, str] | None = None
    snapshots = 0
    for place in order:
        if data.draw(st.booleans()):
            at = data.draw(st.integers(0, len(ends) - 1))
            body = {"lastUpdateId": ends[at], "bids": [list(level) for level in book.levels[at].items()], "asks": []}
            url = f"https://x/depth?symbol=BTCUSDT&limit={snapshots}"
            frame = Frame(1767323045000000, "http.1", url, "http", json.dumps(body).encode())
            snapshots += 1
        else:
            frame = Frame(1767323045000000, "ws.1", "wss://x", "ws", json.dumps(book.changes[place]).encode())
        for event in adapter.receive(frame):
            if isinstance(event, Gap):
                held = None
                adapter.book_fetches(["BTCUSDT"])
            elif isinstance(event, BookUpdate):
                held = ({} if event.is_snapshot else dict(held or {})) | dict(event.bids)
                held = {price: size for price, size in held.items() if size != "0"}
                assert event.sequence is not None
                sequence = event.sequence
        if held is not None:
            assert held == book.levels[ends.index(sequence)]


@given(st.data(), st.sampled_from([coinpaprika, coingecko]))
def test_mangled_list_of_assets_gives_sound_snapshots_or_refusals(data: st.DataObject, source: Any) -> None:
    body = data.draw(mangled(TICKERS))
    for result in source.assets(body, minute=1767323040000000, received_time_us=1767323045000000):
        if isinstance(result, RefusedError):
            assert str(result)
        else:
            check(result)
            assert decode(AssetSnapshot, msgspec.json.encode(result)) == result
