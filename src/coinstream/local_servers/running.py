"""What runs: the description that a start returns, and that other processes read from the data folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from coinstream.local_servers.folder import Folder, read_json, write_private
from coinstream.local_servers.postgresql_server import DATABASE, SUPERUSER
from coinstream.local_servers.processes import Identity


@dataclass(frozen=True, slots=True)
class RunningServer:
    """One local server that runs.

    Attributes:
        role: What it is for: ``kafka``, ``postgresql`` or ``mongodb``.
        name: The product's real name.
        version: Its version.
        address: ``127.0.0.1:port``.
        stand_in: Whether it stands in for the product that production runs.
        pid: Its process.
        note: What a reader should know of it, or None.
    """

    role: str
    name: str
    version: str
    address: str
    stand_in: bool
    pid: int
    note: str | None = None

    @property
    def label(self) -> str:
        """Name it as summaries do: ``SecantusDB 0.7.0 (stand-in)``."""
        return f"{self.name} {self.version}" + (" (stand-in)" if self.stand_in else "")


@dataclass(frozen=True, slots=True)
class LocalServers:
    """The servers of one data folder, and how to reach them; as a context manager it stops them at the end.

    Attributes:
        folder: The data folder.
        servers: Those that run.
        kafka_bootstrap: Kafka's ``127.0.0.1:port``, or None if it does not run.
        postgres_admin_dsn: The superuser's URI of the database ``coinstream``, or None.
        mongodb_uri: The administrator's URI, or None.
        passwords: By role: ``postgres``, ``mongodb_root`` and those the migrations make.
        detached: Whether they outlive the command that started them.
    """

    folder: Path
    servers: tuple[RunningServer, ...]
    kafka_bootstrap: str | None
    postgres_admin_dsn: str | None = field(repr=False)
    mongodb_uri: str | None = field(repr=False)
    passwords: Mapping[str, str] = field(repr=False)
    detached: bool = False
    _stop: Callable[[], None] | None = field(default=None, repr=False, compare=False)

    def stop(self) -> None:
        """Stop the servers that this start began; the second time, or if they were only found, do nothing."""
        if self._stop is not None:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@dataclass(frozen=True, slots=True)
class Entry:
    """One server as ``servers.json`` keeps it: its face, its process and the one that watches it."""

    server: RunningServer
    process: Identity
    supervisor: Identity


@dataclass(frozen=True, slots=True)
class Recorded:
    """What ``servers.json`` tells: the servers that were started last, running or not, and whether detached."""

    entries: list[Entry]
    detached: bool


def describe(
    folder: Folder, entries: list[Entry], *, detached: bool = False, stop: Callable[[], None] | None = None
) -> LocalServers:
    """Put together how these servers are reached."""
    passwords = folder.passwords()
    address = {entry.server.role: entry.server.address for entry in entries}
    postgres = mongodb = None
    if "postgresql" in address:
        postgres = f"postgresql://{SUPERUSER}:{passwords['postgres']}@{address['postgresql']}/{DATABASE}"
    if "mongodb" in address:
        # directConnection: one node that calls itself a replica set; do not look for others.
        options = "authSource=admin&directConnection=true"
        mongodb = f"mongodb://mongodb_root:{passwords['mongodb_root']}@{address['mongodb']}/?{options}"
    return LocalServers(
        folder=folder.path,
        servers=tuple(entry.server for entry in entries),
        kafka_bootstrap=address.get("kafka"),
        postgres_admin_dsn=postgres,
        mongodb_uri=mongodb,
        passwords=passwords,
        detached=detached,
        _stop=stop,
    )


def record(folder: Folder, entries: list[Entry], *, detached: bool) -> None:
    """Write ``servers.json``, whole and at once, for other processes to find the servers by."""
    face = describe(folder, entries)
    content = {
        "detached": detached,
        "kafka_bootstrap": face.kafka_bootstrap,
        "postgres_admin_dsn": face.postgres_admin_dsn,
        "mongodb_uri": face.mongodb_uri,
        "servers": [
            {**asdict(entry.server), "process": asdict(entry.process), "supervisor": asdict(entry.supervisor)}
            for entry in entries
        ],
    }
    write_private(folder.state, json.dumps(content, indent=1))


def recorded(folder: Folder) -> Recorded:
    """Read ``servers.json``."""
    content = read_json(folder.state) or {"servers": [], "detached": False}
    return Recorded([_entry(dict(server)) for server in content["servers"]], bool(content["detached"]))


def _entry(server: dict[str, Any]) -> Entry:
    process = Identity(**server.pop("process"))
    supervisor = Identity(**server.pop("supervisor"))
    return Entry(RunningServer(**server), process, supervisor)
