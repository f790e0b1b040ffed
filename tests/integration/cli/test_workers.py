"""Processes of our own: how they end, and what is told of one that failed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from coinstream.cli.workers import Child
from coinstream.errors import FatalError


def ended(child: Child) -> int:
    """The status of a process that ends by itself."""
    deadline_s = time.monotonic() + 30
    while child.is_running():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return child.join()


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2, 0.5, 1.5])
def test_child_that_is_asked_to_end_before_it_listens_has_ended_well(tmp_path: Path, after_s: float) -> None:
    child = Child("exchange", "simulate", "exchange", log_path=tmp_path / "log")
    time.sleep(after_s)
    child.terminate()
    assert child.join() == 0, child.failure()


def test_child_that_is_killed_by_somebody_else_has_not_ended_well(tmp_path: Path) -> None:
    child = Child("exchange", "simulate", "exchange", log_path=tmp_path / "log")
    child.kill()
    assert child.join() != 0


def test_failure_quotes_the_log_of_its_own_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("the last words of the run before\n")
    child = Child("exchange", "simulate", "exchange", log_path=log)
    child.kill()
    assert isinstance(child.failure(), FatalError)
    assert "the run before" not in str(child.failure())
    child.join()

    failing = Child("exchange", "simulate", "exchange", "--fault", "flood=1", log_path=log)
    assert ended(failing) == 2
    assert "--fault" in str(failing.failure())
    assert "the run before" not in str(failing.failure())
    assert log.read_text().startswith("the last words of the run before\n")
