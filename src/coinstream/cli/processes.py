"""The long-running processes: `ingest`, `sink postgres`, `sink mongodb`, `engine`, `simulate exchange`.

Each takes SIGTERM or Ctrl-C, drains, and exits 0.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from coinstream import settings as settings_room
from coinstream import telemetry
from coinstream.cli.signals import stop_on_signals
from coinstream.cli.venues import venue_named
from coinstream.cli.workers import run_workers
from coinstream.errors import FatalError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from coinstream.kafka import Producer
    from coinstream.settings import Addresses, Settings

DEFAULT_VENUE = "coinbase"
FEED_HEALTHY_FOR_S = 60.0
POLL_HEALTHY_FOR_S = 150.0
"""How long Kafka's acknowledgement vouches for a process: a feed publishes every two seconds, a poll each minute."""

sink = typer.Typer(help="Keep a store from Kafka.", no_args_is_help=True)
simulate = typer.Typer(help="Pretend to be the outside world.", no_args_is_help=True)

Metrics = Annotated[int | None, typer.Option(min=1, max=65_535, help="serve Prometheus metrics on this port")]
Workers = Annotated[int, typer.Option(min=1, max=64, help="processes in one consumer group")]


def ingest(
    files: Annotated[list[Path] | None, typer.Argument(help="more recordings for --replay")] = None,
    venue: Annotated[
        str | None, typer.Option(help="whose feed (default coinbase), or whose recording (default: by its addresses)")
    ] = None,
    symbols: Annotated[str | None, typer.Option(help="BASE-QUOTE, with commas")] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="the addresses are a simulator's: venue <venue>_simulated")
    ] = False,
    poll: Annotated[bool, typer.Option("--poll", help="poll the asset sources each minute; no feed")] = False,
    replay: Annotated[list[Path] | None, typer.Option(help="send recordings through, .jsonl or .jsonl.gz")] = None,
    speed: Annotated[str, typer.Option(help="of a replay: 1 as recorded, 10 ten times as fast, or max")] = "1",
    record: Annotated[
        Path | None, typer.Option(help="keep every frame of a feed in this new file, .jsonl or .jsonl.gz")
    ] = None,
    metrics_port: Metrics = None,
) -> None:
    """Read a venue (or the asset sources, or recordings) and publish to Kafka."""
    settings = settings_room.load(symbols=symbols, metrics_port=metrics_port)
    telemetry.configure_logging(level=settings.log_level)
    _serve_metrics(settings)
    recordings = [*(replay or []), *(files or [])]
    if files and not replay:
        raise SettingsError("FILE", str(files[0]), "files are read with --replay FILE…")
    if recordings and poll:
        raise SettingsError("--poll", True, "either --poll or --replay, not both")
    if record and (recordings or poll):
        raise SettingsError("--record", str(record), "with a feed, not with --poll or --replay")
    times_as_fast = _speed(speed)
    venue = venue_named(venue)
    name, healthy_for_s = ("poll", POLL_HEALTHY_FOR_S) if poll else ("ingest", FEED_HEALTHY_FOR_S)
    producer = _producer(settings, name, healthy_for_s)
    try:
        if recordings:
            _replay(recordings, producer, venue=venue, speed=times_as_fast)
        elif poll:
            asyncio.run(_poll(settings, producer))
        else:
            asyncio.run(_feed(settings, producer, venue=venue or DEFAULT_VENUE, simulated=simulated, record=record))
    finally:
        producer.close()


def _serve_metrics(settings: Settings) -> None:
    if settings.metrics_port is not None:
        telemetry.serve_metrics(settings.metrics_port, host=settings.metrics_host)


def _producer(settings: Settings, name: str, healthy_for_s: float) -> Producer:
    from coinstream.kafka import Producer

    found = settings_room.addresses(settings, "kafka_bootstrap")
    # A feed works in an event loop: a full queue must give it back soon, so that it can let go of the venue.
    return Producer(
        found.kafka_bootstrap,
        client_id=f"coinstream-{name}",
        topic_prefix=settings.topic_prefix,
        queue_wait_s=0.2,
        healthy_for_s=healthy_for_s,
    )


def _speed(text: str) -> Decimal | None:
    """Return how many times as fast as recorded; ``None``: as fast as it goes."""
    if text == "max":
        return None
    try:
        speed = Decimal(text)
    except InvalidOperation:
        speed = Decimal(0)
    if not Decimal("0.001") <= speed <= Decimal(1_000_000):
        raise SettingsError("--speed", text, "a number from 0.001 to 1000000, or max")
    return speed


def _replay(paths: list[Path], producer: Producer, *, venue: str | None, speed: Decimal | None) -> None:
    from coinstream.ingest import run_replay

    stop = stop_on_signals()
    summary = run_replay(paths, producer=producer, speed=speed, venue=venue, stop=stop.is_set)
    sys.stderr.write(f"{summary}\n")


async def _stop_of_loop() -> asyncio.Event:
    """Return an asyncio event that SIGTERM or SIGINT sets."""
    import signal

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _poll(settings: Settings, producer: Producer) -> None:
    from coinstream.ingest import run_poll

    sources = {"coinpaprika": settings.coinpaprika_url, "coingecko": settings.coingecko_url}
    await run_poll(sources=sources, producer=producer, stop=await _stop_of_loop())


async def _feed(settings: Settings, producer: Producer, *, venue: str, simulated: bool, record: Path | None) -> None:
    from coinstream.ingest import Recorder, run_feed

    websocket_url, rest_url = settings_room.venue_urls(settings, venue)
    recorder = Recorder(record) if record else None
    try:
        await run_feed(
            venue=venue,
            simulated=simulated,
            symbols=settings_room.chosen_symbols(settings) or (),
            producer=producer,
            websocket_url=websocket_url,
            rest_url=rest_url,
            stop=await _stop_of_loop(),
            recorder=recorder,
        )
    finally:
        if recorder is not None:
            recorder.close()
    if recorder is not None and recorder.failed is not None:
        raise FatalError(recorder.failed)


@sink.command("postgres")
def sink_postgres(workers: Workers = 1, metrics_port: Metrics = None) -> None:
    """Write the market's messages to PostgreSQL, exactly once."""
    if workers > 1:
        _run_workers("postgres", workers, metrics_port)
    from coinstream.sink import run_postgres_sink

    settings, found, stop = _sink_process("postgres_sink_url", metrics_port)
    run_postgres_sink(found.postgres_sink_url, stop, **_kafka(settings, found))


@sink.command("mongodb")
def sink_mongodb(workers: Workers = 1, metrics_port: Metrics = None) -> None:
    """Write the market's messages to MongoDB, once in effect."""
    if workers > 1:
        _run_workers("mongodb", workers, metrics_port)
    from coinstream.sink import run_mongodb_sink

    settings, found, stop = _sink_process("mongodb_sink_url", metrics_port)
    run_mongodb_sink(found.mongodb_sink_url, settings.mongodb_database, stop, **_kafka(settings, found))


def _run_workers(store: str, workers: int, metrics_port: int | None) -> NoReturn:
    """Run workers that serve metrics on consecutive ports, wherever the first one's number comes from."""
    settings = settings_room.load(metrics_port=metrics_port)
    run_workers("sink", store, workers=workers, metrics_port=settings.metrics_port)


def _sink_process(store_url: str, metrics_port: int | None) -> tuple[Settings, Addresses, Callable[[], bool]]:
    return _batch_process(metrics_port, "kafka_bootstrap", store_url)


def _batch_process(metrics_port: int | None, *needed: str) -> tuple[Settings, Addresses, Callable[[], bool]]:
    settings = settings_room.load(metrics_port=metrics_port)
    telemetry.configure_logging(level=settings.log_level)
    _serve_metrics(settings)
    tune_for_batches()
    return settings, settings_room.addresses(settings, *needed), stop_on_signals().is_set


def engine(workers: Workers = 1, metrics_port: Metrics = None) -> None:
    """Decide users' commands against the live books, exactly once."""
    if workers > 1:
        port = settings_room.load(metrics_port=metrics_port).metrics_port
        run_workers("engine", workers=workers, metrics_port=port)
    from coinstream.engine import run_engine

    settings, found, stop = _batch_process(metrics_port, "kafka_bootstrap")
    run_engine(stop, **_kafka(settings, found))


def tune_for_batches() -> None:
    """Set the interpreter up for a process that works batch by batch."""
    # librdkafka's threads and ours share one interpreter lock; at the default of 5 ms they wait for each other.
    sys.setswitchinterval(0.0005)
    # A batch of documents is some 50,000 objects that live until it is written: at the default of 700 the collector
    # walks them again and again and finds nothing, a twelfth of the MongoDB sink's time.
    gc.freeze()
    gc.set_threshold(100_000)


def _kafka(settings: Settings, found: Addresses) -> dict[str, Any]:
    return {
        "bootstrap": found.kafka_bootstrap,
        "topic_prefix": settings.topic_prefix,
        "session_timeout_ms": settings.kafka_session_timeout_ms,
    }


@simulate.command("exchange")
def simulate_exchange(
    rate: Annotated[float, typer.Option(min=0.01, max=200_000, help="market events a second, all symbols")] = 500,
    seed: Annotated[int, typer.Option(help="decides the market")] = 1,
    symbols: Annotated[str | None, typer.Option(help="BASE-QUOTE, with commas; default all it knows")] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="of the WebSocket; 0 for a free one")] = 0,
    http_port: Annotated[int, typer.Option(min=0, max=65_535, help="of the REST routes; 0 for a free one")] = 0,
    protocol: Annotated[str, typer.Option(help="coinbase or binance")] = "coinbase",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=VALUE",
            help="what goes wrong, repeatable: drop, duplicate, reorder, corrupt, jump (the probability for a frame), "
            "half-open (seconds until a connection falls silent), too-many-requests (the probability for a request)",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 in a container")] = "127.0.0.1",
) -> None:
    """Run an exchange that speaks a venue's public protocol, and the asset sources' REST routes.

    Prints its two addresses as one JSON line on stdout once both ports listen, and at the end a line on stderr that
    says what it did.
    """
    from coinstream.simulator import parse_faults

    telemetry.configure_logging(level=settings_room.load().log_level)
    asyncio.run(
        _simulate(
            protocol=protocol,
            rate=rate,
            seed=seed,
            symbols=[symbol.strip().upper() for symbol in symbols.split(",")] if symbols else None,
            faults=parse_faults(fault or []),
            host=host,
            websocket_port=port,
            http_port=http_port,
        )
    )


async def _simulate(**options: Any) -> None:
    import json

    from coinstream.simulator import SimulatorAddresses, serve

    def announce(addresses: SimulatorAddresses) -> None:
        print(json.dumps(addresses._asdict()), flush=True)

    await serve(
        **options,
        start_time_us=time.time_ns() // 1000,
        on_ready=announce,
        stop=await _stop_of_loop(),
    )


@simulate.command("users")
def simulate_users(
    accounts: Annotated[int, typer.Option(min=1, max=1_000_000, help="people, one account each")] = 20,
    orders_per_second: Annotated[float, typer.Option(min=0.01, max=100_000, help="commands a second, all people")] = 20,
    seed: Annotated[int, typer.Option(help="decides who does what")] = 1,
    duration: Annotated[float | None, typer.Option(min=0.1, help="seconds; without it until stopped")] = None,
) -> None:
    """Behave like people who trade: deposits, orders in bursts, cancels, mistakes.

    At the end one JSON object on stdout says what was sent, what was answered and how soon.
    """
    import json

    from coinstream.simulator import run_users

    settings = settings_room.load()
    telemetry.configure_logging(level=settings.log_level)
    found = settings_room.addresses(settings, "kafka_bootstrap")
    done = run_users(
        bootstrap=found.kafka_bootstrap,
        topic_prefix=settings.topic_prefix,
        accounts=accounts,
        orders_per_second=orders_per_second,
        seed=seed,
        duration_s=duration,
        stop=stop_on_signals().is_set,
    )
    print(json.dumps(done.summary()), flush=True)
