"""The data folder: what is made once stays, and what cannot be is said."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from coinstream.errors import FatalError
from coinstream.local_servers import down, find, remove, start, status
from coinstream.local_servers.folder import Folder, read_json, write_private

NOBODY = 65534


def test_passwords_are_made_once_and_differ(tmp_path: Path) -> None:
    first = Folder(tmp_path).passwords()

    assert Folder(tmp_path).passwords() == first
    assert len(set(first.values())) == len(first)
    assert set(first) >= {"postgres", "coinstream_owner", "coinstream_sink", "mongodb_root", "coinstream_mongo_sink"}
    assert (tmp_path / "passwords.json").stat().st_mode & 0o777 == 0o600


def test_lost_passwords_beside_a_database_are_not_made_anew(tmp_path: Path) -> None:
    (tmp_path / "postgresql" / "data").mkdir(parents=True)

    with pytest.raises(FatalError, match=r"passwords\.json is missing but its databases are there"):
        Folder(tmp_path).passwords()

    assert not (tmp_path / "passwords.json").exists()


def test_damaged_file_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "passwords.json").write_text('{"postgres": ')

    with pytest.raises(FatalError, match=r"passwords\.json is damaged"):
        Folder(tmp_path).passwords()

    assert (tmp_path / "passwords.json").read_text() == '{"postgres": '


def test_full_disk_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - the shape shutil returns
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12 - 499_000_000, 499_000_000))

    with pytest.raises(FatalError, match=r"only 499 MB are free on the disk of .*; the local servers want 500 MB"):
        Folder(tmp_path / "data").prepare()


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(FatalError, match=r"the data folder .*/file/data cannot be made: Not a directory"):
        Folder(tmp_path / "file" / "data").prepare()


@pytest.mark.parametrize("ask", [status, find, down])
def test_folder_that_is_a_file_is_named_in_one_line(tmp_path: Path, ask: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(FatalError, match=r"^[^\n]*file/servers\.json cannot be read \(Not a directory\)[^\n]*$"):
        ask(tmp_path / "file")


def test_folder_of_another_user_is_named_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    else:
        folder.chmod(0)
    try:
        for ask in (status, down, start):
            with pytest.raises(FatalError, match=r"^[^\n]*theirs[^\n]*Permission denied[^\n]*$"):
                ask(folder)
    finally:
        if is_root:
            os.seteuid(0)
        else:
            folder.chmod(0o700)


def test_private_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    path.write_text("old")
    path.chmod(0o644)

    write_private(path, json.dumps({"new": 1}))

    assert read_json(path) == {"new": 1}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["servers.json"]


def test_data_folder_is_removed_with_everything_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "servers"
    Folder(folder).prepare()
    os.close(Folder(folder).lock())
    (folder / "mongodb").mkdir()
    (folder / "mongodb" / "data").write_text("x")
    remove(folder)
    assert not folder.exists()
    remove(folder)


def test_folder_that_is_not_ours_or_in_use_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    with pytest.raises(FatalError, match="left as it is"):
        remove(tmp_path / "letters")
    folder = tmp_path / "servers"
    Folder(folder).prepare()
    lock = Folder(folder).lock()
    with pytest.raises(FatalError, match="already running"):
        remove(folder)
    os.close(lock)
    assert (folder / "logs").is_dir()
