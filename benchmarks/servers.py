"""The servers under test, in a temporary folder of their own, and the processes that are measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # it ships no types

from benchmarks.load import Patience, watching
from benchmarks.rounds import MOST_FOREIGN_CORES, Measured, Part, measure
from coinstream import local_servers, settings
from coinstream.cli.servers import migrate_stores, tell
from coinstream.errors import FatalError
from coinstream.kafka import apply_topics

ROOT = Path(__file__).resolve().parent.parent
CHILD_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What every benchmark is given.

    Attributes:
        folder: For recordings and logs; gone at the end.
        servers: Those that run.
        found: Their addresses.
        repetitions: Rounds that are to count.
        patience_s: How long a benchmark may wait in all for a quiet machine.
    """

    folder: Path
    servers: local_servers.LocalServers
    found: settings.Addresses
    repetitions: int
    patience_s: float

    def measure(self, parts: Mapping[str, Callable[[], Part]]) -> Measured:
        """Measure parts in turn, each from a quiet moment on where there is one."""
        patience = Patience(self.patience_s, MOST_FOREIGN_CORES)
        return measure(parts, repetitions=self.repetitions, tell=tell, settle=patience.wait)

    def pid(self, role: str) -> int:
        """Return a server's process id."""
        return next(server.pid for server in self.servers.servers if server.role == role)

    def label(self, role: str) -> str:
        """Return a server's real name and version."""
        return next(server.label for server in self.servers.servers if server.role == role)

    def topics(self, prefix: str) -> str:
        """Make topics of a prefix and return it: a benchmark's log is its own."""
        apply_topics(self.found.kafka_bootstrap, topic_prefix=prefix)
        return prefix

    def child(self, task: str, arguments: Mapping[str, Any], *, roles: Sequence[str], python: str = "") -> Part:
        """Run a task in a process of its own and return what it measured of itself, and we of the servers.

        Args:
            task: A module with `main`, run by ``python -m``; it prints one JSON object with ``units``,
                ``seconds``, ``cpu_s`` and maybe ``values``.
            arguments: Given to it as JSON.
            roles: The servers whose CPU counts.
            python: Another interpreter than ours.

        Raises:
            FatalError: The task failed; its last line says why.
        """
        with watching({_NAMES[role]: self.pid(role) for role in roles}) as watched:
            told = run_child(task, arguments, python=python)
        return Part(
            units=told["units"],
            seconds=told["seconds"],
            cpu_s={"ours": told["cpu_s"], **watched.cpu_s},
            foreign_cores=watched.foreign_cores,
            values=told.get("values", {}),
        )


_NAMES = {"kafka": "broker", "postgresql": "server", "mongodb": "server"}


def run_child(task: str, arguments: Mapping[str, Any], *, python: str = "") -> dict[str, Any]:
    """Run a task in a process that ends with us, and return the object it prints.

    Raises:
        FatalError: It failed or took too long.
    """
    process = subprocess.Popen(
        [python or sys.executable, "-m", task, json.dumps(arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,  # closed when we are gone; the task watches it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is ours; we end it
    )
    try:
        # Not communicate(): it would close the stdin that the task lives by.
        out, said = _read_both(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    if process.returncode:
        last = (said.strip().splitlines() or ["no word"])[-1]
        raise FatalError(f"{task} ended with status {process.returncode}: {last}")
    result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return result


def _read_both(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """Read stdout and stderr to their ends, in bounded time."""
    read: dict[str, bytes] = {}
    pipes = {"out": process.stdout, "said": process.stderr}

    def drain(name: str) -> None:
        pipe = pipes[name]
        read[name] = pipe.read() if pipe is not None else b""

    readers = [threading.Thread(target=drain, args=(name,), daemon=True) for name in pipes]
    for reader in readers:
        reader.start()
    try:
        process.wait(CHILD_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise FatalError(f"a measured process did not end within {CHILD_TIMEOUT_S:g} s") from None
    for reader in readers:
        reader.join(5)
    return read.get("out", b"").decode(errors="replace"), read.get("said", b"").decode(errors="replace")


@contextmanager
def started(repetitions: int, patience_s: float) -> Iterator[Bench]:
    """Start the servers on free ports, the stores migrated; stop them and remove all at the end."""
    with tempfile.TemporaryDirectory(prefix="coinstream-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with local_servers.start(folder / "servers", kafka="apache", progress=tell) as servers:
            found = settings.local_addresses(servers)
            migrate_stores(settings.load(data_folder=folder / "servers"), found)
            yield Bench(folder=folder, servers=servers, found=found, repetitions=repetitions, patience_s=patience_s)


def machine() -> str:
    """Name the machine: processor, cores, memory, system, Python."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.partition(":")[2].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    memory_gb = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} cores of {model}, {memory_gb:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def commit() -> str:
    """Return the commit that is measured, and whether files differ from it."""
    try:
        found = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, check=True)
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "src", "benchmarks"], cwd=ROOT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown: no git here"
    return found.stdout.decode().strip() + (" with changes" if changed.stdout.strip() else "")
