"""The local servers on this machine: started, found, collided with, killed; each test in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pymongo
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream import local_servers
from coinstream.errors import FatalError
from coinstream.local_servers.processes import started_ticks

STARTER = """
import signal, sys, time
from pathlib import Path
from coinstream import local_servers
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in a shell's background inherits it ignored
servers = local_servers.start(Path(sys.argv[1]), roles=sys.argv[2].split(","))
print("up", flush=True)
time.sleep(600)
"""


def pids_of(folder: Path) -> list[int]:
    """Every process of a folder: the servers, who watches them, and the servers' own children."""
    recorded = json.loads((folder / "servers.json").read_text())["servers"]
    pids = [server[which]["pid"] for server in recorded for which in ("process", "supervisor")]
    for pid in list(pids):
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += [int(child) for child in (task / "children").read_text().split()]
    return sorted(set(pids))


def wait_until_gone(pids: list[int], timeout_s: float) -> list[int]:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and any(started_ticks(pid) is not None for pid in pids):
        time.sleep(0.05)
    return [pid for pid in pids if started_ticks(pid) is not None]


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another command that started all three servers in `tmp_path` and sleeps."""
    command = [sys.executable, "-c", STARTER, str(tmp_path), "kafka,postgresql,mongodb"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


@pytest.mark.slow
def test_sigkill_of_the_parent_ends_every_server(tmp_path: Path, starter: subprocess.Popen[str]) -> None:
    pids = pids_of(tmp_path)
    assert len(pids) > 6  # three servers, three supervisors, PostgreSQL's own children

    starter.kill()

    assert wait_until_gone(pids, 30) == []
    assert local_servers.find(tmp_path) is None


@pytest.mark.slow
def test_sigkill_of_parent_and_supervisors_at_once_ends_every_server_and_the_folder_starts_again(
    tmp_path: Path, starter: subprocess.Popen[str]
) -> None:
    pids = pids_of(tmp_path)
    recorded = json.loads((tmp_path / "servers.json").read_text())["servers"]

    for server in recorded:
        os.kill(server["supervisor"]["pid"], signal.SIGKILL)
    starter.kill()

    assert wait_until_gone(pids, 10) == []
    with local_servers.start(tmp_path) as again:
        assert [server.role for server in again.servers] == ["kafka", "postgresql", "mongodb"]


@pytest.mark.slow
def test_ctrl_c_in_mid_start_leaves_no_server_and_a_free_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path), "postgresql,mongodb"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            first_line = process.stderr.readline()  # the first step was begun
            process.send_signal(signal.SIGINT)
            _, rest = process.communicate(timeout=30)
        finally:
            process.kill()

    assert first_line.startswith(("postgresql: making", "mongodb: making"))
    assert rest.rstrip().endswith("KeyboardInterrupt")
    assert local_servers.status(tmp_path) == []
    with local_servers.start(tmp_path, roles=["postgresql", "mongodb"]) as servers:
        assert [server.role for server in servers.servers] == ["postgresql", "mongodb"]


DETACHED_STARTER = STARTER.replace('split(","))', 'split(","), detached=True)')


def processes_naming(folder: Path) -> list[int]:
    """Every process whose command line names a folder: servers, who watches them, and what sets them up."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seen", ["mongodb: making", "mongodb: Secantus", "postgresql: PostgreSQL"])
def test_sigkill_in_the_middle_of_a_detached_start_leaves_no_server(tmp_path: Path, seen: str) -> None:
    # Kafka is the last to be ready: the moments seen are all before the start is over.
    command = [sys.executable, "-c", DETACHED_STARTER, str(tmp_path), "kafka,postgresql,mongodb"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(seen):
                break
        if seen.endswith("making"):
            time.sleep(0.3)  # in the middle of the server that makes the administrator
        process.kill()
        assert process.wait() == -signal.SIGKILL

    pids = processes_naming(tmp_path)
    assert wait_until_gone(pids, 30) == []
    assert processes_naming(tmp_path) == []
    assert local_servers.find(tmp_path) is None
    with local_servers.start(tmp_path, roles=["postgresql", "mongodb"]) as servers:
        assert [server.role for server in servers.servers] == ["postgresql", "mongodb"]


@pytest.mark.slow
def test_another_command_finds_the_servers_and_cannot_start_them_twice(
    tmp_path: Path, starter: subprocess.Popen[str]
) -> None:
    found = local_servers.find(tmp_path)
    assert found is not None
    assert found.postgres_admin_dsn is not None
    with psycopg.connect(found.postgres_admin_dsn) as connection:
        assert connection.execute("select current_database()").fetchone() == ("coinstream",)

    with pytest.raises(FatalError, match=rf"already running \(pid {starter.pid}\); stop that command first"):
        local_servers.start(tmp_path)

    found.stop()  # only found, so it stops nothing
    assert [server.role for server in local_servers.status(tmp_path)] == ["kafka", "postgresql", "mongodb"]


@pytest.mark.slow
def test_second_start_keeps_data_ports_and_passwords_and_is_quick(tmp_path: Path) -> None:
    with local_servers.start(tmp_path, kafka="apache") as first:
        assert first.kafka_bootstrap is not None
        assert first.postgres_admin_dsn is not None
        admin = AdminClient({"bootstrap.servers": first.kafka_bootstrap})
        admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(20)
        with psycopg.connect(first.postgres_admin_dsn) as connection:
            connection.execute("create table kept as select 42 as answer")
        with pymongo.MongoClient(first.mongodb_uri) as client:
            client.coinstream.kept.insert_one({"_id": 1, "answer": 42})

    began = time.monotonic()
    with local_servers.start(tmp_path, kafka="apache") as second:
        assert time.monotonic() - began < 10
        assert second.kafka_bootstrap == first.kafka_bootstrap
        assert second.postgres_admin_dsn == first.postgres_admin_dsn
        assert second.mongodb_uri == first.mongodb_uri
        assert second.passwords == first.passwords
        admin = AdminClient({"bootstrap.servers": second.kafka_bootstrap})
        assert "kept" in admin.list_topics(timeout=10).topics
        with psycopg.connect(second.postgres_admin_dsn) as connection:
            assert connection.execute("select answer from kept").fetchone() == (42,)
        with pymongo.MongoClient(second.mongodb_uri) as client:
            assert client.coinstream.kept.find_one() == {"_id": 1, "answer": 42}


@pytest.mark.slow
def test_detached_servers_outlive_their_command_until_they_are_taken_down(tmp_path: Path) -> None:
    roles = "postgresql,mongodb"
    script = DETACHED_STARTER.replace("time.sleep(600)", "")
    subprocess.run([sys.executable, "-c", script, str(tmp_path), roles], check=True, capture_output=True)

    try:
        running = local_servers.status(tmp_path)
        pids = pids_of(tmp_path)
        found = local_servers.find(tmp_path)
        assert found is not None
        assert found.detached
        assert [(server.role, server.name, server.stand_in) for server in running] == [
            ("postgresql", "PostgreSQL", False),
            ("mongodb", "SecantusDB", True),
        ]
        with pytest.raises(FatalError, match=r"`coinstream local down` stops them"):
            local_servers.start(tmp_path, roles=["postgresql"])
    finally:
        stopped = local_servers.down(tmp_path)

    assert stopped == ["postgresql", "mongodb"]
    assert wait_until_gone(pids, 5) == []
    assert local_servers.status(tmp_path) == []
    assert local_servers.down(tmp_path) == []


def test_status_names_each_server_and_secrets_are_for_the_owner_alone(tmp_path: Path) -> None:
    with local_servers.start(tmp_path, roles=["postgresql"]) as servers:
        (running,) = local_servers.status(tmp_path)
        assert running == servers.servers[0]
        assert (running.role, running.name, running.stand_in) == ("postgresql", "PostgreSQL", False)
        assert running.version.split(".")[0] == (tmp_path / "postgresql" / "data" / "PG_VERSION").read_text().strip()
        assert servers.passwords["postgres"] not in repr(servers)
        modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("servers.json", "passwords.json", ".")}
        assert modes == {"servers.json": 0o600, "passwords.json": 0o600, ".": 0o700}
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            psycopg.connect(f"postgresql://postgres@{running.address}/coinstream")
    assert local_servers.status(tmp_path) == []
    assert not (tmp_path / "servers.json").exists()


def test_postgresql_runs_where_no_user_namespace_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root keeps it elsewhere for an ordinary user; an ordinary user needs no namespace."""
    monkeypatch.setenv("PATH", "/nowhere")  # no `unshare`
    elsewhere = None
    try:
        for _ in range(2):
            with local_servers.start(tmp_path, roles=["postgresql"]) as servers:
                assert servers.postgres_admin_dsn is not None
                with psycopg.connect(servers.postgres_admin_dsn) as connection:
                    (data,) = connection.execute("show data_directory").fetchone()  # type: ignore[misc]
                    elsewhere = Path(data).parent if not Path(data).is_relative_to(tmp_path) else None
                assert Path(f"/proc/{servers.servers[0].pid}").stat().st_uid != 0
                assert Path(data).parent.stat().st_mode & 0o777 == 0o700
    finally:
        if elsewhere is not None:
            shutil.rmtree(elsewhere)


def test_port_that_somebody_else_holds_is_replaced_and_said(tmp_path: Path) -> None:
    lines: list[str] = []
    with local_servers.start(tmp_path, roles=["postgresql"], progress=lines.append) as first:
        host, _, port = first.servers[0].address.partition(":")

    with (
        socket.create_server((host, int(port))),
        local_servers.start(tmp_path, roles=["postgresql"], progress=lines.append) as second,
    ):
        assert second.servers[0].address != first.servers[0].address
        moved = second.servers[0].address.removeprefix("127.0.0.1:")
        assert f"postgresql: port {port} of 127.0.0.1 is in use by another program; {moved} now" in lines
        assert second.postgres_admin_dsn is not None
        with psycopg.connect(second.postgres_admin_dsn) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


def test_data_of_another_postgresql_is_refused_and_kept(tmp_path: Path) -> None:
    data = tmp_path / "postgresql" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("12\n")
    (tmp_path / "passwords.json").write_text("{}")

    with pytest.raises(FatalError, match=r"was made by PostgreSQL 12 and this is \d+"):
        local_servers.start(tmp_path, roles=["postgresql"])

    assert (data / "PG_VERSION").read_text() == "12\n"
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


@pytest.mark.slow
def test_server_that_fails_shows_its_log_and_the_others_are_stopped(tmp_path: Path) -> None:
    with local_servers.start(tmp_path, roles=["mongodb"]):
        pass
    (tmp_path / "mongodb" / "data" / "WiredTiger.turtle").write_text("no turtle\n")

    with pytest.raises(FatalError, match=r"(?s)mongodb ended while it started; the last lines of .*mongodb\.log:\n.+"):
        local_servers.start(tmp_path, roles=["mongodb", "postgresql"])

    assert local_servers.status(tmp_path) == []
    with local_servers.start(tmp_path, roles=["postgresql"]) as servers:  # the folder is free again
        assert servers.mongodb_uri is None


def test_fallback_broker_says_that_it_stands_in(noida_bootstrap: str, local_servers_folder: Path) -> None:
    (running,) = local_servers.status(local_servers_folder / "noida")

    assert running.address == noida_bootstrap
    assert (running.name, running.stand_in) == ("noida-db", True)
    assert running.note is not None


@pytest.mark.slow
def test_broker_falls_back_with_one_line_where_the_registry_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("MAVEN_OPTS", "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1")
    monkeypatch.setenv("MAVEN_ARGS", f"-Dmaven.repo.local={tmp_path / 'm2'}")
    monkeypatch.setenv("PATH", "/nowhere")  # no mvn either
    lines: list[str] = []

    with local_servers.start(tmp_path / "data", roles=["kafka"], progress=lines.append) as servers:
        assert servers.servers[0].label.startswith("noida-db ")
        assert servers.servers[0].label.endswith(" (stand-in)")
    assert next(line for line in lines if "stands in" in line).startswith("kafka: Apache Kafka cannot be had (jgo: ")

    with pytest.raises(FatalError, match=r"Apache Kafka 4\.\d+\.\d+ cannot be had: jgo: "):
        local_servers.start(tmp_path / "data", roles=["kafka"], kafka="apache", progress=lines.append)
