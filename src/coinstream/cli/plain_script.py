"""The plain script beside the sinks: started, killed and started again as they are, and counted at the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from coinstream.errors import FatalError
from coinstream.local_servers.processes import Plan, Supervised

TABLE = "public.plain_trades"
RESTARTS = 5
"""So often it is started again after it ended by itself, as systemd does before it gives up."""
RESTART_AFTER_S = 1.0
LOOK_EVERY_S = 1.0
STILL_S = 15.0
"""Longer than a group waits for a member that was killed."""


class PlainScript:
    """One command that copies the trades of a topic into a table of its own.

    It runs under the local servers' supervisor, so that it ends when we do, however we do.

    Args:
        command: Program and arguments.
        log_folder: Takes its output, of each start in a file of its own.
        bootstrap: Kafka's ``host:port``.
        topic: Full name of the topic of trades.
        database_url: Where it makes its table.
    """

    name = "plain-script"

    def __init__(
        self, command: Sequence[str], *, log_folder: Path, bootstrap: str, topic: str, database_url: str
    ) -> None:
        self._command = tuple(command)
        self._logs = log_folder
        self._database_url = database_url
        self._environment = {"KAFKA_BOOTSTRAP": bootstrap, "TOPIC": topic, "DATABASE_URL": database_url}
        self._process: Supervised | None = None
        self._starts = 0
        self._ended_by_itself = 0
        self._ended_s: float | None = None
        self._last_words = ""
        self._waited_s = 0.0

    def start(self) -> None:
        """Start it, the first time or again."""
        self._starts += 1
        self._ended_s = None
        plan = Plan(
            role=self.name,
            command=self._command,
            folder=Path.cwd(),
            log=self._logs / f"{self.name}-{self._starts}.log",
            environment=self._environment,
            stop_timeout_s=5.0,
        )
        self._process = Supervised(plan)

    def kill(self) -> None:
        """End it by SIGKILL and start it again."""
        if self._process is not None and self._process.server.is_running():
            os.kill(self._process.server.pid, signal.SIGKILL)
        self.stop()
        self.start()

    def stop(self) -> None:
        """End it for good."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def restart_if_ended(self) -> None:
        """Start it again where it has ended by itself, a second later and `RESTARTS` times at most."""
        if self._process is None:
            return
        if self._ended_s is None and not self._process.server.is_running():
            self._ended_s = time.monotonic()
            self._ended_by_itself += 1
            lines = self._process.plan.log.read_text(errors="replace").strip().splitlines()
            self._last_words = next((line for line in reversed(lines) if not line.startswith("supervisor:")), "")
        if self._ended_s is None or self._has_given_up:
            return
        if time.monotonic() - self._ended_s >= RESTART_AFTER_S:
            self.stop()
            self.start()

    def wait_for_end(self, patience_s: float, *, progress: Callable[[str], None]) -> None:
        """Wait until its table has grown no more for `STILL_S`, or it has given up, or no patience is left."""
        progress(f"waiting for the {self.name}, {patience_s:.0f} s at most")
        began_s = grown_s = now_s = time.monotonic()
        stored = 0
        while now_s - began_s < patience_s and now_s - grown_s < STILL_S and not self._has_given_up:
            self.restart_if_ended()
            rows = sum(self._rows().values())
            if rows != stored:
                stored, grown_s = rows, now_s
            time.sleep(LOOK_EVERY_S)
            now_s = time.monotonic()
        self._waited_s = now_s - began_s

    @property
    def _has_given_up(self) -> bool:
        return self._ended_s is not None and self._ended_by_itself > RESTARTS

    def figures(self, sent: Collection[tuple[str, str]]) -> dict[str, Any]:
        """Count what it made of the trades that were sent.

        Args:
            sent: Each trade once: symbol and trade id.
        """
        rows = self._rows()
        stored = sum(1 for trade in sent if trade in rows)
        return {
            "stored": stored,
            "lost": len(sent) - stored,
            "doubled": sum(rows.values()) - len(rows),
            "dead_lettered": 0,
            "ended_by_itself": self._ended_by_itself,
            "last_words": self._last_words,
            "waited_s": round(self._waited_s),
        }

    def _rows(self) -> Mapping[tuple[str, ...], int]:
        from coinstream.operations import count_rows

        try:
            return count_rows(self._database_url, TABLE, ("symbol", "trade_id"))
        except FatalError:  # it never came so far as to make its table
            return {}
