"""`make bench`: run the benchmarks, print the tables, and write `docs/benchmarks.md` and its chart.

make bench                                            all of them, and the page
make bench ARGS="--only postgres --repetitions 3"     one, on the screen alone
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import shlex
import signal
import sys
import time
from datetime import UTC, datetime
from types import FrameType
from typing import NoReturn

from benchmarks.report import Result, costs_table, figures_table, page, rounds
from benchmarks.servers import ROOT, commit, machine, started
from coinstream.cli.servers import tell
from coinstream.errors import CoinstreamError

NAMES = ("ingest", "books", "postgres", "mongodb", "engine", "latency", "peers")
PAGE = ROOT / "docs" / "benchmarks.md"
CHART = ROOT / "docs" / "benchmarks.png"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure coinstream on this machine.")
    parser.add_argument("--only", metavar="NAME", action="append", choices=NAMES, help=f"one of {', '.join(NAMES)}")
    parser.add_argument("--repetitions", type=_rounds, default=5, metavar="N", help="rounds that count, 1 to 50")
    parser.add_argument(
        "--patience", type=float, default=60, metavar="SECONDS", help="a benchmark's longest wait for a quiet machine"
    )
    options = parser.parse_args()
    names = [name for name in NAMES if not options.only or name in options.only]
    is_whole = len(names) == len(NAMES)
    if is_whole and importlib.util.find_spec("matplotlib") is None:
        parser.error("the chart needs matplotlib, of the `dev` extra; or name a part with --only")
    signal.signal(signal.SIGTERM, _end)
    results, servers = run(names, options.repetitions, options.patience)
    print(figures_table(results), costs_table(results), sep="\n\n")
    for result in results:
        print(f"\n{result.title}: {rounds(result.measured)}" if result.measured else "")
    if not is_whole:
        tell("a part of the benchmarks: docs/benchmarks.md stays as it is")
        return
    write(results, servers=servers, command=_command())


def _rounds(text: str) -> int:
    """Return a number of repetitions, for argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 1 to 50")
    return int(text)


def run(names: list[str], repetitions: int, patience_s: float) -> tuple[list[Result], str]:
    """Run benchmarks one after the other on servers of their own; return the results and the servers' names."""
    began_s = time.monotonic()
    results = []
    with started(repetitions, patience_s) as bench:
        for name in names:
            tell(f"{name}: at {time.monotonic() - began_s:.0f} s")
            results.append(importlib.import_module(f"benchmarks.bench_{name}").run(bench))
            tell(figures_table(results[-1:]))
        servers = ", ".join(server.label for server in bench.servers.servers)
    tell(f"done in {time.monotonic() - began_s:.0f} s")
    return results, servers


def write(results: list[Result], *, servers: str, command: str) -> None:
    """Write the page and its chart."""
    from benchmarks.chart import draw

    draw(results, CHART)
    text = page(
        results,
        machine=machine(),
        servers=servers,
        commit=commit(),
        command=command,
        day=datetime.fromtimestamp(time.time_ns() / 1e9, tz=UTC).date().isoformat(),
    )
    PAGE.write_text(text, encoding="utf-8")
    tell(f"wrote {PAGE.relative_to(ROOT)} and {CHART.relative_to(ROOT)}")


def _command() -> str:
    arguments = shlex.join(sys.argv[1:])
    return f'make bench ARGS="{arguments}"' if arguments else "make bench"


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):
            tell("stopped; nothing was written")
        sys.exit(130)
    except CoinstreamError as error:
        tell(f"bench: {error}")
        sys.exit(1)
