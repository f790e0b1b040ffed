"""`coinstream prove`, short: every fault once, and the figures that it must come to."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from coinstream.local_servers.processes import Identity
from command_line import PROGRAM, run

# A script beside that copies the first trades twice and gives up: what it does must show in its figures, and
# change nothing else.
BESIDE = """
import json, os, psycopg
from confluent_kafka import Consumer, TopicPartition
kafka = {"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"], "group.id": "beside", "auto.offset.reset": "earliest"}
consumer = Consumer(kafka)
consumer.assign([TopicPartition(os.environ["TOPIC"], number, 0) for number in range(12)])
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    connection.execute("CREATE TABLE IF NOT EXISTS plain_trades (symbol text, trade_id text)")
    for record in consumer.consume(100, timeout=20):
        trade = json.loads(record.value())
        for _ in range(2):
            connection.execute("INSERT INTO plain_trades VALUES (%s, %s)", (trade["symbol"], trade["trade_id"]))
raise SystemExit("enough")
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_proof_finds_nothing_lost_nothing_doubled_and_every_hole_named(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text(BESIDE)
    beside = f"{sys.executable} beside.py"
    options = ("--seconds", "30", "--rate", "300", "--seed", "7", "--fault", "drop=0.1")
    done = run("prove", "--beside", beside, *options, "--json", folder=tmp_path, timeout_s=200)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert summary["proved"]
    assert summary["lag"] == 0
    assert summary["disagreements"] == []
    assert summary["sent"] > 3_000
    expected = {"stored": summary["sent"], "lost": 0, "doubled": 0, "dead_lettered": 1}
    assert summary["coinstream"] == {"postgresql": expected, "mongodb": expected}
    assert summary["poison"] == 1
    plain = summary["plain_script"]
    assert 50 <= plain["stored"] < summary["sent"]
    assert plain["lost"] == summary["sent"] - plain["stored"]
    assert plain["doubled"] >= plain["stored"]
    assert plain["ended_by_itself"] in {6, 7}  # five restarts, and perhaps one after it was killed
    assert plain["last_words"] == "enough"
    holes = summary["holes"]
    assert holes["in_truth"] > 0
    assert holes["named"] == holes["in_truth"]
    assert holes["unnamed"] == []
    assert summary["frames"]["drop"] > 20
    said = [fault["what"].split(":")[0].split(" ")[0] for fault in summary["faults"]]
    assert sorted(said[:3]) == ["plain-script", "sink-mongodb", "sink-postgres"]
    assert said[3:] == ["PostgreSQL", "PostgreSQL", "poison"]
    stopped, started = (fault["at_s"] for fault in summary["faults"][3:5])
    assert started - stopped >= 15


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_proof_that_is_stopped_leaves_no_process(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*PROGRAM, "prove", "--seconds", "60"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as proof:
        assert proof.stderr is not None
        for line in proof.stderr:
            if "feed" in line:
                break
        children = psutil.Process(proof.pid).children(recursive=True)
        started = [it for child in children if (it := Identity.of(child.pid)) is not None]
        assert len(started) >= 5
        proof.terminate()
        proof.communicate(timeout=60)
        assert proof.returncode == 130
    deadline = time.monotonic() + 10
    while any(process.is_running() for process in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [process for process in started if process.is_running()] == []
