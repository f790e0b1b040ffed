#!/usr/local/bin/python
"""As the official image's, in the options and variables that compose.yaml uses.

The user is changed first and secrets are read afterwards, as there: a file that only root can read is a failure
here too. mongod's demands on the key file are checked likewise.
"""

import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pymongo

NO_SETTINGS = Path("/data/configdb/secantusd.toml")
SERVER = [sys.executable, "-m", "secantus", "--config", str(NO_SETTINGS), "--storage-path", "/data/db/secantus"]
MADE = Path("/data/db/administrator_made")


def change_user() -> None:
    user = pwd.getpwnam("mongodb")
    for folder in ("/data/db", "/data/configdb"):
        os.chown(folder, user.pw_uid, user.pw_gid)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def check_key(options: list[str]) -> None:
    key = Path(options[options.index("--keyFile") + 1])
    found = key.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        sys.exit(f"permissions on {key} are too open")
    if not 6 <= len(key.read_text()) <= 1024:
        sys.exit(f"the key in {key} must be 6 to 1024 characters")


def make_administrator() -> None:
    """While the server listens on this container's own address alone, and asks for no password."""
    user = os.environ["MONGO_INITDB_ROOT_USERNAME"]
    password = Path(os.environ["MONGO_INITDB_ROOT_PASSWORD_FILE"]).read_text().rstrip("\n")
    server = subprocess.Popen([*SERVER, "--host", "127.0.0.1", "--port", "27017"])
    client = pymongo.MongoClient("127.0.0.1", directConnection=True, serverSelectionTimeoutMS=60_000)
    client.admin.command("createUser", user, pwd=password, roles=[{"role": "root", "db": "admin"}])
    client.close()
    server.terminate()
    server.wait(30)
    MADE.touch()


def main() -> None:
    command, *options = sys.argv[1:]
    if command != "mongod" or "--bind_ip_all" not in options:
        sys.exit(f"this stand-in starts mongod with --bind_ip_all, not {sys.argv[1:]}")
    change_user()
    NO_SETTINGS.touch()  # a file elsewhere must not change the server
    check_key(options)
    if not MADE.exists():
        make_administrator()
    os.execv(SERVER[0], [*SERVER, "--host", "0.0.0.0", "--port", "27017", "--auth", "--cache-size", "256M"])


main()
