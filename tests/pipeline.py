"""A pipeline of its own for one test: a topic prefix, two databases, and the commands that run on them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pymongo
import pytest

from coinstream.kafka import Producer
from coinstream.messages import Message
from coinstream.operations import Baseline, Lag, take_baseline

PROGRAM = [sys.executable, "-m", "coinstream.cli"]
PASSWORD = "local-test-only"
# Each table with names instead of the ids that depend on who came first.
ROWS_OF = {
    "trades": "SELECT to_jsonb(v)::text FROM market.named_trades v",
    "quotes": "SELECT to_jsonb(v)::text FROM market.named_quotes v",
    "book_snapshots": "SELECT to_jsonb(v)::text FROM market.named_book_snapshots v",
    "candles": """SELECT i.venue || i.symbol || (to_jsonb(c) - 'instrument_id')::text
                  FROM market.candles c JOIN market.instruments i ON i.id = c.instrument_id""",
    "instruments": "SELECT (to_jsonb(v) - 'id')::text FROM market.instruments v",
    "assets": "SELECT to_jsonb(v)::text FROM market.assets v",
    "coverage": "SELECT to_jsonb(v)::text FROM market.coverage v",
}


def as_user(url: str, user: str, *, database: str | None = None) -> str:
    """The same server's address for another user, and another database where named."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    path = parts.path if database is None else f"/{database}"
    return urlunsplit(parts._replace(netloc=f"{user}:{PASSWORD}@{host}", path=path))


@dataclass
class Pipeline:
    """Addresses, and what a test does with them."""

    folder: Path
    kafka: str
    postgres_admin: str
    mongodb_admin: str
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}.")
    suffix: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    baselines: list[Baseline] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = self.prefix.rstrip(".") + self.suffix
        with psycopg.connect(self.postgres_admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self.database} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'")
        parts = urlsplit(self.postgres_admin)
        self.postgres_owner = urlunsplit(parts._replace(path=f"/{self.database}"))
        self.postgres_reader = as_user(self.postgres_owner, "coinstream_reader")
        self.mongodb_reader = as_user(self.mongodb_admin, "coinstream_mongo_reader")

    @property
    def environment(self) -> dict[str, str]:
        """What the commands need to find this pipeline, and no other."""
        settings = {
            "DATA_FOLDER": str(self.folder),
            "KAFKA_BOOTSTRAP": self.kafka,
            "KAFKA_SESSION_TIMEOUT_MS": "6000",
            "TOPIC_PREFIX": self.prefix,
            "POSTGRES_ADMIN_URL": self.postgres_owner,
            "POSTGRES_SINK_URL": as_user(self.postgres_owner, "coinstream_sink"),
            "POSTGRES_READER_URL": self.postgres_reader,
            "MONGODB_ADMIN_URL": self.mongodb_admin,
            "MONGODB_SINK_URL": as_user(self.mongodb_admin, "coinstream_mongo_sink"),
            "MONGODB_READER_URL": self.mongodb_reader,
            "MONGODB_DATABASE": self.database,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COINSTREAM_")}
        return inherited | {f"COINSTREAM_{name}": value for name, value in settings.items()}

    def prepare(self) -> None:
        """Topics, schemas, roles."""
        self.run("topics", "apply")
        self.run("stores", "migrate")

    def run(self, *arguments: str, timeout_s: float = 120, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and hold it to its exit status."""
        done = subprocess.run(
            [*PROGRAM, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == status, f"{arguments} ended {done.returncode}:\n{done.stderr[-4000:]}"
        return done

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a long-running command; its log stands in the test's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{'-'.join(arguments[:2])}.log").open("ab") as log:
            process = subprocess.Popen([*PROGRAM, *arguments], env=self.environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def publish(self, messages: Sequence[Message]) -> None:
        """Put messages into the topics, acknowledged."""
        producer = Producer(self.kafka, client_id="test", topic_prefix=self.prefix)
        try:
            for message in messages:
                producer.publish(message)
            producer.flush(60)
        finally:
            producer.close()

    def lag(self) -> Lag:
        """The lag of both stores, from their stored positions."""
        return Lag(
            kafka_bootstrap=self.kafka,
            topic_prefix=self.prefix,
            postgres_url=self.postgres_reader,
            postgres_group=self.prefix + "sink-postgres",
            mongodb_group=self.prefix + "sink-mongodb",
        )

    def baseline(self) -> Baseline:
        """How everything stands now, for `Baseline.compare` later."""
        made = take_baseline(
            kafka_bootstrap=self.kafka,
            topic_prefix=self.prefix,
            postgres_url=self.postgres_reader,
            mongodb_url=self.mongodb_reader,
            mongodb_database=self.database,
            now_us=time.time_ns() // 1000,
            longest_run_s=3600,
        )
        self.baselines.append(made)
        return made

    def positions(self) -> dict[str, int]:
        """The lag of each store now, to see progress from."""
        lag = self.lag()
        try:
            return lag.by_store()
        finally:
            lag.close()

    def wait_for_progress(self, store: str, before: dict[str, int], *, timeout_s: float = 60) -> None:
        """Wait until a store has moved on, so that what follows meets it at work."""
        lag = self.lag()
        try:
            deadline = time.monotonic() + timeout_s
            while lag.by_store()[store] >= before[store]:
                assert time.monotonic() < deadline, f"{store} does not move; logs in {self.folder}"
                time.sleep(0.02)
        finally:
            lag.close()

    def wait_until_stored(self, store: str, *, timeout_s: float = 120) -> None:
        """Wait until a store's position is the log's end."""
        lag = self.lag()
        try:
            deadline = time.monotonic() + timeout_s
            while left := lag.by_store()[store]:
                assert time.monotonic() < deadline, f"{store} still lags {left} messages; logs in {self.folder}"
                time.sleep(0.1)
        finally:
            lag.close()

    def rows(self) -> dict[str, list[str]]:
        """Every table's rows as text, sorted."""
        with psycopg.connect(self.postgres_owner) as connection:
            return {
                table: sorted(text for (text,) in connection.execute(query).fetchall())
                for table, query in ROWS_OF.items()
            }

    def documents(self) -> dict[str, list[str]]:
        """Every collection's documents as text, sorted, without the log positions."""
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(self.mongodb_admin)
        try:
            database = client[self.database]
            return {
                name: sorted(json.dumps(document, sort_keys=True, default=str) for document in database[name].find())
                for name in ("instruments", "trades", "assets", "asset_history")
            }
        finally:
            client.close()

    def close(self) -> None:
        """End what was started, and drop the databases."""
        for baseline in self.baselines:
            baseline.close()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        with psycopg.connect(self.postgres_admin, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")


@pytest.fixture
def pipeline(tmp_path: Path, kafka_bootstrap: str, postgres_admin_dsn: str, mongodb_uri: str) -> Iterator[Pipeline]:
    """Topics, schemas and roles are there; nothing runs."""
    made = Pipeline(tmp_path / "data", kafka_bootstrap, postgres_admin_dsn, mongodb_uri)
    try:
        made.prepare()
        yield made
    finally:
        made.close()


def end(process: subprocess.Popen[bytes], *, timeout_s: float = 60) -> None:
    """Ask a process to drain and hold it to exit status 0."""
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout_s) == 0


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Freeze a process for the length of the block."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
