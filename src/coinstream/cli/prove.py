"""`prove`: the promises under load and faults, beside the plain script that such projects start with.

On servers of its own that begin empty, a simulated exchange sends more than a quiet market does and
drops some of its frames. Meanwhile, at moments that the seed decides, each sink is killed, PostgreSQL
is stopped for a while, and a record that no decoder accepts is put among the trades. When both stores
have caught up, the log is read again, folded by code that shares nothing with the sinks, and compared.
"""

from __future__ import annotations

import contextlib
import json
import random
import shlex
import signal
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coinstream import local_servers, telemetry
from coinstream import settings as settings_room
from coinstream.cli.plain_script import PlainScript
from coinstream.cli.prove_table import print_summary
from coinstream.cli.servers import tell
from coinstream.cli.stack import SINKS, Stack, check_running, described, end
from coinstream.errors import FatalError, TransientError
from coinstream.messages import BY_NAME

if TYPE_CHECKING:
    from coinstream.cli.workers import Child
    from coinstream.local_servers import LocalServers
    from coinstream.operations import Comparison, Lag
    from coinstream.settings import Addresses, Settings

FOLDER = "prove"
"""Within the data folder: servers of its own, so that no demo's log ever holds the poison."""
ALONE = "postgresql-alone"
OUTAGE_S = 15.0
BACK_S = 2.0
"""What PostgreSQL is given to stop and to start."""
LEAST_SECONDS = 30.0
DEFAULT_FAULTS = ("drop=0.02",)
POISON = b'{"price": "\xff\xfe\x00 no decoder accepts this \x80'
TRADES = BY_NAME["market.trades"]
TOLD_EVERY_S = 10.0
PLAIN_PATIENCE_S = 25.0
"""How much longer than the sinks the plain script may take to come to the end of the log."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When each fault comes, in seconds after the feed began."""

    kills: dict[str, float]
    outage: float
    poison: float

    @classmethod
    def draw(cls, seed: int, seconds: float) -> Schedule:
        """Draw the moments: kills first, then the outage, the poison last, for the plain script ends by it."""
        chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        kills = {name: chance.uniform(0.10, 0.30) * seconds for name in (*SINKS, PlainScript.name)}
        outage = chance.uniform(0.33, 0.40) * seconds
        return cls(kills, outage, max(chance.uniform(0.80, 0.90) * seconds, outage + OUTAGE_S + BACK_S))


@dataclass(frozen=True, slots=True)
class Plan:
    """What the options come to."""

    seconds: float
    rate: float
    seed: int
    faults: tuple[str, ...]
    beside: tuple[str, ...]


def prove(
    seconds: Annotated[
        float, typer.Option(min=LEAST_SECONDS, max=3600, help="of feed; servers and proof come on top")
    ] = 60,
    rate: Annotated[float, typer.Option(min=1, max=200_000, help="the simulator's market events a second")] = 2000,
    seed: Annotated[int, typer.Option(help="decides the market and the moments of the faults")] = 1,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND=VALUE", help="what the feed does wrong, as `simulate exchange --fault`; repeatable"),
    ] = None,
    beside: Annotated[
        str | None, typer.Option(help="command of the plain script to run beside (benchmarks/plain_script.py)")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="stdout holds the summary alone, as one object")] = False,
) -> None:
    """Kill the sinks, stop PostgreSQL, poison a topic and drop frames, then show what was lost.

    Exit status 0 only if coinstream lost and doubled nothing, named every hole of the feed and kept the
    poison's bytes. What the plain script loses does not change it.
    """
    from coinstream.simulator import parse_faults

    settings = settings_room.load()
    telemetry.configure_logging(level="warning")
    faults = tuple(fault or DEFAULT_FAULTS)
    parse_faults(faults)  # what cannot be read is said before anything is started
    # SIGTERM unwinds everything as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    plan = Plan(seconds, rate, seed, faults, tuple(shlex.split(beside or "")))
    with ExitStack() as cleanup:
        summary = Proof(settings, plan, cleanup).run()
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        print_summary(summary)
    if not summary["proved"]:
        raise typer.Exit(1)


class Proof:
    """One run; ``cleanup`` ends its processes and servers in reverse order, however the run ends."""

    def __init__(self, settings: Settings, plan: Plan, cleanup: ExitStack) -> None:
        self._folder = settings.data_folder / FOLDER
        self._settings = settings.model_copy(update={"data_folder": self._folder})
        self._plan = plan
        self._cleanup = cleanup
        self._faults: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Go through the steps of the module's docstring and return the summary."""
        others = self._start_servers()
        addresses = settings_room.local_addresses(others, self._postgres)
        self._stack = stack = Stack(self._settings, addresses, self._cleanup)
        stack.prepare()
        stack.start_sinks()
        lag = stack.lag()
        baseline = stack.baseline(lag, longest_run_s=self._plan.seconds, from_nothing=True)
        plain = self._start_plain_script(addresses)
        feeds = stack.start_simulated_feeds(
            rate=self._plan.rate,
            seed=self._plan.seed,
            options=[word for fault in self._plan.faults for word in ("--fault", fault)],
        )
        tell(f"the feed begins: {self._plan.rate:g} events/s for {self._plan.seconds:g} s, seed {self._plan.seed}")
        began = time.monotonic()
        self._disturb(feeds, plain, lag, addresses.kafka_bootstrap)
        fed_s = time.monotonic() - began
        tell("the feed ends")
        end(feeds)
        left = stack.catch_up(lag, "the sinks")
        if plain:
            plain.wait_for_end(PLAIN_PATIENCE_S, progress=tell)
            plain.stop()
        comparison = baseline.compare(progress=tell)
        end(stack.sinks.values())
        return self._summary(comparison, plain, left) | {
            "fed_s": round(fed_s, 1),
            "servers": described(others, self._postgres),
        }

    def _start_servers(self) -> LocalServers:
        """Start empty servers: Kafka and MongoDB, which are returned, and PostgreSQL, which is stopped alone."""
        alone = self._folder / ALONE
        if local_servers.find(self._folder) is not None:
            raise FatalError(f"another proof runs in {self._folder}; wait for its end, or name another data folder")
        for folder in (alone, self._folder):
            local_servers.remove(folder)
        others = local_servers.start(
            self._folder, roles=("kafka", "mongodb"), kafka=self._settings.local_kafka, progress=tell
        )
        self._cleanup.callback(others.stop)
        self._postgres = self._start_postgres()
        self._cleanup.callback(self._stop_postgres)
        return others

    def _start_postgres(self) -> LocalServers:
        return local_servers.start(
            self._folder / ALONE,
            roles=("postgresql",),
            postgres_bin=self._settings.local_postgres_bin,
            progress=tell,
        )

    def _start_plain_script(self, addresses: Addresses) -> PlainScript | None:
        if not self._plan.beside:
            tell("no --beside: the plain script is left out")
            return None
        plain = PlainScript(
            self._plan.beside,
            log_folder=self._stack.logs,
            bootstrap=addresses.kafka_bootstrap,
            topic=self._settings.topic_prefix + TRADES.name,
            database_url=addresses.postgres_admin_url,
        )
        self._cleanup.callback(plain.stop)
        plain.start()
        return plain

    def _disturb(self, feeds: list[Child], plain: PlainScript | None, lag: Lag, bootstrap: str) -> None:
        """Let the feed run its time, with the faults at theirs."""
        schedule = Schedule.draw(self._plan.seed, self._plan.seconds)
        faults: list[tuple[float, Callable[[], str]]] = [
            (schedule.kills[name], partial(self._kill_sink, name)) for name in SINKS
        ]
        if plain:
            faults.append((schedule.kills[plain.name], partial(self._kill_plain_script, plain)))
        faults += [
            (schedule.outage, self._stop_postgres),
            (schedule.poison, partial(self._poison, bootstrap)),
        ]
        faults.sort(key=itemgetter(0))
        began = told_s = time.monotonic()
        while (elapsed_s := time.monotonic() - began) < self._plan.seconds or faults:
            if faults and elapsed_s >= faults[0][0]:
                _, strike = faults.pop(0)
                what = strike()
                self._faults.append({"at_s": round(time.monotonic() - began, 1), "what": what})
                tell(f"{self._faults[-1]['at_s']:5.0f} s  {what}")
                if strike == self._stop_postgres:
                    again_s = time.monotonic() - began + OUTAGE_S
                    insort(faults, (again_s, self._start_postgres_again), key=itemgetter(0))
            check_running([*feeds, *self._stack.sinks.values()])
            if plain:
                plain.restart_if_ended()
            if time.monotonic() - told_s > TOLD_EVERY_S:
                told_s = time.monotonic()
                with contextlib.suppress(TransientError):  # PostgreSQL is stopped: the next line will do
                    stores = ", ".join(f"{store} {count:,}" for store, count in lag.by_store().items())
                    tell(f"{elapsed_s:5.0f} s  lag: {stores}")
            time.sleep(0.05)

    def _kill_sink(self, name: str) -> str:
        self._stack.sinks[name].kill()
        self._stack.start_sink(name)
        return f"{name}: SIGKILL, started again"

    def _kill_plain_script(self, plain: PlainScript) -> str:
        plain.kill()
        return f"{plain.name}: SIGKILL, started again"

    def _stop_postgres(self) -> str:
        self._postgres.stop()
        return "PostgreSQL stopped"

    def _start_postgres_again(self) -> str:
        self._postgres = self._start_postgres()
        return "PostgreSQL started again"

    def _poison(self, bootstrap: str) -> str:
        from coinstream.kafka import publish_foreign

        partition, offset = publish_foreign(
            bootstrap, TRADES, key=b"poison", value=POISON, topic_prefix=self._settings.topic_prefix
        )
        return f"poison: {len(POISON)} bytes at {partition.topic}[{partition.partition}] offset {offset}"

    def _summary(self, comparison: Comparison, plain: PlainScript | None, left: int) -> dict[str, Any]:
        from coinstream.operations import find_holes, unnamed_holes

        run = comparison.run
        holes = find_holes(run.trades.values())
        unnamed = unnamed_holes(holes, run.coverage)
        sent = len(run.trades)
        stores = {
            store: {
                "stored": sent - comparison.lost[store].get("trades", 0),
                "lost": sum(comparison.lost[store].values()),
                "doubled": sum(comparison.doubled[store].values()),
                "dead_lettered": comparison.lettered.get(store, 0),
            }
            for store in ("postgresql", "mongodb")
        }
        poisoned = all(store["dead_lettered"] == comparison.unreadable == 1 for store in stores.values())
        return {
            "proved": comparison.agreed and not unnamed and poisoned and left == 0,
            "seed": self._plan.seed,
            "rate": self._plan.rate,
            "sent": sent,
            "poison": comparison.unreadable,
            "messages": comparison.messages,
            "lag": left,
            "coinstream": stores,
            "holes": {
                "in_truth": len(holes),
                "trades_missed": sum(hole.missing for hole in holes),
                "named": len(holes) - len(unnamed),
                "unnamed": [hole._asdict() for hole in unnamed],
                "minutes": Counter(word.status for word in run.coverage.values() if word.channel == "trades"),
            },
            "frames": self._stack.frames(),
            "plain_script": plain.figures({key[1:3] for key in run.trades}) if plain else None,
            "faults": self._faults,
            "disagreements": comparison.disagreements,
        }
