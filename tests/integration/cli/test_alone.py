"""A second command of a kind is refused while the first runs, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coinstream.cli.alone import alone_in
from coinstream.errors import FatalError

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from coinstream.cli.alone import alone_in
with alone_in(Path(sys.argv[1]), "demo"):
    subprocess.Popen(["sleep", "60"], start_new_session=True)  # what it started does not hold the folder
    print("held", flush=True)
    time.sleep(600)
"""


def test_second_one_is_refused_by_the_pid_of_the_first_until_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with (
                pytest.raises(FatalError, match=rf"a demo runs on .*data already \(pid {holder.pid}\): wait"),
                alone_in(folder, "demo"),
            ):
                pass
            with alone_in(folder, "another"), alone_in(tmp_path / "elsewhere", "demo"):
                pass
            (asleep,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()
    with alone_in(folder, "demo"):
        pass
    os.kill(int(asleep), signal.SIGTERM)


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FatalError, match=r"the data folder .*file/data cannot be used \(Not a directory\)"),
        alone_in(tmp_path / "file" / "data", "demo"),
    ):
        pass
