"""A server that dies, freezes or cannot confirm: nothing is lost, and it says what it is."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from coinstream import local_servers
from coinstream.errors import FatalError, TransientError
from coinstream.messages import AssetSnapshot, Quote, Trade
from coinstream.stores.mongodb.migrate import migrate
from coinstream.stores.mongodb.write import MongoWriter
from integration.mongodb.conftest import PASSWORDS, Database
from integration.mongodb.samples import asset, batch, none_refused, quote, trade

QUICK = "&serverSelectionTimeoutMS=500&connectTimeoutMS=500&socketTimeoutMS=1500"


def told(_: str) -> None:
    """The test's output needs no progress."""


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Callable[[], local_servers.LocalServers]]:
    """A server of the test's own, to be killed; a second call starts it again on the same data."""
    running: list[local_servers.LocalServers] = []

    def start() -> local_servers.LocalServers:
        running.append(local_servers.start(tmp_path, roles=["mongodb"], progress=told))
        return running[-1]

    yield start
    running[-1].stop()


@pytest.fixture
def own_database() -> Iterator[Callable[[str], Database]]:
    """Migrates a database of such a server, with waits that suit a test."""
    with ExitStack() as stack:

        def make(uri: str) -> Database:
            database = Database(uri + QUICK, "own")
            stack.callback(database.cleanup.close)
            migrate(database.admin_uri, passwords=PASSWORDS, database=database.name)
            return database

        yield make


@pytest.mark.slow
def test_server_killed_between_and_within_writes_delays_and_loses_nothing(
    own_server: Callable[[], local_servers.LocalServers], own_database: Callable[[str], Database]
) -> None:
    """The writer raises what the sink retries; the same batches again leave each document once."""
    first = own_server()
    assert first.mongodb_uri is not None
    database = own_database(first.mongodb_uri)
    writer = database.writer()
    writer.write([batch(Trade, [trade("0")])], none_refused)
    starts = range(1, 20_001, 500)
    batches = [batch(Trade, [trade(str(n)) for n in range(start, start + 500)], start=start) for start in starts]
    killer = threading.Timer(0.02, os.kill, (first.servers[0].pid, signal.SIGKILL))
    acknowledged = 0

    def write_until_killed() -> None:
        nonlocal acknowledged
        for one in batches:
            writer.write([one], none_refused)
            acknowledged += 1
            if acknowledged == 3:
                killer.start()

    with pytest.raises(TransientError, match="MongoDB is away or busy"):
        write_until_killed()
    killer.join()
    with pytest.raises(TransientError):
        writer.touch()

    first.stop()
    second = own_server()
    assert second.mongodb_uri == first.mongodb_uri
    deadline = time.monotonic() + 30
    while True:
        try:
            writer.touch()
            break
        except TransientError:
            assert time.monotonic() < deadline
    reader = database.reader()
    before = reader.counts()["trades"]
    assert before >= 1 + 500 * acknowledged, "what was acknowledged is there"
    for one in batches:
        writer.write([one], none_refused)
    assert reader.counts()["trades"] == 20_001
    last = reader.instruments(["coinbase:BTC-USD"])["coinbase:BTC-USD"].last_trade
    assert last is not None
    assert last.message.trade_id == "20000"


@pytest.mark.slow
def test_a_frozen_server_is_transient_within_the_time_that_the_address_allows(
    own_server: Callable[[], local_servers.LocalServers], own_database: Callable[[str], Database]
) -> None:
    server = own_server()
    assert server.mongodb_uri is not None
    database = own_database(server.mongodb_uri)
    writer = database.writer()
    writer.touch()
    os.kill(server.servers[0].pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(TransientError, match="MongoDB is away or busy"):
            writer.write([batch(Trade, [trade("1"), trade("2")]), batch(Quote, [quote()])], none_refused)
        assert time.monotonic() - began < 20
    finally:
        os.kill(server.servers[0].pid, signal.SIGCONT)
    writer.touch()
    writer.write([batch(Trade, [trade("1"), trade("2")]), batch(Quote, [quote()])], none_refused)
    assert database.reader().counts() == {"trades": 2, "instruments": 1, "assets": 0, "asset_history": 0}


def test_many_writers_at_once_make_each_document_once_and_keep_the_newest(database: Database) -> None:
    """Upserts of one new ``_id`` collide; no collision may lose the newer state."""
    total = 8
    start = threading.Barrier(total)
    failures: list[BaseException] = []

    def write(n: int) -> None:
        writer = MongoWriter(database.sink_uri, database=database.name)
        try:
            writer.touch()
            start.wait(30)
            for round_ in range(5):
                version = round_ * total + n
                names = [f"S{i}-USD" for i in range(10)]
                writer.write(
                    [
                        batch(Trade, [trade("1", symbol=s) for s in names]),
                        batch(Quote, [quote(symbol=s, sequence=version) for s in names], start=version * 10),
                        batch(AssetSnapshot, [asset(asset_id=s) for s in names]),
                    ],
                    none_refused,
                )
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)
        finally:
            writer.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(total)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    reader = database.reader()
    assert reader.counts() == {"trades": 10, "instruments": 10, "assets": 10, "asset_history": 10}
    parts = reader.instruments([f"coinbase:S{i}-USD" for i in range(10)])
    assert [one.best and one.best.message.sequence for one in parts.values()] == [5 * total - 1] * 10


def test_wrong_password_is_fatal_and_says_what_to_do(database: Database) -> None:
    wrong = MongoWriter(database.sink_uri.replace("pass", "word"), database=database.name)
    with pytest.raises(FatalError, match=r"MongoDB refuses this user .*; check the password in its address"):
        wrong.touch()
    wrong.close()


def test_a_user_who_may_only_read_is_fatal_and_never_a_dead_letter(database: Database) -> None:
    reader = MongoWriter(database.reader_uri, database=database.name)
    with pytest.raises(FatalError, match="MongoDB refuses"):
        reader.write([batch(Trade, [trade()])], none_refused)
    with pytest.raises(FatalError, match="MongoDB refuses"):
        reader.write([batch(Quote, [quote()])], none_refused)
    reader.close()


def test_nobody_listening_is_transient_and_quick() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        writer = MongoWriter(f"mongodb://127.0.0.1:{port}/?directConnection=true&serverSelectionTimeoutMS=300")
        with pytest.raises(TransientError, match=f"MongoDB is away or busy: 127.0.0.1:{port}: .*refused$"):
            writer.touch()
        writer.close()
