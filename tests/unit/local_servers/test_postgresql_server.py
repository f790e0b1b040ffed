"""PostgreSQL's lock file after a crash, and its programs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coinstream.errors import FatalError
from coinstream.local_servers import postgresql_server

REST = "/data\n1764000000\n5432\n\n127.0.0.1\n  1234  5\n"


def test_lock_file_that_names_a_stranger_names_no_process_afterwards(tmp_path: Path) -> None:
    """A rebooted machine gives the dead server's id to another program of the same user: here, to us."""
    lock_file = tmp_path / "postmaster.pid"
    lock_file.write_text(f"{os.getpid()}\n{REST}")

    postgresql_server.settle_lock_file(lock_file)

    pid, _, rest = lock_file.read_text().partition("\n")
    assert int(pid) > 2**22  # Linux gives out none above
    assert rest == REST  # the shared memory it names still protects an old backend


def test_lock_file_of_a_process_that_is_gone_is_left_to_postgresql(tmp_path: Path) -> None:
    lock_file = tmp_path / "postmaster.pid"
    lock_file.write_text(f"{2**22 + 1}\n{REST}")

    postgresql_server.settle_lock_file(lock_file)

    assert lock_file.read_text() == f"{2**22 + 1}\n{REST}"


def test_folder_without_lock_file_stays_without(tmp_path: Path) -> None:
    postgresql_server.settle_lock_file(tmp_path / "postmaster.pid")

    assert list(tmp_path.iterdir()) == []


def test_bin_folder_without_its_programs_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "postgres").touch()

    with pytest.raises(FatalError, match=r"has no initdb, pg_isready, psql, createdb: name the bin folder"):
        postgresql_server.find_binaries(tmp_path)
