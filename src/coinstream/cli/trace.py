"""`trace`: one trade's way through Kafka into both stores, with the delay at each step."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coinstream import settings as settings_room
from coinstream import telemetry
from coinstream.cli.servers import tell

if TYPE_CHECKING:
    from coinstream.operations import TradeTrace


def trace(
    venue: Annotated[str, typer.Argument(help="as messages have it: coinbase")],
    symbol: Annotated[str, typer.Argument(help="BASE-QUOTE")],
    trade_id: Annotated[str, typer.Argument(help="the venue's")],
    hours: Annotated[
        float,
        typer.Option(min=0.01, max=24 * 366, help="how far back the log is searched where no store knows the trade"),
    ] = 24,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object; unknown times are null")] = False,
) -> None:
    """Show where a trade stands in Kafka, PostgreSQL and MongoDB, and how long each step took.

    Exit status 1 if it is nowhere; stderr says what to look at next.
    """
    from coinstream.operations import trace_trade

    settings = settings_room.load()
    telemetry.configure_logging(level="warning")
    found = settings_room.addresses(settings, "kafka_bootstrap", "postgres_reader_url", "mongodb_reader_url")
    traced = trace_trade(
        kafka_bootstrap=found.kafka_bootstrap,
        topic_prefix=settings.topic_prefix,
        postgres_url=found.postgres_reader_url,
        mongodb_url=found.mongodb_reader_url,
        mongodb_database=settings.mongodb_database,
        venue=venue.lower(),
        symbol=symbol.upper(),
        trade_id=trade_id,
        since_us=time.time_ns() // 1000 - int(hours * 3_600_000_000),
        progress=tell,
    )
    if as_json:
        print(json.dumps(_fields(traced), indent=2, default=str))
    elif traced.is_found:
        _print(traced)
    if not traced.is_found:
        tell(f"coinstream: trade {trade_id} of {venue} {symbol} is nowhere: {traced.hint}")
        raise typer.Exit(1)
    if traced.hint:
        tell(traced.hint)


def _fields(traced: TradeTrace) -> dict[str, Any]:
    record, document = traced.record, traced.document
    return {
        "venue": traced.venue,
        "symbol": traced.symbol,
        "trade_id": traced.trade_id,
        "found": traced.is_found,
        "kafka": None
        if record is None
        else {**record.partition._asdict(), "offset": record.offset, "time_us": record.time_us},
        "postgresql": [row._asdict() for row in traced.rows],
        "mongodb": None
        if document is None
        else {
            **{name: getattr(document.message, name) for name in document.message.__struct_fields__},
            "log": document.log._asdict(),
            "expires_time_us": document.expires_time_us,
        },
        "steps": [step._asdict() for step in traced.steps],
        "hint": traced.hint,
    }


def _print(traced: TradeTrace) -> None:
    from rich.console import Console
    from rich.table import Table

    record, document, facts = traced.record, traced.document, traced.facts
    what = f"{facts.aggressor_side} {Decimal(facts.size):f} at {Decimal(facts.price):f}"
    table = Table(title=f"{traced.venue} {traced.symbol} trade {traced.trade_id}: {what}")
    for heading in ("step", "time (UTC)", "after", "where it stands"):
        table.add_column(heading, justify="right" if heading == "after" else "left")
    places = {
        "produced": ""
        if record is None
        else f"{record.partition.topic}[{record.partition.partition}] offset {record.offset}",
        "visible in PostgreSQL": ", ".join(f"market.trades, day {row.day}" for row in traced.rows),
        "visible in MongoDB": "" if document is None else f"trades, from offset {document.log.offset}",
    }
    for step in traced.steps:
        place = places.get(step.name, "")
        table.add_row(
            step.name, _time(step.time_us), _delay(step.delay_us), "; ".join(filter(None, (place, step.note)))
        )
    Console().print(table)


def _time(time_us: int | None) -> str:
    if time_us is None:
        return "unknown"
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(time_us // 1_000_000))}.{time_us % 1_000_000:06}"


def _delay(delay_us: int | None) -> str:
    return "" if delay_us is None else f"{delay_us / 1000:,.1f} ms"
