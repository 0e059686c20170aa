"""Measurements in a csv: appended as they come, read when a command goes on."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Row = TypeVar("Row", bound=DataclassInstance)

__all__ = ["append", "read"]

_KINDS = {"int": int, "float": float}  # of fields, whose annotations are texts


def append(path: Path, row: DataclassInstance) -> None:
    """Add a row to a csv, whose first line names its fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = asdict(row)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(values)
        writer.writerow(
            f"{value:.6g}" if isinstance(value, float) else value for value in values.values()
        )


def read(path: Path, kind: type[Row]) -> list[Row]:
    """Read all rows of a csv; none where there is no file."""
    if not path.exists():
        return []
    kinds = {field.name: _KINDS.get(str(field.type), str) for field in fields(kind)}
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            kind(**{name: kinds[name](text) for name, text in row.items()})
            for row in csv.DictReader(stream)
        ]
