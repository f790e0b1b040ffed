"""What stands in MongoDB: collections, the form of each field, validators and indexes.

The messages' own types are the table: each field's form in BSON, and the rule that the server holds
it to, are read off them, so that a field that a message gains is stored and checked without a word here.

| collection | ``_id`` | holds |
| --- | --- | --- |
| ``trades`` | ``venue:symbol:trade_id`` | the trades of the last day, the first of each id in the log |
| ``instruments`` | ``venue:symbol`` | parts ``facts``, ``last_trade``, ``best``, ``book``: the newest of each |
| ``assets`` | ``source:asset_id`` | each asset's newest snapshot |
| ``asset_history`` | ``source:asset_id:minute`` | the last day's snapshots, the latest received of each minute |

Beside a message's own fields a document or part has

- ``log``: the position of the record it is from (``topic_id``, ``partition``, ``offset``);
- ``version`` (not in ``trades``): a list that decides, compared by the server, which of two is newer;
- ``first`` (``asset_history``): the position of the record that made the document;
- ``expires`` (``trades``, ``asset_history``): a date; the server removes the document after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from msgspec import inspect

from coinstream.messages import AssetSnapshot, BookSnapshot, Instrument, Message, Quote, Trade
from coinstream.messages.numbers import POSITIVE_PATTERN, SIGNED_PATTERN, UNSIGNED_PATTERN

TRADES = "trades"
INSTRUMENTS = "instruments"
ASSETS = "assets"
ASSET_HISTORY = "asset_history"
COLLECTIONS = (TRADES, INSTRUMENTS, ASSETS, ASSET_HISTORY)
EXPIRING = (TRADES, ASSET_HISTORY)
KEPT_MS = 86_400_000
"""How long an expiring document is kept after its record was produced: a day."""

Form = Literal["text", "decimal", "integer", "object", "levels"]
Rule = dict[str, Any]

_SEPARATED = frozenset({"venue", "symbol", "source"})
"""Fields before a ``:`` of an ``_id``: one of their own would let two documents share an ``_id``."""

_NUMBERS: dict[str, Rule] = {
    POSITIVE_PATTERN: {"minimum": 0, "exclusiveMinimum": True},
    UNSIGNED_PATTERN: {"minimum": 0},
    SIGNED_PATTERN: {},
}
"""What tells a number of the market from other text, and its range as `$jsonSchema` words it (draft 4)."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message as BSON.

    Attributes:
        form: Text, decimal (Decimal128), integer (32 or 64 bits), object, or levels: a list of
            ``[price, size]``, both Decimal128.
        rule: What the validator demands of it, in MongoDB's ``$jsonSchema``.
        is_required: Whether every document has it.
    """

    name: str
    form: Form
    rule: Rule
    is_required: bool


def _field(field: inspect.Field) -> Field:
    form, rule = _form(field.name, field.type)
    is_required = field.required and not _is_optional(field.type)
    return Field(field.name, form, rule, is_required)


def _is_optional(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.UnionType) and kind.includes_none


def _form(name: str, kind: inspect.Type) -> tuple[Form, Rule]:  # noqa: PLR0911 - one return a form
    if isinstance(kind, inspect.Metadata):
        schema = kind.extra_json_schema or {}
        if schema.get("pattern") in _NUMBERS:
            return "decimal", {"bsonType": "decimal"} | _NUMBERS[schema["pattern"]]
        form, rule = _form(name, kind.type)
        return form, rule | schema
    if isinstance(kind, inspect.UnionType):
        (present,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
        return _form(name, present)
    if isinstance(kind, inspect.LiteralType):
        return "text", {"enum": list(kind.values)}
    if isinstance(kind, inspect.StrType):
        rule = {"bsonType": "string", "minLength": kind.min_length, "maxLength": kind.max_length}
        return "text", rule | ({"pattern": "^[^:]+$"} if name in _SEPARATED else {})
    if isinstance(kind, inspect.IntType):
        rule = {"bsonType": ["int", "long"], "minimum": kind.ge}
        if kind.lt is not None:
            rule["maximum"] = kind.lt - 1
        return "integer", rule
    if isinstance(kind, inspect.DictType):
        return "object", {"bsonType": "object"}
    if isinstance(kind, inspect.VarTupleType):
        level = {"bsonType": "array", "minItems": 2, "maxItems": 2, "items": _level_number(kind.item_type)}
        return "levels", {"bsonType": "array", "maxItems": kind.max_length, "items": level}
    raise AssertionError(f"no form in BSON is known for {name}: {kind!r}")


def _level_number(level: inspect.Type) -> Rule:
    if not isinstance(level, inspect.TupleType):
        raise AssertionError(f"a level must be (price, size), not {level!r}")
    return _form("level", level.item_types[0])[1]


def _fields(kind: type[Message]) -> tuple[Field, ...]:
    struct = inspect.type_info(kind)
    if not isinstance(struct, inspect.StructType):
        raise AssertionError(f"{kind.__name__} is no message")
    return tuple(map(_field, struct.fields))


FIELDS: dict[type[Any], tuple[Field, ...]] = {
    kind: _fields(kind) for kind in (Trade, Instrument, Quote, BookSnapshot, AssetSnapshot)
}

PARTS: dict[type[Any], str] = {Instrument: "facts", Trade: "last_trade", Quote: "best", BookSnapshot: "book"}
"""Which part of its instrument's document a message is."""
KIND_OF_PART: dict[str, type[Any]] = {part: kind for kind, part in PARTS.items()}

_POSITION = {
    "bsonType": "object",
    "required": ["topic_id", "partition", "offset"],
    "additionalProperties": False,
    "properties": {
        "topic_id": {"bsonType": "string", "maxLength": 64},
        "partition": {"bsonType": ["int", "long"], "minimum": 0},
        "offset": {"bsonType": ["int", "long"], "minimum": 0},
    },
}
_VERSION = {"bsonType": "array", "minItems": 2, "maxItems": 4}
_ID = {"bsonType": "string", "minLength": 3}


def _object(fields: tuple[Field, ...], more: dict[str, Rule], *, is_part: bool = False) -> Rule:
    """Return the rule of a document, or of a part: its instrument names it, so venue and symbol are not in it."""
    kept = [field for field in fields if not (is_part and field.name in {"venue", "symbol"})]
    return {
        "bsonType": "object",
        "required": [*(field.name for field in kept if field.is_required), *more],
        "additionalProperties": False,
        "properties": {field.name: field.rule for field in kept} | more,
    }


def _instrument() -> Rule:
    named = {field.name: field.rule for field in FIELDS[Instrument] if field.name in {"venue", "symbol"}}
    part_of = {"log": _POSITION, "version": _VERSION}
    parts = {part: _object(FIELDS[kind], part_of, is_part=True) for kind, part in PARTS.items()}
    return {
        "bsonType": "object",
        "required": ["_id", *named],
        "additionalProperties": False,
        "properties": {"_id": _ID} | named | parts,
    }


_DATE = {"bsonType": "date"}

VALIDATORS: dict[str, Rule] = {
    TRADES: _object(FIELDS[Trade], {"_id": _ID, "log": _POSITION, "expires": _DATE}),
    INSTRUMENTS: _instrument(),
    ASSETS: _object(FIELDS[AssetSnapshot], {"_id": _ID, "log": _POSITION, "version": _VERSION}),
    ASSET_HISTORY: _object(
        FIELDS[AssetSnapshot],
        {"_id": _ID, "log": _POSITION, "version": _VERSION, "first": _POSITION, "expires": _DATE},
    ),
}
"""``$jsonSchema`` of each collection."""


@dataclass(frozen=True, slots=True)
class Index:
    """One index: its keys with 1 for ascending, -1 for descending, and for a TTL the seconds after the date."""

    name: str
    keys: tuple[tuple[str, int], ...]
    expire_after_s: int | None = None


_EXPIRES = Index("expires", (("expires", 1),), expire_after_s=0)

INDEXES: dict[str, tuple[Index, ...]] = {
    TRADES: (_EXPIRES, Index("newest_of_instrument", (("venue", 1), ("symbol", 1), ("event_time_us", -1)))),
    INSTRUMENTS: (Index("venue", (("venue", 1), ("symbol", 1))),),
    ASSETS: (Index("canonical_id", (("canonical_id", 1),)),),
    ASSET_HISTORY: (_EXPIRES, Index("newest_of_asset", (("source", 1), ("asset_id", 1), ("minute", -1)))),
}
"""Beside ``_id``'s own: what expires, and the questions that are asked."""
