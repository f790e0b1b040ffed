"""Messages to bytes and back, and what a reader refuses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from coinstream.errors import FieldError, RefusedError
from coinstream.messages import (
    EVENTS,
    MARKET_TOPICS,
    TRADING_TOPICS,
    AccountState,
    AssetSnapshot,
    BookSnapshot,
    Candle,
    Coverage,
    Deposit,
    Deposited,
    Instrument,
    Message,
    OpenAccount,
    OrderFilled,
    PlaceOrder,
    Quote,
    Trade,
    check,
    decode,
    decode_any,
    decode_batch,
    encode,
    key_of,
)
from coinstream.messages.topics import BY_NAME, TOPIC_OF, TOPICS
from tests.trading_messages import TRADING

T = 1_700_000_000_000_000
MINUTE = 1_699_999_980_000_000
TRADE = Trade(
    venue="coinbase",
    symbol="BTC-USD",
    trade_id="42",
    price="0.000000000000000001",
    size="999999999999.000000000000000001",
    aggressor_side="buy",
    event_time_us=T,
    received_time_us=T + 1,
    provenance="live",
)
BOOK = BookSnapshot(
    venue="coinbase",
    symbol="BTC-USD",
    bids=(("100.10", "1"), ("100.00", "2.5")),
    asks=(("100.20", "0.000000000000000001"),),
    received_time_us=T,
)
MESSAGES: list[Message] = [
    TRADE,
    BOOK,
    Quote(venue="coinbase", symbol="BTC-USD", bid="1", ask="0", bid_size="1", received_time_us=T),
    Instrument(
        venue="coinbase",
        symbol="BTC-USD",
        venue_symbol="BTC-USD",
        base="BTC",
        quote="USD",
        tick_size="0.01",
        lot_size="0.00000001",
        status="online",
        received_time_us=T,
    ),
    Candle(
        venue="coinbase",
        symbol="BTC-USD",
        minute=MINUTE,
        open="1",
        high="3",
        low="1",
        close="2",
        volume="1000000000000",
        provenance="backfill",
    ),
    AssetSnapshot(
        source="coingecko",
        asset_id="bitcoin",
        symbol="BTC",
        name="Bitcoin",
        price_usd="64000.5",
        change_percent_24h="-1.25",
        attributes={"ath": "73738", "beta": None},
        minute=MINUTE,
        received_time_us=T,
    ),
    Coverage(venue="coinbase", symbol="BTC-USD", channel="trades", minute=MINUTE, status="gap", messages=0),
]


def changed(message: Message, **fields: Any) -> bytes:
    """The message as JSON with some fields replaced; ``...`` leaves one out."""
    body = json.loads(encode(message)) | fields
    return json.dumps({name: value for name, value in body.items() if value is not ...}).encode()


@pytest.mark.parametrize("message", [*MESSAGES, *TRADING], ids=lambda message: type(message).__name__)
def test_every_message_passes_the_wire_unchanged(message: Message) -> None:
    check(message)
    assert decode(type(message), encode(message)) == message
    assert decode_batch((type(message),), [encode(message)] * 3) == ([message] * 3, [])
    assert decode_any(TOPIC_OF[type(message)].carries, encode(message)) == message


def test_wire_keeps_the_venues_digits() -> None:
    body = json.loads(encode(BOOK))
    assert body["bids"] == [["100.10", "1"], ["100.00", "2.5"]]
    assert "sequence" not in body


@pytest.mark.parametrize("message", [*MESSAGES, *TRADING], ids=lambda message: type(message).__name__)
def test_each_missing_field_is_named(message: Message) -> None:
    required = [field.name for field in msgspec.structs.fields(type(message)) if field.required]
    assert required
    for name in required:
        with pytest.raises(FieldError) as refused:
            decode(type(message), changed(message, **{name: ...}))
        assert refused.value.field == name
        assert refused.value.reason == "is missing"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("price", "NaN"),
        ("price", "0"),
        ("price", 1.5),
        ("size", "-1"),
        ("size", "1e-8"),
        ("size", "12345678901234567"),
        ("size", "0.1234567890123456789"),
        ("aggressor_side", "BUY"),
        ("event_time_us", 1_700_000_000_000),
        ("event_time_us", "1700000000000000"),
        ("received_time_us", True),
        ("provenance", "guessed"),
        ("venue", ""),
        ("trade_id", "x" * 65),
        ("trade_id", 42),
    ],
)
def test_malformed_or_out_of_range_field_of_a_trade_is_named(field: str, value: object) -> None:
    with pytest.raises(FieldError) as refused:
        decode(Trade, changed(TRADE, **{field: value}))
    assert refused.value.field == field


def test_level_that_is_no_number_is_named_with_its_place() -> None:
    with pytest.raises(FieldError) as refused:
        decode(BookSnapshot, changed(BOOK, bids=[["100.1", "1"], ["100", "0"]]))
    assert refused.value.field == "bids[1].size"


def test_book_of_more_than_fifty_levels_is_refused() -> None:
    with pytest.raises(FieldError) as refused:
        decode(BookSnapshot, changed(BOOK, asks=[["1", "1"]] * 51))
    assert refused.value.field == "asks"


def test_minute_inside_a_minute_is_refused() -> None:
    with pytest.raises(FieldError) as refused:
        decode(Candle, changed(MESSAGES[4], minute=MINUTE + 1))
    assert refused.value.field == "minute"


def test_unknown_fields_are_ignored() -> None:
    assert decode(Trade, changed(TRADE, liquidation=True, notes={"a": [1]})) == TRADE


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"venue":"\xff"}', b"{}{}"])
def test_what_is_no_json_object_is_refused(value: bytes) -> None:
    with pytest.raises(RefusedError):
        decode(Trade, value)


def test_bad_messages_of_a_batch_leave_their_neighbours() -> None:
    good = encode(TRADE)
    values = [good, None, good, changed(TRADE, price="NaN"), b"{", changed(TRADE, venue=...), good]
    messages, refusals = decode_batch((Trade,), values)
    assert messages == [TRADE, None, TRADE, None, None, None, TRADE]
    assert [refusal.place for refusal in refusals] == [1, 3, 4, 5]
    assert all(isinstance(refusal.error, RefusedError) for refusal in refusals)
    assert "price" in str(refusals[1].error)


@pytest.mark.parametrize("size", ["-1", "1\n2", "1\n", ""])
def test_number_refused_in_a_batch_that_decodes_is_found(size: str) -> None:
    messages, refusals = decode_batch((Trade,), [encode(TRADE), changed(TRADE, size=size)])
    assert messages == [TRADE, None]
    assert [refusal.place for refusal in refusals] == [1]


def test_keys_are_of_one_venue_and_symbol_or_source_and_asset() -> None:
    assert [key_of(message) for message in MESSAGES] == ["coinbase:BTC-USD"] * 5 + [
        "coingecko:bitcoin",
        "coinbase:BTC-USD",
    ]


def test_every_message_has_a_topic_and_every_topic_its_dead_letters() -> None:
    assert {type(message) for message in [*MESSAGES, *TRADING]} == set(TOPIC_OF)
    for topic in (*MARKET_TOPICS, *TRADING_TOPICS):
        assert BY_NAME[topic.dead_letters].partitions == 3
    assert "market.frames.dead-letters" in BY_NAME
    assert len(BY_NAME) == len(TOPICS)
    assert [topic.name for topic in TOPICS if topic.is_compacted] == ["market.instruments", "trading.accounts"]
    assert len({topic.partitions for topic in TRADING_TOPICS}) == 1


def test_messages_of_a_trading_topic_decode_in_one_batch_to_their_types() -> None:
    events = [message for message in TRADING if TOPIC_OF[type(message)] is EVENTS]
    messages, refusals = decode_batch(EVENTS.carries, [encode(event) for event in events] + [b'{"type":"deposit"}'])
    assert messages == [*events, None]
    assert [str(refusal.error) for refusal in refusals] == ["type: invalid value 'deposit'"]


def test_type_of_a_trading_message_is_its_name() -> None:
    assert [json.loads(encode(message))["type"] + "/1" for message in TRADING[:-1]] == [
        it.SCHEMA for it in TRADING[:-1]
    ]
    assert {key_of(message) for message in TRADING} == {"ann-1"}


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (OpenAccount, "account_id", "ann:1"),
        (OpenAccount, "account_id", ""),
        (PlaceOrder, "command_id", "a b"),
        (PlaceOrder, "side", "BUY"),
        (PlaceOrder, "quantity", "1" * 81),
        (PlaceOrder, "quantity", 1.5),
        (Deposit, "sent_time_us", 1_700_000_000_000),
        (Deposited, "amount", "0"),
        (Deposited, "hash", "g" * 64),
        (OrderFilled, "price", "NaN"),
        (OrderFilled, "fee", "-1"),
        (OrderFilled, "order_status", "done"),
    ],
)
def test_malformed_field_of_a_trading_message_is_named(kind: type[Message], field: str, value: object) -> None:
    message = next(message for message in TRADING if isinstance(message, kind))
    with pytest.raises(FieldError) as refused:
        decode(kind, changed(message, **{field: value}))
    assert refused.value.field == field


def test_number_deep_in_a_trading_message_is_named_with_its_place() -> None:
    by_kind = {type(message): encode(message) for message in TRADING}
    for kind, place, spoil in (
        (Deposited, "entries[1].amount", lambda body: body["entries"][1].update(amount="1e3")),
        (OrderFilled, "evidence.levels[0].taken", lambda body: body["evidence"]["levels"][0].update(taken="0")),
        (AccountState, "balances.USD.held", lambda body: body["balances"]["USD"].update(held="-1")),
        (AccountState, "open_orders[0].remaining", lambda body: body["open_orders"][0].update(remaining="")),
        (AccountState, "taken[0].asks[100.10]", lambda body: body["taken"][0]["asks"].update({"100.10": "0"})),
    ):
        body = json.loads(by_kind[kind])
        spoil(body)
        with pytest.raises(FieldError) as refused:
            decode(kind, json.dumps(body).encode())
        assert refused.value.field == place


@pytest.mark.parametrize("amount", ["1e-19", "-0", "NaN", "1" * 40, "", "1,5", "0x10"])
def test_strange_number_of_a_command_decodes_for_the_engine_to_answer(amount: str) -> None:
    deposit = next(message for message in TRADING if isinstance(message, Deposit))
    assert decode(Deposit, changed(deposit, amount=amount)).amount == amount
