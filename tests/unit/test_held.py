"""Dead letters held to what no decoder accepts."""

from __future__ import annotations

from typing import Any

from coinstream.kafka import DeadLetter
from coinstream.messages import BY_NAME, Partition
from coinstream.operations.held import Findings, NothingBefore, Unreadable, held_to_letters

POISON = Unreadable(BY_NAME["market.trades"], Partition("p.market.trades", 3), 7, b"\xff")


def letter(store: str, **fields: Any) -> DeadLetter:
    told: dict[str, Any] = {
        "topic": "p.market.trades",
        "partition": 3,
        "offset": 7,
        "key": None,
        "value": b"\xff",
        "reason": "no JSON",
        "error": "RefusedError",
        "stage": f"sink {store}",
        "time_us": 1,
    }
    return DeadLetter(**(told | fields))


def test_each_stores_letter_with_the_very_bytes_is_what_is_wanted() -> None:
    found = held_to_letters([POISON], [letter("postgresql"), letter("mongodb")])
    assert found.disagreements == []
    assert found.lettered == {"postgresql": 1, "mongodb": 1}


def test_letter_that_is_missing_or_has_other_bytes_is_a_disagreement() -> None:
    found = held_to_letters([POISON], [letter("postgresql", value=b"\xfe"), letter("mongodb", offset=8)])
    assert found.lettered == {}
    assert len(found.disagreements) == 2
    assert found.lost == {"mongodb": 1}


def test_store_that_does_not_read_a_topic_owes_no_letter() -> None:
    coverage = POISON._replace(topic=BY_NAME["market.coverage"])
    assert held_to_letters([coverage], [letter("postgresql")]).disagreements == []


def test_growth_beyond_the_new_keys_counts_as_doubled_and_less_does_not() -> None:
    findings = Findings()
    findings.grew("PostgreSQL", "trades", 12, 10)
    findings.grew("PostgreSQL", "quotes", 8, 10)
    assert (findings.doubled["trades"], findings.doubled["quotes"]) == (2, 0)
    assert len(findings.disagreements) == 2


def test_nothing_stood_in_an_empty_database() -> None:
    before = NothingBefore()
    assert set(before.counts().values()) == {0}
    assert before.existing("trades", [("v", "s", "1", None)]) == set()
    assert list(before.summed_minutes([("v", "s", 0)])) == []
