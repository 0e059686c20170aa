"""The page of costs and its figure, of the csv of `scaling.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from measurements import AXES, Measurement, Point, along
from methods import OURS, PEERS
from scipy import stats

from rcml_misa.reporting.render import render
from rcml_misa.reporting.style import PALETTE, in_style, new_figure, save
from rcml_misa.reporting.table import Number, Numbers, Row, Table
from rcml_misa.storage import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["exponent", "page", "write"]

WIDTH, HEIGHT = 7.2, 8.4  # inches
LEAST_MB = 1.0  # of memory beyond the libraries, so that its logarithm exists
UNITS = {
    "rows": "rows",
    "views": "views",
    "columns": "columns of each view",
    "classes": "classes",
}
_LINES = {
    **dict(zip(OURS, (PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[3], PALETTE[4]), strict=True)),
    **dict(zip(PEERS, ("#333333", "#333333", "#777777", "#777777", "#999999"), strict=True)),
}
_DASHES: dict[str, str | tuple[float, tuple[float, ...]]] = {
    **dict.fromkeys(OURS, "-"),
    **dict(
        zip(
            PEERS,
            ((0, (4, 1)), (0, (1, 1)), (0, (4, 1)), (0, (1, 1)), (0, (3, 1, 1, 1))),
            strict=True,
        )
    ),
}
_LEADER = {"arrowstyle": "-", "relpos": (0, 0.5), "lw": 0.3, "alpha": 0.6}  # from line to name
Value = Callable[[Measurement], float]


def seconds(row: Measurement) -> float:
    """Processor seconds of a fit, which other work on the machine hardly lengthens."""
    return row.cpu_seconds


def megabytes(row: Measurement) -> float:
    """Peak memory of all processes."""
    return row.peak_mb


def growth(row: Measurement) -> float:
    """Peak memory beyond what the imported libraries take."""
    return max(row.peak_mb - row.start_mb, LEAST_MB)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope of log value against log size over the upper half of the sizes, with standard error.

    The upper half has three sizes at least; NaN where there are fewer.

    Examples
    --------
    >>> slope, error = exponent([1, 10, 100, 1000, 10_000], [5, 1, 2, 4, 8])
    >>> round(slope, 3), round(error, 3)
    (0.301, 0.0)
    """
    count = max(3, math.ceil(len(sizes) / 2))
    if len(sizes) < count:
        return math.nan, math.nan
    fit = stats.linregress(np.log(sizes[-count:]), np.log(values[-count:]))
    return float(fit.slope), float(fit.stderr)


class Results:
    """Measurements by method and axis around a base point."""

    def __init__(self, rows: Sequence[Measurement], base: Point) -> None:
        self.base = base
        self._rows = {(row.method, row.point): row for row in rows}
        present = {row.method for row in rows}
        self.methods = [name for name in (*OURS, *PEERS) if name in present]

    def all_along(self, method: str, axis: str) -> list[Measurement]:
        """Measurements along an axis, the smallest first, whatever their ending."""
        sizes = {getattr(point, axis) for _, point in self._rows}
        return [
            row
            for point in along(axis, sorted(sizes), self.base)
            if (row := self._rows.get((method, point))) is not None
        ]

    def done(self, method: str, axis: str) -> list[Measurement]:
        """Measurements that ended well along an axis, the smallest first."""
        return [row for row in self.all_along(method, axis) if row.ending == "done"]

    def exponent(self, method: str, axis: str, value: Value) -> tuple[float, float]:
        """Fitted exponent of a value along an axis and its standard error."""
        rows = self.done(method, axis)
        return exponent([getattr(row, axis) for row in rows], [value(row) for row in rows])

    def at_base(self, method: str) -> Measurement | None:
        """Measurement of the base point, if it ended well."""
        row = self._rows.get((method, self.base))
        return row if row is not None and row.ending == "done" else None


def exponents_table(results: Results) -> Table:
    """Exponents of time and memory by method and axis."""
    rows: list[Row] = []
    for method in results.methods:
        cells: list[Numbers] = []
        for axis in AXES:
            for value in (seconds, growth):
                slope, error = results.exponent(method, axis, value)
                cells.append(Numbers((Number(slope), Number(error)), "{} ± {}"))
        rows.append([method, *cells])
    columns = [f"{axis}: {what}" for axis in AXES for what in ("s", "MB")]
    return Table.of(
        "Exponents",
        ["method", *columns],
        rows,
        [
            "Slope of the logarithm of processor seconds, and of megabytes beyond the imported "
            "libraries, against the logarithm of the size, over the upper half of the sizes that "
            "were measured; ± standard error. 1 is proportion, 0 no growth, 2 quadratic growth."
        ],
        level=2,
    )


def base_table(results: Results) -> Table:
    """Costs at the base point."""
    rows: list[Row] = []
    for method in results.methods:
        row = results.at_base(method)
        values = [math.nan] * 4
        if row is not None:
            values = [seconds(row), row.peak_mb, row.predict_ms, 100 * row.accuracy]
        digits = (2, 0, 1, 1)
        cells = [Number(value, digits=d) for value, d in zip(values, digits, strict=True)]
        rows.append([method, *cells])
    base = results.base
    title = (
        f"At {base.rows:,} rows, {base.views} views of {base.columns} columns, "
        f"{base.classes} classes"
    )
    headings = ["method", "fit, s", "peak, MB", "predict 1000 rows, ms", "accuracy, %"]
    return Table.of(title, headings, rows, level=2)


def largest_table(results: Results) -> Table:
    """Largest size along each axis that was fitted within the bounds, and its seconds."""
    rows: list[Row] = []
    for method in results.methods:
        cells = []
        for axis in AXES:
            done = results.done(method, axis)
            last = done[-1] if done else None
            text = "-" if last is None else f"{getattr(last, axis):,} in {seconds(last):.3g} s"
            cells.append(text)
        rows.append([method, *cells])
    return Table.of("Largest size within the bounds", ["method", *AXES], rows, level=2)


def span(numbers: Mapping[str, float]) -> str:
    """Write the range of some methods' exponents, with the methods at its ends."""
    present = sorted((value, name) for name, value in numbers.items() if not math.isnan(value))
    if not present:
        return "unknown"
    if len(numbers) == 1:
        return f"{present[0][0]:.2f}"
    (low, first), (high, last) = present[0], present[-1]
    if first == last:
        return f"{low:.2f} (`{first}`)"
    return f"{low:.2f} (`{first}`) to {high:.2f} (`{last}`)"


def sentence(results: Results, axis: str) -> str:
    """Write one sentence about an axis."""
    rows = [row for name in results.methods for row in results.done(name, axis)]
    name = axis.capitalize()
    if not rows:
        return f"**{name}**: not measured."
    own, *others = OURS
    parts = []
    for words, methods in ((f"`{own}`", [own]), ("its other forms", others), ("the peers", PEERS)):
        time, memory = (
            {name: results.exponent(name, axis, value)[0] for name in methods}
            for value in (seconds, growth)
        )
        parts.append(f"{span(time)} and {span(memory)} for {words}")
    sizes = [getattr(row, axis) for row in rows]
    return (
        f"**{name}**, {min(sizes):,} to {max(sizes):,}: the exponents of time and memory are "
        f"{', '.join(parts[:-1])}, and {parts[-1]}."
    )


def left_out(results: Results) -> list[str]:
    """List what was stopped, left out or failed."""
    lines = []
    for method in results.methods:
        for axis in AXES:
            rows = [row for row in results.all_along(method, axis) if row.ending != "done"]
            for ending, words in (
                ("time", "stopped after {seconds:g} s"),
                ("memory", "stopped above {gigabytes:g} GB"),
                ("expected", "not tried, beyond {seconds:g} s by extrapolation"),
                ("failed", "failed ({note})"),
            ):
                some = [row for row in rows if row.ending == ending]
                if not some:
                    continue
                last = some[-1]
                said = words.format(
                    seconds=last.seconds_bound, gigabytes=last.gigabytes_bound, note=last.note
                )
                numbers = ", ".join(f"{getattr(row, axis):,}" for row in some)
                lines.append(f"- `{method}`, {axis} {numbers}: {said}")
    return lines


def page(rows: Sequence[Measurement], base: Point, figure: str = "costs.svg") -> str:
    """Write the page in Markdown."""
    results = Results(rows, base)
    commits = sorted({row.commit for row in rows if row.commit})
    omitted = left_out(results) or ["- nothing"]
    absent = [name for name in (*OURS, *PEERS) if name not in results.methods]
    if absent:
        omitted.append(f"- not measured: {', '.join(absent)}")
    maps = any(row.mapped for row in rows)
    intro = (
        "`python benchmarks/scaling.py` measures, `python benchmarks/scaling.py --page` writes "
        "this page and its figure from [benchmarks/costs.csv](../benchmarks/costs.csv). One number "
        f"at a time moves away from {base.rows:,} rows, {base.views} views, {base.columns} columns "
        f"of each and {base.classes} classes. Every point is one fit on one core in a process of "
        "its own; its seconds are those of the processor, its peak memory is that of all its "
        "processes, libraries and data included"
        f"{', pages of memory maps too' * maps}. Tables are made (`benchmarks/mixtures.py`): "
        "accuracies compare with nothing else."
    )
    peers = (
        "Peers: `rcml` is RCML's published loop (500 epochs, batches of 200) as it stands here "
        "(`benchmarks/rcml_reference.py` compares it with its authors' code), `mlp` and `rbf-svm` "
        "scikit-learn's `MLPClassifier` and `SVC(C=10)` on standardised columns, "
        "`hist-gradient-boosting` and `lightgbm` with their defaults; they read all views' columns "
        "side by side."
    )
    blocks = [
        "# Costs",
        intro + (f" Code: {', '.join(commits)}." if commits else ""),
        peers,
        f"![Seconds and peak memory against rows, views, columns and classes]({figure})",
        *(sentence(results, axis) for axis in AXES),
        render([base_table(results), exponents_table(results), largest_table(results)], "markdown"),
        "## Left out",
        "\n".join(omitted),
    ]
    return "\n\n".join(blocks) + "\n"


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move places apart until neighbours have a gap, as little as a few passes can.

    Examples
    --------
    >>> spread([0.5, 0.5, 0.9], 0.1)
    [0.45, 0.55, 0.9]
    """
    order = np.argsort(places, kind="stable")
    moved = np.array(places, dtype=float)[order]
    for _ in range(200):
        lacking = gap - np.diff(moved)
        if (lacking <= 1e-9).all():
            break
        push = np.maximum(lacking, 0) / 2
        moved[:-1] -= push
        moved[1:] += push
        moved = np.clip(moved, 0, max(1.0, gap * (len(moved) - 1)))
    result = np.empty_like(moved)
    result[order] = moved
    return [round(float(place), 6) for place in result]


def panel(axes: Axes, results: Results, axis: str, value: Value) -> None:
    """Draw one value along one axis, with each method's name at the end of its line."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    ends = []
    for method in results.methods:
        rows = results.done(method, axis)
        if not rows:
            continue
        sizes, values = [getattr(row, axis) for row in rows], [value(row) for row in rows]
        axes.plot(
            sizes,
            values,
            color=_LINES[method],
            linestyle=_DASHES[method],
            linewidth=1.3 if method in OURS else 0.9,
            marker="o",
            markersize=2.2 if method in OURS else 1.6,
        )
        ends.append((method, sizes[-1], values[-1]))
    if not ends:
        return
    low, high = (math.log(limit) for limit in axes.get_ylim())
    steps = (1.0, 2.0, 5.0) if high - low < math.log(100) else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    heights = [(math.log(end) - low) / (high - low) for _, _, end in ends]
    # a label takes about a tenth of a panel's height
    for (method, size, end), height in zip(ends, spread(heights, 0.085), strict=True):
        axes.annotate(
            method,
            xy=(size, end),
            xytext=(1.04, height),
            textcoords="axes fraction",
            color=_LINES[method],
            fontsize=6.2,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": _LINES[method],
                "lw": 0.3,
                "alpha": 0.6,
            },
        )


def draw(rows: Sequence[Measurement], base: Point, path: Path) -> None:
    """Draw time and memory along the four axes, one row of panels each."""
    results = Results(rows, base)
    with in_style():
        figure, grid = new_figure(rows=len(AXES), columns=2, height=HEIGHT, width=WIDTH)
        for place, axis in enumerate(AXES):
            for axes, value, label in zip(
                grid[2 * place : 2 * place + 2],
                (seconds, megabytes),
                ("processor seconds of a fit", "peak memory, MB"),
                strict=True,
            ):
                panel(axes, results, axis, value)
                axes.set_xlabel(UNITS[axis])
                axes.set_ylabel(label)
        save(figure, path)


def write(path: Path, rows: Sequence[Measurement], base: Point) -> None:
    """Write the page and, beside it, its figure."""
    if not rows:
        raise SystemExit("the csv holds no measurement; run benchmarks/scaling.py first.")
    figure = path.with_suffix(".svg")
    draw(rows, base, figure)
    with whole_file(path, remedy="give another --page") as temporary:
        temporary.write_text(page(rows, base, figure.name), encoding="utf-8")
