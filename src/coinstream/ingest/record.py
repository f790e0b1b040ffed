"""Recordings as they are made: every frame of a live feed, in the format that `recording` reads.

Lines are kept for a second and then written at once: into a plain file as they are, into a ``.gz`` as a gzip
member of its own. So the file is whole after every write, and a crash costs the last second alone.

When the disk is full (or the file cannot be written for another reason) the recording ends, loudly, and the
feed goes on: it is what the process is for. What the failed write left behind is cut off again, so that the
file ends with a whole line. The command then ends with an error, however long after.

Beyond the format, the end of a connection is a line too (``"event": "close"``, among what was sent): without it
a replay could not tell that nobody listened until the next one opened. Readers pass over it as over any frame
that the recorder sent.
"""

from __future__ import annotations

import gzip
import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from coinstream.adapters import Frame
from coinstream.errors import SettingsError
from coinstream.telemetry import logger

WRITE_EVERY_US = 1_000_000
MOST_WAITING_BYTES = 1024 * 1024
"""So many bytes are written before their second is over."""
_COMPRESSION = 3
"""Five times as fast as the usual 6, and a tenth larger."""

log = logger("ingest")


class _Line(msgspec.Struct, omit_defaults=True):
    time: int
    direction: str
    transport: str
    connection: str
    url: str
    data: str
    event: str | None = None
    encoding: str | None = None


class Recorder:
    """Writes one recording.

    Args:
        path: A file that does not exist yet; gzip'd where it ends in ``.gz``.
        write: Writes bytes to a file's descriptor and returns how many; replaced in tests.

    Attributes:
        failed: Why the recording ended early, in words; ``None``: it did not.

    Raises:
        SettingsError: The file is there already, or cannot be made.
    """

    def __init__(self, path: Path, *, write: Callable[[int, bytes], int] = os.write) -> None:
        self.failed: str | None = None
        self.path = path
        self._write_bytes = write
        self._is_zipped = path.suffix == ".gz"
        self._encode = msgspec.json.Encoder().encode
        self._waiting = bytearray()
        self._due_us = 0
        self._length = 0
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        except FileExistsError:
            raise SettingsError("--record", str(path), "a file that does not exist yet") from None
        except OSError as error:
            raise SettingsError("--record", str(path), f"a file that can be made ({error.strerror})") from None
        self._is_open = True

    def received(self, frame: Frame) -> None:
        """Record what was received, on a WebSocket or as the body of an HTTP response."""
        text, encoding = _text_of(frame.data)
        self._add(
            _Line(frame.received_time_us, "in", frame.transport, frame.connection, frame.url, text, encoding=encoding)
        )

    def sent(self, time_us: int, connection: str, url: str, text: str) -> None:
        """Record what we sent on a WebSocket."""
        self._add(_Line(time_us, "out", "ws", connection, url, text))

    def turned(self, time_us: int, connection: str, url: str, event: Literal["open", "close"]) -> None:
        """Record that a WebSocket was opened, or is over."""
        self._add(_Line(time_us, "out", "ws", connection, url, "", event))

    def tick(self, now_us: int) -> None:
        """Write what waits if it is due."""
        if self._waiting and (now_us >= self._due_us or len(self._waiting) >= MOST_WAITING_BYTES):
            self.write()
            self._due_us = now_us + WRITE_EVERY_US

    def write(self) -> None:
        """Write what waits, whole lines, at once."""
        if not self._waiting or not self._is_open:
            return
        block = bytes(self._waiting)
        self._waiting.clear()
        if self._is_zipped:
            block = gzip.compress(block, _COMPRESSION, mtime=0)
        written = 0
        try:
            while written < len(block):
                written += self._write_bytes(self._file, block[written:])
            self._length += written
        except OSError as error:
            if not self._is_zipped:  # half a gzip member is of no use to anybody
                self._length += block.rfind(b"\n", 0, written) + 1
            self._end(error.strerror or type(error).__name__)

    def close(self) -> None:
        """Write what waits and close the file; nothing is recorded after that."""
        self.write()
        if self._is_open:
            self._is_open = False
            os.close(self._file)

    def _add(self, line: _Line) -> None:
        if self._is_open:
            self._waiting += self._encode(line)
            self._waiting += b"\n"

    def _end(self, reason: str) -> None:
        self._is_open = False
        self.failed = f"the recording {self.path} ended early: {reason}"
        try:
            os.ftruncate(self._file, self._length)
        except OSError as error:  # a pipe or a device: it cannot be shortened, and its last line may be half
            reason = f"{reason}; its last line may be half ({error.strerror})"
        os.close(self._file)
        log.error("recording ended", file=str(self.path), why=reason, next="the feed goes on without it")


def _text_of(data: bytes) -> tuple[str, str | None]:
    """Return a frame's bytes as the text of a line, and how that text encodes them where they are no UTF-8."""
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return b64encode(data).decode(), "base64"
