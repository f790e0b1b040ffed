"""No frame, however mangled, stops an adapter, and whatever it lets through keeps its type's rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from coinstream.adapters import DIALECTS, Dialect, Frame, coingecko, coinpaprika
from coinstream.errors import RefusedError
from coinstream.ingest.normalise import KINDS, Summary, normalise
from coinstream.ingest.recording import read_frames
from coinstream.messages import AssetSnapshot, Coverage, check, decode, encode

FRAMES = Path(__file__).resolve().parents[1] / "frames" / "coinbase"
RECORDED = [frame for path in sorted(FRAMES.glob("*.jsonl")) for frame in read_frames([path]) if not frame.opens]
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


@given(st.sampled_from(DIALECTS), st.sampled_from(["ws", "http"]), st.one_of(st.binary(max_size=40), json_values))
def test_any_bytes_and_any_json_are_refused_or_say_nothing(dialect: Dialect, transport: Any, content: Any) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    events = dialect.adapter().receive(Frame(1767323045000000, "c", dialect.websocket_url, transport, data))
    assert isinstance(events, list)


@given(st.data(), st.sampled_from([coinpaprika, coingecko]))
def test_mangled_list_of_assets_gives_sound_snapshots_or_refusals(data: st.DataObject, source: Any) -> None:
    body = data.draw(mangled(TICKERS))
    for result in source.assets(body, minute=1767323040000000, received_time_us=1767323045000000):
        if isinstance(result, RefusedError):
            assert str(result)
        else:
            check(result)
            assert decode(AssetSnapshot, msgspec.json.encode(result)) == result
