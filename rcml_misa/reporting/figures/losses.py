"""The regularisers over epochs, on train and held-out rows, with their band over runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError
from rcml_misa.reporting.figures.style import BLUE, GREEN, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["TERMS", "loss_figure", "stacked_histories"]

#: loss term -> what it is called in a figure.
TERMS = {"sim": "similarity", "diff": "difference", "recon": "reconstruction"}
# each line's names in the history, best first, its words, and how it is drawn
LINES = (
    (("train ", ""), "train", BLUE, "-"),
    (("valid ",), "validation", ORANGE, "--"),
    (("test ",), "test (selects nothing)", GREEN, ":"),
)

History = Mapping[str, Sequence[float]]


def stacked_histories(histories: Sequence[History], name: str) -> NDArray[np.float64]:
    """One loss term of several runs, (runs, epochs); NaN where a run had stopped or lacks it.

    Examples
    --------
    >>> stacked_histories([{"sim": [2.0, 1.0]}, {"sim": [4.0]}], "sim").tolist()
    [[2.0, 1.0], [4.0, nan]]
    """
    rows = [list(history.get(name, [])) for history in histories]
    found = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for row, values in enumerate(rows):
        found[row, : len(values)] = [np.nan if one is None else one for one in values]
    return found


def loss_figure(histories: Sequence[History]) -> Figure:
    """Draw MISA's Figure 3: a panel per regulariser, mean and standard deviation over the runs.

    Parameters
    ----------
    histories : sequence of mapping
        Each run's loss terms per epoch: ``"valid sim"`` or ``"test sim"`` on held-out rows, and
        ``"train sim"``, or ``"sim"`` while it was trained, on train rows.

    Raises
    ------
    DataError
        If no run has any of the terms.
    """
    names = {name.rpartition(" ")[2] for history in histories for name in history}
    present = [term for term in TERMS if term in names]
    if not present:
        raise DataError(
            "these runs have no similarity, difference or reconstruction term in their history; "
            "plot runs of rcml-misa or misa."
        )
    from matplotlib.ticker import MaxNLocator

    figure, panels = new_figure(rows=len(present), height=1.1 * len(present) + 0.5, sharex=True)
    for axes, term in zip(panels, present, strict=True):
        _panel(axes, histories, term)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _panel(axes: Axes, histories: Sequence[History], term: str) -> None:
    for prefixes, words, colour, line in LINES:
        found = [stacked_histories(histories, prefix + term) for prefix in prefixes]
        values = next((one for one in found if one.size), None)
        if values is None:
            continue
        epochs = np.arange(1, values.shape[1] + 1)
        mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        axes.plot(epochs, mean, line, color=colour, label=words)
        axes.fill_between(
            epochs, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0
        )
    axes.set_ylabel(TERMS[term])
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
