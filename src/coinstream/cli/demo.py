"""`demo`: everything on this machine by one command, and the proof at the end that nothing was lost.

The steps, in order:

1. local servers, topics, migrations
2. both sinks, until what earlier runs left in the log is stored
3. a baseline of both stores and of the log
4. the feed (a simulator, the live venue or a recording) and the poll of asset prices
5. the end of the feed, until the sinks have stored all of it
6. the log is read again, folded independently and compared with both stores
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coinstream import local_servers, telemetry
from coinstream import settings as settings_room
from coinstream.adapters import dialects_of_venue
from coinstream.cli.alone import alone_in
from coinstream.cli.demo_table import DemoTable, Figures, scrape
from coinstream.cli.processes import DEFAULT_VENUE
from coinstream.cli.servers import tell
from coinstream.cli.signals import StoppedError, stop_on_signals
from coinstream.cli.stack import SINKS, Stack, check_running, described, end
from coinstream.cli.workers import Child
from coinstream.errors import CoinstreamError, SettingsError, TransientError

if TYPE_CHECKING:
    from coinstream.local_servers import LocalServers
    from coinstream.operations import Baseline, Comparison, Lag
    from coinstream.settings import Settings

STOPPED = "stopped before the feed began"
LIVE_TRY_S = 5.0
UNATTENDED_S = 60.0


class Source(StrEnum):
    """Where the demo's market comes from."""

    SIMULATED = "simulated"
    LIVE = "live"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the options come to."""

    source: Source
    recordings: tuple[Path, ...]
    duration_s: float | None
    as_json: bool
    rate: float
    seed: int


def demo(
    files: Annotated[list[Path] | None, typer.Argument(help="more recordings for --replay")] = None,
    source: Annotated[Source, typer.Option(help="auto: live if it answers in 5 s, else simulated")] = Source.AUTO,
    replay: Annotated[list[Path] | None, typer.Option(help="recordings instead of a feed; ends after them")] = None,
    duration: Annotated[
        float | None, typer.Option(min=1, help="seconds of feed; without a terminal 60, else until Ctrl-C")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="stdout holds the summary alone, as one object")] = False,
    rate: Annotated[float, typer.Option(min=0.01, max=200_000, help="the simulator's market events a second")] = 300,
    seed: Annotated[int, typer.Option(help="decides the simulator's market")] = 1,
) -> None:
    """Run the whole platform on this machine, then check both stores against the log.

    Exit status 0 only if PostgreSQL and MongoDB hold exactly what the log says.
    """
    settings = settings_room.load()
    telemetry.configure_logging(level="warning")
    recordings = (*(replay or ()), *(files or ()))
    if files and not replay:
        raise SettingsError("FILE", str(files[0]), "files are read with --replay FILE…")
    for path in recordings:
        if not path.is_file():
            raise SettingsError("--replay", str(path), "a recording that exists")
    if duration is None and not recordings and not sys.stdout.isatty():
        duration = UNATTENDED_S
    plan = Plan(source, recordings, duration, as_json, rate, seed)
    stop = stop_on_signals()
    with ExitStack() as cleanup:
        cleanup.enter_context(alone_in(settings.data_folder, "demo"))
        summary = Demo(settings, plan, stop, cleanup).run()
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        DemoTable.print_summary(summary)
    if not summary["agreed"]:
        raise typer.Exit(1)


class Demo:
    """One run; ``cleanup`` ends its processes and servers in reverse order, however the run ends."""

    def __init__(self, settings: Settings, plan: Plan, stop: threading.Event, cleanup: ExitStack) -> None:
        self._settings = settings
        self._plan = plan
        self._stop = stop
        self._cleanup = cleanup

    def run(self) -> dict[str, Any]:
        """Go through the steps of the module's docstring and return the summary.

        Raises:
            StoppedError: It was told to stop before the feed began.
        """
        try:
            servers, lag, baseline = self._set_up()
            source, feeds = self._start_feeds()
        except CoinstreamError:
            if self._stop.is_set():  # whatever failed then: nobody waits for it any more
                raise StoppedError(STOPPED) from None
            raise
        stack = self._stack
        began = time.monotonic()
        self._watch(feeds, [*stack.sinks.values(), *feeds], lag, source)
        fed_s = time.monotonic() - began
        end(feeds)
        left = stack.catch_up(lag, "the sinks")
        latency = {name: scrape(stack.ports[name]).latency_ms() for name in SINKS}
        comparison = baseline.compare(progress=tell)
        end(stack.sinks.values())
        return self._summary(servers, source, comparison, latency) | {
            "lag": left,
            "duration_s": round(fed_s, 1),
        }

    def _set_up(self) -> tuple[LocalServers, Lag, Baseline]:
        """Do all that comes before the feed; a stop is heard between the steps and in the waits."""
        servers = self._servers()
        self._go_on()
        self._stack = stack = Stack(self._settings, settings_room.local_addresses(servers), self._cleanup)
        stack.prepare()
        self._go_on()
        stack.start_sinks()
        lag = stack.lag()
        baseline = stack.baseline(lag, longest_run_s=self._plan.duration_s or 3600.0, stop=self._stop.is_set)
        self._go_on()
        return servers, lag, baseline

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise StoppedError(STOPPED)

    def _servers(self) -> LocalServers:
        folder = self._settings.data_folder
        running = local_servers.find(folder)
        if running is not None:
            tell(f"using the local servers that run in {folder}/")
            return running
        servers = local_servers.start(
            folder,
            kafka=self._settings.local_kafka,
            postgres_bin=self._settings.local_postgres_bin,
            progress=tell,
            cancelled=self._stop.is_set,
        )
        self._cleanup.callback(servers.stop)
        return servers

    def _start_feeds(self) -> tuple[str, list[Child]]:
        """Start what publishes, and return what it is called and its processes."""
        stack = self._stack
        if self._plan.recordings:
            names = ", ".join(path.name for path in self._plan.recordings)
            tell(f"source: replay of {names}")
            files = [str(path) for path in self._plan.recordings]
            return "replay", [stack.child("ingest", "ingest", "--speed", "max", "--replay", *files)]
        source = self._plan.source
        if source is Source.AUTO:
            url = settings_room.venue_urls(self._settings, DEFAULT_VENUE)[0]
            answers = venue_answers(url or dialects_of_venue(DEFAULT_VENUE)[0].websocket_url, stop=self._stop)
            self._go_on()
            source = Source.LIVE if answers else Source.SIMULATED
        if source is Source.LIVE:
            tell("source: Coinbase, live")
            return "live", [stack.child("ingest", "ingest"), stack.child("poll", "ingest", "--poll")]
        tell(
            "source: simulated exchange"
            + (" (the live venue cannot be reached)" if self._plan.source is Source.AUTO else "")
        )
        return "simulated", stack.start_simulated_feeds(rate=self._plan.rate, seed=self._plan.seed)

    def _watch(self, feeds: list[Child], children: list[Child], lag: Lag, source: str) -> None:
        """Show figures until the time is over, the replay is done or somebody stops us."""
        began = time.monotonic()
        with DemoTable(quiet=self._plan.as_json and not sys.stderr.isatty()) as table:
            while not self._stop.wait(1.0):
                elapsed_s = time.monotonic() - began
                if source == "replay" and not feeds[0].is_running():
                    break
                check_running(children)
                with contextlib.suppress(TransientError):  # the next second's figures will do
                    table.show(self._figures(elapsed_s, source, lag.by_store()))
                if self._plan.duration_s is not None and elapsed_s >= self._plan.duration_s:
                    break

    def _figures(self, elapsed_s: float, source: str, lag_messages: dict[str, int]) -> Figures:
        scraped = {name: scrape(port) for name, port in self._stack.ports.items()}
        return Figures(source=source, elapsed_s=elapsed_s, lag_messages=lag_messages, scraped=scraped)

    def _summary(
        self, servers: LocalServers, source: str, comparison: Comparison, latency: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "agreed": comparison.agreed,
            "source": source,
            "messages": comparison.messages,
            "rows": comparison.rows,
            "new_rows": comparison.new_rows,
            "documents": comparison.documents,
            "new_documents": comparison.new_documents,
            "duplicates": comparison.duplicates,
            "dead_letters": comparison.dead_letters,
            "unreadable": comparison.unreadable,
            "latency_ms": latency,
            "disagreements": comparison.disagreements,
            "servers": described(servers),
        }


def venue_answers(url: str, *, stop: threading.Event, within_s: float = LIVE_TRY_S) -> bool:
    """Return whether a WebSocket to a venue comes about in time.

    A whole handshake, for a venue that refuses us by its address or country still answers TCP and TLS.
    """
    tell(f"trying {url} for {within_s:g} s")
    answered, ended = threading.Event(), threading.Event()

    def try_it() -> None:
        try:
            asyncio.run(_open_and_close(url, within_s))
            answered.set()
        except CoinstreamError as error:
            tell(f"{url}: {error}")
        finally:
            ended.set()

    # In a thread, for no timeout bounds the look-up of a name.
    threading.Thread(target=try_it, name="live", daemon=True).start()
    deadline_s = time.monotonic() + within_s
    while not ended.wait(0.1) and not stop.is_set() and time.monotonic() < deadline_s:
        pass
    return answered.is_set()


async def _open_and_close(url: str, within_s: float) -> None:
    from coinstream.ingest.connection import Limits, open_connection

    # The limit is taken twice: for the connection, and for the handshake on it.
    limits = Limits(connect_timeout_s=within_s / 2)
    connection = await open_connection(url, limits=limits, now_us=lambda: time.time_ns() // 1000)
    await connection.close()
