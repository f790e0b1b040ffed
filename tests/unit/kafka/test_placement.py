import pytest

from coinstream.kafka.placement import beginning
from coinstream.messages import LogPosition


def at(offset, topic_id="now"):
    return LogPosition("market.trades", topic_id, 3, offset)


def test_partition_never_stored_begins_at_the_logs_first_record():
    assert beginning(None, at(7), 20) == (at(7), 7, "")


@pytest.mark.parametrize("offset", [7, 12, 20])
def test_position_inside_the_log_is_where_reading_begins(offset):
    assert beginning(at(offset), at(7), 20) == (at(offset), offset, "")


def test_position_in_an_earlier_topic_begins_at_the_first_record_without_a_gap():
    assert beginning(at(12, "before"), at(7), 20) == (at(12, "before"), 7, "")


def test_position_before_the_log_is_a_gap_of_so_many_offsets():
    begin = beginning(at(4), at(7), 20)
    assert (begin.stored, begin.offset) == (at(4), 7)
    assert begin.gap == "3 offsets before 7 are gone unread"


def test_position_beyond_the_log_is_a_gap_and_everything_is_read():
    begin = beginning(at(21), at(7), 20)
    assert (begin.stored, begin.offset) == (at(21), 7)
    assert begin.gap == "the log ends at 20, before 21: it was truncated"
