"""Kafka's data folder is looked at before anything is started on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coinstream.errors import FatalError
from coinstream.local_servers import kafka_server


@pytest.mark.parametrize(
    ("meta", "made_by", "said"),
    [
        ("version=0\nbroker.id=3\n", "4.4.0", "says version 0, node None"),
        ("version=1\nnode.id=2\n", "4.4.0", "says version 1, node 2"),
        ("version=1\nnode.id=1\n", "99.0.0", "was made by Apache Kafka 99.0.0"),
    ],
)
def test_data_of_another_kafka_is_refused_and_kept(tmp_path: Path, meta: str, made_by: str, said: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "meta.properties").write_text(meta)
    (tmp_path / "made_by.json").write_text(json.dumps({"version": made_by}))

    with pytest.raises(FatalError, match=said):
        kafka_server.check_version(tmp_path, data)

    assert (data / "meta.properties").read_text() == meta


def test_data_of_this_kafka_is_accepted(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    kafka_server.check_version(tmp_path, data)  # new
    (data / "meta.properties").write_text("#\nversion=1\nnode.id=1\ncluster.id=x\n")
    kafka_server.check_version(tmp_path, data)  # ours
