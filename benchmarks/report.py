"""What was measured, as a table, a page and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.rounds import MOST_FOREIGN_CORES, Measured, Spread


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is held to.

    Attributes:
        limit: The bound.
        at_least: Whether more is better; else less is.
    """

    limit: float
    at_least: bool

    def is_met(self, value: float) -> bool:
        """Return whether a figure keeps the bound."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        """Return ``≥ 0.5``."""
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        what: What was measured.
        value: In ``unit``.
        target: What it is held to, if anything.
        detail: What it was compared with, and the rates.
        missing: Why there is no value.
    """

    what: str
    unit: str
    value: Spread | None = None
    target: Target | None = None
    detail: str = ""
    missing: str = ""

    @property
    def verdict(self) -> str:
        """Return whether the target is met, in a word."""
        if self.value is None:
            return "not measured"
        if self.target is None:
            return ""
        return "met" if self.target.is_met(self.value.median) else "**missed**"


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU microseconds a unit of one thing measured, by process."""

    what: str
    unit: str
    cpu_us: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class Result:
    """What one benchmark came to.

    Attributes:
        name: As ``--only`` takes it.
        title: For a person.
        figures: Lines of the table of figures.
        costs: Lines of the table of CPU.
        notes: Sentences: how it was measured, what holds it back.
        measured: Its rounds, to say how many were dropped.
    """

    name: str
    title: str
    figures: Sequence[Figure]
    costs: Sequence[Cost] = ()
    notes: Sequence[str] = ()
    measured: Measured | None = field(default=None, compare=False)


def number(value: float) -> str:
    """Return a figure with three significant digits, thousands marked.

    >>> number(291234.4), number(0.5512), number(3.456), number(41.26)
    ('291,000', '0.55', '3.46', '41.3')
    """
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def spread(value: Spread) -> str:
    """Return ``0.55 (0.53 to 0.58)``."""
    return f"{number(value.median)} ({number(value.least)} to {number(value.greatest)})"


def paragraphs(text: str) -> list[str]:
    r"""Return the paragraphs of a text, each on one line.

    >>> paragraphs("One,\n  still one.\n\n  Two.")
    ['One, still one.', 'Two.']
    """
    return [" ".join(part.split()) for part in text.split("\n\n")]


def rounds(measured: Measured | None) -> str:
    """Return how many rounds a figure rests on, as a sentence."""
    if measured is None:
        return ""
    text = f"{len(measured.rounds)} rounds"
    if measured.dropped:
        text += f", {measured.dropped} more dropped for foreign load"
    if measured.disturbed:
        text += f", {measured.disturbed} of those kept disturbed by foreign load: quiet ones ran out"
    return text + "."


def figures_table(results: Sequence[Result]) -> str:
    """Return the table of figures in Markdown: median, and least to greatest of the rounds."""
    lines = ["| what | figure | target | | against |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        for figure in result.figures:
            value = f"{spread(figure.value)} {figure.unit}".rstrip() if figure.value else f"none: {figure.missing}"
            target = str(figure.target) if figure.target else ""
            lines.append(f"| {figure.what} | {value} | {target} | {figure.verdict} | {figure.detail} |")
    return "\n".join(lines)


def costs_table(results: Sequence[Result]) -> str:
    """Return the table of CPU in Markdown."""
    lines = ["| what | a | ours | broker | server |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        for cost in result.costs:
            cells = [number(cost.cpu_us[name].median) if name in cost.cpu_us else "" for name in _PROCESSES]
            lines.append(f"| {cost.what} | {cost.unit} | {' | '.join(cells)} |")
    return "\n".join(lines)


_PROCESSES = ("ours", "broker", "server")


def page(results: Sequence[Result], *, machine: str, servers: str, commit: str, command: str, day: str) -> str:
    """Return the whole of `docs/benchmarks.md`."""
    sections = "\n\n".join(_section(result) for result in results)
    return f"""# Benchmarks

Written by `{command}`; do not edit. Measured {day} on {machine}. Commit {commit}.
Servers, on the same cores as everything else: {servers}.

![Figures against their targets](benchmarks.png)

{figures_table(results)}

A figure is the median of its rounds, in brackets the least and the greatest of them. A round measures each part once
in turn (A B A B …), so that a ratio compares neighbours in time; a round in which processes that are not ours used
more than {MOST_FOREIGN_CORES:g} of a core was dropped and repeated. A ratio is the rate over that of the ceiling or
peer in the same round.

## CPU, microseconds

{costs_table(results)}

*Ours* is the one measured process with all its threads; the client library's compression and network threads are in
it. Broker and server are whole process trees, from a measured process's start to its end.

{sections}
"""


def _section(result: Result) -> str:
    notes = [*result.notes, *([rounds(result.measured)] if result.measured else [])]
    return "\n\n".join([f"## {result.title}", *notes])
