"""The load generator: what it sends is answered, mistakes with reasons, and it says how soon."""

from __future__ import annotations

import pytest

from coinstream.simulator import run_users
from live_books import live_books
from tests.integration.engine.conftest import Exchange


@pytest.mark.slow
def test_people_are_answered_every_one(exchange: Exchange) -> None:
    end = exchange.start()
    with live_books(exchange.bootstrap, exchange.prefix):
        done = run_users(
            bootstrap=exchange.bootstrap,
            topic_prefix=exchange.prefix,
            accounts=30,
            orders_per_second=100,
            seed=1,
            duration_s=20,
            stop=lambda: False,
        )
    end()
    said = done.summary()
    print(said)
    assert said["unanswered"] == 0
    assert said["commands"]["open_account"] == 30
    assert 1900 < sum(said["commands"].values()) < 2200  # two bursts and what lies between
    assert set(said["commands"]) > {"deposit", "withdraw", "place_order", "cancel_order"}
    assert set(said["answers"]) > {
        "account_opened",
        "deposited",
        "order_accepted",
        "order_rejected",
        "command_rejected",
    }
    assert set(said["rejections"]) > {"insufficient_funds", "unknown_instrument", "command_expired", "not_the_owner"}
    assert said["fills"] > 100
    assert 0 < said["latency_ms"]["p50"] <= said["latency_ms"]["p99"] <= said["latency_ms"]["p100"]
    assert len(exchange.states()) == 30


def test_users_without_a_duration_end_when_they_are_told_to(exchange: Exchange) -> None:
    end = exchange.start()
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 100

    with live_books(exchange.bootstrap, exchange.prefix):
        done = run_users(
            bootstrap=exchange.bootstrap,
            topic_prefix=exchange.prefix,
            accounts=1,
            orders_per_second=50,
            seed=2,
            duration_s=None,
            stop=stop,
        )
    end()
    assert done.unanswered == 0
    assert done.commands["open_account"] == 1
