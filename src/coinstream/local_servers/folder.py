"""The data folder: what is made once and kept (passwords, ports), who runs in it, and the lock on it."""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coinstream.errors import FatalError
from coinstream.local_servers.processes import Identity

_LEAST_FREE_BYTES = 500_000_000
_PRIVATE = 0o600
# Below the range from which Linux takes ports for outgoing connections (32768 on), so that a port
# kept in the folder is not lent to a client while the servers are down.
_PORTS = range(15_000, 32_000)
_WAIT_FOR_ENDING_S = 30.0
_WAIT_FOR_DEATH_S = 0.5  # a killed process is seen as running for a moment longer
_PASSWORDS = (
    "postgres",
    "coinstream_owner",
    "coinstream_sink",
    "coinstream_reader",
    "mongodb_root",
    "coinstream_mongo_sink",
    "coinstream_mongo_reader",
)


def write_private(path: Path, content: str) -> None:
    """Replace a file at once and whole, readable by its owner alone.

    Raises:
        FatalError: It cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise _out_of_reach(path, "written", error) from None


def _out_of_reach(path: Path, done: str, error: OSError) -> FatalError:
    return FatalError(f"{path} cannot be {done} ({error.strerror}): run as the folder's owner, or name another folder")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read an object that we wrote; None if there is none.

    Raises:
        FatalError: It cannot be read, or is not what we wrote.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _out_of_reach(path, "read", error) from None
    except ValueError as error:
        raise FatalError(f"{path} is damaged ({error}); mend it, or move the folder away and start anew") from error
    if not isinstance(content, dict):
        raise FatalError(f"{path} is damaged (no object); mend it, or move the folder away and start anew")
    return content


class Folder:
    """One data folder of local servers.

    Attributes:
        path: The folder, absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @property
    def state(self) -> Path:
        """The file that tells other processes what runs here."""
        return self.path / "servers.json"

    def log(self, role: str) -> Path:
        """Return where a server's output goes."""
        return self.path / "logs" / f"{role}.log"

    def prepare(self) -> None:
        """Make the folder, for its owner alone, and see that there is room.

        Raises:
            FatalError: It cannot be made, or the disk has under 500 MB left.
        """
        try:
            (self.path / "logs").mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.stat(self.path).st_uid == os.geteuid():
                self.path.chmod(0o700)
        except OSError as error:
            raise FatalError(f"the data folder {self.path} cannot be made: {error.strerror}") from error
        free = shutil.disk_usage(self.path).free
        if free < _LEAST_FREE_BYTES:
            raise FatalError(
                f"only {free // 1_000_000} MB are free on the disk of {self.path}; the local servers want 500 MB:"
                " free some, or name another folder"
            )

    def lock(self) -> int:
        """Take the folder for us; return the lock's file descriptor.

        Whoever holds a copy of the descriptor holds the lock: the supervisors get one, so that the folder
        stays taken until the last server has ended, however the command that started them did.

        Raises:
            FatalError: Somebody else runs servers here; the text names the process. Or the folder is not ours.
        """
        path = self.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _PRIVATE)
        except OSError as error:
            raise _out_of_reach(path, "written", error) from None
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                words = path.read_text().split()
                holder = Identity(int(words[0]), int(words[1])) if len(words) == 3 else None
                # A command that was killed leaves servers that are ending by themselves: wait for those.
                ending = holder is not None and words[2] == "attached" and not holder.is_running()
                waited_s = time.monotonic() - began
                if waited_s > (_WAIT_FOR_ENDING_S if ending else _WAIT_FOR_DEATH_S):
                    os.close(descriptor)
                    raise FatalError(self._taken(words)) from None
                time.sleep(0.1)
        self.tell_holder(descriptor, detached=False)
        return descriptor

    def tell_holder(self, lock: int, *, detached: bool) -> None:
        """Write into the lock that we took it, and whether what runs here outlives us."""
        me = Identity.of(os.getpid())
        assert me is not None  # noqa: S101 - we run
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{me.pid} {me.started} {'detached' if detached else 'attached'}\n".encode(), 0)

    def _taken(self, words: list[str]) -> str:
        if len(words) == 3 and words[2] == "detached":
            recorded = read_json(self.state) or {}
            pids = ", ".join(str(server["pid"]) for server in recorded.get("servers", []))
            return (
                f"the local servers of {self.path} are already running (pid {pids or words[0]});"
                " `coinstream local down` stops them"
            )
        pid = words[0] if words else "unknown"
        return f"the local servers of {self.path} are already running (pid {pid}); stop that command first"

    def passwords(self) -> Mapping[str, str]:
        """Return the passwords, made the first time and kept.

        Raises:
            FatalError: They are gone while data that they guard is there.
        """
        path = self.path / "passwords.json"
        kept = read_json(path)
        if kept is None and any((self.path / made / "data").exists() for made in ("postgresql", "mongodb")):
            raise FatalError(f"{path} is missing but its databases are there; put it back, or move the folder away")
        passwords = {name: (kept or {}).get(name) or secrets.token_hex(20) for name in _PASSWORDS}
        if passwords != kept:
            write_private(path, json.dumps(passwords, indent=1))
        return passwords

    def ports(self, names: tuple[str, ...], progress: Callable[[str], None]) -> dict[str, int]:
        """Choose a free port of 127.0.0.1 for each name: the one kept in the folder while it is free.

        Call it from one thread; ports of names not asked for are kept as they are. A kept port that
        somebody else holds by now is replaced, and ``progress`` is told.
        """
        path = self.path / "ports.json"
        kept: dict[str, int] = read_json(path) or {}
        chosen = dict(kept)
        for name in names:
            taken = {port for other, port in chosen.items() if other != name}
            if name not in kept or kept[name] in taken or not is_free(kept[name]):
                chosen[name] = free_port(taken)
                if name in kept:
                    progress(f"{name}: port {kept[name]} of 127.0.0.1 is in use by another program; {chosen[name]} now")
        if chosen != kept:
            write_private(path, json.dumps(chosen, indent=1))
        return {name: chosen[name] for name in names}


def is_free(port: int) -> bool:
    """Say whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(taken: set[int] | None = None) -> int:
    """Find a port of 127.0.0.1 on which nobody listens.

    Raises:
        FatalError: None of a thousand tried was free.
    """
    for port in random.SystemRandom().sample(_PORTS, 1000):
        if port not in (taken or ()) and is_free(port):
            return port
    raise FatalError("no free port on 127.0.0.1 between 15000 and 32000; end some of the servers that hold them")
