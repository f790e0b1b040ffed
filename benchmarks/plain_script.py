"""The script that such projects start with: trades from Kafka into PostgreSQL, a row at a time.

It is here to be compared with (`make prove`), and written as one writes it on the first day: the
consumer commits its offsets by itself, each row is inserted and committed, a lost database is
connected to again and the row at hand tried once more. It shares nothing with coinstream.

Environment: KAFKA_BOOTSTRAP, TOPIC, DATABASE_URL.
"""

import json
import os
import time

import psycopg
from kafka import KafkaConsumer

TABLE = """
CREATE TABLE IF NOT EXISTS plain_trades (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue text NOT NULL,
    symbol text NOT NULL,
    trade_id text NOT NULL,
    price numeric NOT NULL,
    size numeric NOT NULL,
    side text NOT NULL,
    traded_at timestamptz NOT NULL
)
"""
INSERT = """
INSERT INTO plain_trades (venue, symbol, trade_id, price, size, side, traded_at)
VALUES (%s, %s, %s, %s, %s, %s, to_timestamp(%s / 1000000.0))
"""


def connect() -> psycopg.Connection:
    """Return a connection, however long the database takes to come back."""
    while True:
        try:
            return psycopg.connect(os.environ["DATABASE_URL"])
        except psycopg.OperationalError as error:
            print("no database, trying again:", error, flush=True)
            time.sleep(1)


def insert(connection: psycopg.Connection, trade: dict) -> None:
    """Insert one trade and commit."""
    connection.execute(
        INSERT,
        (
            trade["venue"],
            trade["symbol"],
            trade["trade_id"],
            trade["price"],
            trade["size"],
            trade["aggressor_side"],
            trade["event_time_us"],
        ),
    )
    connection.commit()


def main() -> None:
    """Copy trades for ever."""
    connection = connect()
    connection.execute(TABLE)
    connection.commit()
    consumer = KafkaConsumer(
        os.environ["TOPIC"],
        bootstrap_servers=os.environ["KAFKA_BOOTSTRAP"],
        group_id="plain-script",
        auto_offset_reset="earliest",
        enable_auto_commit=True,
        # By the library's default a script that was killed waits 45 s for itself to leave the group.
        session_timeout_ms=10_000,
    )
    print("reading", flush=True)
    for message in consumer:
        trade = json.loads(message.value)
        try:
            insert(connection, trade)
        except psycopg.OperationalError as error:
            print("the database is gone, connecting again:", error, flush=True)
            connection = connect()
            insert(connection, trade)


if __name__ == "__main__":
    main()
