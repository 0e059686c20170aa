"""Any measure over runs: values and moments per variant, paired differences between variants."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from rcml_misa.exceptions import DataError
from rcml_misa.results import RunRecord

__all__ = [
    "LOWER_IS_BETTER",
    "MeasureRow",
    "PairedMeasure",
    "paired_measure",
    "summarise_measures",
]

LOWER_IS_BETTER = frozenset({"mae", "nll", "brier", "ece", "aurc"})


@dataclass(frozen=True)
class MeasureRow:
    """The runs of one variant: each measure's values in the order of the runs.

    Attributes
    ----------
    dataset, method, variant : str
    label : str
        Method and variant, the latter where there are several.
    values : mapping of str to tuple of float
        Measure to one value per run.
    seconds : float
        Median seconds of a run.
    """

    dataset: str
    method: str
    variant: str
    label: str
    values: Mapping[str, tuple[float, ...]]
    seconds: float

    def moments(self, measure: str) -> tuple[float, float, float]:
        """Mean, population variance and population standard deviation over the runs."""
        found = np.array(self.values.get(measure, (math.nan,)))
        return float(found.mean()), float(found.var()), float(found.std())


def _grouped(records: Iterable[RunRecord]) -> dict[tuple[str, str, str], list[RunRecord]]:
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.method, record.variant), []).append(record)
    return {key: sorted(group, key=lambda one: one.run) for key, group in groups.items()}


def summarise_measures(records: Iterable[RunRecord], *, part: str = "clean") -> list[MeasureRow]:
    """Gather every measure that all runs of a variant took on one part of the rows."""
    rows = []
    for (dataset, method, variant), group in _grouped(records).items():
        names = [
            name
            for name in group[0].metrics.get(part, {})
            if all(name in record.metrics[part] for record in group)
        ]
        rows.append(
            MeasureRow(
                dataset,
                method,
                variant,
                group[0].label,
                {name: tuple(float(r.metrics[part][name]) for r in group) for name in names},
                float(np.median([sum(record.timing.values()) for record in group])),
            )
        )
    return rows


@dataclass(frozen=True)
class PairedMeasure:
    """First minus second over the same seeds.

    Attributes
    ----------
    measure, first, second : str
    difference : float
    low, high : float
        95 % interval of the mean difference by Student's t; NaN for a single run. On a given
        split it speaks of the seeds' chance, not of that of the test rows.
    p, p_wilcoxon : float
        Two-sided p of the t test and of Wilcoxon's signed ranks.
    wins, losses : int
        Runs in which the first is better, worse.
    """

    measure: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_wilcoxon: float
    wins: int
    losses: int


def paired_measure(
    first: Sequence[RunRecord],
    second: Sequence[RunRecord],
    measure: str,
    *,
    part: str = "clean",
) -> PairedMeasure:
    """Compare one measure of two variants over the runs that both have.

    Raises
    ------
    DataError
        If the two share no run.
    """
    others = {record.seed: record for record in second}
    pairs = [(one, others[one.seed]) for one in first if one.seed in others]
    if not pairs:
        raise DataError(f"{first[0].label} and {second[0].label} share no run; use equal seeds.")
    gaps = np.array([a.metrics[part][measure] - b.metrics[part][measure] for a, b in pairs])
    runs, mean = len(gaps), float(gaps.mean())
    low = high = p = ranked = math.nan
    if runs > 1:
        error = float(gaps.std(ddof=1)) / math.sqrt(runs)
        half = float(stats.t.ppf(0.975, runs - 1)) * error
        low, high = mean - half, mean + half
        p = float(2 * stats.t.sf(abs(mean) / error, runs - 1)) if error else float(mean == 0)
        ranked = 1.0 if not gaps.round(12).any() else float(stats.wilcoxon(gaps.round(12)).pvalue)
    better = gaps < 0 if measure in LOWER_IS_BETTER else gaps > 0
    worse = gaps > 0 if measure in LOWER_IS_BETTER else gaps < 0
    return PairedMeasure(
        measure,
        pairs[0][0].label,
        pairs[0][1].label,
        mean,
        low,
        high,
        p,
        ranked,
        int(better.sum()),
        int(worse.sum()),
    )
