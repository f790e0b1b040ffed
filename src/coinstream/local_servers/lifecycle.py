"""Starting the local servers together, finding those that run, and stopping them."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

from coinstream.errors import FatalError, TransientError
from coinstream.local_servers import account, kafka_server, mongodb_server, postgresql_server, probes
from coinstream.local_servers.folder import Folder
from coinstream.local_servers.processes import Plan, Supervised, stop_process
from coinstream.local_servers.running import Entry, LocalServers, RunningServer, describe, record, recorded

ROLES = ("kafka", "postgresql", "mongodb")
_PORTS = {"kafka": ("kafka", "kafka_controller"), "postgresql": ("postgresql",), "mongodb": ("mongodb",)}
_KAFKA_START_TIMEOUT_S = 90.0
# After a crash PostgreSQL replays up to max_wal_size of its log first.
_POSTGRESQL_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 75.0


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")


def _never() -> bool:
    return False


def start(  # noqa: PLR0913 - all keyword-only but the folder
    folder: Path,
    *,
    roles: Sequence[str] = ROLES,
    kafka: str = "auto",
    postgres_bin: Path | None = None,
    detached: bool = False,
    progress: Callable[[str], None] = _to_stderr,
    cancelled: Callable[[], bool] = _never,
) -> LocalServers:
    """Start the servers of a data folder, together, and return when all take requests.

    They end with this process, however it ends, unless they are detached: from the return on those
    outlive it, for only then do other processes know them by their record.

    Args:
        folder: The data folder; made if it is not there.
        roles: Which of ``kafka``, ``postgresql``, ``mongodb``.
        kafka: ``apache``, ``noida``, or ``auto``: noida-db only where Apache Kafka cannot be had.
        postgres_bin: The bin folder of another PostgreSQL than the wheel's.
        detached: Whether they outlive this process; `down` stops them.
        progress: Told of each step in one line, from several threads.
        cancelled: Asked while servers start, from several threads: whether to give up.

    Raises:
        TransientError: ``cancelled`` said yes; whatever had been started is stopped again.
        FatalError: The folder is in use, full or of another version, or a server did not start: the text
            says which and what to do. Whatever had been started is stopped again; nothing is deleted.
    """
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise FatalError(f"no local server is called {', '.join(unknown)}: choose from {', '.join(ROLES)}")
    place = Folder(folder)
    place.prepare()
    attempt = _Start(
        place, kafka=kafka, postgres_bin=postgres_bin, detached=detached, progress=progress, cancelled=cancelled
    )
    return attempt.run([role for role in ROLES if role in roles])


class _Start:
    """One start of several servers: all of them, or none."""

    def __init__(
        self,
        folder: Folder,
        *,
        kafka: str,
        postgres_bin: Path | None,
        detached: bool,
        progress: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._kafka_product = kafka
        self._postgres_bin = postgres_bin
        self._detached = detached
        self._progress = progress
        self._lock: int | None = folder.lock()
        self._is_cancelled_by_caller = cancelled
        self._cancelled = threading.Event()
        self._guard = threading.Lock()
        self._started: list[Supervised] = []
        self._ports: dict[str, int] = {}
        self._passwords = folder.passwords()

    def run(self, roles: Sequence[str]) -> LocalServers:
        try:
            self._folder.state.unlink(missing_ok=True)  # it tells of a run that has ended: we hold the lock
            self._ports = self._folder.ports(tuple(name for role in roles for name in _PORTS[role]), self._progress)
            entries = self._start_together(roles)
            record(self._folder, entries, detached=self._detached)
            if self._detached:
                self._let_go()
        except BaseException:  # Ctrl-C too must leave no server behind
            self._cancelled.set()
            self.stop()
            raise
        if self._detached:
            for server in self._started:
                server.forget()
            self._release()
            return describe(self._folder, entries)
        return describe(self._folder, entries, stop=self.stop)

    def _let_go(self) -> None:
        """Have the servers outlive us: only now, for `down` finds none that is not recorded."""
        assert self._lock is not None  # noqa: S101 - held until the end of the start
        for server in self._started:
            server.let_go()
        self._folder.tell_holder(self._lock, detached=True)

    def _is_cancelled(self) -> bool:
        return self._cancelled.is_set() or self._is_cancelled_by_caller()

    def _start_together(self, roles: Sequence[str]) -> list[Entry]:
        starters = {"kafka": self._kafka, "postgresql": self._postgresql, "mongodb": self._mongodb}
        with ThreadPoolExecutor(max_workers=len(ROLES), thread_name_prefix="local-server") as pool:
            futures: list[Future[Entry]] = [pool.submit(starters[role]) for role in roles]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                if any(not future.done() or future.exception() for future in futures):
                    self._cancelled.set()
        failures = [error for future in futures if (error := future.exception()) is not None]
        for error in failures:
            if not isinstance(error, TransientError):  # not one that only says it was cancelled
                raise error
        return [future.result() for future in futures]

    def stop(self) -> None:
        """End what was started, all at once, and give the folder free."""
        with self._guard:
            started, self._started = self._started, []
        for server in started:
            server.ask_to_stop()
        for server in started:
            server.stop()
        if self._lock is not None:
            self._folder.state.unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _supervise(self, plan: Plan) -> Supervised:
        with self._guard:
            if self._is_cancelled() or self._lock is None:
                raise TransientError(f"the start of {plan.role} was cancelled")
            server = Supervised(plan, keep_open=(self._lock,))
            self._started.append(server)
            return server

    def _entry(self, server: Supervised, *, name: str, version: str, port: int, note: str | None = None) -> Entry:
        running = RunningServer(
            role=server.plan.role,
            name=name,
            version=version,
            address=f"127.0.0.1:{port}",
            stand_in=name in ("noida-db", mongodb_server.NAME),
            pid=server.server.pid,
            note=note,
        )
        self._progress(f"{running.role}: {running.label} on {running.address}")
        return Entry(running, server.server, server.supervisor)

    def _kafka(self) -> Entry:
        port = self._ports["kafka"]
        broker = kafka_server.prepare(
            self._folder, product=self._kafka_product, ports=self._ports, progress=self._progress
        )
        server = self._supervise(broker.plan)
        server.wait_until_ready(
            lambda: probes.kafka_answers(port), timeout_s=_KAFKA_START_TIMEOUT_S, cancelled=self._is_cancelled
        )
        return self._entry(server, name=broker.name, version=broker.version, port=port, note=broker.note)

    def _postgresql(self) -> Entry:
        password = self._passwords["postgres"]
        database = postgresql_server.prepare(
            self._folder,
            binaries=self._postgres_bin,
            port=self._ports["postgresql"],
            password=password,
            progress=self._progress,
        )
        server = self._supervise(database.plan)
        server.wait_until_ready(database.is_ready, timeout_s=_POSTGRESQL_START_TIMEOUT_S, cancelled=self._is_cancelled)
        database.make_database(password)
        return self._entry(server, name="PostgreSQL", version=database.version, port=database.port)

    def _mongodb(self) -> Entry:
        port = self._ports["mongodb"]
        mongodb_server.make_root_user(
            self._folder,
            password=self._passwords["mongodb_root"],
            # A start that is killed here must keep the folder until this server has ended too.
            keep_open=() if self._lock is None else (self._lock,),
            cancelled=self._is_cancelled,
            progress=self._progress,
        )
        server = self._supervise(mongodb_server.plan(self._folder, port=port))
        server.wait_until_ready(
            lambda: probes.mongodb_answers(port),
            timeout_s=mongodb_server.START_TIMEOUT_S,
            cancelled=self._is_cancelled,
        )
        return self._entry(
            server, name=mongodb_server.NAME, version=mongodb_server.version(), port=port, note=mongodb_server.NOTE
        )


def _alive(folder: Folder) -> list[Entry]:
    return [entry for entry in recorded(folder).entries if entry.process.is_running() and entry.supervisor.is_running()]


def find(folder: Path) -> LocalServers | None:
    """Find the servers that run in a data folder, whoever started them; None if none does.

    Its `stop` does nothing: they are stopped by the command that started them, or by `down`.
    """
    place = Folder(folder)
    entries = _alive(place)
    return describe(place, entries, detached=recorded(place).detached) if entries else None


def status(folder: Path) -> list[RunningServer]:
    """Return the servers that run in a data folder, in the order kafka, postgresql, mongodb."""
    return [entry.server for entry in _alive(Folder(folder))]


def down(folder: Path, progress: Callable[[str], None] = _to_stderr) -> list[str]:
    """Stop the servers of a data folder that `start` detached (or that another command left running).

    Returns:
        The roles that were stopped.

    Raises:
        FatalError: One did not end in time; the text names its process.
    """
    place = Folder(folder)
    entries = _alive(place)
    with ThreadPoolExecutor(max_workers=len(ROLES)) as pool:
        ended = list(pool.map(lambda entry: stop_process(entry.supervisor, timeout_s=_STOP_TIMEOUT_S), entries))
    left = [entry.server for entry, has_ended in zip(entries, ended, strict=True) if not has_ended]
    if left:
        named = ", ".join(f"{server.role} (pid {server.pid})" for server in left)
        raise FatalError(f"still running after {_STOP_TIMEOUT_S:.0f} s: {named}")
    for entry in entries:
        progress(f"{entry.server.role}: stopped {entry.server.label}")
    if entries:
        place.state.unlink(missing_ok=True)
    return [entry.server.role for entry in entries]


def remove(folder: Path) -> None:
    """Delete a data folder of local servers with everything in it; do nothing where there is none.

    Raises:
        FatalError: Servers run in it, or it is no data folder of ours: nothing is deleted then.
    """
    place = Folder(folder)
    if not place.path.exists():
        return
    if not (place.path / "lock").exists():
        raise FatalError(f"{place.path} is no data folder of local servers; it is left as it is")
    lock = place.lock()
    try:
        elsewhere = account.elsewhere_of(place.path / "postgresql")
        if os.geteuid() == 0 and elsewhere.exists():
            shutil.rmtree(elsewhere)
        shutil.rmtree(place.path)
    finally:
        os.close(lock)
