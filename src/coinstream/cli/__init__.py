"""The command line: each command reads settings, builds the parts and runs one of them.

Exit status: 0 done, 1 it failed and said why, 2 a setting or an option cannot be used, 130 stopped
by Ctrl-C before it could finish.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    # The imports take a moment, in which Ctrl-C would be a traceback out of some library. Nothing is begun yet.
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from coinstream.cli.commands import run

    signal.signal(signal.SIGINT, usual)
    run()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(130)
