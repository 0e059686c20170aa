"""The figures: losses, attention and conflict as pictures, codes on a plane, uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError
from rcml_misa.metrics import auroc, risk_coverage_curve
from rcml_misa.reporting.style import BLUE, COLUMN, GREEN, GREY, ORANGE, new_figure, view_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["attention_figure", "conflict_figure", "loss_figure", "subspace_figure"]

Array = NDArray[np.float64]
#: Loss term -> its name in a figure.
TERMS = {"sim": "similarity", "diff": "difference", "recon": "reconstruction"}
# names in the history, best first, then label, colour and style of each line
LINES = (
    (("train ", ""), "train", BLUE, "-"),
    (("valid ",), "validation", ORANGE, "--"),
    (("test ",), "test (selects nothing)", GREEN, ":"),
)

History = Mapping[str, Sequence[float]]


def _band(axes: Axes, x: Array, values: Array, line: str, colour: str, label: str) -> None:
    """Draw the mean over runs (rows) and the band of one standard deviation."""
    mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    axes.plot(x, mean, line, color=colour, label=label)
    axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)


def _legend_above(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def _stacked(histories: Sequence[History], name: str) -> NDArray[np.float64]:
    """Stack one loss term, (runs, epochs); NaN where a run had stopped or lacks it."""
    rows = [list(history.get(name, [])) for history in histories]
    stacked = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for row, values in enumerate(rows):
        stacked[row, : len(values)] = [np.nan if value is None else value for value in values]
    return stacked


def loss_figure(histories: Sequence[History]) -> Figure:
    """Draw MISA's Figure 3: a panel per regulariser, mean and standard deviation over the runs.

    Each run's history has ``"valid sim"`` or ``"test sim"`` on held-out rows, and ``"train sim"``,
    or ``"sim"`` while it was trained, on train rows; a `DataError` where no run has any.
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
        for prefixes, words, colour, line in LINES:
            stacked = (_stacked(histories, prefix + term) for prefix in prefixes)
            values = next((rows for rows in stacked if rows.size), None)
            if values is not None:
                epochs = np.arange(1.0, values.shape[1] + 1)
                _band(axes, epochs, values, line, colour, words)
        axes.set_ylabel(TERMS[term])
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(figure, panels[0])
    return figure


COLOURS = "Blues"  # one hue from light to dark reads the same for everyone, and in print
MOST_NUMBERS = 8  # rows of a table whose cells can hold their numbers
TITLES = {"clean": "clean rows", "conflict": "one view replaced"}


def attention_figure(attention: Array, views: Sequence[str]) -> Figure:
    """Draw MISA's Figure 5: mean attention (2N, 2N) between the tokens of N views.

    Row i holds the shares of token i's attention, private tokens first; 0 is a masked entry.
    """
    tokens = [f"{view}, {kind}" for kind in ("private", "shared") for view in views]
    many = len(tokens) > MOST_NUMBERS
    side = max(COLUMN, 0.32 * len(tokens) + 1.2)
    figure, (axes,) = new_figure(height=(0.8 if many else 0.92) * side, width=side)
    closed = attention == 0
    shown = np.where(closed, np.nan, attention)
    image = _cells(axes, shown, tokens, tokens, top=float(attention.max()))
    for row, column in zip(*np.nonzero(closed), strict=True):
        axes.text(column, row, "·", ha="center", va="center", color=GREY)
    axes.set(xlabel="attends to", ylabel="token")
    if many:
        figure.colorbar(image, ax=axes, shrink=0.7, label="attention")
    return figure


def conflict_figure(conflict: Mapping[str, Array], views: Sequence[str]) -> Figure:
    """Draw the mean degree of conflict (N, N) between the views, a panel per kind of rows."""
    side = max(COLUMN, 0.5 * len(views) * len(conflict) + 1.0)
    figure, panels = new_figure(
        columns=len(conflict), height=0.5 * side + 0.3, width=side, sharey=True
    )
    off = ~np.eye(len(views), dtype=bool)
    top = max((float(values[off].max()) for values in conflict.values() if off.any()), default=1.0)
    image = None
    for axes, (name, values) in zip(panels, conflict.items(), strict=True):
        shown = np.where(off, values, np.nan)
        image = _cells(axes, shown, views, views, top=max(top, 1e-3))
        axes.set_title(TITLES[name])
    if len(views) > MOST_NUMBERS and image is not None:
        figure.colorbar(image, ax=panels, shrink=0.7, label="degree of conflict")
    return figure


def _cells(
    axes: Axes, values: Array, rows: Sequence[str], columns: Sequence[str], *, top: float
) -> Any:
    """Draw cells, and their numbers where these fit."""
    image = axes.imshow(values, cmap=COLOURS, vmin=0, vmax=top)
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if len(rows) <= MOST_NUMBERS:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = "white" if value > 0.6 * top else "black"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center_baseline", color=ink)
    return image


POINTS = 1500  # that are shown; a sample has 2N of them
MARKS = {"private": "o", "shared": "^"}


class Codes(NamedTuple):
    """Codes of n rows of N views, each (n, N, H)."""

    private: Array
    shared: Array


def embed(codes: Codes) -> Codes:
    """Lay codes, at most 1500 of them, on one plane by t-SNE: (n, N, 2) of both kinds.

    Source: van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 9, 2008.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    samples, views = codes.private.shape[:2]
    rows = np.random.default_rng(0).permutation(samples)[: max(1, POINTS // (2 * views))]
    both = np.stack([codes.private[np.sort(rows)], codes.shared[np.sort(rows)]])
    points = both.reshape(-1, both.shape[-1])
    perplexity = min(30.0, max(2.0, (len(points) - 1) / 4))
    method = TSNE(perplexity=perplexity, init="pca", random_state=0)
    with threadpool_limits(1):  # its threads wait for each other by spinning
        placed = method.fit_transform(points.astype(np.float32)).reshape(*both.shape[:-1], 2)
    return Codes(placed[0], placed[1])


def subspace_figure(
    panels: Mapping[str, Codes], views: Sequence[str], *, order: Sequence[str] = ()
) -> Figure:
    """Draw MISA's Figure 4: a panel per model, by title; `order` gives views their colours."""
    from matplotlib.lines import Line2D

    count, titled = len(panels), len(panels) > 1 or any(panels)
    width = COLUMN if count < 3 else 1.7 * count
    height = width / max(count, 2) + (0.65 if titled else 0.4)
    figure, drawn = new_figure(columns=count, width=width, height=height)
    colours = view_colours(views, order)
    for axes, (title, codes) in zip(drawn, panels.items(), strict=True):
        for kind, points in zip(MARKS, embed(codes), strict=True):
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
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_box_aspect(1)
        if titled:
            axes.set_title(title)
    kinds = [(view, "s", colours[view], colours[view]) for view in views]
    kinds += [("private", MARKS["private"], "black", "black")]
    kinds += [("shared", MARKS["shared"], "black", "none")]
    common: Any = {"linestyle": "", "markersize": 4.5, "markeredgewidth": 0.7}
    marks = [
        Line2D([], [], marker=mark, label=label, color=edge, markerfacecolor=fill, **common)
        for label, mark, edge, fill in kinds
    ]
    figure.legend(
        handles=marks, loc="outside lower center", ncols=min(len(marks), 5), handletextpad=0.2
    )
    return figure


BINS = 25
FEW = 10  # rows below which a bin's share of right answers is drawn as a point only
SHARES = np.linspace(0.02, 1, 99)
KINDS = {"clean": ("clean rows", BLUE, "-"), "conflict": ("conflictive rows", ORANGE, "--")}
Curve = tuple[Array, NDArray[np.bool_]]  # uncertainty and whether the answer is right, (n,) each


def uncertainty_figure(runs: Sequence[tuple[Array, Array]]) -> Figure:
    """Draw the distribution of uncertainty over clean rows and over rows with a replaced view.

    Each run gives the uncertainty (n,) of clean rows, and of the same rows with one view replaced;
    rows of all runs together; the legend gives the mean area under the ROC curve over runs.
    """
    figure, (axes,) = new_figure(height=2.0)
    edges = np.linspace(0, 1, BINS + 1)
    areas = [
        auroc(
            np.concatenate([replaced, clean]), np.repeat([True, False], [len(replaced), len(clean)])
        )
        for clean, replaced in runs
    ]
    names = ("clean rows", f"one view replaced (AUROC {float(np.mean(areas)):.2f})")
    for part, colour, name in zip(zip(*runs, strict=True), (BLUE, ORANGE), names, strict=True):
        values = np.concatenate(part)
        share = np.histogram(values, edges)[0] / len(values)
        axes.stairs(share, edges, color=colour, label=name, linewidth=1.2)
        axes.stairs(share, edges, color=colour, fill=True, alpha=0.18)
        axes.axvline(float(np.median(values)), color=colour, linewidth=0.8, linestyle=":")
    axes.set(xlabel="uncertainty (dotted: median)", ylabel="share of rows", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=2)
    return figure


def calibration_figure(
    bins: Mapping[str, Mapping[str, Array]], curves: Mapping[str, Sequence[Curve]]
) -> Figure:
    """Draw reliability of the stated probability, and risk against coverage.

    `bins` maps test sets to ``count``, ``confidence`` and ``correct``, sums over equal bins of
    confidence and all runs; `curves` maps them to each run's rows, or is empty.
    """
    count = 2 if curves else 1
    figure, panels = new_figure(columns=count, height=1.95, width=COLUMN if count > 1 else 2.2)
    axes = panels[0]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.7)
    for name, sums in bins.items():
        words, colour, line = KINDS[name]
        used = sums["count"] > 0
        rows, confidence, correct = (
            sums[part][used] for part in ("count", "confidence", "correct")
        )
        stated, right = confidence / rows, correct / rows
        many = rows >= FEW
        axes.plot(stated[many], right[many], line, color=colour, label=words)
        area = 2 + 60 * rows / rows.sum()
        axes.scatter(stated, right, s=area, color=colour, linewidths=0, clip_on=False, zorder=3)
    axes.set(xlabel="probability stated", ylabel="share right", xlim=(0, 1), ylim=(0, 1))
    for name, runs in curves.items():
        _, colour, line = KINDS[name]
        risks = [np.interp(SHARES, *risk_coverage_curve(*run)) for run in runs]
        _band(panels[1], SHARES, np.array(risks), line, colour, name)
    if curves:
        panels[1].set(xlabel="coverage", ylabel="error", xlim=(0, 1))
        panels[1].set_ylim(bottom=0)
    _legend_above(figure, panels[0])
    return figure


SPREAD = ", mutual information"  # ends the name of a line beside its method's uncertainty
Line = list[tuple[float, float]]  # train rows and a mean over runs


def vacuity_figure(lines: Mapping[str, Line]) -> Figure:
    """Draw mean uncertainty on clean rows against the number of train rows, a line per method.

    Mutual information, whose name ends in `SPREAD`, is a dashed line in its method's colour, in a
    panel of its own, since it is in nats.
    """
    own = {name: line for name, line in lines.items() if not name.endswith(SPREAD)}
    spread = {name.removesuffix(SPREAD): line for name, line in lines.items() if name not in own}
    colours = view_colours(list(own))
    count = 2 if spread else 1
    figure, drawn = new_figure(rows=count, height=1.7 * count + 0.5, sharex=True)
    for axes, group, style in zip(drawn, (own, spread), ("o-", "s--"), strict=False):
        for name, line in group.items():
            rows, means = zip(*line, strict=True)
            axes.plot(rows, means, style, color=colours[name], markersize=3, label=name)
        axes.set_ylim(bottom=0)
    drawn[0].set_ylabel("mean uncertainty")
    drawn[-1].set(xlabel="train rows", xscale="log")
    ticks = sorted({count for line in own.values() for count, _ in line})
    drawn[-1].set_xticks(ticks, [f"{count:.0f}" for count in ticks])
    drawn[-1].minorticks_off()
    if spread:
        drawn[1].set_ylabel("mutual information")
    handles, labels = drawn[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 3))
    return figure


def coverage_figure(covered: Mapping[str, Sequence[float]], conditions: Sequence[str]) -> Figure:
    """Draw the share of rows that 90 % sets cover under each condition, a mark per method.

    `covered` has a share per condition for each method, NaN for none.
    """
    figure, (axes,) = new_figure(height=2.2)
    axes.axhline(0.9, color=GREY, linewidth=0.7)
    places = np.arange(len(conditions), dtype=float)
    colours = view_colours(list(covered))
    for number, (name, shares) in enumerate(covered.items()):
        shift = 0.12 * (number - (len(covered) - 1) / 2)
        axes.plot(places + shift, shares, "o", color=colours[name], markersize=4, label=name)
    axes.set_xticks(places, conditions)
    axes.set(ylabel="covered by 90 % sets", ylim=(0, 1.02))
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 3))
    return figure
