"""Rounds of interleaved measurements, and what they come to. Pure, but for the measuring that is passed in.

A round measures every part once, one after the other (A B C, A B C, …), so that a ratio compares
neighbours in time. A round during which somebody else used the machine is dropped and repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

MOST_FOREIGN_CORES = 0.15
"""More than so much of a core used by processes that are not ours drops a round. On an idle machine, the
kernel's own threads and the system's services come to 0.02 to 0.08 while our servers write."""
TRIES_PER_ROUND = 2
"""So many rounds are tried for each that is wanted; beyond that the least disturbed are kept, and named so."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing measured once.

    Attributes:
        units: Rows, messages or frames that were worked off.
        seconds: Wall time.
        cpu_s: CPU seconds by process: ``ours``, ``broker``, ``server``.
        foreign_cores: What others used of the machine meanwhile, in cores.
        values: Further figures by name, each a number with its unit in the name.
    """

    units: int
    seconds: float
    cpu_s: Mapping[str, float]
    foreign_cores: float = 0.0
    values: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Units a second."""
        return self.units / self.seconds

    def cpu_us(self, process: str) -> float:
        """CPU of a process in microseconds a unit."""
        return self.cpu_s[process] * 1e6 / self.units


@dataclass(frozen=True, slots=True)
class Round:
    """Every part, measured once in turn."""

    parts: Mapping[str, Part]

    @property
    def foreign_cores(self) -> float:
        """What others used during the part that they disturbed most, in cores."""
        return max(part.foreign_cores for part in self.parts.values())


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, and the least and greatest of them."""

    median: float
    least: float
    greatest: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return Spread(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Measured:
    """Rounds that count, and how many did not.

    Attributes:
        rounds: Those kept, in the order measured.
        dropped: How many were dropped for foreign load.
        disturbed: How many of those kept had foreign load all the same, because quiet ones ran out.
    """

    rounds: Sequence[Round]
    dropped: int = 0
    disturbed: int = 0

    def rate(self, part: str) -> Spread:
        """Return a part's units a second."""
        return Spread.of([one.parts[part].rate for one in self.rounds])

    def ratio(self, part: str, against: str) -> Spread:
        """Return a part's rate over another's, each round for itself."""
        return Spread.of([one.parts[part].rate / one.parts[against].rate for one in self.rounds])

    def cpu_us(self, part: str, process: str) -> Spread:
        """Return the CPU of a process in microseconds a unit of a part."""
        return Spread.of([one.parts[part].cpu_us(process) for one in self.rounds])

    def value(self, part: str, name: str) -> Spread:
        """Return one of a part's further figures."""
        return Spread.of([one.parts[part].values[name] for one in self.rounds])

    def processes(self, part: str) -> list[str]:
        """Return the processes whose CPU was measured."""
        return list(self.rounds[0].parts[part].cpu_s)


def choose(tried: Sequence[Round], wanted: int, most_foreign_cores: float = MOST_FOREIGN_CORES) -> Measured:
    """Return the rounds that count: the quiet ones, filled up with the least disturbed where those ran out.

    Args:
        tried: Every round measured, in order.
        wanted: How many are to count; fewer where fewer were tried.
        most_foreign_cores: More than this drops a round.
    """
    quiet = [one for one in tried if one.foreign_cores <= most_foreign_cores][:wanted]
    loud = sorted((one for one in tried if one.foreign_cores > most_foreign_cores), key=lambda one: one.foreign_cores)
    filled = loud[: wanted - len(quiet)]
    kept = [one for one in tried if any(one is other for other in (*quiet, *filled))]
    return Measured(kept, dropped=len(tried) - len(kept), disturbed=len(filled))


def _settled(take: Callable[[], Part], settle: Callable[[], None]) -> Part:
    settle()
    return take()


def measure(
    parts: Mapping[str, Callable[[], Part]],
    *,
    repetitions: int,
    tell: Callable[[str], None],
    settle: Callable[[], None] = lambda: None,
    most_foreign_cores: float = MOST_FOREIGN_CORES,
) -> Measured:
    """Measure the parts in turn until enough rounds were quiet, or `TRIES_PER_ROUND` times as many were tried.

    Args:
        parts: What to measure, by name, in the order of a round.
        repetitions: How many rounds are to count.
        tell: Takes a line of progress a round.
        settle: Called before each part; it may wait until the machine is quiet.
        most_foreign_cores: More than this drops a round.
    """
    tried: list[Round] = []
    quiet = 0
    while quiet < repetitions and len(tried) < TRIES_PER_ROUND * repetitions:
        one = Round({name: _settled(take, settle) for name, take in parts.items()})
        tried.append(one)
        is_quiet = one.foreign_cores <= most_foreign_cores
        quiet += is_quiet
        rates = ", ".join(f"{name} {part.rate:,.0f}/s" for name, part in one.parts.items())
        verdict = "" if is_quiet else "; dropped"
        tell(f"  round {len(tried)}: {rates}; foreign load {one.foreign_cores:.2f} cores{verdict}")
    return choose(tried, repetitions, most_foreign_cores)
