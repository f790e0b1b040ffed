"""The demo's live table: figures scraped from the processes' own metrics."""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.live import Live
from rich.table import Table

SCRAPE_TIMEOUT_S = 1.0
LINE_EVERY_S = 10.0
STORE_OF = {"sink-postgres": "postgresql", "sink-mongodb": "mongodb"}


@dataclass(slots=True)
class Scrape:
    """One process's metrics: by name, then by label values as in the metric's table, a bucket's bound last."""

    samples: dict[str, dict[tuple[str, ...], float]] = field(default_factory=lambda: defaultdict(dict))

    def total(self, name: str) -> int:
        """Return the sum over all labels."""
        return int(sum(self.samples[name].values()))

    def latency_ms(self) -> dict[str, float | None]:
        """Return p50 and p99 from a record's Kafka timestamp to its being visible, in milliseconds."""
        counts: dict[float, float] = defaultdict(float)
        for labels, count in self.samples["coinstream_visible_seconds_bucket"].items():
            counts[float(labels[-1])] += count
        return {"p50": _quantile_ms(counts, 0.50), "p99": _quantile_ms(counts, 0.99)}

    def newest_age_s(self) -> float | None:
        """Return how old the newest stored record is, in seconds."""
        times = self.samples["coinstream_newest_record_time_seconds"].values()
        return time.time_ns() / 1e9 - max(times) if times else None


def scrape(port: int) -> Scrape:
    """Return a local process's metrics; empty while it does not answer."""
    found = Scrape()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_TIMEOUT_S) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return found
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sorted(sample.labels.items(), key=lambda label: label[0] == "le")  # a bucket's bound comes last
            found.samples[sample.name][tuple(value for _, value in labels)] = sample.value
    return found


def _quantile_ms(cumulative: dict[float, float], share: float) -> float | None:
    """Return a quantile of a histogram, linear within its bucket; ``None`` when nothing was seen."""
    bounds = sorted(cumulative)
    if not bounds or not cumulative[bounds[-1]]:
        return None
    wanted = cumulative[bounds[-1]] * share
    lower_s = below = 0.0
    for upper_s in bounds:
        if cumulative[upper_s] >= wanted:
            if upper_s == float("inf"):
                return round(lower_s * 1000, 1)
            inside = (wanted - below) / max(cumulative[upper_s] - below, 1e-9)
            return round((lower_s + (upper_s - lower_s) * inside) * 1000, 1)
        lower_s, below = upper_s, cumulative[upper_s]
    return None


@dataclass(frozen=True, slots=True)
class Figures:
    """What one refresh of the table shows."""

    source: str
    elapsed_s: float
    lag_messages: dict[str, int]
    scraped: dict[str, Scrape]

    @property
    def published(self) -> dict[str, int]:
        """Messages acknowledged so far, by topic."""
        totals: dict[str, int] = defaultdict(int)
        for name in ("ingest", "poll"):
            for labels, count in self.scraped[name].samples["coinstream_published_messages_total"].items():
                totals[labels[0]] += int(count)
        return dict(sorted(totals.items()))

    @property
    def dead_letters(self) -> int:
        """Frames and records refused so far."""
        refused = sum(self.scraped[name].total("coinstream_frames_refused_total") for name in ("ingest", "poll"))
        return refused + sum(self.scraped[name].total("coinstream_dead_letters_total") for name in STORE_OF)


class DemoTable:
    """A live table on a terminal's stderr; elsewhere a line now and then."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._line_every_s = 3 * LINE_EVERY_S if quiet else LINE_EVERY_S
        self._line_at_s = 0.0
        self._before: tuple[float, int] = (0.0, 0)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, figures: Figures) -> None:
        """Show the newest figures."""
        total = sum(figures.published.values())
        before_s, before = self._before
        rate = (total - before) / max(figures.elapsed_s - before_s, 0.1)
        self._before = (figures.elapsed_s, total)
        if self._live:
            self._live.update(_table(figures, rate))
        elif figures.elapsed_s >= self._line_at_s:
            self._line_at_s = figures.elapsed_s + self._line_every_s
            lag = ", ".join(f"{store} {count}" for store, count in figures.lag_messages.items())
            sys.stderr.write(f"{figures.elapsed_s:5.0f} s  {total:,} messages, {rate:,.0f}/s; lag: {lag}\n")
            sys.stderr.flush()

    @staticmethod
    def print_summary(summary: dict[str, Any]) -> None:
        """Print the run's summary for a person, on stdout."""
        console = Console()
        table = Table(title=f"coinstream demo: {summary['duration_s']} s of {summary['source']} market")
        for heading in ("where", "what", "total", "new in this run"):
            table.add_column(heading, justify="left" if heading in {"where", "what"} else "right")
        for topic, count in summary["messages"].items():
            table.add_row("Kafka", topic, "", f"{count:,}")
        for where, all_of, new in (("PostgreSQL", "rows", "new_rows"), ("MongoDB", "documents", "new_documents")):
            table.add_section()
            for name, count in summary[all_of].items():
                table.add_row(where, name, f"{count:,}", f"{summary[new][name]:,}" if name in summary[new] else "")
        console.print(table)
        for role, server in summary["servers"].items():
            kind = ", a stand-in" if server["stand_in"] else ""
            console.print(f"{role}: {server['name']} {server['version']}{kind}", highlight=False)
        console.print(f"lag {summary['lag']}, dead letters {summary['dead_letters']}", highlight=False)
        if summary["agreed"]:
            console.print("[green]Both stores hold exactly what the log says.[/green]")
            return
        console.print("[red]The stores do not hold what the log says:[/red]")
        for line in summary["disagreements"]:
            console.print(f"  {line}", highlight=False, markup=False)


def _table(figures: Figures, rate: float) -> Table:
    table = Table(title=f"coinstream demo, {figures.source} market, {figures.elapsed_s:.0f} s, {rate:,.0f} messages/s")
    table.add_column("topic")
    table.add_column("published", justify="right")
    for topic, count in figures.published.items():
        table.add_row(topic, f"{count:,}")
    table.add_section()
    for name, store in STORE_OF.items():
        process = figures.scraped[name]
        latency = process.latency_ms()
        age_s = process.newest_age_s()
        table.add_row(f"{store}: stored", f"{process.total('coinstream_sink_inserted_total'):,}")
        table.add_row("  lag", f"{figures.lag_messages.get(store, 0):,}")
        table.add_row("  visible after p50 / p99", f"{_ms(latency['p50'])} / {_ms(latency['p99'])}")
        table.add_row("  newest record", "-" if age_s is None else f"{age_s:.1f} s ago")
    table.add_section()
    table.add_row("dead letters", f"{figures.dead_letters:,}")
    table.caption = "Ctrl-C ends the feed and compares both stores with the log"
    return table


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
