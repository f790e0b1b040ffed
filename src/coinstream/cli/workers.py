"""Processes of our own: the workers of `--workers N`, and what the demo starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NoReturn

from coinstream.cli.signals import stop_on_signals
from coinstream.errors import FatalError

PROGRAM = (sys.executable, "-m", "coinstream.cli")
STOP_TIMEOUT_S = 30.0
_WATCH_PARENT = "--stop-with-stdin"


class Child:
    """One coinstream command as a process of its own.

    Its stdin is a pipe that nobody writes to: the child ends when it closes, so that even a parent
    that was killed leaves none behind.

    Args:
        name: For messages and the log file.
        arguments: The command line after ``coinstream``.
        log_path: Takes the child's stderr, after what earlier children left there; ``None``: ours.
        environment: Variables on top of ours.
        capture: Whether to keep the child's stdout for `first_line`.
    """

    def __init__(
        self,
        name: str,
        *arguments: str,
        log_path: Path | None = None,
        environment: dict[str, str] | None = None,
        capture: bool = False,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._was_asked_to_end = False
        log = log_path.open("ab") if log_path else None
        self._log_begins = log.tell() if log else 0
        try:
            self._process = subprocess.Popen(
                (*PROGRAM, _WATCH_PARENT, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if capture else sys.stderr,
                stderr=log,
                env=os.environ | (environment or {}),
                start_new_session=True,  # Ctrl-C is the parent's; it ends its children in order
            )
        finally:
            if log:
                log.close()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def first_line(self) -> str:
        """Return the first line of the child's stdout; raise `FatalError` when it ends without one."""
        if self._process.stdout is None:
            raise AssertionError("the child's stdout was not captured")
        line = self._process.stdout.readline().decode()
        if not line:
            self._process.wait()
            raise self.failure()
        return line

    def is_running(self) -> bool:
        """Return whether the process has not ended."""
        return self._process.poll() is None

    def failure(self) -> FatalError:
        """Return the error for a child that ended by itself, with the last line it logged."""
        last = ""
        if self.log_path and self.log_path.exists():
            with self.log_path.open("rb") as log:
                log.seek(self._log_begins)
                lines = log.read().decode(errors="replace").strip().splitlines()
            last = f": {lines[-1]}" if lines else ""
        where = f" (its log: {self.log_path})" if self.log_path else ""
        return FatalError(f"{self.name} ended with status {self._process.returncode}{last}{where}")

    def terminate(self) -> None:
        """Ask the process to drain and end."""
        if self.is_running():
            self._was_asked_to_end = True
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process in the middle of whatever it does, by SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def join(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end and return the status; kill the process when the time is over.

        The status is 0 as well for a process that our asking met before it listened for it: every command
        listens before it begins, so nothing was begun.
        """
        try:
            status = self._process.wait(timeout_s)
            return 0 if self._was_asked_to_end and status == -signal.SIGTERM else status
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            if self._process.stdin:
                self._process.stdin.close()
            if self._process.stdout:
                self._process.stdout.close()


def stop_with_stdin() -> None:
    """End this process, as by SIGTERM, when its stdin closes: its parent has gone."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def run_workers(*command: str, workers: int, metrics_port: int | None) -> NoReturn:
    """Run a command in several processes until told to stop; one that dies ends them all.

    Args:
        command: The command line of one worker.
        workers: How many.
        metrics_port: Of the first; each next one serves the next port.

    Raises:
        FatalError: A worker ended by itself.
        SystemExit: With 0, once all have drained.
    """
    stop = stop_on_signals()
    ports = [() if metrics_port is None else ("--metrics-port", str(metrics_port + n)) for n in range(workers)]
    children = [Child(f"{' '.join(command)} #{n}", *command, *port) for n, port in enumerate(ports)]
    failed: Child | None = None
    try:
        while not stop.wait(0.2) and failed is None:
            failed = next((child for child in children if not child.is_running()), None)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.join()
    if failed is not None:
        raise failed.failure()
    sys.exit(0)
