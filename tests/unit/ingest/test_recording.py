"""The recording's format, and a line that breaks it."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.adapters import Frame
from coinstream.errors import FatalError
from coinstream.ingest.recording import read_frames

URL = "wss://ws.example.org"


def line(**changes: Any) -> str:
    fields = {"time": 1767323045000001, "direction": "in", "transport": "ws", "connection": "ws.1", "url": URL}
    return json.dumps({key: value for key, value in (fields | {"data": "{}"} | changes).items() if value is not None})


def test_frames_are_read_in_order_from_plain_and_zipped_files(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_text("\n".join([line(direction="out", event="open", data=""), line(direction="out"), "", line()]))
    zipped.write_bytes(gzip.compress(line(data="SMO8", encoding="base64", transport="http").encode()))
    assert list(read_frames([plain, str(zipped)])) == [
        Frame(1767323045000001, "ws.1", URL, "ws", b"", opens=True),
        Frame(1767323045000001, "ws.1", URL, "ws", b"{}"),
        Frame(1767323045000001, "ws.1", URL, "http", b"H\xc3\xbc"),
    ]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not a recorded frame"),
        ("[]", "object"),
        (line(time="now"), "time: "),
        (line(time=1767323045), "time: "),
        (line(url=None), "url: is missing"),
        (line(transport="fax"), "transport: "),
        (line(encoding="base32"), "encoding: "),
        (line(encoding="base64", data="?"), "not a recorded frame"),
    ],
)
def test_bad_line_is_fatal_and_names_file_and_line(tmp_path: Path, bad: str, reason: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f"{line()}\n{bad}\n{line()}\n")
    frames = read_frames([path])
    next(frames)
    with pytest.raises(FatalError, match=rf"x\.jsonl, line 2: .*{reason}"):
        next(frames)


def test_file_that_is_missing_or_no_recording_is_fatal(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"none\.jsonl cannot be read \(No such file"):
        list(read_frames([tmp_path / "none.jsonl"]))
    whole = gzip.compress("\n".join(line(data=str(number)) for number in range(100)).encode())
    damaged = bytearray(whole)
    damaged[-6] ^= 1  # of the checksum
    for content in (bytes(damaged), b"plain text"):
        path = tmp_path / "cut.jsonl.gz"
        path.write_bytes(content)
        with pytest.raises(FatalError, match=r"cut\.jsonl\.gz, after line \d+: not a whole gzip file"):
            list(read_frames([path]))


@given(keep=st.integers(0, 10_000))
def test_file_that_was_cut_is_read_up_to_there_and_the_next_one_after_it(keep: int) -> None:
    lines = [line(data=f"{number}: é{{}}").encode() + b"\n" for number in range(8)]
    whole = b"".join(lines)
    cut = whole[: keep % (len(whole) + 1)]
    # A JSON object is whole without the end of its line.
    read = sum(cut.startswith(b"".join(lines[: count + 1]).rstrip()) for count in range(8))
    told: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "cut.jsonl", Path(folder) / "next.jsonl"
        first.write_bytes(cut)
        second.write_text(line(data="next") + "\n")
        frames = list(read_frames([first, second], on_cut=told.append))
    assert [frame.data for frame in frames] == [*(f"{number}: é{{}}".encode() for number in range(read)), b"next"]
    is_cut = cut.rstrip() != b"".join(lines[:read]).rstrip()
    assert [f"cut.jsonl was cut in or after line {read + 1};" in words for words in told] == [True] * is_cut


def test_gzip_that_was_cut_is_read_up_to_there(tmp_path: Path) -> None:
    members = [gzip.compress((line(data=str(number)) + "\n").encode()) for number in range(3)]
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(b"".join(members)[:-9])
    told: list[str] = []
    frames = list(read_frames([path], on_cut=told.append))
    assert [frame.data for frame in frames][:2] == [b"0", b"1"]
    assert len(told) == 1
    assert "cut.jsonl.gz was cut in or after line" in told[0]
