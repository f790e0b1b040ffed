"""The published JSON Schemas are the code's, and say what the code enforces."""

from __future__ import annotations

import json
import re
from pathlib import Path

from coinstream.messages.numbers import POSITIVE_PATTERN, SIGNED_PATTERN, UNSIGNED_PATTERN
from coinstream.messages.schemas import json_schemas

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "schemas"


def test_published_schemas_are_those_of_the_code() -> None:
    published = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert published == json_schemas(), "run `make schemas`"


def test_schema_of_a_trade_says_what_a_price_is() -> None:
    trade = json.loads(json_schemas()["trade-1.json"])["$defs"]["Trade"]
    assert trade["properties"]["price"]["pattern"] == POSITIVE_PATTERN
    assert trade["properties"]["event_time_us"]["minimum"] == 1_230_768_000_000_000
    assert set(trade["required"]) == set(trade["properties"])


def test_descriptions_have_no_indentation_of_the_code() -> None:
    described = [
        definition["description"]
        for text in json_schemas().values()
        for definition in json.loads(text)["$defs"].values()
    ]
    assert any("\n\nAttributes:\n    " in text for text in described)
    assert not [text for text in described if text.startswith(" ") or "\n    Attributes" in text]


def test_patterns_tell_signs_and_zero_apart() -> None:
    verdicts = {
        text: tuple(bool(re.search(p, text)) for p in (POSITIVE_PATTERN, UNSIGNED_PATTERN, SIGNED_PATTERN))
        for text in ("1.50", "0.00", "-1", "NaN", "1e5", "00", "0.10")
    }
    assert verdicts == {
        "1.50": (True, True, True),
        "0.00": (False, True, True),
        "-1": (False, False, True),
        "NaN": (False, False, False),
        "1e5": (False, False, False),
        "00": (False, False, False),
        "0.10": (True, True, True),
    }
