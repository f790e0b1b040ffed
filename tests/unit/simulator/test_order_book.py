import pytest

from coinstream.simulator.order_book import Fill, OrderBook


def book_of(bids: dict[int, int], asks: dict[int, int]) -> OrderBook:
    book = OrderBook()
    for ticks, lots in bids.items():
        book.bids.change(ticks, lots)
    for ticks, lots in asks.items():
        book.asks.change(ticks, lots)
    return book


def test_sides_list_their_levels_best_first() -> None:
    book = book_of({98: 1, 99: 2, 97: 3}, {103: 4, 101: 5})
    assert list(book.bids.levels()) == [(99, 2), (98, 1), (97, 3)]
    assert list(book.asks.levels()) == [(101, 5), (103, 4)]
    assert (book.bids.best_ticks, book.bids.worst_ticks, book.bids.nth_ticks(1)) == (99, 97, 98)


def test_market_buy_walks_the_asks_and_stops_inside_a_level() -> None:
    book = book_of({99: 9}, {101: 5, 102: 3, 103: 4})
    assert book.execute(is_buy=True, lots=10) == [Fill(101, 5, 0), Fill(102, 3, 0), Fill(103, 2, 2)]
    assert list(book.asks.levels()) == [(103, 2)]
    assert list(book.bids.levels()) == [(99, 9)]


def test_market_sell_walks_the_bids_downwards() -> None:
    book = book_of({99: 2, 97: 4}, {101: 5})
    assert book.execute(is_buy=False, lots=3) == [Fill(99, 2, 0), Fill(97, 1, 3)]


def test_market_order_larger_than_the_side_takes_all_of_it() -> None:
    book = book_of({99: 2}, {101: 5})
    assert book.execute(is_buy=True, lots=50) == [Fill(101, 5, 0)]
    assert len(book.asks) == 0


def test_removing_more_than_a_level_holds_is_refused_and_changes_nothing() -> None:
    book = book_of({99: 2}, {})
    with pytest.raises(ValueError, match="level 99 holds 2 lots, cannot remove 3"):
        book.bids.change(99, -3)
    assert list(book.bids.levels()) == [(99, 2)]
