"""The recording's format, and a line that breaks it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

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


def test_file_that_is_missing_or_cut_short_is_fatal(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"none\.jsonl cannot be read \(No such file"):
        list(read_frames([tmp_path / "none.jsonl"]))
    whole = gzip.compress("\n".join(line(data=str(number)) for number in range(100)).encode())
    for content in (whole[:-20], b"plain text"):
        path = tmp_path / "cut.jsonl.gz"
        path.write_bytes(content)
        with pytest.raises(FatalError, match=r"cut\.jsonl\.gz, after line \d+: not a whole gzip file"):
            list(read_frames([path]))
