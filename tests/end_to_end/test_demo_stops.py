"""The demo that is told to stop before its feed begins, and a second one beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coinstream import local_servers
from command_line import PROGRAM, run

DEMO = ("demo", "--source", "simulated", "--duration", "20", "--rate", "50", "--json")


@contextmanager
def demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo in a folder of its own; killed at the end if it still runs, and its servers go with it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COINSTREAM_")}
    with subprocess.Popen(
        [*PROGRAM, *DEMO], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the demo never said {words!r}")


def left_in(folder: Path) -> list[str]:
    """The command lines of processes that still name a folder, or stand in it; none after a good end."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, where = (process / "cmdline").read_bytes(), os.readlink(process / "cwd")
        except OSError:
            continue  # it ended between the two looks
        if int(process.name) != os.getpid() and (str(folder).encode() in command or where.startswith(str(folder))):
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_stop_at_any_time_of_the_set_up_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    moments = [
        ("postgresql: ", 0.0, signal.SIGINT),  # servers start
        ("topics: ", 0.0, signal.SIGTERM),  # stores are made ready
        ("topics: ", 1.0, signal.SIGINT),  # sinks start
    ]
    for words, after_s, number in moments:
        with demo(tmp_path) as process:
            read_until(process, words)
            time.sleep(after_s)
            process.send_signal(number)
            out, said = process.communicate(timeout=60)
            moment = f"{words!r} and {after_s} s: {said}"
            if after_s and "source: simulated" in said:
                continue  # too late, on a fast machine: the feed had begun, and the demo compares
            assert process.returncode == 130, moment
            assert out == "", moment
            assert said.splitlines()[-1] == "coinstream: stopped before the feed began", moment
            assert "ended with status" not in said, moment
        assert left_in(tmp_path) == [], moment
        assert local_servers.find(tmp_path / ".coinstream") is None


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_second_demo_on_the_folder_is_refused_at_once_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    with demo(tmp_path) as first:
        read_until(first, "source: simulated")
        began_s = time.monotonic()
        second = run(*DEMO, folder=tmp_path)
        assert time.monotonic() - began_s < 10
        assert (second.returncode, second.stdout) == (1, "")
        (words,) = second.stderr.splitlines()
        assert f"already (pid {first.pid})" in words
        assert "COINSTREAM_DATA_FOLDER" in words
        first.send_signal(signal.SIGINT)  # the feed ends, and both stores are compared
        out, said = first.communicate(timeout=120)
        assert first.returncode == 0, said
        assert '"agreed": true' in out
    assert left_in(tmp_path) == []
