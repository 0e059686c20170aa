"""Points along axes of a table's sizes, and their measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from journal import read
from mixtures import Mixture

__all__ = ["AXES", "Measured", "Measurement", "Point", "along", "measured"]

AXES: dict[str, tuple[int, ...]] = {
    "rows": (1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
    "views": (1, 2, 3, 5, 10, 20, 50),
    "columns": (10, 30, 100, 300, 1000, 3000, 10_000, 20_000),
    "classes": (2, 5, 10, 20, 50, 100, 200, 500, 1000),
}


@dataclass(frozen=True)
class Point:
    """Sizes of a table: rows, views, columns of each view, classes."""

    rows: int = 10_000
    views: int = 3
    columns: int = 30
    classes: int = 10

    @property
    def mixture(self) -> Mixture:
        """Generator of its rows."""
        return Mixture(self.views, self.columns, self.classes)


@dataclass(frozen=True)
class Measurement:
    """One row of the csv.

    Attributes
    ----------
    ending : str
        ``done``, ``time`` or ``memory`` (stopped beyond its bound), ``expected`` (left out, since
        it would pass the bound), ``failed``.
    seconds_bound, gigabytes_bound : float
    fit_seconds, cpu_seconds : float
        Wall clock and processor time of the fit, reading the table included.
    predict_ms : float
        Median wall clock of `predict` per 1000 rows.
    peak_mb, start_mb : float
        Peak of all processes, and resident memory once the libraries were imported.
    accuracy : float
        On fresh rows.
    mapped : int
        1 where the table was a memory map.
    note, commit : str
        What a failed point said, and the state of the code.
    """

    method: str
    rows: int
    views: int
    columns: int
    classes: int
    ending: str
    seconds_bound: float
    gigabytes_bound: float
    fit_seconds: float = math.nan
    cpu_seconds: float = math.nan
    predict_ms: float = math.nan
    peak_mb: float = math.nan
    start_mb: float = math.nan
    accuracy: float = math.nan
    mapped: int = 0
    note: str = ""
    commit: str = ""

    @property
    def point(self) -> Point:
        """Sizes of its table."""
        return Point(self.rows, self.views, self.columns, self.classes)


Measured = dict[tuple[str, Point], Measurement]


def measured(path: Path) -> Measured:
    """Read the measurements of a csv; the last one of a point counts."""
    return {(row.method, row.point): row for row in read(path, Measurement)}


def along(axis: str, sizes: Sequence[int], base: Point) -> list[Point]:
    """Points of an axis, the smallest first."""
    return [replace(base, **{axis: size}) for size in sorted(sizes)]
