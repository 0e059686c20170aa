"""Figures of a comparison: critical differences, and risk against coverage."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rcml_misa.exceptions import DataError
from rcml_misa.metrics.answers import COVERAGES
from rcml_misa.reporting.comparison import rankings
from rcml_misa.reporting.figures.style import need_matplotlib, new_figure
from rcml_misa.reporting.tables import by_dataset, by_variant
from rcml_misa.results import Ranking, RunRecord, alike_groups

__all__ = ["draw_all", "draw_critical_difference", "draw_risk_coverage"]

STEP = 0.32  # inches between two names
CURVES = 8  # methods in one figure of risk


def draw_critical_difference(ranking: Ranking, path: Path, *, title: str = "") -> Path:
    """Draw mean ranks on a line; bars join methods that Nemenyi's test does not tell apart.

    Parameters
    ----------
    ranking : Ranking
    path : Path
        Its ending says the format.
    title : str

    References
    ----------
    Demsar, JMLR 7, 2006, figure 1.

    Raises
    ------
    OptionError
        If matplotlib is not installed.
    """
    count = len(ranking.methods)
    half = -(-count // 2)
    groups = alike_groups(ranking.mean_ranks, ranking.critical_difference)
    top = 1.2 + 0.25 * len(groups)  # where names begin, below the bars
    depth = top + half
    need_matplotlib()
    figure, (axes,) = new_figure(width=8.0, height=STEP * (depth + 2.5))
    axes.set_xlim(count + 0.5, 0.5)  # the best on the right, as Demsar draws it
    axes.set_ylim(depth + 0.5, -2.2)
    axes.axis("off")
    axes.plot([1, count], [0, 0], color="black", linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [-0.15, 0], color="black", linewidth=1)
        if count <= 15 or rank % 2:
            axes.text(rank, -0.3, str(rank), ha="center", va="bottom", fontsize=8)
    critical = min(ranking.critical_difference, count - 1)
    axes.plot([1, 1 + critical], [-1.4, -1.4], color="black", linewidth=2)
    axes.text(
        1 + critical / 2,
        -1.5,
        f"critical difference {ranking.critical_difference:.2f}",
        ha="center",
        va="bottom",
        fontsize=8,
    )
    for place, (first, last) in enumerate(groups):
        height = 0.5 + 0.25 * place
        ends = (ranking.mean_ranks[first] - 0.08, ranking.mean_ranks[last] + 0.08)
        axes.plot(ends, [height, height], color="black", linewidth=3, solid_capstyle="butt")
    named = zip(ranking.methods, ranking.mean_ranks, strict=True)
    for number, (name, mean) in enumerate(named):
        best = number < half
        y = top + (number if best else count - 1 - number)
        edge = 0.5 if best else count + 0.5
        axes.plot([mean, mean, edge], [0, y, y], color="grey", linewidth=0.8)
        axes.annotate(
            f"{name} {mean:.2f}",
            (edge, y),
            xytext=(4 if best else -4, 0),
            textcoords="offset points",
            ha="left" if best else "right",
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
    if title:
        axes.set_title(title, fontsize=9)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return path


def _has_curves(records: Sequence[RunRecord]) -> bool:
    """Whether every run has risk over coverage; scores have none, nor given splits in 0.1."""
    return all("clean" in record.curves for record in records)


def draw_risk_coverage(dataset: str, records: Sequence[RunRecord], path: Path) -> Path:
    """Draw the error among the least uncertain rows against their share, means over runs.

    Parameters
    ----------
    dataset : str
    records : sequence of RunRecord
        Records of this data set with risk curves; the first method and the seven of the least
        area are drawn.
    path : Path
        Its ending says the format.

    Raises
    ------
    OptionError
        If matplotlib is not installed.
    DataError
        If no method has the curve in all its records.
    """
    curves = {
        label: 100 * np.mean([record.curves["clean"] for record in group], axis=0)
        for label, group in by_variant(records).items()
        if _has_curves(group)
    }
    if not curves:
        raise DataError(
            f"the records of {dataset} have no curve of risk over coverage; classes have one in "
            "records of version 0.2 and later."
        )
    first, *others = curves
    need_matplotlib()
    figure, (axes,) = new_figure(width=5.5, height=4.0)
    for label in [first, *sorted(others, key=lambda name: float(curves[name].mean()))][:CURVES]:
        axes.plot(COVERAGES, curves[label], label=label, linewidth=1.2)
    axes.set(
        xlabel="share of rows answered, the least uncertain first", ylabel="error among them, %"
    )
    axes.set_title(f"{dataset}, clean rows", fontsize=9)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)
    return path


def draw_all(records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Draw every figure that the records have something for; none without matplotlib."""
    if find_spec("matplotlib") is None:
        return []
    drawn = [
        draw_critical_difference(
            ranking, folder / f"ranks-{test_set}.png", title=f"mean ranks, {test_set} rows"
        )
        for test_set, ranking in rankings(records).items()
    ]
    return drawn + [
        draw_risk_coverage(dataset, some, folder / f"risk-{dataset}.png")
        for dataset, some in by_dataset(records).items()
        if any(_has_curves(group) for group in by_variant(some).values())
    ]
