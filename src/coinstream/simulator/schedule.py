"""When the market's events happen: an absolute schedule. Pure: the server says how much time has passed."""

import structlog

from coinstream.simulator.market import Market, MarketEvent

__all__ = ["Schedule"]

_log = structlog.get_logger(__name__)

_MOST_BEHIND_S = 1  # further behind than this (an overload, a laptop that slept), events are skipped, not made up for
_BURST_S = 0.25  # at most this much of the schedule is worked off at once, so that connections are served in between


class Schedule:
    """Moves a market by an absolute schedule.

    The n-th event happens n / rate seconds after the start, whenever it is worked off: timing errors do not add up, and
    the market of a run depends on seed, start time and rate alone (unless events had to be skipped).

    Args:
        market: What to move.
        start_time_us: The time that elapsed time counts from.
        rate: Market events a second, all instruments together. An event is one order that arrives or leaves: it
            changes one level or more, and half of them are market orders, so that an event makes 0.8 trades on average.

    Attributes:
        elapsed_ns: Nanoseconds from the start to the last call of `advance`.
    """

    def __init__(self, market: Market, *, start_time_us: int, rate: float) -> None:
        self.market = market
        self.elapsed_ns = 0
        self.events_published = 0
        self.events_skipped = 0
        self.start_time_us = start_time_us
        self._rate = rate

    @property
    def time_ns(self) -> int:
        """The time of the last call to `advance`, in nanoseconds since 1970, UTC."""
        return self.start_time_us * 1000 + self.elapsed_ns

    @property
    def time_us(self) -> int:
        """The same in microseconds."""
        return self.time_ns // 1000

    def advance(self, elapsed_ns: int) -> list[MarketEvent]:
        """Let all events happen that are due by now, and return them in order.

        Args:
            elapsed_ns: Nanoseconds since the start, by a clock that never goes back.
        """
        self.elapsed_ns = elapsed_ns
        due = int(elapsed_ns * self._rate / 1_000_000_000)
        done = self.events_published + self.events_skipped
        if due - done > max(self._rate * _MOST_BEHIND_S, 1):
            skipped = due - done - 1
            self.events_skipped += skipped
            done += skipped
            _log.warning("simulator.behind", events_skipped=skipped, rate=self._rate)
        due = min(due, done + max(int(self._rate * _BURST_S), 1))
        self.events_published += due - done
        return [
            self.market.step(self.start_time_us + int(number * 1_000_000 / self._rate))
            for number in range(done + 1, due + 1)
        ]
