r"""The tables as the sink fills them: columns in the order of a row's text, keys, and who wins.

A row is one line of PostgreSQL's COPY text format with the empty field for NULL, since no text of
a message is empty and ``\N`` would cost every block its plainness.

Source: https://www.postgresql.org/docs/current/sql-copy.html, "Text Format".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

_UPSERT = (
    "WITH put AS (INSERT INTO {{table}} AS t ({{columns}}) SELECT {{columns}} FROM {source} ORDER BY {{key}} "
    "ON CONFLICT ({{key}}) DO UPDATE SET {{update}} RETURNING t.xmax = 0 AS is_new) "
    "SELECT count(*) FILTER (WHERE is_new) FROM put"
)


@dataclass(frozen=True)
class Table:
    """One way of filling a table.

    Attributes:
        name: The table, in schema ``market``.
        columns: The columns of a row's text, in order.
        key: The columns of the primary or unique key.
        update: What a row does to one that is there, with ``t`` for the row that is there and
            ``excluded`` for the new one; ``None``: the first stays.
        types: Of the columns, where rows may come as arrays.
        purpose: Tells two ways of filling one table apart.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    update: str | None = None
    types: tuple[str, ...] = ()
    purpose: str = ""

    @cached_property
    def make_staging(self) -> bytes:
        """Make the connection's temporary table: the columns and ``row``, the place of a row in its block."""
        return self._with_names(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {staging} ON COMMIT DELETE ROWS AS "
            "SELECT 0 AS row, {columns} FROM {table} WITH NO DATA"
        )

    @cached_property
    def copy(self) -> bytes:
        """Copy a block straight into the table."""
        return self._with_names("COPY {table} ({columns}) FROM STDIN (NULL '')")

    @cached_property
    def copy_staging(self) -> bytes:
        """Copy a block, each line led by its place, into the staging table."""
        return self._with_names("COPY {staging} (row, {columns}) FROM STDIN (NULL '')")

    @cached_property
    def empty_staging(self) -> bytes:
        """Take out what an earlier block of the same transaction left."""
        return self._with_names("DELETE FROM {staging}")

    @cached_property
    def insert_new(self) -> bytes:
        """Insert the staged rows whose key is free and return the places of the others."""
        return self._with_names(
            "WITH inserted AS (INSERT INTO {table} ({columns}) "
            "SELECT {columns} FROM {staging} ORDER BY {key} ON CONFLICT DO NOTHING RETURNING {key}) "
            "SELECT row FROM {staging} WHERE ({key}) NOT IN (SELECT {key} FROM inserted)"
        )

    @cached_property
    def upsert(self) -> bytes:
        """Insert or update from the staged rows, in key order so that two sinks cannot deadlock.

        Returns the number of rows that are new: a row that an update replaced has an ``xmax``.
        """
        return self._with_names(_UPSERT.format(source="{staging}"))

    @cached_property
    def upsert_arrays(self) -> bytes:
        """The same from an array of each column, of the table's ``types``."""
        arrays = ", ".join(f"%s::{kind}[]" for kind in self.types)
        return self._with_names(_UPSERT.format(source=f"unnest({arrays}) AS s ({', '.join(self.columns)})"))

    def _with_names(self, statement: str) -> bytes:
        def listed(names: tuple[str, ...]) -> sql.Composable:
            return sql.SQL(", ").join(map(sql.Identifier, names))

        return (
            sql.SQL(statement)
            .format(
                table=sql.Identifier("market", self.name),
                staging=sql.Identifier(f"staging_{self.name}{self.purpose}"),
                columns=listed(self.columns),
                key=listed(self.key),
                update=sql.SQL(self.update or ""),
            )
            .as_bytes()
        )


def _replaced(columns: tuple[str, ...], key: tuple[str, ...]) -> str:
    return ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)


TRADES = Table(
    "trades",
    (
        "instrument_id",
        "day",
        "event_time",
        "received_time",
        "aggressor_side",
        "provenance",
        "trade_id",
        "price",
        "size",
    ),
    ("instrument_id", "trade_id", "day"),
)
QUOTES = Table(
    "quotes",
    ("instrument_id", "received_time", "sequence", "event_time", "bid", "ask", "bid_size", "ask_size"),
    ("instrument_id", "received_time", "sequence"),
)
BOOK_SNAPSHOTS = Table(
    "book_snapshots",
    ("instrument_id", "received_time", "sequence", "event_time", "bids", "asks"),
    ("instrument_id", "received_time", "sequence"),
)

_instrument_columns = (
    "venue",
    "symbol",
    "venue_symbol",
    "base",
    "quote",
    "tick_size",
    "lot_size",
    "minimum_notional",
    "status",
    "received_time",
)
INSTRUMENTS = Table(
    "instruments",
    _instrument_columns,
    ("venue", "symbol"),
    _replaced(_instrument_columns, ("venue", "symbol"))
    + " WHERE t.received_time IS NULL OR excluded.received_time >= t.received_time",
)

_asset_columns = (
    "source",
    "asset_id",
    "minute",
    "canonical_id",
    "symbol",
    "name",
    "rank",
    "price_usd",
    "market_cap_usd",
    "volume_usd_24h",
    "supply",
    "max_supply",
    "vwap_24h",
    "change_percent_24h",
    "attributes",
    "received_time",
)
ASSETS = Table(
    "assets",
    _asset_columns,
    ("source", "asset_id", "minute"),
    _replaced(_asset_columns, ("source", "asset_id", "minute")) + " WHERE excluded.received_time > t.received_time",
)

_coverage_columns = ("venue", "symbol", "channel", "minute", "status", "first", "last", "messages")
COVERAGE = Table(
    "coverage",
    _coverage_columns,
    ("venue", "symbol", "channel", "minute"),
    _replaced(_coverage_columns, ("venue", "symbol", "channel", "minute")),
)

_candle_key = ("instrument_id", "minute", "origin")
_venue_candle_columns = (*_candle_key, "provenance", "open", "high", "low", "close", "volume", "trades")
VENUE_CANDLES = Table("candles", _venue_candle_columns, _candle_key, _replaced(_venue_candle_columns, _candle_key))


def _decides(time: str, trade_id: str, sign: str) -> str:
    def place(row: str) -> str:
        return f'({row}.{time}, market.trade_id_order({row}.{trade_id}) COLLATE "C")'

    return f"{place('excluded')} {sign} {place('t')}"


def _taken(condition: str, *columns: str) -> str:
    return ", ".join(
        f"{column} = CASE WHEN {condition} THEN excluded.{column} ELSE t.{column} END" for column in columns
    )


CANDLE_SUMS = Table(
    "candles",
    (
        *_candle_key,
        "open",
        "high",
        "low",
        "close",
        "volume",
        "trades",
        "open_time",
        "open_id",
        "close_time",
        "close_id",
    ),
    _candle_key,
    # The same order of trades as `coinstream.market.candle.trade_id_order`.
    ", ".join(
        (
            _taken(_decides("open_time", "open_id", "<"), "open", "open_time", "open_id"),
            _taken(_decides("close_time", "close_id", ">"), "close", "close_time", "close_id"),
            "high = greatest(t.high, excluded.high), low = least(t.low, excluded.low)",
            "volume = t.volume + excluded.volume, trades = t.trades + excluded.trades",
        )
    ),
    types=(
        *("integer", "timestamptz", '"char"'),
        *["numeric"] * 5,
        *("bigint", "timestamptz", "text", "timestamptz", "text"),
    ),
    purpose="_sums",
)

TABLES = (TRADES, QUOTES, BOOK_SNAPSHOTS, INSTRUMENTS, ASSETS, COVERAGE, VENUE_CANDLES, CANDLE_SUMS)
