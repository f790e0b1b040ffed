"""The local stand-in for MongoDB: SecantusDB, a process of its own and never imported."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from coinstream.errors import FatalError
from coinstream.local_servers import probes
from coinstream.local_servers.folder import Folder, free_port, read_json, write_private
from coinstream.local_servers.processes import Plan, Supervised

ROOT_USER = "mongodb_root"
NAME = "SecantusDB"
NOTE = "MongoDB's protocol on one node; its speed says nothing of MongoDB's"
START_TIMEOUT_S = 60.0


def version() -> str:
    """Return the installed version.

    Raises:
        FatalError: It is not installed.
    """
    try:
        return importlib.metadata.version("secantusdb")
    except importlib.metadata.PackageNotFoundError as error:
        raise FatalError("SecantusDB is not installed; install coinstream[local]") from error


def plan(folder: Folder, *, port: int, authenticated: bool = True) -> Plan:
    """Word how the server is started on the data of ``folder``.

    Raises:
        FatalError: It is not installed, or the data is of another version.
    """
    script = Path(sys.executable).with_name("secantusd-py")
    found = str(script) if script.exists() else shutil.which("secantusd-py")
    if found is None:
        raise FatalError("secantusd-py is not installed; install coinstream[local]")
    home = folder.path / "mongodb"
    home.mkdir(mode=0o700, exist_ok=True)
    _check_version(home)
    # A file of settings elsewhere on the machine must not change our server: name an empty one.
    settings = home / "secantusd.toml"
    settings.touch()
    return Plan(
        role="mongodb",
        command=(
            *(sys.executable, found, "--config", str(settings), "--host", "127.0.0.1", "--port", str(port)),
            *("--storage-path", str(home / "data"), "--cache-size", "256M", "--log-level", "INFO"),
            *(("--auth",) if authenticated else ()),
        ),
        folder=home,
        log=folder.log("mongodb"),
    )


def _check_version(home: Path) -> None:
    made_by = str((read_json(home / "made_by.json") or {}).get("version", version()))
    if made_by.split(".")[:2] != version().split(".")[:2]:
        raise FatalError(
            f"{home} was made by SecantusDB {made_by} and this is {version()}, a beta without migrations:"
            " name another folder, or move this one away"
        )


def make_root_user(
    folder: Folder,
    *,
    password: str,
    keep_open: tuple[int, ...],
    cancelled: Callable[[], bool],
    progress: Callable[[str], None],
) -> None:
    """Make the administrator, the first time.

    SecantusDB has no localhost exception: users are made while it asks for no password. So it runs for
    a second without, on a port of 127.0.0.1 that nobody is told and before it holds any data.

    Raises:
        FatalError: It did not start, or refused the user.
    """
    done = folder.path / "mongodb" / "made_by.json"
    if done.exists():
        return
    port = free_port()
    progress(f"mongodb: making the administrator of SecantusDB {version()}")
    server = Supervised(plan(folder, port=port, authenticated=False), keep_open=keep_open)
    try:
        server.wait_until_ready(lambda: probes.mongodb_answers(port), timeout_s=START_TIMEOUT_S, cancelled=cancelled)
        # Left by a first start that was interrupted: the password is the same, but make sure of it.
        users = probes.mongodb_command(port, {"usersInfo": ROOT_USER, "$db": "admin"})
        command = "updateUser" if users["users"] else "createUser"
        roles = [{"role": "root", "db": "admin"}]
        probes.mongodb_command(port, {command: ROOT_USER, "pwd": password, "roles": roles, "$db": "admin"})
    finally:
        server.stop()
    write_private(done, json.dumps({"version": version()}))
