"""One look for every figure: colour-blind-safe, column width, nothing that is not data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcml_misa.exceptions import OptionError, shortened
from rcml_misa.storage import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "check_name",
    "has_matplotlib",
    "in_style",
    "need_matplotlib",
    "new_figure",
    "save",
    "view_colours",
]

COLUMN = 3.4  # inches: one column of a two-column page
FORMATS = (".svg", ".pdf", ".png")
# Okabe and Ito's colours, told apart by colour-blind readers; yellow is too faint for lines
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8A8A8A"


def has_matplotlib() -> bool:
    """Whether figures can be drawn."""
    return find_spec("matplotlib") is not None


def need_matplotlib() -> None:
    """Raise an `OptionError` without matplotlib."""
    if not has_matplotlib():
        raise OptionError(
            "figures need matplotlib, which is not installed: pip install 'rcml-misa[plot]'."
        )


@contextmanager
def in_style() -> Iterator[None]:
    """Draw in this look, and leave matplotlib's own settings as they were."""
    need_matplotlib()
    import matplotlib as mpl
    from cycler import cycler

    with as_file(files("rcml_misa.reporting").joinpath("figures.mplstyle")) as style:
        look = mpl.rc_params_from_file(style, use_default_template=False)
    with mpl.rc_context({**look, "axes.prop_cycle": cycler(color=PALETTE)}):
        yield


def new_figure(
    *, rows: int = 1, columns: int = 1, height: float, width: float = COLUMN, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure of a given size in inches, and its axes row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(grid.ravel())


def view_colours(names: Sequence[str], order: Sequence[str] = ()) -> dict[str, str]:
    """Give each view its colour by its place among all views of the data set, `order`."""
    places = [*order, *(name for name in names if name not in order)]
    return {name: PALETTE[places.index(name) % len(PALETTE)] for name in names}


def check_name(path: Path) -> str:
    """Return the format that a figure's name ends in; an `OptionError` for another end."""
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise OptionError(
            f"{shortened(path.name)} is no name for a figure; end it in {', '.join(FORMATS)}."
        )
    return kind


def save(figure: Figure, path: Path) -> None:
    """Write a figure as svg, pdf or png by its name's end; the same figure gives the same bytes."""
    kind = check_name(path)
    # dates would make each file another one
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(kind)
    with whole_file(path, remedy="give another --out") as temporary:
        figure.savefig(temporary, format=kind[1:], metadata=undated)
