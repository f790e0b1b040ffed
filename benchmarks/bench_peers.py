"""Our PostgreSQL sink beside other projects', each in turn, on the same servers.

The peers are given the easier work: tables without our key and partitions, no candles, no offsets in the
transaction, clocks that start with their first row. They come from `make bench-peers`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

from benchmarks.bench_postgres import Table, fill_log, sink_part
from benchmarks.report import Cost, Figure, Result, Target, paragraphs
from benchmarks.rounds import Measured, Part
from benchmarks.servers import ROOT, Bench

SECONDS = 6_000
ROWS = 60_000
"""What a peer writes: some seconds of its time."""
PREFIX = "bench.peers."
ENVIRONMENT = ROOT / ".venv-peers"
LABELS = {"quixstreams": "Quix Streams' PostgreSQL sink", "cryptofeed": "cryptofeed's Postgres backend"}
TARGETS = {"quixstreams": Target(6, at_least=True), "cryptofeed": Target(3, at_least=True)}


def missing(peer: str, environment: Path = ENVIRONMENT) -> str:
    """Return why a peer cannot be measured, or nothing."""
    note = environment / f"{peer}.failed"
    if note.exists():
        return note.read_text().strip()
    if not list(environment.glob(f"lib/python*/site-packages/{peer}/__init__.py")):
        return "not installed; `make bench-peers` installs it"
    return ""


def run(bench: Bench) -> Result:
    """Measure ours and the peers that are there in turn."""
    reasons = {peer: missing(peer) for peer in LABELS}
    there = [peer for peer, reason in reasons.items() if not reason]
    measured = _measure(bench, there) if there else None
    figures = [
        _figure(peer, measured)
        if measured and peer in there
        else Figure(_what(peer), "", None, TARGETS[peer], missing=reasons[peer])
        for peer in LABELS
    ]
    costs = []
    if measured:
        costs = [
            Cost(what, "row", {name: measured.cpu_us(part, name) for name in measured.processes(part)})
            for part, what in (("sink", "PostgreSQL sink, beside the peers"), *LABELS.items())
            if part == "sink" or part in there
        ]
    return Result(
        "peers",
        "Beside other projects",
        figures,
        costs,
        paragraphs(
            """
            Each writes trades to a PostgreSQL table of its own on the same server, in batches of 10,000.
            Quix Streams reads the same topic as ours and stores its digits as text, without a key;
            cryptofeed's backend is given trades that are ready in memory, so it reads and decodes
            nothing, and stores floats. Ours consumes, decodes, checks, sums candles, keeps the key and
            commits the offset with the rows. `synchronous_commit` is off for all. The peers' versions are
            pinned in `benchmarks/peers/requirements.txt`.
            """
        ),
        measured,
    )


def _what(peer: str) -> str:
    return f"our PostgreSQL sink against {LABELS[peer]}"


def _figure(peer: str, measured: Measured) -> Figure:
    ours, theirs = measured.rate("sink"), measured.rate(peer)
    detail = f"{ours.median:,.0f} rows/s against {theirs.median:,.0f}"
    return Figure(_what(peer), "times", measured.ratio("sink", peer), TARGETS[peer], detail)


def _measure(bench: Bench, there: list[str]) -> Measured:
    table = Table(bench)
    rows = fill_log(bench, prefix=PREFIX, seconds=SECONDS)
    python = str(ENVIRONMENT / "bin" / "python")
    postgres = _postgres(bench.found.postgres_admin_url)

    def peer(name: str) -> Callable[[], Part]:
        def take() -> Part:
            table.empty()
            arguments: dict[str, Any] = {"rows": ROWS, "table": f"bench_{name}", "postgres": postgres}
            if name == "quixstreams":
                _drop(bench, "bench_quixstreams")
                group = (
                    f"{PREFIX}quix-{os.urandom(4).hex()}"  # it keeps its offsets in Kafka: each time from the beginning
                )
                arguments |= {
                    "bootstrap": bench.found.kafka_bootstrap,
                    "group": group,
                    "topic": PREFIX + "market.trades",
                }
            task = {"quixstreams": "benchmarks.peers.quix_sink", "cryptofeed": "benchmarks.peers.cryptofeed_sink"}[name]
            return bench.child(task, arguments, roles=["kafka", "postgresql"], python=python)

        return take

    parts: dict[str, Callable[[], Part]] = {"sink": lambda: sink_part(bench, table, rows, prefix=PREFIX)}
    parts |= {name: peer(name) for name in there}
    sink_part(bench, table, rows, prefix=PREFIX)  # makes the days and warms the caches
    with psycopg.connect(bench.found.postgres_admin_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres SET synchronous_commit = off")  # the peers' role here
    measured = bench.measure(parts)
    with psycopg.connect(bench.found.postgres_admin_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres RESET synchronous_commit")
    table.close()
    return measured


def _drop(bench: Bench, table: str) -> None:
    with psycopg.connect(bench.found.postgres_admin_url, autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {table}".encode())


def _postgres(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "dbname": parts.path.strip("/"),
        "user": parts.username,
        "password": unquote(parts.password or ""),
    }
