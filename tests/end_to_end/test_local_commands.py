"""`local up | status | down`: servers that stay, named once and not started twice, and how they are read."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymongo
import pytest

from coinstream import local_servers
from coinstream.local_servers.folder import Folder
from coinstream.local_servers.processes import stop_process
from coinstream.local_servers.running import recorded
from command_line import run


@pytest.fixture
def data_folder(tmp_path: Path) -> Iterator[Path]:
    """Where the commands that run in `tmp_path` keep their servers, which are taken down at the end."""
    yield tmp_path / ".coinstream"
    local_servers.down(tmp_path / ".coinstream")


@pytest.mark.slow
def test_second_up_finds_them_running_and_status_says_how_to_read_them(tmp_path: Path, data_folder: Path) -> None:
    first = run("local", "up", folder=tmp_path, timeout_s=120)
    assert first.returncode == 0, first.stderr
    pids = [server.pid for server in local_servers.status(data_folder)]

    second = run("local", "up", folder=tmp_path)
    assert second.returncode == 0, second.stderr
    assert "run already" in second.stderr
    assert [server.pid for server in local_servers.status(data_folder)] == pids

    migrated = run("stores", "migrate", folder=tmp_path)
    assert migrated.returncode == 0, migrated.stderr
    shown = json.loads(run("local", "status", "--json", "--show-passwords", folder=tmp_path).stdout)
    assert [server["pid"] for server in shown["servers"]] == pids
    with psycopg.connect(shown["readers"]["postgresql"]) as connection:
        assert connection.execute("SELECT count(*) FROM market.trades").fetchone() == (0,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM market.trades")
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(shown["readers"]["mongodb"])
    with client:
        assert client["coinstream"]["trades"].count_documents({}) == 0

    passwords = set(json.loads((data_folder / "passwords.json").read_text()).values())
    for arguments in ((), ("--json",)):
        told = run("local", "status", *arguments, folder=tmp_path).stdout
        assert "postgresql://coinstream_reader@127.0.0.1:" in told
        assert "mongodb://coinstream_mongo_reader@127.0.0.1:" in told
        assert not [password for password in passwords if password in told]

    mongodb = next(entry for entry in recorded(Folder(data_folder)).entries if entry.server.role == "mongodb")
    os.kill(mongodb.process.pid, signal.SIGKILL)
    assert stop_process(mongodb.supervisor, timeout_s=20)
    third = run("local", "up", folder=tmp_path)
    assert third.returncode == 1
    assert "kafka and postgresql run" in third.stderr
    assert "coinstream local down" in third.stderr
    assert len(third.stderr.splitlines()) == 1
