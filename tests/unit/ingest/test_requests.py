"""The pace of what a feed sends."""

from __future__ import annotations

from coinstream.adapters import dialects_of_venue
from coinstream.ingest.requests import MOST_WAITING, SPACING_S, Requests


def sent(requests: Requests, *, seconds: float, from_s: float = 100.0) -> list[tuple[float, str]]:
    found = []
    for hundredth in range(int(seconds * 100)):
        found += [(hundredth / 100, text) for text in requests.due(from_s + hundredth / 100)]
    return found


def test_subscriptions_go_out_in_order_at_no_more_than_eight_a_second() -> None:
    requests = Requests()
    requests.begin(["heartbeats", "trades", "quotes", "books"])
    assert sent(requests, seconds=2) == [(0, "heartbeats"), (0.13, "trades"), (0.26, "quotes"), (0.39, "books")]
    assert SPACING_S == 1 / 8


def test_repair_goes_out_whole_after_what_waits() -> None:
    requests = Requests()
    requests.begin(["books"])
    assert requests.repair(["leave", "join"])
    assert sent(requests, seconds=1) == [(0, "books"), (0.13, "leave"), (0.13, "join")]
    assert requests.repair(["leave", "join"])
    assert sent(requests, seconds=1, from_s=102) == [(0, "leave"), (0, "join")]


def test_repair_that_waits_already_is_not_doubled() -> None:
    requests = Requests()
    requests.begin(["books"])
    for _ in range(1000):
        assert requests.repair(["leave", "join"])
    assert [text for _, text in sent(requests, seconds=3)] == ["books", "leave", "join"]


def test_new_connection_forgets_what_was_for_the_old_one() -> None:
    requests = Requests()
    requests.repair(["leave", "join"])
    requests.begin(["books"])
    assert [text for _, text in sent(requests, seconds=3)] == ["books"]


def test_repairs_beyond_the_bound_find_no_room() -> None:
    requests = Requests()
    taken = [requests.repair([f"leave {n}", f"join {n}"]) for n in range(MOST_WAITING)]
    assert taken == [True] * (MOST_WAITING // 2) + [False] * (MOST_WAITING // 2)


def test_venue_that_takes_fewer_messages_gets_fewer() -> None:
    (dialect,) = dialects_of_venue("binance")
    requests = Requests(dialect.spacing_s)
    requests.begin([str(number) for number in range(6)])
    times = [second for second, _ in sent(requests, seconds=3)]
    assert times == [0, 0.25, 0.5, 0.75, 1.0, 1.25]
