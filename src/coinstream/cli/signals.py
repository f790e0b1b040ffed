"""How a process is told to end: SIGTERM or Ctrl-C once to drain, a second Ctrl-C to leave at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from coinstream.errors import CoinstreamError


class StoppedError(CoinstreamError):
    """The command was told to stop before it could do what it is for; it ends with status 130."""


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM or SIGINT sets; the next SIGINT ends the process as usual."""
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    return stop
