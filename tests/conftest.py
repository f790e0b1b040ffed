"""Fixtures of the whole suite: real servers, each started once a session and only if a test asks for it.

`COINSTREAM_TEST_KAFKA` (bootstrap servers), `COINSTREAM_TEST_POSTGRES` (a superuser's URI) and
`COINSTREAM_TEST_MONGODB` (an administrator's URI) point the same tests at a real product instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from coinstream import local_servers

settings.register_profile("quick", max_examples=50, deadline=None)
settings.register_profile("nightly", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def told(line: str) -> None:
    sys.stderr.write(f"{line}\n")


@pytest.fixture(scope="session")
def local_servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's folder of local servers; each role has a folder of its own below it."""
    return tmp_path_factory.mktemp("local_servers")


@pytest.fixture(scope="session")
def kafka_bootstrap(local_servers_folder: Path) -> Iterator[str]:
    """Apache Kafka; that it cannot be had is a failure, so no test passes on a stand-in unseen."""
    if given := os.environ.get("COINSTREAM_TEST_KAFKA"):
        yield given
        return
    with local_servers.start(local_servers_folder / "kafka", roles=["kafka"], kafka="apache", progress=told) as servers:
        assert servers.kafka_bootstrap is not None
        yield servers.kafka_bootstrap


@pytest.fixture(scope="session")
def noida_bootstrap(local_servers_folder: Path) -> Iterator[str]:
    """The broker that stands in where Apache Kafka cannot be had."""
    with local_servers.start(local_servers_folder / "noida", roles=["kafka"], kafka="noida", progress=told) as servers:
        assert servers.kafka_bootstrap is not None
        yield servers.kafka_bootstrap


@pytest.fixture(scope="session")
def postgres_admin_dsn(local_servers_folder: Path) -> Iterator[str]:
    """A superuser's URI of PostgreSQL; a test makes a database of its own with it."""
    if given := os.environ.get("COINSTREAM_TEST_POSTGRES"):
        yield given
        return
    with local_servers.start(local_servers_folder / "postgresql", roles=["postgresql"], progress=told) as servers:
        assert servers.postgres_admin_dsn is not None
        yield servers.postgres_admin_dsn


@pytest.fixture(scope="session")
def mongodb_uri(local_servers_folder: Path) -> Iterator[str]:
    """An administrator's URI of MongoDB or its stand-in; a test makes a database of its own with it."""
    if given := os.environ.get("COINSTREAM_TEST_MONGODB"):
        yield given
        return
    with local_servers.start(local_servers_folder / "mongodb", roles=["mongodb"], progress=told) as servers:
        assert servers.mongodb_uri is not None
        yield servers.mongodb_uri
