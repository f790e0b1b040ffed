"""`dead-letters list | show` on a real Kafka."""

from __future__ import annotations

import base64
import json
import time
import uuid
from pathlib import Path

import pytest

from coinstream.kafka import DeadLetter, Producer, apply_topics
from command_line import run


def letter(prefix: str, offset: int, value: bytes, *, time_us: int) -> DeadLetter:
    return DeadLetter(
        topic=prefix + "market.trades",
        partition=3,
        offset=offset,
        key=b"coinbase:BTC-USD",
        value=value,
        reason="price: must be above zero",
        error="FieldError",
        stage="sink postgresql",
        time_us=time_us,
    )


@pytest.fixture
def prefix(kafka_bootstrap: str) -> str:
    """A topic prefix with three letters: of a minute ago, of today, and of a frame of 2021 replayed last."""
    it = f"t{uuid.uuid4().hex[:12]}."
    apply_topics(kafka_bootstrap, topic_prefix=it)
    producer = Producer(kafka_bootstrap, client_id="test", topic_prefix=it)
    now_us = time.time_ns() // 1000
    for offset, value, time_us in ((7, b'{"price": "0"}', now_us), (8, b"\xff" * 20_000, now_us + 1), (9, b"old", 1)):
        producer.publish_dead_letter(letter(it, offset, value, time_us=time_us))
        producer.flush(20)
        time.sleep(0.002)
    producer.close()
    return it


def test_list_has_the_newest_last_and_show_the_very_bytes(kafka_bootstrap: str, prefix: str, tmp_path: Path) -> None:
    settings = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "TOPIC_PREFIX": prefix}
    listed = run("dead-letters", "list", folder=tmp_path, **settings)
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert ["at 7 " in lines[0], "at 8 " in lines[1], "at 9 " in lines[2], len(lines)] == [True, True, True, 3]
    assert "FieldError: price: must be above zero" in lines[0]
    assert listed.stderr == f"3 dead letters: 3 {prefix}market.trades (FieldError)\n"

    newest = run(
        "dead-letters", "list", "--limit", "2", "--json", "--topic", "market.trades", folder=tmp_path, **settings
    )
    middle, last = [json.loads(line) for line in newest.stdout.splitlines()]
    assert (last["offset"], last["value"], last["time_us"]) == (9, "old", 1)
    assert last["letter"] == lines[2].split()[0]
    assert middle["value_bytes"] == 20_000
    assert base64.b64decode(middle["value"]["base64"]) == b"\xff" * 16_384

    shown = json.loads(run("dead-letters", "show", middle["letter"], folder=tmp_path, **settings).stdout)
    assert base64.b64decode(shown["value"]["base64"]) == b"\xff" * 20_000
    first = lines[0].split()[0]
    raw = run("dead-letters", "show", "--raw", first, folder=tmp_path, **settings)
    assert raw.stdout == '{"price": "0"}'
    assert raw.stderr == ""


def test_list_of_another_topic_is_empty_and_a_place_without_a_letter_is_named(
    kafka_bootstrap: str, prefix: str, tmp_path: Path
) -> None:
    settings = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "TOPIC_PREFIX": prefix}
    empty = run("dead-letters", "list", "--topic", "market.frames.dead-letters", folder=tmp_path, **settings)
    assert (empty.returncode, empty.stdout, empty.stderr) == (0, "", "0 dead letters\n")
    absent = run("dead-letters", "show", "market.trades/0/1000", folder=tmp_path, **settings)
    assert (absent.returncode, absent.stdout) == (1, "")
    assert "no dead letter market.trades/0/1000" in absent.stderr
