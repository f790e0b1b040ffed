"""The demo on recorded frames: servers, sinks and proof by one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import FRAMES, run


def replayed(folder: Path) -> dict[str, Any]:
    """Run the demo over the small frames of both dialects; its stdout is one JSON object."""
    files = [str(FRAMES / f"{name}.jsonl") for name in ("advanced", "exchange")]
    done = run("demo", "--replay", *files, "--json", folder=folder, timeout_s=170)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


@pytest.mark.slow
@pytest.mark.timeout(360)
def test_second_replay_of_the_same_frames_adds_no_row(tmp_path: Path) -> None:
    first = replayed(tmp_path)
    assert first["agreed"]
    assert first["disagreements"] == []
    assert first["source"] == "replay"
    assert first["new_rows"]["trades"] > 0
    assert first["rows"] == first["new_rows"]
    assert first["new_documents"]["trades"] == first["new_rows"]["trades"]

    second = replayed(tmp_path)
    assert second["agreed"]
    assert second["messages"] == first["messages"]
    assert set(second["new_rows"].values()) == {0}
    assert second["rows"] == first["rows"]
    assert set(second["new_documents"].values()) == {0}
    repeats = first["duplicates"].get("trades", 0)
    assert second["duplicates"]["trades"] == first["new_rows"]["trades"] + repeats
