"""The chart: each figure that has a target, as a share of it, so that ratios, µs and ms stand on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Figure, Result, number

MET, MISSED, LIMIT = "#2a7f62", "#b5562b", "#222222"


def share_of_target(figure: Figure) -> float:
    """Return how often the target is reached: above 1 it is met, whichever way it points."""
    if figure.value is None or figure.target is None:
        raise AssertionError("only a figure with a value and a target has a share of it")
    value, limit = figure.value.median, figure.target.limit
    return value / limit if figure.target.at_least else limit / value


def draw(results: Sequence[Result], path: Path) -> None:
    """Write the chart as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [
        figure
        for result in results
        for figure in result.figures
        if figure.value is not None and figure.target is not None
    ]
    shares = [share_of_target(figure) for figure in shown]
    chart, axes = plt.subplots(figsize=(10, 1.2 + 0.62 * len(shown)), dpi=110, layout="constrained")
    places = range(len(shown))
    axes.barh(places, shares, color=[MET if share >= 1 else MISSED for share in shares], height=0.62)
    axes.axvline(1, color=LIMIT, linewidth=1.2, linestyle="--")
    axes.set_yticks(places, [_wrapped(figure.what.replace("`", "")) for figure in shown], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, max([1.0, *shares]) * 1.45)
    for place, (figure, share) in enumerate(zip(shown, shares, strict=True)):
        if figure.value is not None:
            unit = figure.unit.replace("`", "")
            text = f"{number(figure.value.median)} {unit}  (target {figure.target})"
            axes.annotate(
                text,
                (share, place),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
                bbox={"color": "white", "pad": 0.5},
            )
    axes.set_xlabel("of the target (right of the dashed line: met)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    chart.savefig(path, metadata={"Software": None})
    plt.close(chart)


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 44))
