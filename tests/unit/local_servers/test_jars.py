"""Kafka's jars, once downloaded, are taken from the cache without asking anybody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coinstream.local_servers import jars


def test_recorded_jars_are_returned_without_a_download(tmp_path: Path) -> None:
    folder = tmp_path / f"kafka-{jars.VERSION}"
    folder.mkdir()
    recorded = [folder / name for name in ("kafka.jar", "scala.jar")]
    for jar in recorded:
        jar.touch()
    (folder / "classpath.json").write_text(json.dumps([str(jar) for jar in recorded]))
    lines: list[str] = []

    assert jars.kafka_jars(tmp_path, lines.append) == recorded
    assert lines == []


def test_cache_is_in_the_users_cache_or_beside_the_data_where_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert jars.cache_folder(tmp_path / "data") == tmp_path / "cache" / "coinstream"

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert jars.cache_folder(tmp_path / "data") == tmp_path / "data" / "cache"
