"""Recordings of feeds: JSON lines, one frame a line, plain or gzip'd.

A line is ``{"time": 1618677817129516, "direction": "in", "transport": "ws", "connection": "ws.28",
"url": "wss://…", "data": "{…}"}``; ``"event": "open"`` stands on the line that opens a WebSocket and
``"encoding": "base64"`` where the frame was binary. What the recorder itself sent is passed over, but for
the end of a connection, which our own recordings tell (`coinstream.ingest.record`).
"""

from __future__ import annotations

import gzip
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from coinstream.adapters import Frame
from coinstream.errors import FatalError
from coinstream.messages.encoding import field_error
from coinstream.messages.times import EARLIEST_US, LATEST_US
from coinstream.telemetry import logger

log = logger("ingest")


class _Line(msgspec.Struct):
    time: int
    direction: Literal["in", "out"]
    connection: str
    url: str
    data: str
    transport: Literal["ws", "http"] = "ws"
    event: str | None = None
    encoding: Literal["base64"] | None = None


_decode_line = msgspec.json.Decoder(_Line).decode


class _CutError(Exception):
    """The last line of a file has no end."""


def _warn(words: str) -> None:
    log.warning("recording cut", what=words)


def read_frames(paths: Iterable[Path | str], *, on_cut: Callable[[str], None] = _warn) -> Iterator[Frame]:
    """Yield the frames that recordings received, and where connections opened and ended, in file order.

    A file that ends in the middle of a line, or of a gzip member, is what a recorder leaves that was killed:
    it is read up to there.

    Args:
        paths: ``.jsonl`` files, or ``.gz`` of such; read one after the other, a line at a time.
        on_cut: Told, in words, of each file that ends so; by default the log is.

    Raises:
        FatalError: A file cannot be read, or a line is none of this format; file and line are named.
    """
    for path in map(Path, paths):
        number = 0
        try:
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if not line.isspace():
                        frame = _frame(line, path, number)
                        if frame is not None:
                            yield frame
        except (EOFError, _CutError):
            on_cut(f"{path} was cut in or after line {number}; all before it is read")
        except (zlib.error, gzip.BadGzipFile) as error:
            raise FatalError(f"{path}, after line {number}: not a whole gzip file ({error}); fetch it again") from None
        except OSError as error:
            raise FatalError(f"{path} cannot be read ({error.strerror}); name a recording that can") from None


def _frame(line: bytes, path: Path, number: int) -> Frame | None:
    try:
        read = _decode_line(line)
        if not EARLIEST_US <= read.time < LATEST_US:
            raise FatalError(f"{path}, line {number}: time: must be microseconds since 1970, not {read.time}")
        data = b64decode(read.data, validate=True) if read.encoding else read.data.encode()
    except msgspec.ValidationError as error:
        raise FatalError(f"{path}, line {number}: {field_error(error)}; mend or remove the line") from None
    except (msgspec.DecodeError, ValueError) as error:
        if isinstance(error, msgspec.DecodeError | UnicodeDecodeError) and not line.endswith(b"\n"):
            raise _CutError from None
        raise FatalError(f"{path}, line {number}: not a recorded frame ({error}); mend or remove the line") from None
    opens, closes = read.event == "open", read.event == "close"
    if read.direction == "out" and not opens and not closes:
        return None
    return Frame(read.time, read.connection, read.url, read.transport, data, opens, closes)
