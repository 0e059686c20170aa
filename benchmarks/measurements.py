"""Points along axes of a table's sizes, their measurements, and the csv that holds these."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path

from mixtures import Mixture

__all__ = ["AXES", "OURS", "PEERS", "Measured", "Measurement", "Point", "along", "append", "read"]

#: Forms of RCML-MISA: method and options of the registry.
OURS: dict[str, tuple[str, tuple[str, ...]]] = {
    "rcml-misa": ("rcml-misa", ()),
    "expert=ridge": ("rcml-misa", ("expert=ridge",)),
    "expert=none": ("rcml-misa", ("expert=none",)),
    "kernel-expert": ("kernel-expert", ()),
    "ridge-expert": ("ridge-expert", ()),
}
PEERS = ("rcml", "mlp", "hist-gradient-boosting", "lightgbm", "rbf-svm")
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


def read(path: Path) -> Measured:
    """Read the measurements of a csv; the last one of a point counts."""
    if not path.exists():
        return {}
    kinds = {
        field.name: {"int": int, "float": float}.get(str(field.type), str)
        for field in fields(Measurement)
    }
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [
            Measurement(**{name: kinds[name](text) for name, text in row.items()})
            for row in csv.DictReader(stream)
        ]
    return {(row.method, row.point): row for row in rows}


def append(path: Path, measurement: Measurement) -> None:
    """Add a measurement to a csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(asdict(measurement))
        writer.writerow(
            f"{value:.6g}" if isinstance(value, float) else value for value in astuple(measurement)
        )


def along(axis: str, sizes: Sequence[int], base: Point) -> list[Point]:
    """Points of an axis, the smallest first."""
    return [replace(base, **{axis: size}) for size in sorted(sizes)]
