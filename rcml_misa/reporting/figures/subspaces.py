"""Private and shared codes on a plane, with and without the regularisers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rcml_misa.reporting.figures.style import COLUMN, bare, new_figure, view_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Codes", "embed", "subspace_figure"]

Array = NDArray[np.float64]
POINTS = 1500  # that are shown; a sample has 2N of them
MARKS = {"private": "o", "shared": "^"}


class Codes(NamedTuple):
    """Codes of n rows of N views, each (n, N, H)."""

    private: Array
    shared: Array


def embed(codes: Codes, *, seed: int = 0) -> Codes:
    """Lay codes, at most 1500 of them, on one plane by t-SNE: (n, N, 2) of both kinds.

    References
    ----------
    van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 9, 2008.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    samples, views = codes.private.shape[:2]
    rows = np.random.default_rng(seed).permutation(samples)[: max(1, POINTS // (2 * views))]
    both = np.stack([codes.private[np.sort(rows)], codes.shared[np.sort(rows)]])
    points = both.reshape(-1, both.shape[-1])
    method = TSNE(
        perplexity=min(30.0, max(2.0, (len(points) - 1) / 4)), init="pca", random_state=seed
    )
    with threadpool_limits(1):  # its threads wait for each other by spinning
        placed = method.fit_transform(points.astype(np.float32)).reshape(*both.shape[:-1], 2)
    return Codes(placed[0], placed[1])


def subspace_figure(
    panels: Mapping[str, Codes], views: Sequence[str], *, order: Sequence[str] = ()
) -> Figure:
    """Draw MISA's Figure 4: a panel per model.

    Parameters
    ----------
    panels : mapping of str to Codes
        Title to codes.
    views : sequence of str
    order : sequence of str
        All views of the data set, which give each its colour.
    """
    count, titled = len(panels), len(panels) > 1 or any(panels)
    width = COLUMN if count < 3 else 1.7 * count
    height = width / max(count, 2) + (0.65 if titled else 0.4)
    figure, drawn = new_figure(columns=count, width=width, height=height)
    colours = view_colours(views, order)
    for axes, (title, codes) in zip(drawn, panels.items(), strict=True):
        _panel(axes, embed(codes), views, colours)
        if titled:
            axes.set_title(title)
    _legend(figure, views, colours)
    return figure


def _panel(axes: Axes, placed: Codes, views: Sequence[str], colours: Mapping[str, str]) -> None:
    for kind, points in zip(MARKS, placed, strict=True):
        for number, view in enumerate(views):
            hollow = kind == "shared"
            axes.scatter(
                points[:, number, 0],
                points[:, number, 1],
                s=7,
                marker=MARKS[kind],
                facecolors="none" if hollow else colours[view],
                edgecolors=colours[view] if hollow else "none",
                linewidths=0.5,
                alpha=0.7,
                rasterized=len(points) * len(views) > 5000,
            )
    bare(axes)
    axes.set_box_aspect(1)


def _legend(figure: Figure, views: Sequence[str], colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], linestyle="", marker="s", markersize=5, color=colours[view], label=view)
        for view in views
    ]
    for kind, mark in MARKS.items():
        fill = "none" if kind == "shared" else "black"
        marks.append(
            Line2D(
                [],
                [],
                linestyle="",
                marker=mark,
                markersize=4.5,
                color="black",
                markerfacecolor=fill,
                markeredgewidth=0.7,
                label=kind,
            )
        )
    figure.legend(
        handles=marks, loc="outside lower center", ncols=min(len(marks), 5), handletextpad=0.2
    )
