"""Waiting with the membership kept, after a failure that time can mend."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Protocol

from coinstream.errors import TransientError

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 5.0


class Member(Protocol):
    """What is needed of a member of a consumer group: `BatchConsumer`."""

    def pause(self) -> None: ...  # noqa: D102 - as there
    def keep_alive(self, timeout_s: float) -> None: ...  # noqa: D102
    def rewind(self) -> None: ...  # noqa: D102
    def resume(self) -> None: ...  # noqa: D102


def recover(
    member: Member,
    error: TransientError,
    *,
    touch: Callable[[], None],
    waiting: Callable[[TransientError, float], None],
    stop: Callable[[], bool],
    chance: random.Random,
) -> None:
    """Wait until what failed answers, then begin where the stored positions stand; or until told to stop.

    Args:
        member: It reads nothing meanwhile, and stays in its group.
        error: What failed.
        touch: Asks what failed for a sign of life; raises `TransientError` when there is none.
        waiting: Told before each wait: why, and for how many seconds.
        stop: Says whether to give up.
        chance: Source of the jitter.
    """
    for delay_s in _delays_s(chance):
        waiting(error, delay_s)
        member.pause()
        member.keep_alive(delay_s)
        if stop():
            return
        try:
            touch()
            member.rewind()
        except TransientError as again:
            error = again
        else:
            member.resume()
            return


def _delays_s(chance: random.Random) -> Iterator[float]:
    ceiling_s = FIRST_RETRY_S
    while True:
        yield ceiling_s * (0.5 + chance.random() / 2)
        ceiling_s = min(2 * ceiling_s, LAST_RETRY_S)
