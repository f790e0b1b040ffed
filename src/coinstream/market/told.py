"""Coverage that has been told, and is told again when it proves to have said too much.

A minute is called complete as soon as it has ended, but what was missed of its last moments shows only
later: by the sequence of the next frame, or by a connection that had fallen silent and is given up. The
last word on a minute counts, so a better one follows.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from typing import Literal

import msgspec

from coinstream.market.coverage import Channel
from coinstream.messages import MINUTE_US, Coverage

LATE_US = 2_000_000
"""How much earlier than the last frame the first thing missed may have happened: venues gather trades for
a quarter of a second, the way takes its time, and two clocks are not one."""
REMEMBERED_MINUTES = 5
"""A doubt that reaches back further than so many minutes leaves the earlier ones as they were told. A
silent connection is given up within one."""

Doubt = Literal["gap", "disconnected"]
Pair = tuple[Channel, str]


class ToldCoverage:
    """The last words of each channel and symbol, and the doubts that have come up about them."""

    def __init__(self) -> None:
        self._told: defaultdict[tuple[str, str], deque[Coverage]] = defaultdict(
            lambda: deque(maxlen=REMEMBERED_MINUTES)
        )
        self._doubts: dict[tuple[str, str], tuple[int, Doubt]] = {}

    def doubt(self, pairs: Iterable[Pair], heard_us: int, why: Doubt) -> None:
        """Note that something may be missing of these from `LATE_US` before a moment on.

        Args:
            pairs: Channels and symbols.
            heard_us: When the last thing came before what was missed.
            why: What the minutes concerned are to be called, where they were called complete.
        """
        since_us = heard_us - LATE_US
        for pair in pairs:
            earlier = self._doubts.get(pair)
            self._doubts[pair] = (since_us, why) if earlier is None else (min(since_us, earlier[0]), earlier[1])

    def tell(self, words: Iterable[Coverage]) -> list[Coverage]:
        """Return what is to be published: new words as they now stand, after better ones on earlier minutes.

        Args:
            words: Coverage of minutes that have ended, in order of time for each channel and symbol.
        """
        spoken: list[Coverage] = []
        for pair, (since_us, why) in self._doubts.items():
            earlier = self._told[pair]
            for place, word in enumerate(earlier):
                if _is_too_much(word, since_us):
                    earlier[place] = msgspec.structs.replace(word, status=why)
                    spoken.append(earlier[place])
        for word in words:
            pair = word.channel, word.symbol
            doubt = self._doubts.get(pair)
            is_doubted = doubt is not None and _is_too_much(word, doubt[0])
            told = msgspec.structs.replace(word, status=doubt[1]) if doubt and is_doubted else word
            self._told[pair].append(told)
            spoken.append(told)
        self._doubts.clear()
        return spoken


def _is_too_much(word: Coverage, since_us: int) -> bool:
    return word.status == "complete" and word.minute + MINUTE_US > since_us
