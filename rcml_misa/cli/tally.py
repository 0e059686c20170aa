"""Counts over the rows that `predict` answers."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Tally"]

NAMED = 100  # labels of no class that are counted by name


@dataclass
class Tally:
    """Counts over the rows that were answered."""

    rows: int = 0
    refused: int = 0
    not_finite: int = 0
    #: Rows per suspect view, or pair of views; None where the method has no suspects.
    suspects: Counter[str] | None = None
    #: Rows whose answer follows the other views; None where none may.
    excluded: int | None = None
    #: Values that were filled, and levels that fit did not see.
    surprises: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    #: An array of floats, infinite for a row without a finite answer, which no limit accepts.
    uncertainty: Any = field(default_factory=lambda: array("d"))
    #: Sum of absolute errors over the `scored` rows with a number in the file, and a finite score.
    absolute_error: float = 0.0
    scored: int = 0
    #: Per row 1 where the predicted class is the file's label, 0 where not, 2 without a label.
    correct: bytearray = field(default_factory=bytearray)
    #: Rows per label that is no class of the model.
    unknown: Counter[str] = field(default_factory=Counter)

    def count_suspects(self, table: pd.DataFrame) -> None:
        """Count the suspects of finite answers, and the rows whose answer does without one."""
        if "suspect" in table:
            self.suspects = Counter() if self.suspects is None else self.suspects
            self.suspects.update(name for name in table["suspect"] if name)
        if "excluded" in table:
            self.excluded = (self.excluded or 0) + int(table["excluded"].eq(True).sum())

    def count_unknown(self, label: str, rows: int) -> None:
        """Count rows of a label that is no class, by name for the first of these."""
        by_name = label in self.unknown or len(self.unknown) < NAMED
        self.unknown[label if by_name else "others"] += rows

    @property
    def mae(self) -> float | None:
        """Mean absolute error of scores on labelled rows."""
        return self.absolute_error / self.scored if self.scored else None

    def count_errors(self, labels: Any, scores: pd.Series[float]) -> None:
        """Add the errors of finite scores of rows whose label is a number."""
        import numpy as np

        from rcml_misa.datasets.files import as_numbers

        errors = np.abs(as_numbers(labels) - scores.to_numpy(dtype=np.float64))
        errors = errors[np.isfinite(errors)]
        self.absolute_error += float(errors.sum())
        self.scored += len(errors)

    def threshold(self, coverage: float) -> float:
        """Largest uncertainty among the share `coverage` of the rows that has least.

        Rows without a finite answer count among the rows, but are never accepted.
        """
        import numpy as np

        values = np.frombuffer(self.uncertainty, dtype=np.float64)
        accepted = max(int(np.ceil(coverage * len(values) - 1e-9)), 1)
        values = values[np.isfinite(values)]
        accepted = min(accepted, len(values))
        return float(np.partition(values, accepted - 1)[accepted - 1]) if accepted else 0.0

    def accuracy(self, limit: float | None = None) -> float | None:
        """Accuracy on labelled rows, on those up to a limit of uncertainty if there is one."""
        import numpy as np

        correct = np.frombuffer(self.correct, dtype=np.uint8)
        counted = correct < 2
        if limit is not None:
            counted &= np.frombuffer(self.uncertainty, dtype=np.float64) <= limit
        return float(correct[counted].mean()) if counted.any() else None
