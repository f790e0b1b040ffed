"""Quix Streams' PostgreSQL sink, from our topic of trades into a table of its own making.

As its documentation shows it: JSON values, `sdf.sink(PostgreSQLSink(…))`, a checkpoint every 10,000
messages, which is the batch of ours. Its numbers stay text, as they come, which costs it less than
`numeric` would; its table has no key and no partitions.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from quixstreams import Application
from quixstreams.sinks.community.postgresql import PostgreSQLSink

from benchmarks.peers.own_process import serve

BATCH = 10_000


class TimedSink(PostgreSQLSink):
    """The sink, with the times of the first message it was given and of its last commit."""

    began: tuple[float, float] | None = None
    ended = (0.0, 0.0)
    rows = 0

    def add(self, *args: Any, **kwargs: Any) -> Any:
        """Note the first message."""
        if self.began is None:
            self.began = time.perf_counter(), time.process_time()
        return super().add(*args, **kwargs)

    def write(self, batch: Any) -> None:
        """Note the end of a write."""
        super().write(batch)
        self.rows += batch.size
        self.ended = time.perf_counter(), time.process_time()


def work(*, bootstrap: str, topic: str, group: str, rows: int, table: str, postgres: dict[str, Any]) -> dict[str, Any]:
    """Take the topic's first rows, and say how long it took from the first message to the last write."""
    logging.disable(logging.INFO)
    application = Application(
        broker_address=bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_every=BATCH,
        commit_interval=3600,
        loglevel=None,
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
    )
    sink = TimedSink(**postgres, table_name=table, schema_auto_update=True)
    application.dataframe(application.topic(topic, value_deserializer="json", key_deserializer="str")).sink(sink)
    application.run(count=rows, timeout=60)
    if sink.began is None or sink.rows < rows - BATCH:
        raise AssertionError(f"{sink.rows} rows were written of {rows}")
    return {
        "units": sink.rows,
        "seconds": sink.ended[0] - sink.began[0],
        "cpu_s": sink.ended[1] - sink.began[1],
    }


if __name__ == "__main__":
    serve(work)
