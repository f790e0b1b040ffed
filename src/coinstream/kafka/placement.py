"""Where reading a partition begins, decided from what the store says and what the log still has."""

from __future__ import annotations

from typing import NamedTuple

from coinstream.messages import LogPosition


class Beginning(NamedTuple):
    """Where to begin.

    Attributes:
        stored: Where the store stands, as it said: the next batch's ``start``.
        offset: The offset to read first.
        gap: What is wrong with the stored position, in words; empty when nothing is.
    """

    stored: LogPosition
    offset: int
    gap: str


def beginning(stored: LogPosition | None, first: LogPosition, end_offset: int) -> Beginning:
    """Decide where reading a partition begins.

    A position in an earlier topic of the same name says nothing of this one: it begins at its first
    record. A position before the log's start means that records were deleted unread: reading goes on
    with the first that is left. A position beyond the log's end of the same topic means that the log
    was truncated (an unclean election, a restored disk, or a re-created topic whose broker tells no
    ids). What was written since may stand anywhere in it, so reading begins at its first record: that
    loses nothing, and what the store has already it recognises by its keys.

    Args:
        stored: Where the store stands; ``None`` when it never stood anywhere.
        first: The log's first position, with the topic's present id.
        end_offset: The log's end.
    """
    if stored is None:
        return Beginning(first, first.next_offset, "")
    if stored.topic_id != first.topic_id:
        return Beginning(stored, first.next_offset, "")
    if stored.next_offset < first.next_offset:
        lost = first.next_offset - stored.next_offset
        return Beginning(stored, first.next_offset, f"{lost} offsets before {first.next_offset} are gone unread")
    if stored.next_offset > end_offset:
        return Beginning(
            stored, first.next_offset, f"the log ends at {end_offset}, before {stored.next_offset}: it was truncated"
        )
    return Beginning(stored, stored.next_offset, "")
