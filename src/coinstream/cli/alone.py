"""One command of a kind in a data folder at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coinstream.errors import FatalError


@contextmanager
def alone_in(folder: Path, command: str) -> Iterator[None]:
    """Keep a second of the same command out of a data folder while the block runs.

    The kernel gives the lock back when the process ends, however it does; what it started inherits nothing of it.

    Args:
        folder: The data folder; made if it is not there.
        command: Its name, for the lock's file and the message.

    Raises:
        FatalError: Another one runs; the text says which process, and what to do. Or the folder cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / f"{command}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise FatalError(f"the data folder {folder} cannot be used ({error.strerror}); name another one") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode().strip() or "unknown"
            raise FatalError(
                f"a {command} runs on the data folder {folder} already (pid {pid}): wait for its end, stop it with"
                " Ctrl-C, or name another folder in COINSTREAM_DATA_FOLDER"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)
