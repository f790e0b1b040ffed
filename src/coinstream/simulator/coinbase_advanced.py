"""Coinbase Advanced Trade's public WebSocket protocol, from the venue's side: requests in, message texts out.

Pure. Shapes after https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels and
https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/websocket/market-trades; where the documentation and
recorded frames differ, the recorded frames win: the heartbeat's counter is a number, digits carry no trailing zeros,
and the snapshot comes before the ``subscriptions`` answer. The ``side`` of a trade is the maker's.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from coinstream.errors import RefusedError
from coinstream.simulator.market import InstrumentMarket, LevelChange, SimulatedTrade
from coinstream.simulator.products import Product, decimal_text

__all__ = [
    "CHANNELS",
    "MARKET_CHANNELS",
    "Request",
    "envelope",
    "error_message",
    "heartbeat_event",
    "level2_event",
    "level2_snapshot_event",
    "parse_request",
    "subscriptions_event",
    "ticker_event",
    "ticker_text",
    "time_text",
    "trade_text",
    "trades_event",
]

# What a client may subscribe to, and the name its messages then carry.
CHANNELS: Mapping[str, str] = {
    "level2": "l2_data",
    "market_trades": "market_trades",
    "ticker": "ticker",
    "heartbeats": "heartbeats",
}
MARKET_CHANNELS = frozenset({"level2", "market_trades", "ticker"})


class Request(msgspec.Struct, frozen=True):
    """A client's ``subscribe`` or ``unsubscribe``: one channel, products of that channel.

    Attributes:
        product_ids: Empty for a channel without products, or, in an unsubscribe, for all of the channel's.
    """

    type: str
    channel: str
    product_ids: tuple[str, ...] = ()


def parse_request(frame: bytes, *, known_symbols: Collection[str]) -> Request:
    """Read what a client sent.

    Raises:
        RefusedError: It is not JSON of that shape, or names an unknown type, channel or product. Its text is what the
            venue's error message to the client says.
    """
    try:
        request = msgspec.json.decode(frame, type=Request)
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = "failed to parse message"
        raise RefusedError(message) from None
    if request.type not in ("subscribe", "unsubscribe"):
        message = f"unknown message type: {request.type}"
        raise RefusedError(message)
    if request.channel not in CHANNELS:
        message = f"channel {request.channel} is not supported"
        raise RefusedError(message)
    unknown = [symbol for symbol in request.product_ids if symbol not in known_symbols]
    if unknown and request.channel != "heartbeats":
        message = f"failure to {request.type}: {', '.join(unknown)} is not a valid product"
        raise RefusedError(message)
    if request.type == "subscribe" and not request.product_ids and request.channel != "heartbeats":
        message = "failure to subscribe: no product ids provided"
        raise RefusedError(message)
    return request


@lru_cache(maxsize=8)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")


def time_text(time_ns: int) -> str:
    """Write a time as the venue does: RFC 3339, UTC, up to nine digits of fraction without trailing zeros.

    >>> time_text(1675973975_396251350), time_text(1675973975_000000000)
    ('2023-02-09T20:19:35.39625135Z', '2023-02-09T20:19:35Z')
    """
    second, fraction_ns = divmod(time_ns, 1_000_000_000)
    fraction = f".{fraction_ns:09d}".rstrip("0") if fraction_ns else ""
    return f"{_second_text(second)}{fraction}Z"


def envelope(channel: str, *, time_ns: int, sequence: int, events: str) -> bytes:
    """Wrap the text of ``events`` (comma-separated objects) for one connection.

    Args:
        channel: The name messages carry (``l2_data``, not ``level2``).
        time_ns: When the server sends it.
        sequence: One more for each message of the connection whatever its channel.
        events: JSON objects, separated by commas.
    """
    head = f'{{"channel":"{channel}","client_id":"","timestamp":"{time_text(time_ns)}","sequence_num":{sequence},'
    return f'{head}"events":[{events}]}}'.encode()


def error_message(text: str) -> bytes:
    """Say what was wrong with a request; an error carries neither channel nor sequence."""
    return msgspec.json.encode({"type": "error", "message": text})


def subscriptions_event(subscriptions: Mapping[str, Iterable[str]]) -> str:
    """List all that the connection is subscribed to now."""
    return msgspec.json.encode({"subscriptions": {name: list(ids) for name, ids in subscriptions.items()}}).decode()


def heartbeat_event(*, time_ns: int, uptime_ns: int) -> str:
    """Write a heartbeat; its counter is the number of whole seconds the server has been up."""
    seconds, fraction_ns = divmod(uptime_ns, 1_000_000_000)
    second, second_ns = divmod(time_ns, 1_000_000_000)
    now = f"{_second_text(second).replace('T', ' ')}.{second_ns:09d} +0000 UTC m=+{seconds}.{fraction_ns:09d}"
    return f'{{"current_time":"{now}","heartbeat_counter":{seconds}}}'


def trade_text(product: Product, trade: SimulatedTrade) -> str:
    """Write one trade. The side published is the maker's: a buyer who takes an offer prints ``SELL``."""
    return (
        f'{{"product_id":"{product.symbol}","trade_id":"{trade.trade_id}","price":"{product.price_text(trade.ticks)}",'
        f'"size":"{product.size_text(trade.lots)}","time":"{time_text(trade.event_time_us * 1000)}",'
        f'"side":"{"BUY" if trade.maker_is_bid else "SELL"}"}}'
    )


def trades_event(kind: str, newest_first: Iterable[str]) -> str:
    """Wrap trades, newest first as the venue sends them; ``kind`` is ``snapshot`` or ``update``."""
    return f'{{"type":"{kind}","trades":[{",".join(newest_first)}]}}'


def level2_event(product: Product, changes: Iterable[tuple[int, LevelChange]], *, kind: str = "update") -> str:
    """Write level changes of one product in order, each with its time in microseconds; "0" removes a level."""
    price, size = product.price_text, product.size_text
    updates = ",".join(
        f'{{"side":"{"bid" if change.is_bid else "offer"}","event_time":"{time_text(event_time_us * 1000)}",'
        f'"price_level":"{price(change.ticks)}","new_quantity":"{size(change.lots)}"}}'
        for event_time_us, change in changes
    )
    return f'{{"type":"{kind}","product_id":"{product.symbol}","updates":[{updates}]}}'


def level2_snapshot_event(instrument: InstrumentMarket, *, event_time_us: int) -> str:
    """Write the whole book: bids, best first, then offers, best first."""
    book = instrument.book
    levels = [
        (event_time_us, LevelChange(side.is_bid, ticks, lots))
        for side in (book.bids, book.asks)
        for ticks, lots in side.levels()
    ]
    return level2_event(instrument.product, levels, kind="snapshot")


def ticker_text(instrument: InstrumentMarket) -> str:
    """Write one ticker. The day's volume is a plausible base and all that was traded in this run."""
    product, bids, asks = instrument.product, instrument.book.bids, instrument.book.asks
    volume = product.typical_lots * 20_000 + instrument.traded_lots
    change = (instrument.last_ticks - instrument.open_ticks) * 10**14 // instrument.open_ticks
    fields = {
        "type": "ticker",
        "product_id": product.symbol,
        "price": product.price_text(instrument.last_ticks),
        "volume_24_h": product.size_text(volume),
        "low_24_h": product.price_text(instrument.low_ticks),
        "high_24_h": product.price_text(instrument.high_ticks),
        "low_52_w": product.price_text(min(instrument.low_ticks, product.reference_ticks // 2)),
        "high_52_w": product.price_text(max(instrument.high_ticks, product.reference_ticks * 3 // 2)),
        "price_percent_chg_24_h": decimal_text(change, 12),
        "best_bid": product.price_text(bids.best_ticks),
        "best_bid_quantity": product.size_text(bids.lots_at[bids.best_ticks]),
        "best_ask": product.price_text(asks.best_ticks),
        "best_ask_quantity": product.size_text(asks.lots_at[asks.best_ticks]),
    }
    return msgspec.json.encode(fields).decode()


def ticker_event(kind: str, tickers: Iterable[str]) -> str:
    """Wrap tickers; ``kind`` is ``snapshot`` or ``update``."""
    return f'{{"type":"{kind}","tickers":[{",".join(tickers)}]}}'
