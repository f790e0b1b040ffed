"""A measured process: the task's arguments come as JSON, its figures go out as one JSON object on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from coinstream.cli.workers import stop_with_stdin


def serve(task: Callable[..., dict[str, Any]]) -> None:
    """Run a task with the arguments of the command line and print its figures."""
    stop_with_stdin()
    print(json.dumps(task(**json.loads(sys.argv[1]))), flush=True)


class Clock:
    """Wall and CPU time of this process, all its threads, from its making on."""

    def __init__(self) -> None:
        self._wall_s = time.perf_counter()
        self._cpu_s = time.process_time()

    def figures(self, units: int, **values: float) -> dict[str, Any]:
        """Return what a worker prints."""
        return {
            "units": units,
            "seconds": time.perf_counter() - self._wall_s,
            "cpu_s": time.process_time() - self._cpu_s,
            "values": values,
        }
