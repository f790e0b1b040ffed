"""What `prove` prints for a person."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_summary(summary: dict[str, Any]) -> None:
    """Print the run's table and what stands below it, on stdout."""
    console = Console()
    console.print(_table(summary))
    holes, servers = summary["holes"], summary["servers"]
    lines = [f"{fault['at_s']:6.1f} s  {fault['what']}" for fault in summary["faults"]]
    minutes = ", ".join(f"{count} {status}" for status, count in sorted(holes["minutes"].items()))
    every = sum(summary["messages"].values())
    wrong = ", ".join(f"{kind} {count:,}" for kind, count in summary["frames"].items() if kind != "sent")
    lines += [
        f"frames that the exchange sent: {summary['frames']['sent']:,}; what it did wrong: {wrong or 'nothing'}",
        f"a hole is a run of trades that the feed never brought: {holes['trades_missed']:,} trades in all",
        f"coverage of trades, by symbol and minute: {minutes}",
        f"every kind of message: {every:,}, disagreements with the log: {len(summary['disagreements'])}",
        ", ".join(f"{it['name']} {it['version']}{' (stand-in)' if it['stand_in'] else ''}" for it in servers.values()),
    ]
    plain = summary["plain_script"]
    if plain:
        lines.append(f"lost by the plain script is what it had not stored {plain['waited_s']} s after the sinks had")
    if plain and plain["ended_by_itself"]:
        lines.append(f"the plain script ended by itself {plain['ended_by_itself']} times: {plain['last_words']}")
    for line in lines:
        console.print(line, highlight=False, markup=False)
    if summary["proved"]:
        console.print("[green]coinstream lost nothing, doubled nothing and named every hole.[/green]")
        return
    console.print("[red]coinstream did not keep its promises:[/red]")
    for line in (*summary["disagreements"], *(f"a hole without a name: {hole}" for hole in holes["unnamed"])):
        console.print(f"  {line}", highlight=False, markup=False)


def _table(summary: dict[str, Any]) -> Table:
    table = Table(
        title=f"coinstream prove: {summary['fed_s']} s at {summary['rate']:g} events/s, seed {summary['seed']}"
    )
    stores, plain, holes = summary["coinstream"], summary["plain_script"], summary["holes"]
    columns = [stores["postgresql"], stores["mongodb"], plain]
    table.add_column("trades")
    for heading in ("PostgreSQL", "MongoDB", "plain script"):
        table.add_column(heading, justify="right")

    def row(what: str, *values: int | None) -> None:
        table.add_row(what, *("-" if value is None else f"{value:,}" for value in values))

    row("sent", *(None if column is None else summary["sent"] for column in columns))
    for what in ("stored", "lost", "doubled"):
        row(what, *(None if column is None else column[what] for column in columns))
    table.add_section()
    row("poison records", *(None if column is None else summary["poison"] for column in columns))
    row("dead-lettered, bytes kept", *(None if column is None else column["dead_lettered"] for column in columns))
    table.add_section()
    row("holes in the feed", holes["in_truth"], holes["in_truth"], None if plain is None else holes["in_truth"])
    row("named by coverage", holes["named"], holes["named"], None if plain is None else 0)
    return table
