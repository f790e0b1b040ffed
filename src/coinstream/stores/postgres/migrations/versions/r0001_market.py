"""The market's tables, the views analysts use, the sink's log positions, and who may do what."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Codes of one byte: a trade's row is 4 to 10 bytes shorter than with words. The views spell them out.
_SIDE = "CASE {0} WHEN 'b' THEN 'buy' WHEN 's' THEN 'sell' END"
_PROVENANCE = "CASE {0} WHEN 'l' THEN 'live' WHEN 'b' THEN 'backfill' WHEN 's' THEN 'simulated' END"
_ORIGIN = "CASE {0} WHEN 't' THEN 'trades' WHEN 'v' THEN 'venue' END"

# Levels are numeric[][]: 55 µs to load 100 levels and 2.1 kB a row, against 69 µs and 1.9 kB as jsonb
# numbers; both keep every digit, and only the array is typed and read as numbers without a cast.
_TABLES = """
CREATE SCHEMA market;

CREATE TABLE market.instruments (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    venue text NOT NULL,
    symbol text NOT NULL,
    venue_symbol text,
    base text,
    quote text,
    tick_size numeric,
    lot_size numeric,
    minimum_notional numeric,
    status text CHECK (status IN ('online', 'offline', 'unknown')),
    received_time timestamptz,
    UNIQUE (venue, symbol)
);
COMMENT ON TABLE market.instruments IS
    'Symbols on venues. A row is made by the first message of a symbol; the facts come with the venue''s list.';
COMMENT ON COLUMN market.instruments.id IS 'What facts refer to; of this database alone.';
COMMENT ON COLUMN market.instruments.symbol IS 'Our spelling: BASE-QUOTE.';
COMMENT ON COLUMN market.instruments.venue_symbol IS 'The venue''s own spelling.';
COMMENT ON COLUMN market.instruments.tick_size IS 'Least step of a price, in quote currency.';
COMMENT ON COLUMN market.instruments.lot_size IS 'Least step of a size, in base currency.';
COMMENT ON COLUMN market.instruments.minimum_notional IS 'Least price times size of an order, in quote currency.';
COMMENT ON COLUMN market.instruments.received_time IS 'When we received the facts; absent: none yet. The newest win.';

CREATE TABLE market.trades (
    instrument_id integer NOT NULL,
    day date NOT NULL,
    event_time timestamptz NOT NULL,
    received_time timestamptz NOT NULL,
    aggressor_side "char" NOT NULL,
    provenance "char" NOT NULL,
    trade_id text COLLATE "C" NOT NULL,
    price numeric NOT NULL,
    size numeric NOT NULL,
    PRIMARY KEY (instrument_id, trade_id, day)
) PARTITION BY RANGE (day);
COMMENT ON TABLE market.trades IS
    'Each trade once: the first message of an id and day is kept. Use market.named_trades for names.';
COMMENT ON COLUMN market.trades.instrument_id IS 'market.instruments.id; no foreign key, for the speed of loading.';
COMMENT ON COLUMN market.trades.day IS 'UTC date of event_time.';
COMMENT ON COLUMN market.trades.event_time IS 'The venue''s time of the trade, exact to the microsecond.';
COMMENT ON COLUMN market.trades.received_time IS 'When we received it, exact to the microsecond.';
COMMENT ON COLUMN market.trades.aggressor_side IS 'The taker''s side: b buy, s sell.';
COMMENT ON COLUMN market.trades.provenance IS 'l live, b backfill, s simulated.';
COMMENT ON COLUMN market.trades.trade_id IS 'The venue''s.';
COMMENT ON COLUMN market.trades.price IS 'Quote currency per unit of base, with the venue''s digits.';
COMMENT ON COLUMN market.trades.size IS 'Base currency, with the venue''s digits.';

CREATE TABLE market.quotes (
    instrument_id integer NOT NULL,
    received_time timestamptz NOT NULL,
    sequence bigint NOT NULL,
    event_time timestamptz,
    bid numeric NOT NULL,
    ask numeric NOT NULL,
    bid_size numeric,
    ask_size numeric,
    PRIMARY KEY (instrument_id, received_time, sequence)
) PARTITION BY RANGE (received_time);
COMMENT ON TABLE market.quotes IS 'Best bid and ask as a venue sent them. Use market.named_quotes for names.';
COMMENT ON COLUMN market.quotes.instrument_id IS 'market.instruments.id';
COMMENT ON COLUMN market.quotes.received_time IS 'When we received it, exact to the microsecond.';
COMMENT ON COLUMN market.quotes.sequence IS 'The venue''s; 0 where it sends none.';
COMMENT ON COLUMN market.quotes.event_time IS 'The venue''s time, where it sends one.';
COMMENT ON COLUMN market.quotes.bid IS 'Quote currency per unit of base; 0: no bids.';
COMMENT ON COLUMN market.quotes.ask IS 'Quote currency per unit of base; 0: no asks.';
COMMENT ON COLUMN market.quotes.bid_size IS 'Base currency.';
COMMENT ON COLUMN market.quotes.ask_size IS 'Base currency.';

CREATE TABLE market.book_snapshots (
    instrument_id integer NOT NULL,
    received_time timestamptz NOT NULL,
    sequence bigint NOT NULL,
    event_time timestamptz,
    bids numeric[] NOT NULL,
    asks numeric[] NOT NULL,
    PRIMARY KEY (instrument_id, received_time, sequence)
) PARTITION BY RANGE (received_time);
COMMENT ON TABLE market.book_snapshots IS
    'The best 50 levels a side, at most once a second. Use market.named_book_snapshots for names.';
COMMENT ON COLUMN market.book_snapshots.instrument_id IS 'market.instruments.id';
COMMENT ON COLUMN market.book_snapshots.received_time IS 'When we received it, exact to the microsecond.';
COMMENT ON COLUMN market.book_snapshots.sequence IS 'The venue''s; 0 where it sends none.';
COMMENT ON COLUMN market.book_snapshots.event_time IS 'The venue''s time, where it sends one.';
COMMENT ON COLUMN market.book_snapshots.bids IS
    'Levels {price, size}, highest price first: bids[1][1] is the best price, bids[1][2] its size in base currency.';
COMMENT ON COLUMN market.book_snapshots.asks IS 'The same, lowest price first.';

CREATE TABLE market.candles (
    instrument_id integer NOT NULL,
    minute timestamptz NOT NULL,
    origin "char" NOT NULL CHECK (origin IN ('t', 'v')),
    provenance "char",
    open numeric NOT NULL,
    high numeric NOT NULL,
    low numeric NOT NULL,
    close numeric NOT NULL,
    volume numeric NOT NULL,
    trades bigint,
    open_time timestamptz,
    open_id text COLLATE "C",
    close_time timestamptz,
    close_id text COLLATE "C",
    PRIMARY KEY (instrument_id, minute, origin),
    CHECK (origin = 'v' OR (trades > 0 AND open_time IS NOT NULL AND open_id IS NOT NULL
                            AND close_time IS NOT NULL AND close_id IS NOT NULL))
);
COMMENT ON TABLE market.candles IS
    'One minute of an instrument, from each of two origins. market.candles_1m chooses between them.';
COMMENT ON COLUMN market.candles.instrument_id IS 'market.instruments.id';
COMMENT ON COLUMN market.candles.minute IS 'Start of the minute.';
COMMENT ON COLUMN market.candles.origin IS
    't: summed from market.trades in the same transaction; v: sent by the venue.';
COMMENT ON COLUMN market.candles.provenance IS 'Of a venue''s candle: l live, b backfill, s simulated.';
COMMENT ON COLUMN market.candles.open IS 'First price, in quote currency.';
COMMENT ON COLUMN market.candles.high IS 'Highest price, in quote currency.';
COMMENT ON COLUMN market.candles.low IS 'Lowest price, in quote currency.';
COMMENT ON COLUMN market.candles.close IS 'Last price, in quote currency.';
COMMENT ON COLUMN market.candles.volume IS 'Sum of the sizes, in base currency.';
COMMENT ON COLUMN market.candles.trades IS 'Number of trades; a venue may not say.';
COMMENT ON COLUMN market.candles.open_time IS 'Time of the first trade; with open_id it decides which is first.';
COMMENT ON COLUMN market.candles.open_id IS 'Id of the first trade.';
COMMENT ON COLUMN market.candles.close_time IS 'Time of the last trade; with close_id it decides which is last.';
COMMENT ON COLUMN market.candles.close_id IS 'Id of the last trade.';

CREATE TABLE market.assets (
    source text NOT NULL,
    asset_id text NOT NULL,
    minute timestamptz NOT NULL,
    canonical_id text,
    symbol text NOT NULL,
    name text NOT NULL,
    rank bigint,
    price_usd numeric NOT NULL,
    market_cap_usd numeric,
    volume_usd_24h numeric,
    supply numeric,
    max_supply numeric,
    vwap_24h numeric,
    change_percent_24h numeric,
    attributes jsonb NOT NULL,
    received_time timestamptz NOT NULL,
    PRIMARY KEY (source, asset_id, minute)
);
COMMENT ON TABLE market.assets IS 'What a source said of an asset in a minute; the answer received last is kept.';
COMMENT ON COLUMN market.assets.asset_id IS 'The source''s name of the asset.';
COMMENT ON COLUMN market.assets.canonical_id IS 'Our name of the asset, where the reviewed table has it.';
COMMENT ON COLUMN market.assets.minute IS 'Start of the minute.';
COMMENT ON COLUMN market.assets.price_usd IS 'US dollars per unit.';
COMMENT ON COLUMN market.assets.market_cap_usd IS 'US dollars.';
COMMENT ON COLUMN market.assets.volume_usd_24h IS 'US dollars in 24 hours.';
COMMENT ON COLUMN market.assets.supply IS 'Units in circulation.';
COMMENT ON COLUMN market.assets.max_supply IS 'Units there will ever be.';
COMMENT ON COLUMN market.assets.vwap_24h IS 'Volume-weighted average price of 24 hours, US dollars.';
COMMENT ON COLUMN market.assets.change_percent_24h IS 'Percent in 24 hours.';
COMMENT ON COLUMN market.assets.attributes IS 'Whatever else the source said; fractions as digits in strings.';
COMMENT ON COLUMN market.assets.received_time IS 'When we received it.';

CREATE TABLE market.coverage (
    venue text NOT NULL,
    symbol text NOT NULL,
    channel text NOT NULL,
    minute timestamptz NOT NULL,
    status text NOT NULL CHECK (status IN ('complete', 'gap', 'disconnected', 'backfilled')),
    first text,
    last text,
    messages bigint NOT NULL,
    PRIMARY KEY (venue, symbol, channel, minute)
);
COMMENT ON TABLE market.coverage IS
    'What the messages of a symbol, channel and minute are worth: a hole is no quiet market.';
COMMENT ON COLUMN market.coverage.venue IS 'The venue, or the source of asset prices.';
COMMENT ON COLUMN market.coverage.channel IS 'trades, quotes, books or assets.';
COMMENT ON COLUMN market.coverage.minute IS 'Start of the minute.';
COMMENT ON COLUMN market.coverage.status IS 'complete: connected and unbroken for the whole minute.';
COMMENT ON COLUMN market.coverage.first IS 'First trade id or sequence of the minute.';
COMMENT ON COLUMN market.coverage.last IS 'Last trade id or sequence of the minute.';
COMMENT ON COLUMN market.coverage.messages IS 'How many messages the feed published.';

CREATE TABLE pipeline.offsets (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    topic_id text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    stored_time timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic, topic_id, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE pipeline.offsets IS
    'Where a sink stands in the log; moved in the transaction that writes the rows, and only from where it stood.';
COMMENT ON COLUMN pipeline.offsets.topic_id IS 'Kafka''s id of the topic; a re-created topic has another.';
COMMENT ON COLUMN pipeline.offsets.next_offset IS 'The next offset to read.';
"""

_FUNCTIONS = """
CREATE FUNCTION market.trade_id_order(trade_id text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN (CASE WHEN trade_id ~ '^[0-9]+$' THEN '0' || lpad(ltrim(trade_id, '0'), 64, '0') || trade_id
                 ELSE '1' || trade_id END) COLLATE "C";
COMMENT ON FUNCTION market.trade_id_order(text) IS
    'Sorts trade ids: digits as integers, before all others by their bytes. Ids have at most 64 characters.';

CREATE FUNCTION market.make_day(parent text, day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO' SET timezone = 'UTC'
AS $$
DECLARE
    child text := parent || '_' || to_char(day, 'YYYYMMDD');
    lower text;
    upper text;
BEGIN
    IF parent IS NULL OR parent NOT IN ('trades', 'quotes', 'book_snapshots') THEN
        RAISE EXCEPTION 'no table of days: %', parent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF day IS NULL OR day < DATE '2009-01-01' OR day > (now() AT TIME ZONE 'UTC')::date + 1 THEN
        RAISE EXCEPTION 'no day for market data: %', day USING ERRCODE = 'datetime_field_overflow';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('market.make_day', 0));
    IF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(format('market.%I', child))
               AND inhparent = to_regclass(format('market.%I', parent))) THEN
        RETURN false;
    END IF;
    IF parent = 'trades' THEN
        lower := quote_literal(day);
        upper := quote_literal(day + 1);
    ELSE
        lower := quote_literal(day::timestamp AT TIME ZONE 'UTC');
        upper := quote_literal((day + 1)::timestamp AT TIME ZONE 'UTC');
    END IF;
    -- Made apart and attached: CREATE ... PARTITION OF would lock the table against every reader and
    -- writer, an open snapshot included; ATTACH does not.
    EXECUTE format('CREATE TABLE market.%I (LIKE market.%I INCLUDING ALL EXCLUDING COMMENTS)', child, parent);
    IF parent = 'trades' THEN
        -- Holds day to event_time, and lets a query by event_time alone pass over other days.
        EXECUTE format('ALTER TABLE market.%I ADD CONSTRAINT day_of_event_time '
                       'CHECK (event_time >= %L::timestamptz AND event_time < %L::timestamptz)',
                       child, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
    END IF;
    EXECUTE format('ALTER TABLE market.%I ATTACH PARTITION market.%I FOR VALUES FROM (%s) TO (%s)',
                   parent, child, lower, upper);
    RETURN true;
END
$$;
COMMENT ON FUNCTION market.make_day(text, date) IS
    'Makes the partition of a UTC day of trades, quotes or book_snapshots; false if it is there. 2009 to tomorrow.';
"""

_VIEWS = f"""
CREATE VIEW market.named_trades AS
    SELECT i.venue, i.symbol, t.trade_id, t.event_time, t.price, t.size,
           {_SIDE.format("t.aggressor_side")} AS aggressor_side,
           {_PROVENANCE.format("t.provenance")} AS provenance, t.received_time, t.day
    FROM market.trades t JOIN market.instruments i ON i.id = t.instrument_id;
COMMENT ON VIEW market.named_trades IS
    'Trades with venue and symbol. A condition on event_time or day reads only those days.';

CREATE VIEW market.named_quotes AS
    SELECT i.venue, i.symbol, q.received_time, q.bid, q.bid_size, q.ask, q.ask_size,
           nullif(q.sequence, 0) AS sequence, q.event_time
    FROM market.quotes q JOIN market.instruments i ON i.id = q.instrument_id;
COMMENT ON VIEW market.named_quotes IS
    'Quotes with venue and symbol. A condition on received_time reads only those days.';

CREATE VIEW market.named_book_snapshots AS
    SELECT i.venue, i.symbol, b.received_time, b.bids, b.asks, nullif(b.sequence, 0) AS sequence, b.event_time
    FROM market.book_snapshots b JOIN market.instruments i ON i.id = b.instrument_id;
COMMENT ON VIEW market.named_book_snapshots IS
    'Book snapshots with venue and symbol. A condition on received_time reads only those days.';

CREATE VIEW market.candles_1m AS
    SELECT i.venue, i.symbol, c.minute, c.open, c.high, c.low, c.close, c.volume, c.trades,
           {_ORIGIN.format("c.origin")} AS origin, coalesce(g.status, 'unknown') AS coverage
    FROM market.candles c
    JOIN market.instruments i ON i.id = c.instrument_id
    LEFT JOIN market.coverage g
        ON g.venue = i.venue AND g.symbol = i.symbol AND g.channel = 'trades' AND g.minute = c.minute
    LEFT JOIN market.candles other
        ON other.instrument_id = c.instrument_id AND other.minute = c.minute AND other.origin <> c.origin
    WHERE other.origin IS NULL OR (c.origin = 't') = (coalesce(g.status, '') IN ('complete', 'backfilled'));
COMMENT ON VIEW market.candles_1m IS
    'One candle a minute: from our trades where their coverage is complete, else from the venue if it sent one.';
"""  # noqa: S608  # the words are the constants above

_COARSER = (
    ("5m", "5 minutes", "five minutes"),
    ("15m", "15 minutes", "a quarter of an hour"),
    ("1h", "1 hour", "an hour"),
    ("1d", "1 day", "a UTC day"),
)

_COARSER_VIEW = """
CREATE VIEW market.candles_{name} AS
    SELECT venue, symbol, date_bin('{width}', minute, timestamptz '2000-01-01 00:00:00+00') AS start,
           (array_agg(open ORDER BY minute))[1] AS open, max(high) AS high, min(low) AS low,
           (array_agg(close ORDER BY minute DESC))[1] AS close, sum(volume) AS volume, sum(trades) AS trades,
           count(*) AS minutes_traded,
           count(*) FILTER (WHERE coverage IN ('complete', 'backfilled')) AS minutes_complete
    FROM market.candles_1m
    GROUP BY venue, symbol, start;
COMMENT ON VIEW market.candles_{name} IS 'Candles of {words}, from market.candles_1m. volume in base currency.';
"""

_GRANTS = """
REVOKE ALL ON SCHEMA market, pipeline FROM PUBLIC;
REVOKE ALL ON FUNCTION market.make_day(text, date), market.trade_id_order(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA market, pipeline TO coinstream_sink, coinstream_reader;

GRANT SELECT, INSERT ON market.trades, market.quotes, market.book_snapshots TO coinstream_sink;
GRANT SELECT, INSERT, UPDATE ON market.instruments, market.candles, market.assets, market.coverage TO coinstream_sink;
GRANT SELECT, INSERT, UPDATE ON pipeline.offsets TO coinstream_sink;
GRANT SELECT ON pipeline.schema_version TO coinstream_sink;
GRANT EXECUTE ON FUNCTION market.make_day(text, date), market.trade_id_order(text) TO coinstream_sink;

GRANT SELECT ON ALL TABLES IN SCHEMA market, pipeline TO coinstream_reader;
GRANT EXECUTE ON FUNCTION market.trade_id_order(text) TO coinstream_reader;
"""


def upgrade() -> None:
    """Make all of it."""
    coarser = "".join(_COARSER_VIEW.format(name=name, width=width, words=words) for name, width, words in _COARSER)
    for part in (_TABLES, _FUNCTIONS, _VIEWS, coarser, _GRANTS):
        op.get_bind().exec_driver_sql(part.replace("%", "%%"))  # the driver reads a single one as a placeholder
