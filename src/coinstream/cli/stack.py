"""The whole pipeline as processes of this command: what the demo and the proof start, watch and end."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from coinstream import settings as settings_room
from coinstream.cli.servers import migrate_stores, tell
from coinstream.cli.signals import StoppedError
from coinstream.cli.workers import Child
from coinstream.errors import FatalError, TransientError
from coinstream.sink import MONGODB_GROUP, POSTGRES_GROUP

if TYPE_CHECKING:
    from coinstream.local_servers import LocalServers
    from coinstream.operations import Baseline, Lag
    from coinstream.settings import Addresses, Settings

SIMULATOR = "simulator"
SINKS = {POSTGRES_GROUP: ("sink", "postgres"), MONGODB_GROUP: ("sink", "mongodb")}
"""The sinks' names here, which are their groups', and their commands."""
CATCH_UP_TIMEOUT_S = 300.0
TELL_EVERY_S = 5.0


class Stack:
    """Servers that run, made ready, and the processes on them; ``cleanup`` ends those in reverse order.

    Args:
        settings: As loaded.
        addresses: Of the servers.
        cleanup: Ends what was started, however the command ends.

    Attributes:
        ports: Where each process by its name serves its metrics.
        sinks: The running sinks by name.
    """

    def __init__(self, settings: Settings, addresses: Addresses, cleanup: ExitStack) -> None:
        self.ports = {name: _free_port() for name in ("ingest", "poll", *SINKS)}
        self.sinks: dict[str, Child] = {}
        self._settings = settings
        self._addresses = addresses
        self._cleanup = cleanup
        self.logs = settings.data_folder / "logs"
        # Addresses travel in the environment, where a list of processes does not show their passwords.
        self._environment = {
            f"{settings_room.PREFIX}{name.upper()}": value for name, value in asdict(addresses).items() if value
        }

    def prepare(self) -> None:
        """Bring topics and stores up to date."""
        from coinstream.kafka import apply_topics

        changes = apply_topics(self._addresses.kafka_bootstrap, topic_prefix=self._settings.topic_prefix)
        tell(f"topics: {len(changes)} changed" if changes else "topics: as they should be")
        migrate_stores(self._settings, self._addresses)
        self.logs.mkdir(parents=True, exist_ok=True)

    def child(
        self, name: str, *arguments: str, environment: dict[str, str] | None = None, capture: bool = False
    ) -> Child:
        """Start a command of ours; its log stands in the data folder, its metrics on the port of its name."""
        port = self.ports.get(name)
        child = Child(
            name,
            *arguments,
            *(("--metrics-port", str(port)) if port else ()),
            log_path=self.logs / f"{name}.log",
            environment=self._environment | (environment or {}),
            capture=capture,
        )
        self._cleanup.callback(child.join)
        self._cleanup.callback(child.terminate)
        return child

    def start_sinks(self) -> None:
        """Start both sinks."""
        for name in SINKS:
            self.start_sink(name)

    def start_sink(self, name: str) -> None:
        """Start a sink, the first time or after it was killed."""
        self.sinks[name] = self.child(name, *SINKS[name])

    def start_simulated_feeds(self, *, rate: float, seed: int, options: Sequence[str] = ()) -> list[Child]:
        """Start a simulated exchange and what reads it; return them in the order in which they should end.

        Args:
            rate: Market events a second.
            seed: Decides the market.
            options: More of the simulator's command.
        """
        simulator = self.child(
            SIMULATOR,
            "simulate", "exchange", "--rate", str(rate), "--seed", str(seed), *options,
            environment={f"{settings_room.PREFIX}LOG_LEVEL": "info"},  # its last line says what it did
            capture=True,
        )  # fmt: skip
        urls = json.loads(simulator.first_line())
        names = ("COINBASE_REST", "COINPAPRIKA", "COINGECKO")
        rest = {f"{settings_room.PREFIX}{name}_URL": urls["http_url"] for name in names}
        rest[f"{settings_room.PREFIX}COINBASE_WEBSOCKET_URL"] = urls["websocket_url"]
        return [
            self.child("ingest", "ingest", "--simulated", environment=rest),
            self.child("poll", "ingest", "--poll", environment=rest),
            simulator,
        ]

    def frames(self) -> dict[str, int]:
        """Return what the simulated exchange says that it did, once it has ended: frames sent, and faults by kind."""
        lines = (self.logs / f"{SIMULATOR}.log").read_text(errors="replace").splitlines()
        ended = next((line for line in reversed(lines) if '"simulator.ended"' in line), "{}")
        done = json.loads(ended)
        return {"sent": done.get("frames", 0), **done.get("faults", {})}

    def lag(self) -> Lag:
        """Return what tells how far the stores lag."""
        from coinstream.operations import Lag

        prefix = self._settings.topic_prefix
        lag = Lag(
            kafka_bootstrap=self._addresses.kafka_bootstrap,
            topic_prefix=prefix,
            postgres_url=self._addresses.postgres_reader_url,
            postgres_group=prefix + POSTGRES_GROUP,
            mongodb_group=prefix + MONGODB_GROUP,
        )
        self._cleanup.callback(lag.close)
        return lag

    def catch_up(self, lag: Lag, what: str, *, stop: Callable[[], bool] = lambda: False) -> int:
        """Wait until both stores have all of the log; return the lag that is left, 0 if in time.

        Raises:
            StoppedError: ``stop`` said yes before.
        """
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        told_s = time.monotonic()
        while True:
            if stop():
                raise StoppedError(f"stopped while waiting for {what}")
            try:
                left = sum(lag.by_store().values())
            except TransientError as error:  # a cluster on its first day is slow to say where its groups stand
                tell(f"waiting: {error}")
                left = -1
            if left == 0 or time.monotonic() > deadline:
                return left
            check_running(self.sinks.values())
            if time.monotonic() - told_s > TELL_EVERY_S and left > 0:
                tell(f"waiting for {what}: {left:,} messages to store")
                told_s = time.monotonic()
            time.sleep(0.2)

    def baseline(
        self,
        lag: Lag,
        *,
        longest_run_s: float,
        from_nothing: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> Baseline:
        """Wait until what earlier runs left is stored, and note how everything stands.

        Args:
            lag: From `lag`.
            longest_run_s: How long the run may last, without its catching up.
            from_nothing: As `take_baseline` has it.
            stop: Asked while the sinks catch up: whether to give up.

        Raises:
            StoppedError: ``stop`` said yes.
            FatalError: The sinks do not catch up.
        """
        from coinstream.operations import take_baseline

        if self.catch_up(lag, "what earlier runs left", stop=stop):
            raise FatalError(f"the sinks do not catch up with what earlier runs left; see their logs in {self.logs}/")
        baseline = take_baseline(
            kafka_bootstrap=self._addresses.kafka_bootstrap,
            topic_prefix=self._settings.topic_prefix,
            postgres_url=self._addresses.postgres_reader_url,
            mongodb_url=self._addresses.mongodb_reader_url,
            mongodb_database=self._settings.mongodb_database,
            now_us=time.time_ns() // 1000,
            longest_run_s=longest_run_s + CATCH_UP_TIMEOUT_S + 3600.0,
            from_nothing=from_nothing,
        )
        self._cleanup.callback(baseline.close)
        return baseline


def check_running(children: Iterable[Child]) -> None:
    """Raise `FatalError` for a process that ended by itself."""
    for child in children:
        if not child.is_running():
            raise child.failure()


def end(children: Iterable[Child]) -> None:
    """End processes in the order given, each drained before the next is asked."""
    for child in children:
        child.terminate()
        if child.join() != 0:
            raise child.failure()


def described(*groups: LocalServers) -> dict[str, dict[str, Any]]:
    """Return what each role's server is, for a summary."""
    return {
        server.role: {
            "name": server.name,
            "version": server.version,
            "address": server.address,
            "stand_in": server.stand_in,
        }
        for group in groups
        for server in group.servers
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
