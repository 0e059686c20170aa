"""How far answers can be trusted: uncertainty of clean and conflictive rows, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rcml_misa.metrics import auroc, risk_coverage_curve
from rcml_misa.reporting.figures.style import BLUE, COLUMN, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ConflictDoubt", "RiskCurve", "calibration_figure", "uncertainty_figure"]

Array = NDArray[np.float64]
BINS = 25
FEW = 10  # rows below which a bin's share of right answers is drawn as a point only
GRID = np.linspace(0.02, 1, 99)
KINDS = {"clean": ("clean rows", BLUE, "-"), "conflict": ("conflictive rows", ORANGE, "--")}


class ConflictDoubt(NamedTuple):
    """Uncertainty (n,) of clean rows, and of the same rows with one view replaced."""

    clean: Array
    replaced: Array


class RiskCurve(NamedTuple):
    """Uncertainty (n,) and whether the answer was right (n,), of one run."""

    uncertainty: Array
    correct: NDArray[np.bool_]


def uncertainty_figure(runs: Sequence[ConflictDoubt]) -> Figure:
    """Draw how the uncertainty is distributed over clean rows and over rows with a replaced view.

    Rows of all runs together; the legend gives the mean area under the ROC curve over runs.
    """
    figure, (axes,) = new_figure(height=2.0)
    edges = np.linspace(0, 1, BINS + 1)
    area = float(np.mean([_area(run) for run in runs]))
    together = ConflictDoubt(
        np.concatenate([run.clean for run in runs]), np.concatenate([run.replaced for run in runs])
    )
    names = (
        ("clean", BLUE, "clean rows"),
        ("replaced", ORANGE, f"one view replaced (AUROC {area:.2f})"),
    )
    for part, colour, name in names:
        values = getattr(together, part)
        share = np.histogram(values, edges)[0] / len(values)
        axes.stairs(share, edges, color=colour, label=name, linewidth=1.2)
        axes.stairs(share, edges, color=colour, fill=True, alpha=0.18)
        axes.axvline(float(np.median(values)), color=colour, linewidth=0.8, linestyle=":")
    axes.set_xlabel("uncertainty (dotted: median)")
    axes.set_ylabel("share of rows")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def _area(run: ConflictDoubt) -> float:
    flags = np.repeat([True, False], [len(run.replaced), len(run.clean)])
    return auroc(np.concatenate([run.replaced, run.clean]), flags)


def calibration_figure(
    bins: Mapping[str, Mapping[str, Array]], curves: Mapping[str, Sequence[RiskCurve]]
) -> Figure:
    """Draw reliability of the stated probability, and risk against coverage.

    Parameters
    ----------
    bins : mapping of str to mapping
        ``"clean"`` and ``"conflict"`` to ``count``, ``confidence`` and ``correct``, sums over
        equal bins of confidence and over all runs.
    curves : mapping of str to sequence of RiskCurve
        The same names to each run's rows; empty if they were not kept.
    """
    count = 2 if curves else 1
    figure, panels = new_figure(columns=count, height=1.95, width=COLUMN if count > 1 else 2.2)
    _reliability(panels[0], bins)
    if curves:
        _risk(panels[1], curves)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _reliability(axes: Axes, bins: Mapping[str, Mapping[str, Array]]) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    for name, sums in bins.items():
        words, colour, line = KINDS[name]
        count = np.asarray(sums["count"])
        used = count > 0
        sure = np.asarray(sums["confidence"])[used] / count[used]
        right = np.asarray(sums["correct"])[used] / count[used]
        many = count[used] >= FEW
        axes.plot(sure[many], right[many], line, color=colour, label=words)
        area = 2 + 60 * count[used] / count.sum()
        axes.scatter(sure, right, s=area, color=colour, linewidths=0, clip_on=False, zorder=3)
    axes.set_xlabel("probability stated")
    axes.set_ylabel("share right")
    axes.set(xlim=(0, 1), ylim=(0, 1))


def _risk(axes: Axes, curves: Mapping[str, Sequence[RiskCurve]]) -> None:
    for name, runs in curves.items():
        _, colour, line = KINDS[name]
        risks = np.array([_on_grid(run) for run in runs])
        mean, spread = risks.mean(axis=0), risks.std(axis=0)
        axes.plot(GRID, mean, line, color=colour)
        axes.fill_between(GRID, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("coverage")
    axes.set_ylabel("error")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)


def _on_grid(run: RiskCurve) -> Array:
    coverage, risk = risk_coverage_curve(run.uncertainty, run.correct)
    return np.asarray(np.interp(GRID, coverage, risk))
