"""Which fetch is due when."""

from __future__ import annotations

from coinstream.adapters import Fetch
from coinstream.ingest.fetches import ATTEMPTS, BURST_S, LAST_PAUSE_S, MOST_WAITING, REST_S, FetchQueue, moved

NOW_S = 1_767_322_980.0


def book(number: int = 1, *, cost_s: float = 1.0) -> Fetch:
    return Fetch(f"https://x/depth?symbol=S{number}", "books", f"S{number}", cost_s)


def test_one_is_in_flight_at_a_time_in_the_order_asked() -> None:
    queue = FetchQueue()
    queue.ask([book(1), book(2)], NOW_S)
    assert queue.next(NOW_S) == book(1)
    assert queue.next(NOW_S) is None
    queue.done()
    assert queue.next(NOW_S) == book(2)
    queue.done()
    assert queue.next(NOW_S) is None


def test_books_and_trades_take_turns() -> None:
    queue = FetchQueue()
    trades = [Fetch(f"https://x/aggTrades?fromId={number}", "trades", "S", 0.1) for number in range(3)]
    queue.ask([*trades, book(1), book(2)], NOW_S)
    begun = []
    while (wanted := queue.next(NOW_S)) is not None:
        begun.append(wanted)
        queue.done()
    assert begun == [book(1), trades[0], book(2), trades[1], trades[2]]


def test_what_waits_or_is_in_flight_is_not_asked_twice() -> None:
    queue = FetchQueue()
    queue.ask([book(1), book(1)], NOW_S)
    assert queue.next(NOW_S) == book(1)
    queue.ask([book(1)], NOW_S)
    queue.done()
    assert queue.next(NOW_S) is None
    queue.ask([book(1)], NOW_S)
    assert queue.next(NOW_S) == book(1)


def test_many_books_go_at_the_venues_pace_after_a_burst() -> None:
    queue = FetchQueue()
    queue.ask((book(number) for number in range(30)), NOW_S)
    begun = []
    for tenth in range(200):
        if queue.next(NOW_S + tenth / 10) is not None:
            begun.append(tenth / 10)
            queue.done()
    burst = int(BURST_S) + 1
    assert [second for second in begun if second < 1.0] == [tenth / 10 for tenth in range(10)]
    assert len(begun) == 30
    assert begun[-1] == 30 - burst


def test_pause_after_failures_grows_to_a_bound_and_ends_with_a_success() -> None:
    queue = FetchQueue()
    now_s, pauses = NOW_S, []
    for number in range(10):
        queue.ask([book(number)], NOW_S)
        assert queue.next(now_s) is not None
        queue.failed(now_s, status=None, not_before_s=0.0)
        pauses.append(queue.paused_until_s - now_s)
        assert queue.next(queue.paused_until_s - 0.01) is None
        now_s = queue.paused_until_s
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert max(pauses) == LAST_PAUSE_S
    assert queue.next(now_s) is not None
    queue.done()
    queue.ask([book(99)], NOW_S)
    while (wanted := queue.next(now_s)) is not None and wanted != book(99):
        queue.done()
    queue.failed(now_s, status=500, not_before_s=0.0)
    assert queue.paused_until_s - now_s == 1


def test_fetch_is_given_up_after_so_many_attempts() -> None:
    queue = FetchQueue()
    queue.ask([book(1)], NOW_S)
    tried = []
    now_s = NOW_S
    while queue.next(now_s) is not None:
        tried.append(queue.failed(now_s, status=503, not_before_s=0.0))
        now_s = queue.paused_until_s
    assert tried == [True] * (ATTEMPTS - 1) + [False]
    assert len(queue) == 0


def test_venues_own_wait_is_kept_though_it_is_longer_than_ours() -> None:
    queue = FetchQueue()
    queue.ask([book(1)], NOW_S)
    queue.next(NOW_S)
    assert queue.failed(NOW_S, status=418, not_before_s=7200.0)
    assert queue.next(NOW_S + 7199) is None
    assert queue.next(NOW_S + 7200) == book(1)


def test_what_is_refused_for_itself_is_dropped_without_a_pause() -> None:
    queue = FetchQueue()
    queue.ask([book(1), book(2)], NOW_S)
    queue.next(NOW_S)
    assert not queue.failed(NOW_S, status=400, not_before_s=0.0)
    assert queue.next(NOW_S) == book(2)
    queue.done()
    queue.ask([book(1)], NOW_S + REST_S - 1)  # a stream asks for its book again and again
    assert queue.next(NOW_S + REST_S - 1) is None
    queue.ask([book(1)], NOW_S + REST_S)
    assert queue.next(NOW_S + REST_S) == book(1)


def test_waiting_fetches_are_bounded() -> None:
    queue = FetchQueue()
    assert queue.ask((book(number) for number in range(MOST_WAITING + 5)), NOW_S) == 5
    assert len(queue) == MOST_WAITING


def test_address_is_moved_below_another() -> None:
    url = "https://api.example.org/api/v3/depth?symbol=X"
    assert moved(url, None) == url
    assert moved(url, "http://127.0.0.1:8080/") == "http://127.0.0.1:8080/api/v3/depth?symbol=X"
    assert moved(url, "http://h/binance") == "http://h/binance/api/v3/depth?symbol=X"
