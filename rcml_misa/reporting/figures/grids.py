"""Square tables as pictures: attention between tokens, conflict between views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.reporting.figures.style import COLUMN, GREY, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["attention_figure", "conflict_figure"]

Array = NDArray[np.float64]
COLOURS = "Blues"  # one hue from light to dark reads the same for everyone, and in print
MOST_NUMBERS = 8  # rows of a table whose cells can hold their numbers
NAMES = {"clean": "clean rows", "conflict": "one view replaced"}


def attention_figure(attention: Array, views: Sequence[str]) -> Figure:
    """Draw MISA's Figure 5: mean attention between the 2N tokens.

    Parameters
    ----------
    attention : ndarray of shape (2N, 2N)
        Row i: how token i divides its attention; private tokens first. 0 where an entry is
        masked in every row.
    views : sequence of str
        The N views.
    """
    tokens = [f"{view}, {kind}" for kind in ("private", "shared") for view in views]
    many = len(tokens) > MOST_NUMBERS
    side = max(COLUMN, 0.32 * len(tokens) + 1.2)
    figure, (axes,) = new_figure(height=(0.8 if many else 0.92) * side, width=side)
    closed = attention == 0
    shown = np.where(closed, np.nan, attention)
    image = _table(axes, shown, tokens, tokens, top=float(attention.max()))
    for row, column in zip(*np.nonzero(closed), strict=True):
        axes.text(column, row, "·", ha="center", va="center", color=GREY)
    axes.set_ylabel("token")
    axes.set_xlabel("attends to")
    if many:
        figure.colorbar(image, ax=axes, shrink=0.7, label="attention")
    return figure


def conflict_figure(conflict: Mapping[str, Array], views: Sequence[str]) -> Figure:
    """Draw the mean degree of conflict between each pair of views, a panel per kind of rows.

    Parameters
    ----------
    conflict : mapping of str to ndarray of shape (N, N)
        ``"clean"`` and ``"conflict"``, or one of them.
    views : sequence of str
    """
    side = max(COLUMN, 0.5 * len(views) * len(conflict) + 1.0)
    figure, panels = new_figure(
        columns=len(conflict), height=0.5 * side + 0.3, width=side, sharey=True
    )
    off = ~np.eye(len(views), dtype=bool)
    top = max((float(one[off].max()) for one in conflict.values() if off.any()), default=1.0)
    image = None
    for axes, (name, values) in zip(panels, conflict.items(), strict=True):
        shown = np.where(off, values, np.nan)
        image = _table(axes, shown, views, views, top=max(top, 1e-3))
        axes.set_title(NAMES[name])
    if len(views) > MOST_NUMBERS and image is not None:
        figure.colorbar(image, ax=panels, shrink=0.7, label="degree of conflict")
    return figure


def _table(
    axes: Axes, values: Array, rows: Sequence[str], columns: Sequence[str], *, top: float
) -> Any:
    """Draw cells, and their numbers where these fit."""
    image = axes.imshow(values, cmap=COLOURS, vmin=0, vmax=top)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(rows) <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = "white" if value > 0.6 * top else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center_baseline", color=ink)
    return image
