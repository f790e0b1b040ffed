"""Recordings as a feed makes them: the format, what a crash or a full disk leaves, and the way back."""

from __future__ import annotations

import errno
import gzip
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from coinstream.adapters import Frame
from coinstream.errors import SettingsError
from coinstream.ingest.normalise import KINDS, Summary, normalise
from coinstream.ingest.record import MOST_WAITING_BYTES, WRITE_EVERY_US, Recorder
from coinstream.ingest.recording import read_frames
from coinstream.messages import BookSnapshot, Coverage, Instrument, Message, Quote, Trade
from scripted_binance import Venue, combined, depth, subscribed, trade
from scripted_feed import SECOND, START, Script, World

URL = "wss://data-stream.binance.vision/stream"


def frame(number: int = 0, data: bytes = b'{"a":1}') -> Frame:
    return Frame(START + number, "ws.1", URL, "ws", data)


def lines(path: Path) -> list[dict[str, Any]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz"])
def test_every_frame_is_a_line_of_the_documented_format(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    recorder = Recorder(path)
    recorder.received(Frame(START, "instruments", "https://x/exchangeInfo", "http", b'{\n"symbols":[]}'))
    recorder.turned(START + 1, "ws.1", URL, "open")
    recorder.sent(START + 2, "ws.1", URL, '{"method":"SUBSCRIBE"}')
    recorder.received(frame(3, '{"s":"\u00fc\U0001f680"}'.encode()))
    recorder.received(frame(4, b"\xff\x00"))
    recorder.turned(START + 5, "ws.1", URL, "close")
    recorder.close()
    socket = {"transport": "ws", "connection": "ws.1", "url": URL}
    assert lines(path) == [
        {
            "time": START,
            "direction": "in",
            "transport": "http",
            "connection": "instruments",
            "url": "https://x/exchangeInfo",
            "data": '{\n"symbols":[]}',
        },
        {"time": START + 1, "direction": "out", **socket, "data": "", "event": "open"},
        {"time": START + 2, "direction": "out", **socket, "data": '{"method":"SUBSCRIBE"}'},
        {"time": START + 3, "direction": "in", **socket, "data": '{"s":"\u00fc\U0001f680"}'},
        {"time": START + 4, "direction": "in", **socket, "data": "/wA=", "encoding": "base64"},
        {"time": START + 5, "direction": "out", **socket, "data": "", "event": "close"},
    ]
    assert [(f.data, f.opens, f.closes) for f in read_frames([path])] == [
        (b'{\n"symbols":[]}', False, False),
        (b"", True, False),
        ('{"s":"\u00fc\U0001f680"}'.encode(), False, False),
        (b"\xff\x00", False, False),
        (b"", False, True),
    ]


@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz"])
def test_file_is_whole_after_every_write_so_that_a_crash_costs_a_second(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    recorder = Recorder(path)
    for number in range(5):
        recorder.received(frame(number))
        recorder.tick(START + number * WRITE_EVERY_US)
        recorder.received(frame(number))  # waits for the next write, and dies with the process
        assert len(lines(path)) == 2 * number + 1
        assert len(list(read_frames([path]))) == 2 * number + 1


def test_full_buffer_is_written_before_its_second_is_over(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    recorder = Recorder(path)
    recorder.received(frame())
    recorder.tick(START)
    recorder.received(frame(1, b"x" * MOST_WAITING_BYTES))
    recorder.tick(START + 1)
    assert len(lines(path)) == 2


def test_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_text("precious\n")
    with pytest.raises(SettingsError, match="a file that does not exist yet"):
        Recorder(path)
    assert path.read_text() == "precious\n"


def test_file_that_cannot_be_made_is_a_setting_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file or directory"):
        Recorder(tmp_path / "none" / "feed.jsonl")


@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz"])
def test_full_disk_ends_the_recording_with_a_whole_line_and_a_clear_message(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    room = [1000]

    def write(file: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = data[: room[0]]
        room[0] -= len(part)
        return os.write(file, part)  # a disk takes what still fits, half a line, and then nothing

    recorder = Recorder(path, write=write)
    with capture_logs() as logs:
        for number in range(200):
            recorder.received(frame(number, os.urandom(64).hex().encode()))
            recorder.tick(START + number * WRITE_EVERY_US)
        recorder.close()
    assert recorder.failed == f"the recording {path} ended early: No space left on device"
    assert [line["event"] for line in logs] == ["recording ended"]
    kept = list(read_frames([path]))
    assert 0 < len(kept) < 20
    assert [f.received_time_us for f in kept] == [START + number for number in range(len(kept))]


def recorded_feed(path: Path, venue: Venue, scripts: list[Script], **more: Any) -> list[Message]:
    """Run a feed with a recorder and return what it published."""
    venue.world.scripts = scripts  # type: ignore[assignment]
    recorder = Recorder(path, **more)
    venue.world.run(recorder=recorder)
    recorder.close()
    return venue.world.producer.messages


QUOTE = combined({"u": 6, "s": "BTCUSDT", "b": "99", "B": "1", "a": "101", "A": "1"})


@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz"])
def test_recorded_feed_gives_the_same_messages_again(tmp_path: Path, name: str) -> None:
    venue, path = Venue(), tmp_path / name
    published = recorded_feed(
        path,
        venue,
        [
            Script(
                [subscribed("btcusdt", "ethusdt"), trade(1), depth(6, 6)],
                later=[[depth(7, 7), QUOTE, trade(2)], [trade(5), b"{garbage"], [depth(9, 9)], [trade(6)]],
                ends="cut",
            ),
            Script(
                [subscribed("btcusdt", "ethusdt")],
                later=[[trade(9), QUOTE], [depth(6, 7), depth(8, 8)], [trade(10), depth(9, 9)]],
                then=venue.world.halt,
            ),
        ],
    )
    summary = Summary()
    again = list(normalise(read_frames([path]), kinds=list(KINDS), summary=summary))
    for kind in (Instrument, Trade, Quote):
        wanted = [message for message in published if isinstance(message, kind)]
        assert [message for message in again if isinstance(message, kind)] == wanted
        assert len(wanted) >= 2
    provenances = [message.provenance for message in again if isinstance(message, Trade)]
    assert provenances.count("backfill") == 4  # 3 and 4, 7 and 8
    assert [last_book(again, symbol) for symbol in ("BTC-USDT", "ETH-USDT")] == [
        last_book(published, symbol) for symbol in ("BTC-USDT", "ETH-USDT")
    ]
    assert book_states(again) <= book_states(published)
    assert rows(again) == rows(published)
    assert sum(summary.refusals.values()) == len(venue.world.producer.letters) == 1


def last_book(messages: list[Message], symbol: str) -> tuple[Any, ...]:
    """The final book, but for the moment at which the feed was stopped."""
    last = [found for found in messages if isinstance(found, BookSnapshot) and found.symbol == symbol][-1]
    return last.bids, last.asks, last.sequence, last.event_time_us


def book_states(messages: list[Message]) -> set[tuple[Any, ...]]:
    """What books were published as, whenever: a feed's clock publishes between frames, too."""
    return {(b.symbol, b.sequence, b.bids, b.asks) for b in messages if isinstance(b, BookSnapshot)}


def rows(messages: list[Message]) -> dict[tuple[str, str], tuple[str, str | None, str | None]]:
    return {
        (row.channel, row.symbol): (row.status, row.first, row.last)
        for row in messages
        if isinstance(row, Coverage) and row.channel != "books"
    }


def test_lines_stand_in_order_of_time_though_books_come_by_another_way(tmp_path: Path) -> None:
    venue, path = Venue(), tmp_path / "feed.jsonl"
    steps = [[depth(6 + n, 6 + n), trade(n)] for n in range(10)]
    recorded_feed(path, venue, [Script([subscribed()], later=steps, then=venue.world.halt)])
    found = lines(path)
    assert not [(early, late) for early, late in pairwise(found) if early["time"] > late["time"]]
    kinds = [(line["direction"], line["transport"], line.get("event")) for line in found]
    assert kinds[:2] == [("in", "http", None), ("out", "ws", "open")]
    assert kinds[-1] == ("in", "ws", None)
    assert [line["url"].rpartition("/")[2] for line in found if line["transport"] == "http"] == [
        "exchangeInfo",
        "depth?symbol=BTCUSDT&limit=1000",
    ]
    assert sum(line["direction"] == "out" and "SUBSCRIBE" in line["data"] for line in found) == 1


def test_feed_goes_on_when_its_recording_cannot(tmp_path: Path) -> None:
    def write(_file: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    venue = Venue()
    steps = [[trade(n)] for n in range(2, 6)]
    scripts = [Script([subscribed(), trade(1)], later=steps, then=venue.world.halt)]
    published = recorded_feed(tmp_path / "feed.jsonl", venue, scripts, write=write)
    assert [message.trade_id for message in published if isinstance(message, Trade)] == ["1", "2", "3", "4", "5"]
    assert venue.world.producer.flushed == len(published)


def test_connection_that_ended_is_known_to_be_gone_when_the_recording_is_read_again(tmp_path: Path) -> None:
    venue, path = Venue(), tmp_path / "feed.jsonl"

    def silence() -> None:
        venue.world.clock.us = START + 150 * SECOND

    scripts = [
        Script([subscribed()], later=[[], [], []], then=silence, ends="cut"),
        Script([subscribed()], later=[[depth(6, 6)]], then=venue.world.halt),
    ]
    recorded_feed(path, venue, scripts)
    again = normalise(read_frames([path]), kinds=["books"])
    times = [(book.received_time_us - START) // SECOND for book in again if isinstance(book, BookSnapshot)]
    assert not [second for second in times if 5 < second < 150]


def test_recorded_feed_over_two_connections_gives_the_same_messages_again(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl.gz"
    listed = {"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "status": "TRADING"}

    def answer(request: httpx.Request) -> httpx.Response:
        book = {"lastUpdateId": 5, "bids": [["100", "5"]], "asks": [["101", "1"]]}
        return httpx.Response(200, json=book if request.url.path.endswith("/depth") else {"symbols": [listed]})

    world = World([], symbols=("BTC-USDT-PERP",), venue="binance_futures", answer=answer)
    ticker = combined(
        {"e": "bookTicker", "u": 6, "s": "BTCUSDT", "b": "99", "B": "1", "a": "101", "A": "1", "E": 1767322980000}
    )
    books = Script([subscribed(channels=("bookTicker", "depth@100ms"))], later=[[ticker], [ticker], [ticker]])
    world.scripts = [books, Script([trade(1)], later=[[trade(2)], [], [], [trade(3)]], then=world.halt)]
    recorder = Recorder(path)
    world.run(recorder=recorder)
    recorder.close()
    again = list(normalise(read_frames([path]), kinds=list(KINDS)))
    for kind in (Trade, Quote):
        assert [m for m in again if isinstance(m, kind)] == world.producer.of(kind)
        assert len(world.producer.of(kind)) == 3
    assert last_book(again, "BTC-USDT-PERP") == last_book(world.producer.messages, "BTC-USDT-PERP")
    assert {line["connection"] for line in lines(path)} == {
        "instruments",
        "ws.public.1",
        "ws.market.1",
        "http.public.1",
    }
