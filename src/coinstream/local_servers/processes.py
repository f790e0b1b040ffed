"""Servers as processes: under a supervisor, known again by their start time, ended and waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coinstream.errors import FatalError, TransientError

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_LOG_LINES = 15
_PROBE_INTERVAL_S = 0.05


def started_ticks(pid: int) -> int | None:
    """Return when a process started, in a unit of the system; None if there is none or it is a zombie.

    With the process id this names a process for good: ids come round again, start times do not. Linux's
    own ticks since boot are exact where a time of day would move with the clock.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The second field, the program's name, may hold spaces and brackets: count from its end.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else int(fields[19])
    import psutil  # type: ignore[import-untyped]  # noqa: PLC0415 - of the `local` extra, which production has not

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time())
    except psutil.Error:
        return None


@dataclass(frozen=True, slots=True)
class Identity:
    """One process and no later one that was given its id."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Name a process that runs now; None if it does not."""
        started = started_ticks(pid)
        return None if started is None else cls(pid, started)

    def is_running(self) -> bool:
        """Say whether this very process still runs."""
        return started_ticks(self.pid) == self.started


@dataclass(frozen=True, slots=True)
class Plan:
    """What a supervisor needs to know to run one server.

    Attributes:
        role: ``kafka``, ``postgresql`` or ``mongodb``; names the log file.
        command: The program and its arguments.
        folder: Where it runs.
        log: Where its output goes; the output of the start before stands beside it as ``….1``.
        environment: Variables set for it beside ours.
        stop_signal: What asks it to end in order.
        stop_timeout_s: Seconds it may take for that before it is killed.
        user: A user id to become (from root only), or None.
    """

    role: str
    command: tuple[str, ...]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 20.0
    user: int | None = None

    def as_json(self, pipe: int) -> str:
        """Spell the plan for the supervisor, which watches the file descriptor ``pipe``."""
        return json.dumps(
            {
                "command": self.command,
                "environment": dict(self.environment),
                "folder": str(self.folder),
                "log": str(self.log),
                "stop_signal": int(self.stop_signal),
                "stop_timeout_s": self.stop_timeout_s,
                "pipe": pipe,
                "user": self.user,
            }
        )


class Supervised:
    """A server that runs under its supervisor.

    Attributes:
        plan: What was started.
        supervisor: The process that watches it; asked to end, it ends the server.
        server: The server's own process.
    """

    def __init__(self, plan: Plan, *, keep_open: tuple[int, ...] = ()) -> None:
        """Start a supervisor and, through it, the server; both end with this process until they are let go.

        Args:
            plan: The server.
            keep_open: File descriptors the supervisor holds as long as it lives (the folder's lock).

        Raises:
            FatalError: The program could not be started.
        """
        self.plan = plan
        if plan.log.exists():
            plan.log.replace(plan.log.with_name(plan.log.name + ".1"))
        read_end, write_end = os.pipe()
        try:
            with plan.log.open("ab") as log:
                self._process = subprocess.Popen(
                    # Isolated and without site-packages: nothing of the environment can break or slow it.
                    [sys.executable, "-I", "-S", str(_SUPERVISOR), plan.as_json(read_end)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=(*keep_open, read_end),
                    start_new_session=True,  # Ctrl-C in a terminal must not end servers before their clients
                )
        finally:
            os.close(read_end)
        self._pipe: int | None = write_end
        assert self._process.stdout is not None  # noqa: S101 - PIPE was asked for above
        with self._process.stdout as told:
            words = told.readline().strip()
        server = Identity.of(int(words)) if words else None
        supervisor = Identity.of(self._process.pid)
        if server is None or supervisor is None:
            self.stop()
            raise FatalError(failure(plan, "could not be started"))
        self.server = server
        self.supervisor = supervisor

    def wait_until_ready(self, probe: Callable[[], bool], *, timeout_s: float, cancelled: Callable[[], bool]) -> None:
        """Ask ``probe`` again and again until it says yes.

        Raises:
            FatalError: The server ended, or was not ready in time; the text ends with its log's last lines.
            TransientError: ``cancelled`` said yes while we waited.
        """
        deadline = time.monotonic() + timeout_s
        while not probe():
            if cancelled():
                raise TransientError(f"the start of {self.plan.role} was cancelled")
            if not self.server.is_running():
                raise FatalError(failure(self.plan, "ended while it started"))
            if time.monotonic() > deadline:
                raise FatalError(failure(self.plan, f"was not ready after {timeout_s:.0f} s"))
            time.sleep(_PROBE_INTERVAL_S)

    def ask_to_stop(self) -> None:
        """Begin an orderly end, without waiting for it; does nothing the second time."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """End the server and wait until it has ended; does nothing the second time."""
        self.ask_to_stop()
        self._process.wait(self.plan.stop_timeout_s + 10)

    def let_go(self) -> None:
        """Have the server outlive this process.

        Raises:
            FatalError: It has ended.
        """
        assert self._pipe is not None  # noqa: S101 - not stopped
        try:
            os.write(self._pipe, b".")
        except BrokenPipeError:
            raise FatalError(failure(self.plan, "ended while it started")) from None

    def forget(self) -> None:
        """Have nothing more to do with a server that was let go."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        # Popen would otherwise warn, when it is collected, that its child still runs.
        self._process.returncode = 0


def failure(plan: Plan, what: str) -> str:
    """Word a server's failure: what happened, the log's last lines, and where the log is."""
    lines: list[str] = []
    if plan.log.exists():
        lines = plan.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join([f"{plan.role} {what}; the last lines of {plan.log}:", *(f"  {line}" for line in lines)])


def stop_process(identity: Identity, *, timeout_s: float) -> bool:
    """Ask a process that is not our child to end, and wait.

    Returns:
        Whether it has ended (True as well if it was not running).
    """
    deadline = time.monotonic() + timeout_s
    if identity.is_running():
        os.kill(identity.pid, signal.SIGTERM)
    while identity.is_running():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PROBE_INTERVAL_S)
    return True


def run(command: tuple[str, ...], *, what: str, environment: Mapping[str, str] | None = None, **options: Any) -> str:
    """Run a short program to its end and return what it printed.

    Raises:
        FatalError: It failed; the text holds what it said.
    """
    finished: subprocess.CompletedProcess[str]
    timeout_s = options.pop("timeout_s", 120)
    try:
        finished = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            **options,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FatalError(f"{what} failed: {error}") from error
    if finished.returncode != 0:
        said = (finished.stderr.strip() or finished.stdout.strip())[-2000:]
        raise FatalError(f"{what} failed with status {finished.returncode}: {said}")
    return finished.stdout
