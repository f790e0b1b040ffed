"""The command line as a program of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = [sys.executable, "-m", "coinstream.cli"]
FRAMES = Path(__file__).resolve().parent / "frames" / "coinbase"


def run(*arguments: str, folder: Path, timeout_s: float = 60, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder of its own, with no setting but those given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COINSTREAM_")}
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=folder,
        env=inherited | {f"COINSTREAM_{name}": value for name, value in settings.items()},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
