"""Every metric's name, unit and labels in one table, and the one way that logs are written.

Metrics go out in the Prometheus text format, logs to stderr: a line a person reads on a terminal,
JSON elsewhere. Label values are bounded sets (venue, topic, table, reason's class); never ids.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from coinstream.errors import FatalError

_LATENCY_BUCKETS_S = (
    *(0.001 * n for n in (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 200, 250, 300, 400, 500, 700)),
    *(1, 1.5, 2, 3, 5, 10, 30, 60, 300),
)

PUBLISHED = Counter("coinstream_published_messages", "Messages acknowledged by Kafka.", ["topic"])
FRAMES = Counter("coinstream_frames_received", "Frames received from a venue or source.", ["venue"])
REFUSED_FRAMES = Counter("coinstream_frames_refused", "Frames dead-lettered, by class of error.", ["venue", "error"])
RECONNECTS = Counter("coinstream_feed_reconnects", "Connections lost and tried again.", ["venue"])
FETCHES = Counter("coinstream_feed_fetches", "Books and trades read by HTTP (answered, failed).", ["venue", "outcome"])
GAPS = Counter("coinstream_feed_gaps", "Breaks of a venue's sequence, by channel.", ["venue", "channel"])
POLLS = Counter("coinstream_polls", "Asset polls, by outcome (published, failed).", ["source", "outcome"])
CONSUMED = Counter("coinstream_sink_messages", "Messages a sink has stored or found stored.", ["store", "topic"])
INSERTED = Counter("coinstream_sink_inserted", "Rows or documents truly new.", ["store", "table"])
DUPLICATES = Counter("coinstream_sink_duplicates", "Rows or documents that were there already.", ["store", "table"])
DEAD_LETTERS = Counter("coinstream_dead_letters", "Records sent to dead letters.", ["topic"])
STORE_RETRIES = Counter("coinstream_store_retries", "Writes begun again after a transient error.", ["store"])
LOG_GAPS = Counter("coinstream_log_gaps", "Stored positions found outside Kafka's log.", ["topic"])
LOST_COMMITS = Counter("coinstream_lost_commits", "Commits left out because their partition had moved.", ["topic"])
LAG = Gauge("coinstream_lag_messages", "Messages in the log after the stored position.", ["store", "topic"])
BATCH_SECONDS = Histogram("coinstream_batch_seconds", "Time to write one batch.", ["store"], buckets=_LATENCY_BUCKETS_S)
VISIBLE_SECONDS = Histogram(
    "coinstream_visible_seconds",
    "From a record's Kafka timestamp to its being visible in the store; a sample of each batch.",
    ["store"],
    buckets=_LATENCY_BUCKETS_S,
)
ANSWER_SECONDS = Histogram(
    "coinstream_answer_seconds",
    "From a command's Kafka timestamp to its events being readable; a sample of each batch.",
    buckets=_LATENCY_BUCKETS_S,
)
HEALTHY_UNTIL = Gauge(
    "coinstream_healthy_until_time_seconds",
    "Until when a process vouches for a part of its work (venue, kafka, store); `coinstream.health` reads it.",
    ["part"],
)
NEWEST_TIME = Gauge("coinstream_newest_record_time_seconds", "Kafka timestamp of the newest record stored.", ["store"])


def configure_logging(*, level: str = "info", as_json: bool | None = None) -> None:
    """Send structlog and the libraries' logs to stderr.

    Args:
        level: Least level written: ``debug``, ``info``, ``warning`` or ``error``.
        as_json: One JSON object a line; by default only when stderr is no terminal.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    lines = not sys.stderr.isatty() if as_json is None else as_json
    renderer: Any = structlog.processors.JSONRenderer() if lines else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=max(threshold, logging.WARNING), stream=sys.stderr, force=True)
    # librdkafka repeats each failed attempt, dozens a second; `kafka` says once what it comes to.
    quiet = logging.DEBUG if threshold <= logging.DEBUG else logging.CRITICAL
    logging.getLogger("coinstream.kafka.client").setLevel(quiet)


def logger(name: str) -> Any:
    """Return a logger whose lines carry the room's name: ``logger("kafka").info("assigned", partitions=12)``."""
    return structlog.get_logger(room=name)


def serve_metrics(port: int, *, host: str = "127.0.0.1") -> None:
    """Serve ``/metrics`` on a port from a daemon thread.

    Raises:
        FatalError: The port is taken.
    """
    try:
        start_http_server(port, addr=host)
    except OSError as error:
        raise FatalError(f"metrics cannot be served on {host}:{port} ({error.strerror}); choose another port") from None
