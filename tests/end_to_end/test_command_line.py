"""The command line as a user meets it: results on stdout, words on stderr, a status that tells."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from command_line import FRAMES, run


def test_normalise_prints_messages_with_their_type_and_a_summary_apart(tmp_path: Path) -> None:
    done = run("normalise", str(FRAMES / "exchange.jsonl"), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert {message["type"] for message in messages} == {"trade", "quote", "book_snapshot"}
    assert all(next(iter(message)) == "type" for message in messages)
    assert "frames" in done.stderr


def test_normalise_prints_only_what_is_asked_for(tmp_path: Path) -> None:
    done = run("normalise", "--messages", "quotes", str(FRAMES / "advanced.jsonl"), folder=tmp_path)
    assert {json.loads(line)["type"] for line in done.stdout.splitlines()} == {"quote"}


def test_normalise_reads_gzip_and_both_dialects_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((FRAMES / "exchange.jsonl").read_bytes()))
    wanted = ("--messages", "trades,quotes")
    done = run("normalise", *wanted, "a.jsonl.gz", str(FRAMES / "advanced.jsonl"), folder=tmp_path)
    apart = [
        run("normalise", *wanted, str(FRAMES / f"{name}.jsonl"), folder=tmp_path) for name in ("exchange", "advanced")
    ]
    assert done.stdout == "".join(alone.stdout for alone in apart)


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "words"),
    [
        (["normalise", "absent.jsonl"], {}, 1, ["absent.jsonl", "cannot be read"]),
        (["normalise", "--messages", "candles", "x"], {}, 2, ["--messages", "candles", "trades, quotes, books"]),
        (["normalise", "--venue", "nyse", "x"], {}, 1, ["nyse", "coinbase"]),
        (["ingest"], {}, 1, ["COINSTREAM_KAFKA_BOOTSTRAP", "coinstream local up"]),
        (["ingest"], {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}, 1, ["127.0.0.1:1"]),
        (["sink", "postgres"], {"LOG_LEVEL": "loud"}, 2, ["COINSTREAM_LOG_LEVEL", "loud", "warning"]),
        (["ingest", "--replay", "x", "--speed", "0"], {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}, 2, ["--speed", "max"]),
        (["demo", "--replay", "absent"], {}, 2, ["--replay", "absent"]),
        (["prove", "--fault", "flood=1"], {}, 2, ["--fault", "flood", "drop"]),
        (["trace", "v", "BTC-USD", "1"], {}, 1, ["COINSTREAM_KAFKA_BOOTSTRAP", "coinstream local up"]),
        (["local", "status"], {}, 0, ["no local servers", "coinstream local up"]),
    ],
)
def test_a_mistake_is_one_line_that_names_it(
    arguments: list[str], settings: dict[str, str], status: int, words: list[str], tmp_path: Path
) -> None:
    done = run(*arguments, folder=tmp_path, **settings)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""


def test_status_of_no_servers_is_an_empty_list(tmp_path: Path) -> None:
    done = run("local", "status", "--json", folder=tmp_path)
    assert json.loads(done.stdout) == {"servers": [], "readers": {}}
