"""The command line as a user meets it: results on stdout, words on stderr, a status that tells."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from command_line import FRAMES, PROGRAM, run


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
        (["normalise", "--venue", "nyse", "x"], {}, 2, ["--venue", "nyse", "coinbase"]),
        (["ingest", "--venue", "nyse"], {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}, 2, ["--venue", "nyse", "coinbase"]),
        (["ingest"], {}, 1, ["COINSTREAM_KAFKA_BOOTSTRAP", "coinstream local up"]),
        (["ingest"], {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}, 1, ["127.0.0.1:1"]),
        (["sink", "postgres"], {"LOG_LEVEL": "loud"}, 2, ["COINSTREAM_LOG_LEVEL", "loud", "warning"]),
        (["ingest", "--replay", "x", "--speed", "0"], {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}, 2, ["--speed", "max"]),
        (["ingest", "--record", "x", "--poll"], {"KAFKA_BOOTSTRAP": "127.0.0.1:1"}, 2, ["--record", "--poll"]),
        (["ingest"], {"BINANCE_US_REST_URL": "ftp://x"}, 2, ["COINSTREAM_BINANCE_US_REST_URL", "https://"]),
        (["demo", "--replay", "absent"], {}, 2, ["--replay", "absent"]),
        (["prove", "--fault", "flood=1"], {}, 2, ["--fault", "flood", "drop"]),
        (["trace", "v", "BTC-USD", "1"], {}, 1, ["COINSTREAM_KAFKA_BOOTSTRAP", "coinstream local up"]),
        (["dead-letters", "list", "--topic", "nope"], {}, 2, ["--topic", "nope", "no such topic", "market.trades"]),
        (["dead-letters", "show", "nope/0/0"], {}, 2, ["nope/0/0", "no such topic", "market.frames"]),
        (["dead-letters", "show", "7"], {}, 2, ["LETTER", "TOPIC/PARTITION/OFFSET"]),
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


def test_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    command = [*PROGRAM, "normalise", *[str(FRAMES / "exchange.jsonl")] * 50]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"type":')
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize("after_s", [0.05, 0.1, 0.2, 0.3, 0.5])
def test_ctrl_c_while_a_command_loads_is_quiet(tmp_path: Path, after_s: float) -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); print(flush=True);"
    code += "from coinstream.cli import main; import sys; sys.argv = ['coinstream', 'sink', 'postgres']; main()"
    environment = os.environ | {
        "COINSTREAM_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "COINSTREAM_POSTGRES_SINK_URL": "postgresql://u:p@127.0.0.1:1/x",
    }
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(after_s)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert b"Traceback" not in said


def test_recording_that_was_cut_ends_with_its_books_and_a_warning(tmp_path: Path) -> None:
    whole = (FRAMES / "exchange.jsonl").read_bytes()
    (tmp_path / "cut.jsonl").write_bytes(whole[:-30])
    done = run("normalise", "--messages", "books", "cut.jsonl", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["type"] == "book_snapshot"
    warning, *summary = done.stderr.splitlines()
    assert "cut.jsonl was cut in or after line" in warning
    assert "frames" in summary[0]


def test_line_that_is_no_frame_ends_the_run_after_what_came_before_it(tmp_path: Path) -> None:
    whole = (FRAMES / "exchange.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "bad.jsonl").write_text("".join([*whole[:-1], "{no frame}\n", whole[-1]]))
    (tmp_path / "before.jsonl").write_text("".join(whole[:-1]))
    wanted = ("--messages", "trades,quotes")
    done = run("normalise", *wanted, "bad.jsonl", folder=tmp_path)
    assert done.returncode == 1
    assert f"bad.jsonl, line {len(whole)}: not a recorded frame" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == run("normalise", *wanted, "before.jsonl", folder=tmp_path).stdout


@pytest.mark.slow  # each waits the ten seconds that a broker is given
@pytest.mark.parametrize(
    "arguments", [("dead-letters", "list"), ("dead-letters", "show", "market.trades/0/0"), ("topics", "apply")]
)
def test_broker_that_is_away_is_one_line_on_stderr(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*arguments, folder=tmp_path, KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert done.returncode == 1
    assert done.stdout == ""
    (words,) = done.stderr.splitlines()
    assert "no Kafka broker answers at 127.0.0.1:1" in words
